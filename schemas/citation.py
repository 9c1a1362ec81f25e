"""A citation, and the rule by which its text is laid out: title, one space, abstract.

Offsets must mean the same to everyone for ever, so the text is made by this rule alone, once, where
a source is read. A change of the rule must raise TEXT_LAYOUT_VERSION, which makes every stored
annotation stale.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

TEXT_LAYOUT_VERSION = 2
"""Version 2: labels that end in a mark of their own get no second one, and UNASSIGNED counts as no
label; the vernacular title stands in for NLM's placeholder; an English OtherAbstract stands in for
an abstract that is not there."""

_PLACEHOLDER = re.compile(
    r"[\W_]*(?:(?:article |book )?title )?not available[\W_]*|[\W_]*no title available[\W_]*", re.I
)
_NO_LABEL = {"", "unlabelled", "unlabeled", "unassigned"}
_MARKS = tuple(":;.?!-–—…：；。？！")

CITATION_SCHEMA = pa.schema(
    [
        pa.field("pmid", pa.int64(), nullable=False),
        pa.field("version", pa.int16(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("title_length", pa.int32(), nullable=False),
        pa.field("text_digest", pa.binary(16), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("pub_year", pa.int16()),
        pa.field("journal", pa.string()),
        pa.field("language", pa.string()),
        pa.field("doi", pa.string()),
        pa.field("publication_types", pa.list_(pa.string())),
        pa.field("metadata_digest", pa.int64(), nullable=False),
    ]
)
"""One row is one citation as read. ``title_length`` is in code points: the abstract, if there is
one, starts at ``title_length + 1``. The other columns are those of the annotations table."""


@dataclass(slots=True)
class Citation:
    """One PubMed record, its text laid out. Missing values are ``None``, never ``""``."""

    pmid: int
    text: str
    title_length: int
    version: int = 1
    pub_year: int | None = None
    journal: str | None = None
    language: str | None = None
    doi: str | None = None
    publication_types: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Deletion:
    """A PMID that a file's DeleteCitation block names."""

    pmid: int


@dataclass(slots=True)
class Rejection:
    """A record that cannot be read, or has no usable PMID: ``place`` is where it is in its file,
    ``reason`` why it was rejected, ``pmid`` whose it is, if that is known."""

    place: str
    reason: str
    pmid: int | None = None


def squeeze(text: str) -> str:
    """``text`` with each run of (Unicode) white space as one space, and none at the ends."""
    # Most text needs no change. The plain space is the only white space that is printable.
    if text.isprintable() and "  " not in text and text[:1] != " " != text[-1:]:
        return text
    return " ".join(text.split())


def is_placeholder(title: str) -> bool:
    """Whether this is what NLM writes where it has no title in English: ``[Not Available].``"""
    return _PLACEHOLDER.fullmatch(title) is not None


def lay_out_text(title: str, abstract: Iterable[tuple[str | None, str]]) -> tuple[str, int]:
    """Join a title and the parts of an abstract into a citation's text.

    ``abstract`` gives ``(label, content)`` pairs in order. A label is printed before its content
    as ``Label: ``, or as it is if it ends in a mark (``WHAT IS KNOWN?``); UNLABELLED and
    UNASSIGNED, in any case, are none. Parts without content are left out, label and all.
    A title that is a placeholder is none. Returns the text and the length of its title in code
    points.
    """
    title = squeeze(title)
    if is_placeholder(title):
        title = ""
    parts = []
    for label, content in abstract:
        content = squeeze(content)
        if not content:
            continue
        parts.append(_introduction(squeeze(label or "")) + content)
    if not parts:
        return title, len(title)
    return f"{title} {' '.join(parts)}", len(title)


def _introduction(label: str) -> str:
    """What stands before the content of a part with this label."""
    if label.casefold().rstrip(" :.") in _NO_LABEL:
        return ""
    return f"{label} " if label.endswith(_MARKS) else f"{label}: "


def digest_text(text: str) -> bytes:
    """BLAKE2b-128 of the text in UTF-8, by which a changed text is recognised."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def digest_metadata(citation: Citation) -> int:
    """BLAKE2b-64, as a signed integer, of the metadata that is stored beside a citation's text."""
    values = (citation.version, citation.title_length, citation.pub_year, citation.journal,
              citation.language, citation.doi, *citation.publication_types)  # fmt: skip
    # No value has these control characters: squeeze replaces them as white space.
    joined = "\x1f".join("\x1e" if v is None else str(v) for v in values)
    digest = hashlib.blake2b(joined.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def citations_to_batch(citations: list[Citation], source: str) -> pa.RecordBatch:
    """Rows of :data:`CITATION_SCHEMA`, in the order given."""
    columns = [
        [c.pmid for c in citations],
        [c.version for c in citations],
        [c.text for c in citations],
        [c.title_length for c in citations],
        [digest_text(c.text) for c in citations],
        [source] * len(citations),
        [c.pub_year for c in citations],
        [c.journal for c in citations],
        [c.language for c in citations],
        [c.doi for c in citations],
        [c.publication_types for c in citations],
        [digest_metadata(c) for c in citations],
    ]
    arrays = [pa.array(v, f.type) for v, f in zip(columns, CITATION_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=CITATION_SCHEMA)
