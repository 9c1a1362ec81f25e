"""A file that is gathered piece by piece, and the digest of what it holds so far."""

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

_BLOCK_BYTES = 1 << 20


class Part:
    """The part file at ``path``, opened for appending: made if it is not there, hashed if it is.

    ``validator`` is the server's tag of the version that the last bytes came from. It is known for
    attempts of this process only; in the end the digest decides.

    Methods raise OSError when the disk refuses.
    """

    def __init__(self, path: Path):
        self.validator: str | None = None
        self._file = path.open("a+b", buffering=0)
        self._forget()
        self._file.seek(0)
        while block := self._file.read(_BLOCK_BYTES):
            self._count(block)

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
        """The digest of all that it holds, in hexadecimal."""
        return self._digest.hexdigest()

    def append(self, chunk: bytes) -> None:
        """Write some more."""
        left = memoryview(chunk)
        while left:  # a disk that is nearly full takes less than it is given
            left = left[self._file.write(left) :]
        self._count(chunk)

    def restart(self) -> None:
        """Begin again with nothing."""
        self._file.truncate(0)
        self.validator = None
        self._forget()

    def sync(self) -> None:
        """Make sure that a power failure does not lose what was written."""
        os.fsync(self._file.fileno())

    def _forget(self) -> None:
        self._digest = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def _count(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.size += len(chunk)
