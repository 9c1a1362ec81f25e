"""What a mirror knows of its files, so that a run that finds nothing new asks for one page only.

Enters: a target. Leaves: sizes, digests and lines of the index, kept in the target as a small JSON
file. It can be lost: then files are hashed once more.
"""

import logging

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from engine.mirror.target import Target

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="ignore"))
class Known:
    """A file that was whole: its size in bytes, its digest, what the index said when it was."""

    size: int
    md5: str
    line: str


_FILES = TypeAdapter(dict[str, Known])


class KnownFiles:
    """What is known of each file of one set in one target; ``files`` by name."""

    def __init__(self, target: Target, kind: str):
        self._target = target
        self._name = f".mirror-{kind}.json"
        self._changed = False
        self.files: dict[str, Known] = {}
        try:
            self.files = _FILES.validate_json(target.read(self._name))
        except FileNotFoundError:
            pass
        except ValidationError:
            logger.warning("%s: %s is not readable; files are hashed", target.uri, self._name)

    def learn(self, name: str, known: Known) -> None:
        """Keep what was found out, until :meth:`save` here only."""
        self._changed |= self.files.get(name) != known
        self.files[name] = known

    def save(self) -> None:
        """Store it, if anything has changed."""
        if self._changed:
            self._target.write(self._name, _FILES.dump_json(self.files, indent=0))
            self._changed = False
