"""Files of the table so small that a test has many of them."""

import pytest

from engine.tables.layout import compaction, files, rewrite, writer


def make_small(monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    """Set limits of the layout by their names, in whichever of its modules use them."""
    for name, value in limits.items():
        users = [m for m in (files, writer, rewrite, compaction) if hasattr(m, name)]
        assert users, f"no module of the layout has {name}"
        for module in users:
            monkeypatch.setattr(module, name, value)
