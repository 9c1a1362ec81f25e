"""The folder for what pubmark keeps on a machine to save time, and may lose at any moment.

Leaves: the path that the environment variable PUBMARK_CACHE names, else ``~/.cache/pubmark``. Left
to others: making it, and what lies in it (digests, parts of uploads, fetched checkpoints).
"""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The cache's folder, which need not exist yet."""
    return Path(os.environ.get("PUBMARK_CACHE", "~/.cache/pubmark")).expanduser()
