"""The files of a turn: NLM's new ones fetched, and which files there are now.

Enters: the config's mirror and sources. Leaves: shards, and the year of a baseline that NLM lists
in full and the mirror now has. Left to others: what the table has taken in (pending.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.mirror.client import Client
from engine.mirror.copying import Mirror, Mirrored
from engine.mirror.target import Target
from engine.planning.baseline import missing_numbers
from engine.sources.nlm import nlm_number
from engine.sources.shards import Shard, find_shards
from schemas.configs.options import MirrorKind
from schemas.configs.refresh import MirrorPart, RefreshConfig
from schemas.errors import JobError, UsageError


@dataclass
class Fetched:
    """What was fetched: how many files, the year (two digits) of the baseline if all of it is
    there, and what went wrong. ``interrupted``: the rest was left."""

    files: int = 0
    baseline: int | None = None
    problems: list[str] = field(default_factory=list)
    interrupted: bool = False


def fetch(part: MirrorPart | None) -> Fetched:
    """Fetch what is new of each kind; what cannot be had is noted, and the rest goes on."""
    fetched = Fetched()
    for kind in sorted(part.kinds) if part else ():  # the baseline comes first
        assert part is not None
        mirror = _mirror(part, kind)
        try:
            done: Mirrored = mirror.run()
        except (UsageError, JobError) as e:
            fetched.problems.append(f"mirror {kind}: {e}")
            continue
        finally:
            fetched.files += len(mirror.result.fetched)
        if done.interrupted:
            fetched.interrupted = True
            break
        fetched.problems += [f"mirror {n}: {cause}" for n, cause in done.failed.items()]
        if kind == "baseline" and done.last and not done.failed:
            number = nlm_number(done.last)
            fetched.baseline = number and number[0]
    return fetched


def current_shards(config: RefreshConfig) -> list[Shard]:
    """The files of the sources, or of the mirror's folder, as they are now.

    Raises:
        UsageError: if there is none, as where nothing was mirrored yet.
    """
    return find_shards(config.sources or ([config.mirror.to] if config.mirror else []))


def missing_of(shards: Sequence[Shard], year: int) -> str | None:
    """What a baseline still waits for, in words; None if no file of its year is missing."""
    if not (missing := missing_numbers(shards, year)):
        return None
    return f"the baseline of year {year} waits for {len(missing)} files, the first {missing[0]:04}"


def _mirror(part: MirrorPart, kind: MirrorKind) -> Mirror:
    client = Client(
        connections=part.connections,
        retries=part.retries,
        backoff_seconds=part.backoff_seconds,
        timeout_seconds=part.timeout_seconds,
    )
    return Mirror(kind, part.source, Target(part.to), client, connections=part.connections)
