"""``pubmark mirror``: NLM's files copied to a disk or an object store, whole and as published."""

from collections.abc import Callable
from typing import Any

from rich.filesize import decimal

from engine.mirror.copying import Mirrored, mirror_of
from schemas.configs.mirror import MirrorConfig


def run(config: MirrorConfig, report: Callable[[Mirrored], None] = lambda _: None) -> Mirrored:
    """Fetch the files of one set that the target lacks, or has in another version.

    Raises:
        UsageError: if the source has no such folder, or the target cannot be used.
        JobError: if the server gives no file any more, or the target cannot be written.
    """
    mirror = mirror_of(config, config.kind, report)
    return mirror.run(limit=config.limit, verify=config.verify, dry_run=config.dry_run)


def exit_code(result: Mirrored) -> int:
    """0, 3 or 130, as the command line promises."""
    return 130 if result.interrupted else 3 if result.failed else 0


def summary(result: Mirrored) -> dict[str, Any]:
    """The object that ``--json`` prints; ``failures`` has the cause by the name of the file."""
    return {
        "listed": result.listed,
        "settled": result.settled,
        "to_fetch": result.to_fetch,
        "fetched": len(result.fetched),
        "failed": len(result.failed),
        "bytes": result.bytes,
        "seconds": round(result.seconds, 3),
        "failures": result.failed,
    }


def describe(result: Mirrored, config: MirrorConfig) -> str:
    """What a run did, in lines for a person."""
    line = f"{result.listed:,} files listed, {result.settled:,} there already, "
    if config.dry_run:
        size = result.to_fetch_bytes
        about = f", about {decimal(size)}" if size else ""
        line += f"{result.to_fetch:,} to fetch{about}. Nothing was written."
    else:
        speed = decimal(round(result.bytes / max(result.seconds, 1e-9)))
        line += (
            f"{len(result.fetched):,} fetched to {config.to}: {decimal(result.bytes)} in "
            f"{result.seconds:.0f} s, {speed}/s"
        )
    lines = [line]
    if result.failed:
        lines.append(f"{len(result.failed):,} failed, to be tried again by the same command:")
        lines += [f"  {name}: {cause}" for name, cause in result.failed.items()]
    if result.interrupted:
        lines.append("interrupted; the same command goes on from there")
    return "\n".join(lines)
