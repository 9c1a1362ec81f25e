"""Every YAML that ships is a config that loads, opens with its command, and hides no key."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

import jobs.configs
from schemas.configs.annotate import AnnotateConfig
from schemas.configs.corpus import CorpusImportConfig
from schemas.configs.evaluate import EvaluateConfig
from schemas.configs.finetune import FinetuneConfig
from schemas.configs.load import load_config
from schemas.configs.mirror import MirrorConfig
from schemas.configs.refresh import RefreshConfig

RECIPES = {"nano-1.yaml": "finetune", "nano-2.yaml": "finetune", "nano.yaml": "finetune"}
"""Not every key, and not the defaults: one job's own settings."""
FOLDER = Path(jobs.configs.__file__).parent
FILES = sorted(f for f in FOLDER.rglob("*.yaml") if f.name not in RECIPES)
MODELS: dict[str, type[BaseModel]] = {
    "annotate.yaml": AnnotateConfig,
    "corpora.yaml": CorpusImportConfig,
    "evaluate.yaml": EvaluateConfig,
    "mirror.yaml": MirrorConfig,
    "finetune.yaml": FinetuneConfig,
    "refresh.yaml": RefreshConfig,
}
# One of two ways must be given, though neither key is required.
GIVEN = {
    "evaluate.yaml": {"corpora"},
    "finetune.yaml": {"base", "lora"},
    "corpora.yaml": {"root"},
    "refresh.yaml": {"mirror"},
}
COMMANDS = {"corpora.yaml": "corpus import"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_it_loads_and_says_every_key(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    command = COMMANDS.get(file.name, file.stem)
    assert text.startswith(f"# pubmark {command} --config jobs/configs/{file.name}")
    model = MODELS[file.name]
    assert isinstance(load_config(model, str(file), {}), model)
    said = set(re.findall(r"^(?:# )?(\w+):", text, re.M))
    assert said == set(model.model_fields)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_what_it_says_is_the_default(file: Path) -> None:
    config = load_config(MODELS[file.name], str(file), {})
    given = GIVEN.get(file.name, set())
    required = {
        n: getattr(config, n)
        for n, f in type(config).model_fields.items()
        if f.is_required() or n in given
    }
    assert config == type(config).model_validate(required)
    assert set(yaml.safe_load(file.read_text())) >= set(required)


@pytest.mark.parametrize(("name", "command"), RECIPES.items())
def test_a_recipe_loads(name: str, command: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert text.startswith(f"# pubmark {command} --config jobs/configs/{name}")
    load_config(MODELS[f"{command}.yaml"], str(FOLDER / name), {})
