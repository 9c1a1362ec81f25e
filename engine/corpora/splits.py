"""Which split each text of a train file belongs to: train or dev.

Enters: a text's key, or the PMIDs that it may be from. Leaves: a split. Left to others: which PMIDs
are in dev (importer.py).

One rule holds for all corpora: a document that is in dev in one of them is in dev in all. So a
document's published lines and its raw text, or its copies in two corpora, are never on both sides.
"""

from collections.abc import Collection, Iterable
from hashlib import blake2b

from engine.corpora.examples import UNKNOWN
from engine.corpora.leaks import split_words


def is_dev(key: str, share: float) -> bool:
    """Whether a key is in dev, as about ``share`` of all keys are. A key's answer never changes."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def key_of_lines(texts: Iterable[str], block_lines: int) -> list[str]:
    """For each line of a file without documents, the key by which its split is drawn.

    With ``block_lines`` 1 that is its words, so that repeated lines stay together. With more it is
    the number of its block of lines, for files in which neighbouring lines come from one document:
    then only the documents at a block's ends are divided between two blocks.
    """
    if block_lines == 1:
        return [" ".join(split_words(text)) for text in texts]
    return [f"block {i // block_lines}" for i, _ in enumerate(texts)]


def choose_split(pmids: Collection[int], dev_pmids: Collection[int], dev_by_key: bool) -> str:
    """The split of a text that is from one of ``pmids``: train or dev.

    Without ``pmids``, its key decides. ``unknown``, if some of ``pmids`` are in dev and others are
    not.
    """
    if not pmids:
        return "dev" if dev_by_key else "train"
    in_dev = {pmid in dev_pmids for pmid in pmids}
    if len(in_dev) == 2:
        return UNKNOWN
    return "dev" if in_dev.pop() else "train"
