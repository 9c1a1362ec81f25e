"""Ways of writing the same letters, folded into one, with the way back to code points.

Two texts that differ by spacing, case, Greek letters against their names, dashes, quotes, ligatures
or the composition of accents fold to the same letters. An accent left out is another letter.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from schemas.spans import Span

# Letters and digits with the accents that follow them; of all else, each character is a word.
_WORD = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f])*|\S")

_GREEK = {
    chr(code): name.split()[-1].lower()
    for code in range(0x3B1, 0x3CA)
    if code != 0x3C2  # the final sigma, which casefold() makes a sigma
    for name in [unicodedata.name(chr(code)).replace("LAMDA", "LAMBDA")]
}
_DASHES = "\u02d7\u2043\u2212"
_QUOTES = "`\u00b4\u02b9\u02bb\u02bc\u02bd\u2018\u2019\u201a\u201b\u2032\u2035"
# As long as two single ones, which is how they are often typed.
_DOUBLE_QUOTES = '"\u00ab\u00bb\u201c\u201d\u201e\u201f\u2033'
_SLASHES = "\u2044\u2215"


@dataclass(frozen=True, slots=True)
class Folded:
    """``letters`` without white space; ``places[k]`` is the code point that letter ``k`` is from,
    ``starts`` are the letters that words begin with."""

    letters: str
    places: list[int]
    starts: list[int]

    def span(self, letters: Span) -> Span | None:
        """Where these letters stand in the text; null if they begin or end within a character,
        as ``pha`` does in ``α``."""
        places = self.places
        start, end = places[letters.start], places[letters.end - 1] + 1
        if letters.start and places[letters.start - 1] == start:
            return None
        if letters.end < len(places) and places[letters.end] < end:
            return None
        return Span(start, end)


def fold(text: str) -> Folded:
    """The letters of ``text``, in linear time."""
    pieces: list[str] = []
    places: list[int] = []
    starts: list[int] = []
    for match in _WORD.finditer(text):
        word, start = match[0], match.start()
        if word.isascii() and word not in '`"':
            letters = word.lower()
            starts.append(len(places))
            places.extend(range(start, start + len(word)))
        else:
            folded = [_fold_character(c) for c in word]
            letters = "".join(folded)
            if not letters:
                continue
            starts.append(len(places))
            for i, piece in enumerate(folded, start):
                places.extend([i] * len(piece))
        pieces.append(letters)
    return Folded("".join(pieces), places, starts)


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    """What one character stands for; nothing for what has no width."""
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
