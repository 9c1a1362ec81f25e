"""Examples varied anew in every epoch, so that a small model does not learn them by heart.

Enters: a text, its mentions and a source of random numbers. Leaves: text and mentions with other
names, with words set apart, or with words cut in two before they become tokens. Left to others: how
much is varied (encode.py).

Mention replacement is that of Dai and Adel, COLING 2020 (2020.coling-main.343). Cutting words does
for byte-level BPE what BPE-dropout does (Provilkov et al., ACL 2020), but from a seed.
"""

import re
from collections.abc import Mapping, Sequence
from random import Random

from schemas.spans import TypedSpan, trim

CUT = "\uffff"
"""Stands where a word is cut: a code point that is no character and occurs in no text."""

Lexicon = Mapping[str, Sequence[str]]
"""By entity type in folded case, the distinct names that mentions have."""

_PIECE = re.compile(r"\w+|[^\w\s]")
_LONG_WORD = re.compile(r"[^\W\d_]{5,}")


def replace_names(
    text: str, mentions: Sequence[TypedSpan], lexicon: Lexicon, share: float, random: Random
) -> tuple[str, list[TypedSpan]]:
    """Replace a ``share`` of the names by others of their type, alike at all their occurrences.

    Mentions that overlap another one stay as they are.
    """
    ordered = sorted(mentions)
    names: dict[tuple[str, str], str] = {}
    pieces: list[str] = []
    moved: list[TypedSpan] = []
    done = length = 0
    for i, (start, end, kind) in enumerate(ordered):
        alone = not any(m.span.overlaps(ordered[i].span) for m in ordered if m is not ordered[i])
        name = text[start:end]
        if alone and (kind, name) not in names:
            known = lexicon.get(kind.casefold())
            names[kind, name] = random.choice(known) if known and random.random() < share else name
        if alone:
            pieces += [text[done:start], names[kind, name]]
            length += start - done
            moved.append(TypedSpan(length, length + len(pieces[-1]), kind))
            length += len(pieces[-1])
            done = end
        else:
            moved.append(TypedSpan(start - done + length, end - done + length, kind))
    return "".join([*pieces, text[done:]]), moved


def set_apart(text: str, mentions: Sequence[TypedSpan]) -> tuple[str, list[TypedSpan]]:
    """The text as tokenised corpora have it: a space between all words and signs ("T - cell").

    Mentions lose white space at their ends; mentions of nothing but white space are left out.
    """
    moved_to: dict[int, int] = {}
    pieces: list[str] = []
    length = 0
    for piece in _PIECE.finditer(text):
        moved_to |= {i: length + i - piece.start() for i in range(*piece.span())}
        pieces.append(piece[0])
        length += len(piece[0]) + 1
    words = [(trim(text, m.span), m.entity_type) for m in mentions]
    moved = [
        TypedSpan(moved_to[w.start], moved_to[w.end - 1] + 1, t)
        for w, t in words
        if w.start < w.end
    ]
    return " ".join(pieces), moved


def cut_words(
    text: str, mentions: Sequence[TypedSpan], share: float, random: Random
) -> tuple[str, list[TypedSpan]]:
    """Put :data:`CUT` at a random place into a ``share`` of the words of five letters or more."""
    cuts = [
        random.randint(word.start() + 2, word.end() - 2)
        for word in _LONG_WORD.finditer(text)
        if random.random() < share
    ]
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    moved = [
        TypedSpan(
            m.start + sum(c <= m.start for c in cuts),
            m.end + sum(c < m.end for c in cuts),
            m.entity_type,
        )
        for m in mentions
    ]
    return CUT.join(pieces), moved
