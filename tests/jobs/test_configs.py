"""Every YAML that ships is a config that loads, opens with its command, and hides no key."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

import jobs.configs
from schemas.config import AnnotateConfig, MirrorConfig, load_config

FILES = sorted(Path(jobs.configs.__file__).parent.rglob("*.yaml"))
MODELS: dict[str, type[BaseModel]] = {
    "annotate.yaml": AnnotateConfig,
    "mirror.yaml": MirrorConfig,
}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_it_loads_and_says_every_key(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"# pubmark {file.stem} --config jobs/configs/{file.name}")
    model = MODELS[file.name]
    assert isinstance(load_config(model, str(file), {}), model)
    said = set(re.findall(r"^(?:# )?(\w+):", text, re.M))
    assert said == set(model.model_fields)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_what_it_says_is_the_default(file: Path) -> None:
    config = load_config(MODELS[file.name], str(file), {})
    required = {
        n: getattr(config, n) for n, f in type(config).model_fields.items() if f.is_required()
    }
    assert config == type(config).model_validate(required)
    assert set(yaml.safe_load(file.read_text())) >= set(required)
