"""Files of ten rows, so that a few hundred are many files."""

import pytest
from small_files import make_small


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch, ROWS_PER_FILE=10, ROWS_PER_GROUP=4, _LOT_ROWS=30, _FEW=1)
