"""``pubmark checkpoint merge``: an adapter folded into its base, from the command line."""

import json
from pathlib import Path

import pytest
from tiny_adapter import tune_adapter
from typer.testing import CliRunner

from engine.checkpoints.load import load_checkpoint
from jobs.cli import app


def merge(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["checkpoint", "merge", *map(str, arguments)])
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = Path(load_checkpoint("nano").path)
    return tune_adapter(base, tmp_path_factory.mktemp("adapter") / "a", steps=1)


def test_a_merged_checkpoint_is_whole(adapter: Path, tmp_path: Path) -> None:
    code, out, _ = merge(adapter, "--to", tmp_path / "merged", "--dtype", "float32", "--json")
    assert code == 0
    made = load_checkpoint(json.loads(out)["checkpoint"])
    assert made.adapter is None and Path(made.path) == tmp_path / "merged"
    code, _, err = merge(adapter, "--to", tmp_path / "merged")
    assert code == 2 and "exists; expected a new directory" in err


@pytest.mark.parametrize(
    ("checkpoint", "to", "message"),
    [
        ("nano", "m", "is no adapter"),
        ("nowhere", "m", "does not exist"),
        ("nano", "s3://b/m", "expected a local folder"),
    ],
)
def test_wrong_usage_is_2(tmp_path: Path, checkpoint: str, to: str, message: str) -> None:
    target = to if "://" in to else tmp_path / to
    code, _, err = merge(checkpoint, "--to", target)
    assert code == 2 and message in err and not (tmp_path / "m").exists()
