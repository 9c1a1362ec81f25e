"""Two runs at once into one table, in short; writers.py does it at full length."""

from pathlib import Path

import pytest
from writers import writers

pytestmark = pytest.mark.chaos


def test_two_at_once_and_a_reader(tmp_path: Path) -> None:
    figures = writers(tmp_path, 2, citations=200)
    assert figures["wrong"] == []
    assert figures["exit_0"] == 4 and figures["reads"] >= figures["versions_read"] > 2
