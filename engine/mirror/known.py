"""What a mirror knows of its files: a run that finds nothing new then asks for one page only.

Enters: files that were seen to be whole. Leaves: the same, from a small JSON file in the target,
one for each set. The file can be lost: then the files of the set are hashed once more. Left to
others: whether what is known still holds.
"""

import logging

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from engine.mirror.target import Target

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="ignore"))
class KnownFile:
    """A file that was seen to be whole: its size in bytes, its md5 in hex, and the index's line
    about it at that time (see :class:`engine.mirror.listing.Listed`)."""

    size: int
    md5: str
    line: str


_FILES = TypeAdapter(dict[str, KnownFile])


class KnownFiles:
    """The known files, by name, of one set (``kind``) in one target."""

    def __init__(self, target: Target, kind: str):
        self._target = target
        self._name = f".mirror-{kind}.json"
        self._changed = False
        self.files: dict[str, KnownFile] = {}
        try:
            self.files = _FILES.validate_json(target.read(self._name))
        except FileNotFoundError:
            pass
        except ValidationError:
            logger.warning("%s: %s is not readable; files are hashed", target.uri, self._name)

    def add(self, name: str, known: KnownFile) -> None:
        """Add a file or replace what was known of it: in memory, until :meth:`save` is called."""
        self._changed |= self.files.get(name) != known
        self.files[name] = known

    def save(self) -> None:
        """Write the file in the target, if anything has changed."""
        if self._changed:
            self._target.write(self._name, _FILES.dump_json(self.files, indent=0))
            self._changed = False
