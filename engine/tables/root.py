"""Where the tables lie: the root as a person gives it, and as delta-rs is to be given it.

Enters: a local path, a ``file://`` URI or another URI. Leaves: the same place, spelled so that
delta-rs and pyarrow both find it, whatever characters it has. Left to others: opening it.

delta-rs (1.6.6) makes a URL of what it is given, and not every path comes back from that as it
was: ``%20`` in a name becomes a space, a back-slash a slash, in some parts of it; brackets make it
panic; and of a URI that is not of a file it takes ``#`` and ``?`` for where the path ends.
"""

import re
from pathlib import Path
from urllib.parse import unquote

from schemas.errors import UsageError

_FILE = re.compile(r"file:(?://(?:localhost)?(?=/)|(?=/(?!/)))")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NOT_TAKEN = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\\\[\]^|]")


def local_path(root: str) -> str:
    """The path that a ``file:`` URI names, percent-encoded or not; any other root as it is."""
    scheme = _FILE.match(root)
    return unquote(root[scheme.end() :]) if scheme else root


def location(root: str) -> str:
    """A root for delta-rs: an absolute path, or a URI.

    Raises:
        UsageError: if it is empty, or delta-rs does not take a place of that name.
    """
    if not root:
        raise UsageError("target '': is empty, expected a path or URI")
    path = local_path(root)
    if "://" not in path:
        absolute = str(Path(path).absolute())
        _refuse(root, absolute)
        return absolute
    scheme, rest = path.split("://", 1)
    if scheme == "file":
        raise UsageError(f"target {root}: names another machine, expected file:///PATH")
    if found := sorted({"#", "?"} & set(rest)):
        raise UsageError(
            f"target {root}: {' '.join(found)} in a URI, which ends its path; expected "
            f"{' '.join(f'%{ord(c):X}' for c in found)} if it is part of the name"
        )
    _refuse(root, unquote(rest))
    return f"{scheme}://{_LONE_PERCENT.sub('%25', rest)}"


def _refuse(root: str, path: str) -> None:
    """Refuse what delta-rs does not take in a path."""
    odd = sorted({*_NOT_TAKEN.findall(path), *_ESCAPE.findall(path)})
    if odd:
        named = " ".join(c if c.isprintable() else repr(c)[1:-1] for c in odd)
        raise UsageError(
            f"target {root!r}: {named} in its path, which delta-rs does not take; expected "
            "another name"
        )


__all__ = ["local_path", "location"]
