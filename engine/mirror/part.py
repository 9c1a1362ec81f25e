"""A part file: a download that grows piece by piece, and the md5 of what it holds so far.

Enters: bytes in order. Leaves: the file, its size and md5. Left to others: where the bytes come
from, and the final name.
"""

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

_BLOCK_BYTES = 1 << 20


class Part:
    """The part file at ``path``, open to be appended to: created empty, or continued.

    What it holds already is read once, for its digest. ``size`` is in bytes. ``validator`` is the
    server's ETag or date of the version that the last bytes came from. It is known of this
    process's own attempts only, which suffices, as the digest decides in the end.

    Methods raise OSError when the disk refuses.
    """

    def __init__(self, path: Path):
        self.validator: str | None = None
        self._file = path.open("a+b", buffering=0)
        self._reset_digest()
        self._file.seek(0)
        while block := self._file.read(_BLOCK_BYTES):
            self._add_to_digest(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def md5(self) -> str:
        """The md5 of all that the file holds, in hex."""
        return self._digest.hexdigest()

    def append(self, chunk: bytes) -> None:
        """Write ``chunk`` at the end, all of it."""
        left = memoryview(chunk)
        while left:  # a disk that is nearly full takes less than it is given
            left = left[self._file.write(left) :]
        self._add_to_digest(chunk)

    def restart(self) -> None:
        """Empty the file, to begin again."""
        self._file.truncate(0)
        self.validator = None
        self._reset_digest()

    def sync(self) -> None:
        """Wait until the bytes are on the disk, so that a power failure cannot lose them."""
        os.fsync(self._file.fileno())

    def _reset_digest(self) -> None:
        self._digest = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def _add_to_digest(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.size += len(chunk)
