"""What training must not see: texts that share something with a test split.

Enters: the texts of all test splits. Leaves: for any other text, whether and what it shares with
them. Left to others: what is then removed (an example, the abstract of a language-model text).

Words are compared, not characters, so that raw ("T-cell", "2.5 mg/kg") and tokenised ("T - cell",
"2 . 5 mg / kg") forms of a text agree: see :func:`split_words`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from html import unescape
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from engine.steps.sentences import split_sentences
from schemas.spans import Span

RUN_WORDS = 13
SENTENCE_WORDS = 8

_WORD = re.compile(r"[^\W_]+")
# Greek letters are spelled out in some copies of a text ("TNF-alpha"), and are Latin ones in others
# ("TNF-a", in AIONER's): all become one. NLM-Gene's published lines have them as they are, and 545
# of 5,051 were not found in its documents without this; now 132 are not, most of them damaged.
_LATIN = str.maketrans(
    dict(zip("αβγδεζηικλμνξοπρςστυφχω", "abgdezeiklunxoprsstufxo", strict=True))
    | {"θ": "th", "ψ": "ps"}
)
_SPELLED = re.compile("alpha|beta|gamma|delta|epsilon|zeta|theta|iota|kappa|lambda|sigma|omega")
# Odd, so that it has an inverse modulo 2**64: the power by which a run's place is taken out again.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)


class Leak(NamedTuple):
    """What a text shares with a test split: its ``pmid``, a whole ``sentence`` or a ``run`` of
    words. ``found`` is the PMID, or the shared words."""

    kind: Literal["pmid", "sentence", "run"]
    found: str


class Text(NamedTuple):
    """A text to compare. ``title_length`` is null where no title stands before an abstract: then
    the text begins and ends with a sentence's border."""

    text: str
    pmid: int | None = None
    title_length: int | None = None


class HeldOut:
    """The texts of the test splits, by the hashes of what must not be shared with them.

    Takes 8 bytes for each run of 8, 9, … 13 words: about 40 MB per million words. Two different
    runs of words are taken for the same about once in 10**12 comparisons of a text with a million
    words, and then a text is removed that need not be.
    """

    def __init__(self, texts: Iterable[Text]):
        self._words: dict[str, int] = {}
        self._powers = np.ones(1, np.uint64)
        self._inverses = np.ones(1, np.uint64)
        self._pmids: set[int] = set()
        lengths = range(SENTENCE_WORDS, RUN_WORDS + 1)
        runs: dict[int, list[np.ndarray]] = {n: [] for n in lengths}
        sentences: dict[int, set[int]] = {n: set() for n in lengths}
        for text in texts:
            if text.pmid is not None:
                self._pmids.add(text.pmid)
            words = split_words(text.text)
            sums = self._sums(words)
            for n, found in runs.items():
                found.append(self._runs(sums, n))
            for part in _sentences(text):
                inside = split_words(text.text[part.start : part.end])
                if SENTENCE_WORDS <= len(inside) < RUN_WORDS:
                    whole = self._runs(self._sums(inside), len(inside))
                    sentences[len(inside)].add(int(whole[0]))
        self._runs_of = {n: _distinct(found) for n, found in runs.items()}
        self._sentences_of = {
            n: np.array(sorted(found), np.uint64) for n, found in sentences.items()
        }

    @classmethod
    def from_examples(cls, examples: pa.Table) -> "HeldOut":
        """The texts of EXAMPLES_SCHEMA, whatever their split: give it those of the test."""
        columns = (examples[c].to_pylist() for c in ("text", "pmid", "title_length"))
        return cls(Text(*row) for row in zip(*columns, strict=True))

    def shares(
        self, text: str, pmid: int | None = None, title_length: int | None = None
    ) -> Leak | None:
        """What ``text`` shares with a test split, or None.

        That is the PMID, a run of 13 words, or a sentence of at least 8 words: one of the test's
        sentences anywhere within ``text``, or one of ``text``'s anywhere within a test text, so
        that it does not matter where either was cut into sentences.
        """
        if pmid is not None and pmid in self._pmids:
            return Leak("pmid", str(pmid))
        words = split_words(text)
        sums = self._sums(words)
        if (at := _first(self._runs(sums, RUN_WORDS), self._runs_of[RUN_WORDS])) is not None:
            return Leak("run", " ".join(words[at : at + RUN_WORDS]))
        for n, known in self._sentences_of.items():
            if (at := _first(self._runs(sums, n), known)) is not None:
                return Leak("sentence", " ".join(words[at : at + n]))
        for part in _sentences(Text(text, pmid, title_length)):
            inside = split_words(text[part.start : part.end])
            if SENTENCE_WORDS <= (n := len(inside)) < RUN_WORDS:
                whole = self._runs(self._sums(inside), n)
                if _first(whole, self._runs_of[n]) is not None:
                    return Leak("sentence", " ".join(inside))
        return None

    def _sums(self, words: list[str]) -> np.ndarray:
        """Sums of the first 0, 1, … words' hashes, each times a power of the base, mod 2**64."""
        while len(self._powers) <= len(words):
            self._lengthen()
        known = self._words
        hashes = np.fromiter(
            (known[w] if w in known else self._hash(w) for w in words), np.uint64, len(words)
        )
        sums = np.zeros(len(words) + 1, np.uint64)
        np.cumsum(hashes * self._powers[: len(words)], out=sums[1:])
        return sums

    def _runs(self, sums: np.ndarray, n: int) -> np.ndarray:
        """The hash of each run of ``n`` words."""
        count = max(len(sums) - n, 0)
        return (sums[n:] - sums[:count]) * self._inverses[:count]

    def _hash(self, word: str) -> int:
        value = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
        self._words[word] = value
        return value

    def _lengthen(self) -> None:
        n = np.uint64(len(self._powers))
        for name, base in (("_powers", _BASE), ("_inverses", _INVERSE)):
            powers = getattr(self, name)
            factor = np.uint64(pow(base, int(n), 1 << 64))
            setattr(self, name, np.concatenate([powers, powers * factor]))


def split_words(text: str) -> list[str]:
    """The words of ``text`` as leaks are counted in: runs of letters and digits, in lower case.

    Forms that differ between copies of a text are made one first: compatibility forms and accents
    (Unicode NFKD without combining marks: "ﬁ" is "fi", "naïve" is "naive"), and Greek letters,
    also where they are spelled out, become Latin ones ("TNF-α", "TNF-alpha" and "TNF-a"). What
    HTML escapes is what it stands for ("&lt;" is "<").
    """
    plain = unescape(text).lower() if "&" in text else text.lower()
    if not plain.isascii():
        plain = unicodedata.normalize("NFKD", plain).lower()
        plain = "".join(c for c in plain if not unicodedata.combining(c)).translate(_LATIN)
    return _WORD.findall(_SPELLED.sub(lambda m: "th" if m[0] == "theta" else m[0][0], plain))


def remove_leaks(examples: pa.Table, held_out: HeldOut) -> tuple[pa.Table, Counter[str]]:
    """``examples`` (EXAMPLES_SCHEMA) without those that share anything with ``held_out``, and how
    many went by kind of leak. One leaking sentence removes a whole citation."""
    columns = (examples[c].to_pylist() for c in ("text", "pmid", "title_length"))
    leaks = [held_out.shares(*row) for row in zip(*columns, strict=True)]
    kept = examples.filter(pa.array([leak is None for leak in leaks], pa.bool_()))
    return kept, Counter(leak.kind for leak in leaks if leak)


def _sentences(text: Text) -> list[Span]:
    whole = len(text.text)
    title_length = whole if text.title_length is None else text.title_length
    found = split_sentences(text.text, title_length)
    # What came as one piece may be one sentence, whatever the splitter says.
    return found if text.title_length is not None else [*found, Span(0, whole)]


def _distinct(found: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)


def _first(hashes: np.ndarray, known: np.ndarray) -> int | None:
    """Where the first of ``hashes`` stands that is in ``known``, which is sorted."""
    if not len(hashes) or not len(known):
        return None
    places = np.searchsorted(known, hashes)
    places[places == len(known)] = 0
    hits = np.flatnonzero(known[places] == hashes)
    return int(hits[0]) if len(hits) else None
