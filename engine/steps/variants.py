"""Variants of the same letters folded into one form, with the offsets to get back.

Enters: a text. Leaves: its letters, and for each the code point that it is from. Two texts fold to
the same letters if they differ only by spacing, case, Greek letters written as names, kinds of
dashes and quotes, ligatures, or the composition of accents. An accent that is missing is a
difference. Left to others: comparing folded texts (align.py).
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from schemas.spans import Span

# A word is a run of letters and digits with combining accents; any other character is its own word.
_WORD = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f])*|\S")

_GREEK = {
    chr(code): name.split()[-1].lower()
    for code in range(0x3B1, 0x3CA)
    if code != 0x3C2  # the final sigma, which casefold() makes a sigma
    for name in [unicodedata.name(chr(code)).replace("LAMDA", "LAMBDA")]
}
_DASHES = "\u02d7\u2043\u2212"
_QUOTES = "`\u00b4\u02b9\u02bb\u02bc\u02bd\u2018\u2019\u201a\u201b\u2032\u2035"
# Folded to two single quotes, as they are often typed.
_DOUBLE_QUOTES = '"\u00ab\u00bb\u201c\u201d\u201e\u201f\u2033'
_SLASHES = "\u2044\u2215"


@dataclass(frozen=True, slots=True)
class Folded:
    """A folded text. ``letters`` has no white space; ``offsets[k]`` is the code point of the text
    that letter ``k`` is from; ``starts`` are the indices of the letters that begin a word."""

    letters: str
    offsets: list[int]
    starts: list[int]

    def span(self, letters: Span) -> Span | None:
        """The span of these letters in code points of the text; None if they begin or end within a
        character, as ``pha`` does in ``α``, which folds to ``alpha``."""
        offsets = self.offsets
        start, end = offsets[letters.start], offsets[letters.end - 1] + 1
        if letters.start and offsets[letters.start - 1] == start:
            return None
        if letters.end < len(offsets) and offsets[letters.end] < end:
            return None
        return Span(start, end)


def fold(text: str) -> Folded:
    """Fold a text, in linear time."""
    pieces: list[str] = []
    offsets: list[int] = []
    starts: list[int] = []
    for match in _WORD.finditer(text):
        word, start = match[0], match.start()
        if word.isascii() and word not in '`"':
            letters = word.lower()
            starts.append(len(offsets))
            offsets.extend(range(start, start + len(word)))
        else:
            folded = [_fold_character(c) for c in word]
            letters = "".join(folded)
            if not letters:
                continue
            starts.append(len(offsets))
            for i, piece in enumerate(folded, start):
                offsets.extend([i] * len(piece))
        pieces.append(letters)
    return Folded("".join(pieces), offsets, starts)


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    """The letters that one character folds to; none for a character without width."""
    if character in _QUOTES:
        return "'"
    if character in _DOUBLE_QUOTES:
        return "''"
    if character in _SLASHES:
        return "/"
    category = unicodedata.category(character)
    if category == "Pd" or character in _DASHES:
        return "-"
    if category == "Cf" or character.isspace():
        return ""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    if letters == character:
        return _GREEK.get(character, character)
    return "".join(_fold_character(c) for c in letters)
