"""Entity types by name: two names that differ in case only are of the same type.

Public corpora write ``Chemical``, pubmark's exports ``chemical``. Left to others: which types are
scored (pairs.py, gold.py).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

_LETTERS = re.compile(r"[\W_]+")


def spellings(names: Iterable[str]) -> dict[str, str]:
    """The spelling that stands for each type, by its name in folded case: of several the most
    frequent, or else the first."""
    chosen: dict[str, str] = {}
    for name, _ in Counter(names).most_common():
        chosen.setdefault(name.casefold(), name)
    return chosen


def spell(name: str, chosen: Mapping[str, str]) -> str:
    """A type's name as ``chosen`` spells it; itself where that has no such type."""
    return chosen.get(name.casefold(), name)


def speller(names: Iterable[str]) -> Callable[[str], str]:
    """A function that gives a type's name as one of ``names``: the very name if it is among them,
    else one that differs in case only, else itself."""
    given = list(names)
    exact, chosen = set(given), spellings(given)
    return lambda name: name if name in exact else spell(name, chosen)


def alike(name: str, others: Iterable[str]) -> str | None:
    """The first of ``others`` with the same letters and digits, such as CellLine for cell_line."""
    return next((o for o in others if _bare(o) == _bare(name)), None)


def _bare(name: str) -> str:
    return _LETTERS.sub("", name.casefold())
