"""What is known of a table's files without reading them."""

import numpy as np
from tables import fill

from engine.tables.layout.files import stored_files, touched
from engine.tables.store import Store


def test_files_say_what_they_hold(store: Store) -> None:
    fill(store, range(32))
    found = [(f.rows, f.low, f.high) for f in stored_files(store.load())]
    assert found == [(10, 0, 9), (11, 10, 20), (11, 21, 31)]
    files = touched(stored_files(store.load()), np.array([9, 21, 40]))
    assert [f.low for f in files] == [0, 21]
