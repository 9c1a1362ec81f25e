"""The parts of PubMed XML that no column comes from, cut out before the XML is parsed.

Enters: the bytes of a file, in pieces. Leaves: the same bytes, in pieces, without author lists,
processing dates, histories, reference lists, and what follows the journal in a MedlineCitation
(MeSH, chemicals, corrections, …; but not where that holds the only abstract): three quarters of a
file. Left to others: judging whether the
file is sound.

A part is cut only where it is written exactly as NLM writes it:

- A file that begins otherwise (encoding, internal DTD subset, attributes of the root) is passed on
  whole.
- From the first comment, CDATA section or instruction with tags in it, and from the first element
  between records that is no PubmedArticle, the rest of the file is passed on whole. Before those,
  every "<" of well-formed XML begins a tag or an instruction, so that tags can be found and counted
  as bytes.
- A part is cut if it begins once, at the depth where it belongs, and ends within its record.
  Otherwise it stays, and the parser judges it.

The parser never sees what is cut, so some faults pass unnoticed. These are faults inside a part
that begins and ends as it should: mismatched tags, undefined entities, characters that XML forbids,
bytes that are not UTF-8, records where none belongs. Bytes that are missing from a file pass
unnoticed too, if the hole begins inside a part of one record and ends inside the same part of a
later record: what is left looks like one record with one such part. The parser's messages count
lines without those that were cut.
"""

import re
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_BEGINNING_BYTES = 1 << 12  # a file with more than this before its first record is not skimmed
_HELD_BYTES = 4 << 20
"""If no record ends within so many bytes, the rest of the file is passed on whole. The longest
author lists take some 3 MB."""

# Quantifiers are possessive (++, *+, ?+), so that no input takes more than linear time.
_BEGINNING = re.compile(
    rb"(?:\xef\xbb\xbf)?+"
    rb"(?:<\?xml version=[\"']1\.0[\"'](?: encoding=[\"'](?i:utf-8|us-ascii)[\"'])?+ ?+\?>)?+\s*+"
    rb"(?:<!DOCTYPE PubmedArticleSet [^\[\]<>]++>)?+\s*+"
    rb"<PubmedArticleSet>(?=\s*+<PubmedArticle>)"
)
_RECORD = re.compile(rb"\s*+<PubmedArticle>")
_RECORD_END = b"</PubmedArticle>"
# An abstract that has text for sure: what begins with "&" or beyond ASCII may be white space.
_ABSTRACT = re.compile(rb"<AbstractText[^<>]*+>\s*+[!-%'-;=-~]")
_INSTRUCTION = re.compile(rb"<\?[^<>?]++\?>")  # NLM's files have <?nihms ?>
_EMPTY = re.compile(rb"<[\w:]++(?: [\w:]++=\"[^\"<>]*+\")*+ ?+/>|" + _INSTRUCTION.pattern)
# Group 1 ends after the PMID. Then come dates that hold nothing but numbers, then the article.
_HEAD = re.compile(
    rb"(\s*+<PubmedArticle>\s*+<MedlineCitation(?: \w++=\"[^\"<>&]*+\")*+>"
    rb"\s*+<PMID(?: Version=\"\d++\")?+>\d++</PMID>)"
    rb"(?:\s*+<(Date\w++)>(?:\s*+<(\w++)>\d++</\3>)*+\s*+</\2>)*+"
    rb"\s*+(?=<Article[ >])"
)


class _Part(NamedTuple):
    """A part of a record that is cut: from the end of group 1 of ``form`` to the next ``until``."""

    sign: bytes  # how it begins: looked for first, as that is fast
    form: re.Pattern[bytes]  # must match where the sign is
    until: bytes
    until_goes: bool  # whether ``until`` itself is cut too
    never: bytes  # must not occur in between
    depth: int  # it may have at most so many open elements around it
    repeats: bool = False  # whether a record may have several
    wanted: bytes = b""  # is read where the record has no abstract: then nothing is cut around it


_PARTS = (
    _Part(
        b"<AuthorList",
        re.compile(rb"()<AuthorList(?: \w++=\"\w*+\")*+>"),
        b"</AuthorList>",
        until_goes=True,
        never=b"<AuthorList",
        depth=3,
    ),
    _Part(
        b"<MedlineJournalInfo>",
        re.compile(
            rb"(<MedlineJournalInfo>\s*+(?:<Country>[^<>]*+</Country>\s*+)?+"
            rb"<MedlineTA>[^<>]*+</MedlineTA>\s*+(?:<(\w++)>[^<>]*+</\2>\s*+)*+"
            rb"</MedlineJournalInfo>)"
        ),
        b"</MedlineCitation>",
        until_goes=False,
        never=b"<MedlineCitation",
        depth=2,
        wanted=b"<OtherAbstract",
    ),
    _Part(
        b"<History>",
        re.compile(rb"()<History>"),
        b"</History>",
        until_goes=True,
        never=b"<History",
        depth=2,
    ),
    _Part(
        b"<ReferenceList>",
        re.compile(rb"()<ReferenceList>"),
        b"</ReferenceList>",
        until_goes=True,
        never=b"<ReferenceList",
        depth=2,
        repeats=True,
    ),
)


def skim(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of ``pieces`` without the parts that are cut.

    At most one record that has not ended yet is held back. If ``pieces`` raises an error, all that
    was read before is yielded first.
    """
    source = iter(pieces)
    held = b""
    begun = False
    try:
        for piece in source:
            held += piece
            if not begun:
                beginning = _BEGINNING.match(held)
                if not beginning and len(held) < _BEGINNING_BYTES:
                    continue
                if not beginning:
                    break
                begun = True
                yield beginning[0]
                held = held[beginning.end() :]
            # Only whole records are looked at; bytes after the last one wait for the next piece.
            at, end = 0, held.rfind(_RECORD_END)
            if end < 0 and len(held) <= _HELD_BYTES:
                continue
            if end < 0 or _has_more_than_tags(held, at, end):
                break
            end += len(_RECORD_END)
            kept: list[bytes] = []
            while at < end and _RECORD.match(held, at, end):
                at = _skim_record(held, at, kept)
            held = held[at:]
            if kept:
                yield b"".join(kept)
            if at < end:
                break
    except (OSError, EOFError, zlib.error):
        if held:
            yield held
        raise
    if held:
        yield held
    yield from source


def _has_more_than_tags(data: bytes, start: int, end: int) -> bool:
    """Whether there is a comment, a CDATA section or an instruction with angle brackets in it."""
    for mark in (b"!", b"?"):  # rare in text, and found ten times as fast as "<!" and "<?"
        at = data.find(mark, start, end)
        while at >= 0:
            if data.startswith(b"<", at - 1) and not _INSTRUCTION.match(data, at - 1, end):
                return True
            at = data.find(mark, at + 1, end)
    return False


def _skim_record(data: bytes, start: int, kept: list[bytes]) -> int:
    """Append to ``kept`` the bytes of the record at ``start`` that are not cut; give its end."""
    end = data.index(_RECORD_END, start) + len(_RECORD_END)
    head = _HEAD.match(data, start, end)
    if not head:
        kept.append(data[start:end])
        return end
    kept.append(head[1])
    at, depth = head.end(), 2
    for part in _PARTS:
        while (first := data.find(part.sign, at, end)) >= 0:
            # How many elements are open at ``first``. Empty ones count as open here; they are rare,
            # and are taken off only if that decides.
            depth += data.count(b"<", at, first) - 2 * data.count(b"</", at, first)
            if depth > part.depth:
                depth -= len(_EMPTY.findall(data, at, first))
            form = part.form.match(data, first, end)
            until = _until(data, part, form.end(), end) if form and depth <= part.depth else -1
            if part.wanted and until >= 0 and data.find(part.wanted, first, until) >= 0:
                until = until if _ABSTRACT.search(data, start, first) else -1
            if form is None or until < 0:
                kept.append(data[at:first])
                at = first
                break
            kept.append(data[at : form.end(1)])
            at = until
            if not part.repeats:
                break
    kept.append(data[at:end])
    return end


def _until(data: bytes, part: _Part, start: int, end: int) -> int:
    """Where the cut of ``part`` ends, whose form ends at ``start``; -1 if the part begins again or
    never ends."""
    # Parts that repeat stand at the end of a record, so that the last one's end is near that.
    until = (data.rfind if part.repeats else data.find)(part.until, start, end)
    again = data.find(part.never, start, until) if until >= 0 else -1
    if again >= 0:
        until = data.find(part.until, start, again) if part.repeats else -1
    return until + len(part.until) if until >= 0 and part.until_goes else until
