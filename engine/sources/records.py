"""A file of PubMed XML cut between its records, by its bytes.

Enters: the bytes of a file, in pieces. Leaves: the same bytes, in pieces that begin with a record
and end before one, so that what no parser can read costs one record and not the rest of the file;
and, of a piece in which there is such a thing, the records one by one. Left to others: parsing
(pubmed_xml.py).

Only a file that begins as they all do can be cut: in ASCII up to its root, which is a set of
records, and with no declarations of its own. All others are passed on as they come.
"""

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_RECORD_BYTES = 8 << 20
"""No real record comes near it: the longest author lists take some 3 MB."""

_HEAD_BYTES = 1 << 12  # a file with more than this before its first record is not cut
_BIT_BYTES = 1 << 17
# Quantifiers are possessive (++, *+, ?+), so that no input takes more than linear time.
_HEAD = re.compile(
    rb"(?:\xef\xbb\xbf)?+(?:<\?xml [^<>?]*+\?>)?+\s*+(?:<!DOCTYPE [^\[\]<>]++>)?+\s*+"
    rb"<(?P<root>\w+Set)(?:\s[^<>]*+)?+(?<!/)>\s*+(?:<!--[^<>]*+-->\s*+)*+"
    rb"(?=<(?P<record>PubmedArticle|PubmedBookArticle|MedlineCitation|BookDocument)[\s/>])"
)
_KINDS = (("PubmedArticle", "PubmedBookArticle"), ("MedlineCitation", "BookDocument"))
"""Names of records; the latter also stand inside of the former."""
_PMID = re.compile(
    rb"<(?:MedlineCitation|BookDocument)(?:\s[^<>]*+)?+>\s*+<PMID(?:\s[^<>]*+)?+>\s*+(\d{1,18})\s*+<"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A record, or a block of deletions, by its bytes: its ``name``, its ``data`` up to its first
    end tag, and what comes ``after`` that. ``has_end``: it has an end tag; if not, ``data`` is
    everything to the next record."""

    name: str
    data: bytes
    after: bytes
    has_end: bool

    @property
    def pmid(self) -> int | None:
        """The record's own PMID, if that much of it can be read."""
        match = _PMID.search(self.data)
        return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a file's records: ``head``, all up to the first, and ``foot``, the root's
    end tag. ``names`` are those that records may have."""

    head: bytes
    foot: bytes
    names: tuple[str, ...]

    @property
    def ends(self) -> tuple[bytes, ...]:
        """The end tags of records."""
        return tuple(f"</{name}>".encode() for name in self.names)

    def count(self, data: bytes) -> int:
        """How many records begin in ``data``."""
        return sum(data.count(f"<{name}".encode()) for name in self.names)

    def units(self, data: bytes) -> list[Unit]:
        """The records of ``data``, which begins with one."""
        names = "|".join((*self.names, "DeleteCitation")).encode()
        tags = re.compile(
            rb"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>"  # no tag stands in these
            rb"|<(?P<start>" + names + rb")(?=[\s/>])|</(?P<end>" + names + rb")\s*+>",
            re.DOTALL,
        )
        found = list(tags.finditer(data))
        starts = [i for i, tag in enumerate(found) if tag["start"]]
        units = []
        for i, next_i in zip(starts, [*starts[1:], len(found)], strict=True):
            name, begin = found[i]["start"], found[i].start()
            until = found[next_i].start() if next_i < len(found) else len(data)
            ends = [tag.end() for tag in found[i + 1 : next_i] if tag["end"] == name]
            end = ends[0] if ends else until
            units.append(Unit(name.decode(), data[begin:end], data[end:until], bool(ends)))
        return units


def cut_at_records(pieces: Iterable[bytes]) -> Iterator[tuple[Frame | None, bytes]]:
    """Yield the bytes of ``pieces``: the head of the file, then pieces that begin with a record and
    end before one or with the file, with their frame. Without a frame, all may begin anywhere.

    At most one record is held back. If ``pieces`` raises an error, all that was read before is
    yielded first.
    """
    source = iter(pieces)
    held = b""
    frame: Frame | None = None
    try:
        for piece in source:
            held += piece
            if frame is None:
                frame = _frame(held)
                if frame is None and len(held) < _HEAD_BYTES:
                    continue
                if frame is None:
                    break
                yield None, frame.head
                held = held[len(frame.head) :]
            at = _last_record(held, frame.names)
            if at > 0:
                yield frame, held[:at]
                held = held[at:]
            elif len(held) > MAX_RECORD_BYTES:
                frame = None  # what comes is no sound record, and is left to the parser bit by bit
                yield from (
                    (None, held[i : i + _BIT_BYTES]) for i in range(0, len(held), _BIT_BYTES)
                )
                held = b""
                break
    except (OSError, EOFError, zlib.error):
        if held:
            yield frame, held
        raise
    if held:
        yield frame, held
    for piece in source:
        yield None, piece


def _frame(data: bytes) -> Frame | None:
    head = _HEAD.match(data)
    if not head:
        return None
    names = next(kind for kind in _KINDS if head["record"].decode() in kind)
    return Frame(head[0], b"</" + head["root"] + b">", names)


def _last_record(data: bytes, names: tuple[str, ...]) -> int:
    """Where some late record of ``data`` begins; -1 if none does."""
    for name in names:
        for end in (">", " "):
            if (at := data.rfind(f"<{name}{end}".encode())) > 0:
                return at
    return -1
