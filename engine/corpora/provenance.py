"""Which document each line of a file was taken from, where the documents are at hand.

Published lines have no PMIDs. Those of BC5CDR, NCBI disease, NLM-Gene and NLM-Chem stand in the
order of their documents, each document's lines together. Without knowing whose a line is, a
document's tokenised lines could be trained on while its raw text is scored.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from engine.corpora.leaks import split_words

_KEY_WORDS = 4


def find_documents(lines: Sequence[str], documents: Iterable[tuple[int, str]]) -> list[set[int]]:
    """The PMIDs that each line may have been taken from: one, or none or several if in doubt.

    ``documents`` are (PMID, text); words are compared as leaks are. A line of at least four words
    that stands in one document only is taken from it. Every other line lies between two such
    lines: it is from one of theirs, or where just one of the two has its words, from that one.
    """
    inside = [split_words(line) for line in lines]
    wanted = {tuple(line[:_KEY_WORDS]) for line in inside if len(line) >= _KEY_WORDS}
    words: dict[int, list[str]] = defaultdict(list)
    places: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for pmid, text in documents:
        start, found = len(words[pmid]), split_words(text)
        words[pmid] += found
        for i in range(start, len(words[pmid]) - _KEY_WORDS + 1):
            key = tuple(words[pmid][i : i + _KEY_WORDS])
            if key in wanted:
                places[key].append((pmid, i))
    certain: list[int | None] = []
    for line in inside:
        hits = {
            pmid
            for pmid, i in places.get(tuple(line[:_KEY_WORDS]), [])
            if words[pmid][i : i + len(line)] == line
        }
        certain.append(hits.pop() if len(hits) == 1 else None)
    known = [-1, *(i for i, pmid in enumerate(certain) if pmid is not None), len(lines)]
    found_in: list[set[int]] = [set() if pmid is None else {pmid} for pmid in certain]
    for before, after in pairwise(known):
        near = {certain[i] for i in (before, after) if 0 <= i < len(lines)}
        around = {pmid for pmid in near if pmid is not None}
        for i in range(before + 1, after):
            having = {pmid for pmid in around if _holds(words[pmid], inside[i])}
            found_in[i] = having if len(having) == 1 else set(around)
    return found_in


def _holds(words: list[str], line: list[str]) -> bool:
    return bool(line) and f" {' '.join(line)} " in f" {' '.join(words)} "
