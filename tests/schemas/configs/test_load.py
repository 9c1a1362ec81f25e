"""Configs: what a YAML file or the command line may say."""

from pathlib import Path
from typing import Any

import pytest

from schemas.configs.annotate import AnnotateConfig
from schemas.configs.load import load_config
from schemas.configs.options import Engines
from schemas.errors import UsageError

GOOD: dict[str, Any] = {"sources": ["a.xml"], "to": "table"}


def refusal(file: str | None = None, **values: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(AnnotateConfig, file, GOOD | values)
    return str(caught.value)


def test_an_unknown_key_lists_the_valid_ones() -> None:
    message = refusal(souces=["a.xml"])
    assert message.startswith("options:\n  souces: unknown key; valid: ")
    assert set(message.split("valid: ")[1].split(", ")) == set(AnnotateConfig.model_fields)


def test_an_unknown_key_further_in_lists_those_valid_there() -> None:
    assert "engines.most: unknown key; valid: min, max" in refusal(engines={"most": 4})


def test_all_faults_are_told_at_once() -> None:
    message = refusal(limit=0, max_failed=1.5, colour="red", retry=["failed", "late"])
    assert len(message.splitlines()) == 5
    assert "limit: Input should be greater than or equal to 1 (found 0)" in message
    assert "max_failed: Input should be less than or equal to 1 (found 1.5)" in message
    assert "colour: unknown key" in message
    assert "retry.1: Input should be 'ok', 'empty', 'partial' or 'failed'" in message


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UsageError, match=r"(?s)sources: is required.*to: is required"):
        load_config(AnnotateConfig, None, {})


@pytest.mark.parametrize(
    ("text", "low", "high"), [("4", 4, 4), ("1:16", 1, 16), (" 2:2 ", 2, 2), ("12", 12, 12)]
)
def test_engines(text: str, low: int, high: int) -> None:
    assert Engines.parse(text) == Engines(min=low, max=high)


@pytest.mark.parametrize("text", ["", "0", "4:2", "0:3", "1:", ":4", "1-4", "-1", "many", "1:2:3"])
def test_engines_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected N or MIN:MAX with 1 <= MIN <= MAX"):
        Engines.parse(text)


def test_engines_of_a_mapping_are_held_to_the_same_rule() -> None:
    assert "engines min 4 is above max 2" in refusal(engines={"min": 4, "max": 2})


@pytest.mark.parametrize(
    ("written", "engines"),
    [
        ("4", (4, 4)),
        ("'1:16'", (1, 16)),
        ("1:16", (1, 16)),  # 76 in YAML 1.1, where it is a number in base 60
    ],
)
def test_engines_in_a_file(tmp_path: Path, written: str, engines: tuple[int, int]) -> None:
    file = tmp_path / "annotate.yaml"
    file.write_text(f"engines: {written}\nlimit: 1_000\n")
    config = load_config(AnnotateConfig, str(file), GOOD)
    assert (config.engines.min, config.engines.max) == engines
    assert config.limit == 1000


def test_the_command_line_counts_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "annotate.yaml"
    file.write_text("to: from-file\nlimit: 5\n")
    config = load_config(AnnotateConfig, str(file), GOOD)
    assert (config.to, config.limit) == ("table", 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "expected a mapping"),
        (b"to: [", "while parsing"),
        (b"to: \xff", "codec can't decode"),
        (None, "No such file"),
    ],
    ids=["a list", "no YAML", "no UTF-8", "missing"],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "annotate.yaml"
    if content is not None:
        file.write_bytes(content)
    found = refusal(str(file))
    assert found.startswith(f"config {file}: ")
    assert message in found


def test_a_config_cannot_be_changed() -> None:
    config = load_config(AnnotateConfig, None, GOOD)
    with pytest.raises(ValueError, match="frozen"):
        config.limit = 3
