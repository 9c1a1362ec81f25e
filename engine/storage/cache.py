"""The folder in which pubmark keeps what it can lose: fetched checkpoints, digests, parts of files.

It is the one that PUBMARK_CACHE names, else ``~/.cache/pubmark``.
"""

import os
from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """A place in the cache. Nothing is made there."""
    return Path(os.environ.get("PUBMARK_CACHE", "~/.cache/pubmark")).expanduser().joinpath(*parts)
