"""Which split each text of a train file belongs to: train or dev.

One rule for all corpora: a document is in dev everywhere if it is in dev anywhere, so that its
published tokenised lines and its raw text, or two corpora that share it, are never on both sides.
"""

from collections.abc import Collection, Iterable
from hashlib import blake2b

from engine.corpora.examples import UNKNOWN
from engine.corpora.leaks import split_words


def is_dev(key: str, share: float) -> bool:
    """Whether a key falls into dev, of which about ``share`` do. The same key always does."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def key_of_lines(texts: Iterable[str], block_lines: int) -> list[str]:
    """For each line of a file without documents, what its split is drawn by.

    With ``block_lines`` 1 that is its words, so that repeated lines stay together. With more it is
    the number of its block, for files in which neighbouring lines come from one document: then only
    those at a block's ends share theirs with another.
    """
    if block_lines == 1:
        return [" ".join(split_words(text)) for text in texts]
    return [f"block {i // block_lines}" for i, _ in enumerate(texts)]


def choose_split(pmids: Collection[int], dev_pmids: Collection[int], dev_by_key: bool) -> str:
    """Train or dev for a text that is of one of ``pmids``; by its key if they are not known.

    ``unknown`` if some of ``pmids`` are in dev and others are not.
    """
    if not pmids:
        return "dev" if dev_by_key else "train"
    found = {pmid in dev_pmids for pmid in pmids}
    if len(found) == 2:
        return UNKNOWN
    return "dev" if found.pop() else "train"
