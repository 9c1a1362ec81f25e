"""What training must not see: texts that share something with a test split.

Enters: the texts of all test splits. Leaves: for any other text, whether it shares something with
them, and what. Left to others: what is then removed (an example, or a text of the language stage).

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
"""A run of so many words that two texts share is a leak, wherever it is in them."""
SENTENCE_WORDS = 8
"""A whole sentence that two texts share is a leak if it has at least so many words."""

_WORD = re.compile(r"[^\W_]+")
# Greek letters are spelled out in some copies of a text ("TNF-alpha") and replaced by Latin ones in
# others ("TNF-a", in AIONER's); here, all become Latin ones. NLM-Gene's published lines keep Greek
# letters: without this, 545 of 5,051 lines did not match its documents; with it, 132 do not, most
# of which are damaged.
_LATIN = str.maketrans(
    dict(zip("αβγδεζηικλμνξοπρςστυφχω", "abgdezeiklunxoprsstufxo", strict=True))
    | {"θ": "th", "ψ": "ps"}
)
_SPELLED = re.compile("alpha|beta|gamma|delta|epsilon|zeta|theta|iota|kappa|lambda|sigma|omega")
# Odd, so that it has an inverse modulo 2**64: a power of that takes a run's position out of its
# hash again.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)


class Leak(NamedTuple):
    """What a text shares with a test split: its ``pmid``, a whole ``sentence``, or a ``run`` of
    words. ``found`` is the PMID, or the shared words."""

    kind: Literal["pmid", "sentence", "run"]
    found: str


class Text(NamedTuple):
    """A text to compare. ``title_length`` is null for a text that is not a title and an abstract:
    such a text, as a whole, counts as a sentence too."""

    text: str
    pmid: int | None = None
    title_length: int | None = None


class HeldOut:
    """The texts of the test splits, as hashes of what must not be shared with them.

    Needs 8 bytes for each run of 8, 9, … 13 words: about 40 MB per million words. About once in
    10**12 comparisons of a text with a million words, two different runs have the same hash, and a
    text is removed needlessly.
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
            for n, hashes in runs.items():
                hashes.append(self._runs(sums, n))
            for part in _sentences(text):
                inside = split_words(text.text[part.start : part.end])
                if SENTENCE_WORDS <= len(inside) < RUN_WORDS:
                    whole = self._runs(self._sums(inside), len(inside))
                    sentences[len(inside)].add(int(whole[0]))
        self._runs_of = {n: _distinct(hashes) for n, hashes in runs.items()}
        self._sentences_of = {
            n: np.array(sorted(hashes), np.uint64) for n, hashes in sentences.items()
        }

    @classmethod
    def from_examples(cls, examples: pa.Table) -> "HeldOut":
        """The texts of rows of EXAMPLES_SCHEMA. All rows count, so pass those of test splits."""
        columns = (examples[c].to_pylist() for c in ("text", "pmid", "title_length"))
        return cls(Text(*row) for row in zip(*columns, strict=True))

    def shares(
        self, text: str, pmid: int | None = None, title_length: int | None = None
    ) -> Leak | None:
        """What ``text`` shares with a test split, or None.

        That is its PMID, a run of 13 words, or a sentence of at least 8 words. The sentence may be
        one of the test's anywhere in ``text``, or one of ``text``'s anywhere in a test text, so
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
        """Sums over the first 0, 1, … words of hash times base to the power of position, mod 2**64.

        The difference of two sums is a rolling hash of the words between them.
        """
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
        """Double the number of known powers."""
        n = np.uint64(len(self._powers))
        for name, base in (("_powers", _BASE), ("_inverses", _INVERSE)):
            powers = getattr(self, name)
            factor = np.uint64(pow(base, int(n), 1 << 64))
            setattr(self, name, np.concatenate([powers, powers * factor]))


def split_words(text: str) -> list[str]:
    """The words of ``text`` that leaks are measured in: runs of letters and digits, lower case.

    Forms that differ between copies of a text are made alike first. HTML's escapes are resolved
    ("&lt;" is "<"). Compatibility forms and accents are removed (Unicode NFKD without combining
    marks: "ﬁ" is "fi", "naïve" is "naive"). Greek letters, also where they are spelled out, become
    Latin ones ("TNF-α", "TNF-alpha" and "TNF-a").
    """
    plain = unescape(text).lower() if "&" in text else text.lower()
    if not plain.isascii():
        plain = unicodedata.normalize("NFKD", plain).lower()
        plain = "".join(c for c in plain if not unicodedata.combining(c)).translate(_LATIN)
    return _WORD.findall(_SPELLED.sub(lambda m: "th" if m[0] == "theta" else m[0][0], plain))


def remove_leaks(examples: pa.Table, held_out: HeldOut) -> tuple[pa.Table, Counter[str]]:
    """``examples`` (EXAMPLES_SCHEMA) without those that share anything with ``held_out``, and how
    many were removed, by kind of leak. One leaking sentence removes a whole citation."""
    columns = (examples[c].to_pylist() for c in ("text", "pmid", "title_length"))
    leaks = [held_out.shares(*row) for row in zip(*columns, strict=True)]
    kept = examples.filter(pa.array([leak is None for leak in leaks], pa.bool_()))
    return kept, Counter(leak.kind for leak in leaks if leak)


def _sentences(text: Text) -> list[Span]:
    whole = len(text.text)
    title_length = whole if text.title_length is None else text.title_length
    spans = split_sentences(text.text, title_length)
    # A text that came in one piece may be one sentence, even if the splitter cuts it.
    return spans if text.title_length is not None else [*spans, Span(0, whole)]


def _distinct(hashes: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)


def _first(hashes: np.ndarray, known: np.ndarray) -> int | None:
    """The index of the first of ``hashes`` that is in ``known``, which must be sorted."""
    if not len(hashes) or not len(known):
        return None
    candidates = np.searchsorted(known, hashes)
    candidates[candidates == len(known)] = 0
    hits = np.flatnonzero(known[candidates] == hashes)
    return int(hits[0]) if len(hits) else None
