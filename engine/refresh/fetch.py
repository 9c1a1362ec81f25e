"""The files of a turn: NLM's new ones fetched, and those that there are then.

Enters: the config's mirror and sources. Leaves: shards, and which baseline it is of which the
mirror has every file that NLM lists. Left to others: which of them the table lacks (pending.py).
"""

from dataclasses import dataclass, field

from engine.mirror.copying import mirror_of
from engine.sources.nlm import nlm_number
from engine.sources.shards import Shard, find_shards
from schemas.configs.refresh import MirrorPart, RefreshConfig
from schemas.errors import JobError, UsageError


@dataclass
class Fetched:
    """What fetching brought: the number of files, the year (two digits) of the baseline and its
    number of files if the mirror has all that NLM lists of it, and what went wrong. If
    ``interrupted``, the other files were not asked for."""

    files: int = 0
    baseline: tuple[int, int] | None = None
    problems: list[str] = field(default_factory=list)
    interrupted: bool = False


def fetch(part: MirrorPart | None) -> Fetched:
    """Fetch the new files of each kind of the mirror's; with no mirror, none.

    A kind or file that cannot be had is a problem in the result, and the others are fetched.
    """
    fetched = Fetched()
    for kind in sorted(part.kinds) if part else ():  # the baseline comes first
        assert part is not None
        mirror = mirror_of(part, kind)
        try:
            done = mirror.run()
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
            fetched.baseline = nlm_number(done.last)
    return fetched


def current_shards(config: RefreshConfig) -> list[Shard]:
    """The files of the sources, or of the mirror's folder, as they are now.

    Raises:
        UsageError: if a source holds no file, as where nothing has been mirrored yet.
    """
    return find_shards(config.sources or ([config.mirror.to] if config.mirror else []))
