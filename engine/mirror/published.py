"""How many files NLM's baseline has, as a mirror was told when it last asked.

Enters: the index that a mirror read. Leaves: a small file in the target that names the last file
listed, and, for the folders of any sources, what such files say. Left to others: fetching.

Without this an interrupted mirror looks complete: files come by number, and the last are missing.
"""

from collections.abc import Iterable

from engine.mirror.target import Target
from engine.sources.nlm import nlm_number
from schemas.errors import UsageError


def save_last(target: Target, kind: str, last: str) -> None:
    """Note the name of the last file of a set (``kind``) that NLM lists."""
    if _last(target, kind) != last:
        target.write(_name(kind), last.encode())


def baseline_files(folders: Iterable[str], year: int) -> int | None:
    """How many files the baseline of a year (two digits) has, as mirrors in ``folders`` know it;
    None if none of them does."""
    found = (nlm_number(_last_in(folder, "baseline") or "") for folder in folders)
    return max((n[1] for n in found if n and n[0] == year), default=None)


def _last_in(folder: str, kind: str) -> str | None:
    try:
        return _last(Target(folder), kind)
    except UsageError:  # no kind of place that a mirror could fill
        return None


def _last(target: Target, kind: str) -> str | None:
    try:
        return target.read(_name(kind)).decode("utf-8", "replace").strip()
    except Exception:  # each file system has errors of its own
        return None


def _name(kind: str) -> str:
    return f".mirror-{kind}.last"
