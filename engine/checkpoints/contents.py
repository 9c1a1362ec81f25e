"""What of a checkpoint's files can change an answer, as digests, and whether it is still the same.

Enters: a checkpoint on this machine. Leaves: digests of its weights, its adapter and its tokenizer.
They are taken where a run is planned, and held against those of the files that an engine loads:
that may be on another machine, hours later, after somebody has put another checkpoint there.

A large file is read once on each machine, and again only if its size, times or inode change.
"""

import os
from dataclasses import dataclass, fields
from pathlib import Path

from engine.checkpoints.adapter import ADAPTER_WEIGHTS
from engine.checkpoints.load import Checkpoint, load_checkpoint, weight_files
from engine.storage.digests import digest_files
from schemas.errors import JobError


@dataclass(frozen=True, slots=True)
class Contents:
    """Digests of a checkpoint's files, and the tokens that end a completion.

    ``weights`` is over ``config.json`` and the weights, the base's where there is an ``adapter``.
    """

    weights: str
    tokenizer: str
    stop_token_ids: tuple[int, ...]
    adapter: str | None = None


def contents_of(checkpoint: Checkpoint) -> Contents:
    """The contents of a checkpoint's files as they are now."""
    adapter = None
    if checkpoint.adapter:
        adapter = digest_files([Path(checkpoint.adapter.path) / ADAPTER_WEIGHTS], strict=True)
    return Contents(
        weights=digest_files(weight_files(Path(checkpoint.path)), strict=True),
        tokenizer=tokenizer_digest(checkpoint),
        stop_token_ids=checkpoint.stop_token_ids,
        adapter=adapter,
    )


def tokenizer_digest(checkpoint: Checkpoint) -> str:
    """The digest of a checkpoint's ``tokenizer.json`` as it is now."""
    return digest_files([Path(checkpoint.tokenizer_path) / "tokenizer.json"], strict=True)


def load_same(ref: str, expected: Contents | None) -> Checkpoint:
    """A checkpoint by its name, brought to this machine, if it is the one that was planned with.

    Raises:
        JobError: if it is another one now. None is any.
    """
    if expected is not None:
        load_checkpoint.cache_clear()  # what this process has loaded may be from before the change
    checkpoint = load_checkpoint(ref)
    check_same(checkpoint, expected)
    return checkpoint


def check_same(checkpoint: Checkpoint, expected: Contents | None) -> None:
    """Hold a checkpoint's files against those that were planned with.

    Raises:
        JobError: if they differ. None is any.
    """
    if expected is None:
        return
    try:
        found = contents_of(checkpoint)
    except OSError as e:
        raise JobError(f"{_where(checkpoint)}: cannot be read any more: {e}") from e
    for field in fields(Contents):
        _compare(checkpoint, field.name, getattr(found, field.name), getattr(expected, field.name))


def check_tokenizer(checkpoint: Checkpoint, expected: str | None) -> None:
    """Hold a checkpoint's tokenizer against the one that was planned with, by its digest.

    Raises:
        JobError: if it is another one. None is any.
    """
    if expected is not None:
        _compare(checkpoint, "tokenizer", tokenizer_digest(checkpoint), expected)


def _compare(checkpoint: Checkpoint, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise JobError(
            f"{_where(checkpoint)}: is another one than the run was planned with "
            f"({what.replace('_', ' ')}: found {found}, expected {expected}). Was it overwritten "
            "meanwhile? The same command plans anew, with what is there now"
        )


def _where(checkpoint: Checkpoint) -> str:
    return f"checkpoint {checkpoint.ref} on {os.uname().nodename}"
