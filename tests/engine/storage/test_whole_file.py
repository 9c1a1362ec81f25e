"""A file is there whole, or as it was before."""

import io
import sys
from pathlib import Path

import pytest

from engine.storage.whole_file import open_target
from schemas.errors import UsageError


def test_the_name_is_taken_once_all_is_written(tmp_path: Path) -> None:
    to = tmp_path / "out"
    with open_target(str(to), force=False) as file:
        file.write(b"new")
        assert not to.exists()
    assert to.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    to = tmp_path / "out"
    to.write_bytes(b"old")
    with pytest.raises(error), open_target(str(to), force=True) as file:
        file.write(b"new")
        raise error
    assert to.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_only_a_file_is_replaced_and_only_by_force(tmp_path: Path) -> None:
    to = tmp_path / "out"
    to.write_bytes(b"old")
    with pytest.raises(UsageError, match="exists; --force"), open_target(str(to), force=False):
        pass
    assert to.read_bytes() == b"old"
    with open_target(str(to), force=True) as file:
        file.write(b"new")
    assert to.read_bytes() == b"new"
    with pytest.raises(UsageError, match="not a file"), open_target(str(tmp_path), force=True):
        pass
    missing = str(tmp_path / "no/out")
    with pytest.raises(UsageError, match="cannot be written"), open_target(missing, force=False):
        pass


def test_a_minus_is_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", stdout)
    with open_target("-", force=False) as file:
        file.write(b"rows")
    assert stdout.buffer.getvalue() == b"rows"  # type: ignore[attr-defined]
