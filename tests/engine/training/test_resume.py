from pathlib import Path

import pytest
import torch

from engine.training.resume import rescue_state, write_state

_NOTE = "checkpoint_manager_snapshot.json"


def _keep(folder: Path, name: str, step: int) -> Path:
    (folder / name).mkdir(parents=True)
    write_state({"step": step, "weights": {"w": torch.zeros(9)}, "optimizer": []}, folder / name)
    return folder / name


@pytest.mark.parametrize("note", ["", None])
def test_the_newest_whole_state_is_found_where_ray_lost_its_note(
    tmp_path: Path, note: str | None
) -> None:
    _keep(tmp_path, "checkpoint_1", 5)
    whole = _keep(tmp_path, "checkpoint_2", 10)
    torn = _keep(tmp_path, "checkpoint_3", 15) / "state.pt"
    for size in (700, 3, 0):
        torn.write_bytes(torn.read_bytes()[:size])
        if note is not None:
            (tmp_path / _NOTE).write_text(note)
        assert rescue_state(tmp_path) == str(whole)
        assert not (tmp_path / _NOTE).exists()


def test_ray_starts_by_its_own_note(tmp_path: Path) -> None:
    _keep(tmp_path, "checkpoint_1", 5)
    (tmp_path / _NOTE).write_text("{}")
    assert rescue_state(tmp_path) is None
    assert rescue_state(tmp_path / "nothing yet") is None
