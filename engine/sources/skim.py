"""Leave out of PubMed XML, before it is parsed, what no column comes from.

Enters: the bytes of a file, in pieces. Leaves: the same bytes, in pieces, without author lists,
processing dates, histories, reference lists, and what follows the journal in a MedlineCitation
(MeSH, chemicals, corrections, …): three quarters of a file. Left to others: all judgement.

Only what is written exactly as NLM writes it is cut. A file that begins otherwise (encoding,
internal DTD subset, attributes of the root) passes whole. So does the rest of a file from the first
comment, CDATA section or instruction with tags in it, and from the first thing between records that
is no PubmedArticle. Without those, every "<" of well-formed XML begins a tag (or an instruction),
so that tags can be found and counted as bytes. A part is cut if it begins once and ends within its
record, at the depth where it belongs; otherwise it stays, and the parser judges it.

Not noticed any more is what is wrong *inside* a part that begins and ends as it should: mismatched
tags, undefined entities, characters that XML forbids, bytes that are not UTF-8, records where none
belongs, and missing bytes that begin within a part of one record and end within the same part of a
later one. Lines that the parser's messages name are counted without what is cut.
"""

import re
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_BEGINNING_BYTES = 1 << 12  # what a file may have before its first record, to be skimmed
_HELD_BYTES = 4 << 20
"""No end of a record is waited for longer. The longest author lists make some 3 MB."""

# Quantifiers are possessive (++, *+, ?+): no input takes more than linear time.
_BEGINNING = re.compile(
    rb"(?:\xef\xbb\xbf)?+"
    rb"(?:<\?xml version=[\"']1\.0[\"'](?: encoding=[\"'](?i:utf-8|us-ascii)[\"'])?+ ?+\?>)?+\s*+"
    rb"(?:<!DOCTYPE PubmedArticleSet [^\[\]<>]++>)?+\s*+"
    rb"<PubmedArticleSet>(?=\s*+<PubmedArticle>)"
)
_RECORD = re.compile(rb"\s*+<PubmedArticle>")
_RECORD_END = b"</PubmedArticle>"
_INSTRUCTION = re.compile(rb"<\?[^<>?]++\?>")  # NLM has <?nihms ?>
_EMPTY = re.compile(rb"<[\w:]++(?: [\w:]++=\"[^\"<>]*+\")*+ ?+/>|" + _INSTRUCTION.pattern)
# Group 1 up to the PMID; then dates, with nothing in them but numbers; the article follows.
_HEAD = re.compile(
    rb"(\s*+<PubmedArticle>\s*+<MedlineCitation(?: \w++=\"[^\"<>&]*+\")*+>"
    rb"\s*+<PMID(?: Version=\"\d++\")?+>\d++</PMID>)"
    rb"(?:\s*+<(Date\w++)>(?:\s*+<(\w++)>\d++</\3>)*+\s*+</\2>)*+"
    rb"\s*+(?=<Article[ >])"
)


class _Part(NamedTuple):
    """What is cut: from the end of group 1 of ``form`` to the next ``until``."""

    sign: bytes  # found first
    form: re.Pattern[bytes]  # what must stand there
    until: bytes
    until_goes: bool
    never: bytes  # must not occur in between
    depth: int  # elements open around it, at most
    repeats: bool = False


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
    """Yield the bytes of ``pieces`` without what is cut, holding back a record at most.

    Where ``pieces`` raise an error, it comes after all that was read before.
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
            # Whole records only: what follows the end of the last one waits for more.
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
    for mark in (b"!", b"?"):  # rare: found ten times as fast as "<!" and "<?"
        at = data.find(mark, start, end)
        while at >= 0:
            if data.startswith(b"<", at - 1) and not _INSTRUCTION.match(data, at - 1, end):
                return True
            at = data.find(mark, at + 1, end)
    return False


def _skim_record(data: bytes, start: int, kept: list[bytes]) -> int:
    """Add to ``kept`` what stays of the record at ``start``; return its end."""
    end = data.index(_RECORD_END, start) + len(_RECORD_END)
    head = _HEAD.match(data, start, end)
    if not head:
        kept.append(data[start:end])
        return end
    kept.append(head[1])
    at, depth = head.end(), 2
    for part in _PARTS:
        while (first := data.find(part.sign, at, end)) >= 0:
            # Elements open at ``first``; the empty ones before it are seldom any.
            depth += data.count(b"<", at, first) - 2 * data.count(b"</", at, first)
            if depth > part.depth:
                depth -= len(_EMPTY.findall(data, at, first))
            form = part.form.match(data, first, end)
            until = _until(data, part, form.end(), end) if form and depth <= part.depth else -1
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
    """Up to where ``part``, begun before ``start``, is cut; -1 if it begins again or never ends."""
    # What repeats ends the record: seen from there, the last end is near.
    until = (data.rfind if part.repeats else data.find)(part.until, start, end)
    again = data.find(part.never, start, until) if until >= 0 else -1
    if again >= 0:
        until = data.find(part.until, start, again) if part.repeats else -1
    return until + len(part.until) if until >= 0 and part.until_goes else until
