"""Every YAML that ships is a config that loads, and opens with its command."""

from pathlib import Path

import pytest
import yaml

import jobs.configs
from jobs.cli.commands import every_command
from jobs.cli.root import app as app  # registers all commands
from schemas.configs.load import load_config

FOLDER = Path(jobs.configs.__file__).parent
FILES = sorted(FOLDER.rglob("*.yaml"))
WORTH_SAYING = {
    "refresh.yaml": {"checkpoint"},  # the key by which a new one is rolled out
}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_it_loads_by_the_command_that_it_opens_with(file: Path) -> None:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    command, _, path = first.removeprefix("# pubmark ").partition(" --config ")
    assert path == f"jobs/configs/{file.relative_to(FOLDER).as_posix()}"
    model = every_command()[command].model()
    assert isinstance(load_config(model, str(file), {}), model)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_it_repeats_no_default(file: Path) -> None:
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    first = file.read_text(encoding="utf-8").splitlines()[0]
    model = every_command()[first.removeprefix("# pubmark ").partition(" --config ")[0]].model()
    fields = model.model_fields
    repeated = {
        name
        for name, value in values.items()
        if not fields[name].is_required() and fields[name].default == value
    }
    assert repeated <= WORTH_SAYING.get(file.name, set())
