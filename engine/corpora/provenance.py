"""Which document each line of a file was taken from, where the documents are at hand.

Enters: lines in the file's order, and documents with PMIDs. Leaves: for each line, the PMIDs that
it may be from. Left to others: which split follows from that (splits.py).

Published lines have no PMIDs. Those of BC5CDR, NCBI disease, NLM-Gene and NLM-Chem are in the order
of their documents, the lines of each document together. If a line's document were not known, the
document's tokenised lines could be trained on while its raw text is scored.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from engine.corpora.leaks import split_words

_KEY_WORDS = 4
"""Words by which a line is looked up; those of a shorter line do not tell its document."""


def find_documents(lines: Sequence[str], documents: Iterable[tuple[int, str]]) -> list[set[int]]:
    """The PMIDs that each line may be from: one, or none or several where it is in doubt.

    ``documents`` are pairs of PMID and text; words are compared as for leaks. A line of at least
    four words that occurs in one document only is from that one. Any other line lies between two
    such lines, and may be from the document of either; if only one of the two documents has its
    words, it is from that one.
    """
    inside = [split_words(line) for line in lines]
    wanted = {tuple(line[:_KEY_WORDS]) for line in inside if len(line) >= _KEY_WORDS}
    words: dict[int, list[str]] = defaultdict(list)
    positions: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for pmid, text in documents:
        start = len(words[pmid])
        words[pmid] += split_words(text)
        for i in range(start, len(words[pmid]) - _KEY_WORDS + 1):
            key = tuple(words[pmid][i : i + _KEY_WORDS])
            if key in wanted:
                positions[key].append((pmid, i))
    certain: list[int | None] = []
    for line in inside:
        hits = {
            pmid
            for pmid, i in positions.get(tuple(line[:_KEY_WORDS]), [])
            if words[pmid][i : i + len(line)] == line
        }
        certain.append(hits.pop() if len(hits) == 1 else None)
    known = [-1, *(i for i, pmid in enumerate(certain) if pmid is not None), len(lines)]
    candidates: list[set[int]] = [set() if pmid is None else {pmid} for pmid in certain]
    for before, after in pairwise(known):
        near = {certain[i] for i in (before, after) if 0 <= i < len(lines)}
        around = {pmid for pmid in near if pmid is not None}
        for i in range(before + 1, after):
            having = {pmid for pmid in around if _holds(words[pmid], inside[i])}
            candidates[i] = having if len(having) == 1 else set(around)
    return candidates


def _holds(words: list[str], line: list[str]) -> bool:
    return bool(line) and f" {' '.join(line)} " in f" {' '.join(words)} "
