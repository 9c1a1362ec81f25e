"""The folder for what pubmark keeps on a machine to save time, and may lose at any moment.

Leaves: the path that the environment variable PUBMARK_CACHE names, else ``~/.cache/pubmark``. Left
to others: making it, and what lies in it (digests, parts of uploads, fetched checkpoints).

Services and containers often run as a user without a home: systemd's DynamicUser has ``/``, which
it may not write to. Then the folder is one of this user's among the temporary files.
"""

import os
import tempfile
from functools import lru_cache
from pathlib import Path


def cache_folder() -> Path:
    """The cache's folder, which need not exist yet."""
    named = os.environ.get("PUBMARK_CACHE")
    if named and not (named.startswith("~") and home() is None):
        return Path(named).expanduser()
    at = home()
    return _temporary() if at is None else at / ".cache/pubmark"


def home() -> Path | None:
    """The user's home, if there is one and the user may write to it."""
    try:
        at = Path.home()
    except RuntimeError:  # no HOME, and no entry among the system's users
        return None
    return at if at.is_dir() and os.access(at, os.W_OK) else None


@lru_cache
def _temporary() -> Path:
    """A folder that no other user has made or may write to: what lies in it is trusted."""
    path = Path(tempfile.gettempdir(), f"pubmark-{os.getuid()}")
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if path.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
        return Path(tempfile.mkdtemp(prefix="pubmark-"))
    return path
