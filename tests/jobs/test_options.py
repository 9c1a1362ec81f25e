"""Command line, configs and README say the same, since each option is made of a config's field."""

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from jobs.cli import commands
from jobs.cli.commands import Command, every_command
from jobs.cli.options import BY_COMMA
from jobs.cli.root import app
from schemas.configs.load import load_config
from schemas.configs.options import Engines
from schemas.configs.render import part_of, render

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = every_command()
TASK = {"entity_types": {"gene": {"definition": "A gene."}}, "template": "{text}"}
TUNING = {"examples": ["e"], "optimisation": {"steps": 1}}
MINIMAL: dict[str, dict[str, Any]] = {
    "annotate": {"sources": ["a.xml"], "to": "t"},
    "check": {},
    "mirror": {"kind": "updates", "to": "t"},
    "refresh": {"to": "t", "sources": ["a.xml"]},
    "compare": {"checkpoint": "new", "table": "t"},
    "replay": {"to": "t"},
    "history": {"source": "t"},
    "status": {"source": "t"},
    "sql": {"query": "SELECT 1", "source": "t"},
    "show": {"pmid": 7, "source": "t"},
    "export": {"source": "t", "to": "o", "format": "jsonl"},
    "optimize": {"to": "t"},
    "vacuum": {"to": "t"},
    "corpus import": {"to": "t", "corpora": [{"name": "c", "files": {"train": ["a"]}}]},
    "finetune": {"to": "t", "name": "n", "base": "b", "task": TASK, "tuning": TUNING},
    "evaluate": {"corpora": ["c"]},
    "checkpoint merge": {"checkpoint": "c", "to": "t"},
    "config": {"job": ["annotate"]},
}
"""What each command needs at least."""

WITH: dict[tuple[str, str], dict[str, Any]] = {
    ("evaluate", "gold"): {"corpora": [], "predictions": "p"},
    ("evaluate", "predictions"): {"corpora": [], "gold": "g"},
    ("evaluate", "task"): {"few_shot": 1},
    ("compare", "sources"): {"table": None, "against": "old"},
    ("finetune", "shape"): {"base": None},
    ("finetune", "merge"): {"lora": {}},
}
"""What a key needs beside it."""

VALUES: dict[tuple[str, str], Any] = {
    ("mirror", "source"): "https://mirror.test/pubmed",
    ("refresh", "mirror"): {"to": "m"},
    ("finetune", "language"): {"texts": ["t"], "optimisation": {"steps": 1}},
}
"""Values of keys that take no arbitrary one."""

KEYS = [(name, key) for name, c in COMMANDS.items() for key in c.model().model_fields]


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Commands keep the config that they were called with, and do nothing."""
    seen: list[Any] = []
    original = commands._callback

    def keeping(command: Command) -> Any:
        def keep(settings: Any, output: Any, **_: Any) -> None:
            seen.append(settings)

        keep.__signature__ = commands.inspect.signature(command.function)  # type: ignore[attr-defined]
        return original(dataclasses.replace(command, function=keep))

    monkeypatch.setattr(commands, "_callback", keeping)
    yield seen


def value_of(info: FieldInfo) -> Any:
    """A value that a field takes and that is not its default."""
    text = str(info.annotation)
    if part_of(info) is not None and "dict" not in text and "list" not in text:
        return {}
    if info.annotation is Engines:
        return "2:3"
    if "Literal" in text:
        choices = re.findall(r"'([\w-]+)'", text)
        chosen = next(c for c in choices if info.default not in (c, [c]))
        return [chosen] if "list" in text.split("Literal")[0] else chosen
    if "dict[str" in text:
        return {"x": 1}
    if "list[int]" in text:
        return [3]
    if "list[" in text or "tuple[" in text:
        return ["x"]
    if "bool" in text:
        return not info.default
    if "int" in text:
        least = max((getattr(m, "ge", 0) for m in info.metadata), default=0)
        return max(least, 3 if info.default != 3 else 4)
    return 0.5 if "float" in text else "x"


def spell(command: Command, key: str, value: Any) -> list[str]:
    """How a value of a key is given on the command line."""
    info, layout = command.model().model_fields[key], command.layout
    if part_of(info) or "tuple[" in str(info.annotation):
        return ["--set", f"{key}={yaml.safe_dump(value, default_flow_style=True)}"]
    option = layout.spelled.get(key, "--" + key.replace("_", "-"))
    if key in layout.arguments:
        return [str(v) for v in (value if isinstance(value, list) else [value])]
    if isinstance(value, bool):
        return [option if value else f"--no-{option.removeprefix('--').removeprefix('store-')}"]
    if isinstance(value, list) and key in BY_COMMA:
        return [option, ",".join(value)]
    return [w for v in (value if isinstance(value, list) else [value]) for w in (option, str(v))]


@pytest.mark.parametrize(("name", "key"), KEYS, ids=lambda v: v)
def test_every_key_can_be_set(capture: list[Any], name: str, key: str) -> None:
    command = COMMANDS[name]
    values = MINIMAL[name] | WITH.get((name, key), {})
    if key not in MINIMAL[name]:
        info = command.model().model_fields[key]
        values = values | {key: VALUES.get((name, key), value_of(info))}
    values = {k: v for k, v in values.items() if v not in (None, [])}
    given = [w for k, v in values.items() for w in spell(command, k, v)]
    result = CliRunner().invoke(app, [*name.split(), *given])
    assert result.exit_code == 0, result.stderr
    (config,) = capture
    assert config == load_config(command.model(), None, values)
    assert key in config.model_fields_set


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_key(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200"}).stdout
    command = COMMANDS[name]
    for key, info in command.model().model_fields.items():
        if part_of(info) is None and "tuple[" not in str(info.annotation):
            spelled = command.layout.arguments.get(key) or command.layout.spelled.get(
                key, "--" + key.replace("_", "-")
            )
            assert spelled in shown
        else:
            assert "--set" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_of_a_command_is_a_key_written_again(name: str) -> None:
    command = COMMANDS[name]
    own = set(commands.inspect.signature(command.function).parameters) - {"settings", "output"}
    assert not own & set(command.model().model_fields)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_key_says_what_it_is(name: str) -> None:
    def check(model: type[BaseModel]) -> None:
        for key, info in model.model_fields.items():
            assert (info.description or "").endswith((".", "…")), f"{model.__name__}.{key}"
            if (part := part_of(info)) is not None:
                check(part)

    check(COMMANDS[name].model())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_printed_config_gives_the_defaults(name: str) -> None:
    model = COMMANDS[name].model()
    printed = CliRunner().invoke(app, ["config", *name.split()])
    assert printed.stdout.rstrip() == render(model, name).rstrip()
    values = yaml.safe_load(printed.stdout)
    assert set(values) == set(model.model_fields)
    filled = {k: v for k, v in values.items() if not model.model_fields[k].is_required()}
    for key in {"base", "sources", "table", "corpora"} & set(MINIMAL[name]):
        filled.pop(key, None)
    assert load_config(model, None, filled | MINIMAL[name]) == load_config(
        model, None, MINIMAL[name]
    )


def test_what_is_wrong_is_named_as_it_was_given(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["annotate", "a.xml", "--max-failed", "2", "--set", "limit=0"])
    assert result.exit_code == 2
    assert "--max-failed: Input should be less than or equal to 1 (found 2.0)" in result.stderr
    assert "--limit: Input should be" in result.stderr and "--to: is required" in result.stderr
    result = CliRunner().invoke(app, ["refresh", "--to", "t", "--set", "gate.limits.min=1"])
    assert "gate.limits.min: unknown key; valid: min_f1" in " ".join(result.stderr.split())
    for wrong in ("limit", "=3", "limit=[1"):
        result = CliRunner().invoke(app, ["annotate", "a.xml", "--to", "t", "--set", wrong])
        assert result.exit_code == 2 and f"--set {wrong}" in result.stderr


def test_names_with_a_comma_are_given_as_yaml(capture: list[Any]) -> None:
    options = ["--entity-types", '["a, b", c]', "--entity-types", "d,e"]
    result = CliRunner().invoke(app, ["annotate", "a.xml", "--to", "t", *options])
    assert result.exit_code == 0
    assert capture[0].entity_types == ["a, b", "c", "d", "e"]


@pytest.mark.parametrize("value", ["[a", "[a: b", "[1"])
def test_names_that_are_no_list_are_refused(value: str) -> None:
    options = ["--to", "t", "--entity-types", value]
    result = CliRunner().invoke(app, ["annotate", "a.xml", *options])
    assert result.exit_code == 2 and "expected names by comma" in result.stderr


def test_options_reach_into_the_parts_of_a_file(capture: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "refresh.yaml"
    file.write_text("to: t\nmirror: {to: m, retries: 2}\n")
    options = ["--set", "mirror.kinds=[baseline]", "--set", "gate.limits.min_f1=0.8"]
    result = CliRunner().invoke(app, ["refresh", "--config", str(file), *options])
    assert result.exit_code == 0, result.stderr
    (config,) = capture
    assert (config.mirror.kinds, config.mirror.retries) == (["baseline"], 2)
    assert config.gate.limits.min_f1 == 0.8 and config.gate.sample == 500


def test_what_says_how_a_corpus_is_needs_the_corpus() -> None:
    result = CliRunner().invoke(app, ["corpus", "import", "--to", "t", "--format", "iob"])
    assert result.exit_code == 2 and "format: says what FILE is" in result.stderr


def test_versions_are_shown() -> None:
    shown = CliRunner().invoke(app, ["--version"]).stdout
    assert {line.split()[0] for line in shown.splitlines()} >= {"pubmark", "ray", "torch"}


def test_an_unknown_command_of_config_lists_the_known_ones() -> None:
    result = CliRunner().invoke(app, ["config", "anotate"])
    assert result.exit_code == 2 and "valid: annotate, check" in result.stderr


SHOWN = [
    line
    for block in re.findall(r"^```\n(.*?)^```", README, re.M | re.S)
    for part in block.replace(" && ", "\n").splitlines()
    if (line := re.split("  #| > ", part)[0].strip()).startswith("pubmark ")
]


@pytest.mark.parametrize("line", SHOWN)
def test_the_commands_of_the_readme_are_understood(capture: list[Any], line: str) -> None:
    words = shlex.split(line)[1:]
    if "--config" in words:  # whose file may be one of the reader's own
        words = [w for w in words if w not in ("--config", words[words.index("--config") + 1])]
        key = " ".join(words[:2]) if words[0] in ("corpus", "checkpoint") else words[0]
        for k, v in MINIMAL[key].items():
            words += [] if spell(COMMANDS[key], k, v)[0] in words else spell(COMMANDS[key], k, v)
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, len(capture)) == (0, 1), result.stderr


def test_there_are_commands_in_the_readme() -> None:
    assert len(SHOWN) > 20 and typer.main.get_command(app) is not None
