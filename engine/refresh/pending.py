"""Which files of the sources a table has not taken in, without reading those that it has.

Enters: shards. Leaves: those whose name and MD5 are not in the table's ledger. A mirror's own
record says the MD5 of its files; of others it is computed, once for each change of them.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any, get_args

from engine.mirror.known import KnownFiles
from engine.mirror.target import Target
from engine.sources.nlm import nlm_number
from engine.sources.shards import Shard, digest_shard
from engine.storage.digests import changed_at, remembered
from engine.storage.filesystem import filesystem
from engine.tables.ledger import Ledger
from schemas.configs.options import MirrorKind


def pending(shards: Sequence[Shard], ledger: Ledger, mirrored: str | None) -> list[Shard]:
    """The shards that were not taken in, in their order; ``mirrored`` is a mirror's folder, from
    which some are. Of years before the newest complete baseline nothing is pending."""
    md5s = _mirror_md5s(mirrored) if mirrored else {}
    prefix = _prefix(mirrored) if mirrored else ""
    newest = ledger.baseline or 0
    infos = _infos(shards)
    found = []
    for shard in shards:
        number = nlm_number(shard.name)
        if number and number[0] < newest:
            continue
        info = infos.get(shard.uri, {})
        size = int(info.get("size") or -1)
        name = PurePosixPath(shard.uri).name
        md5 = md5s.get((name, size)) if shard.uri.startswith(prefix) else None
        if md5 is None:
            md5 = md5_of(shard, info)
        if ledger.place(shard.name, md5) is None:
            found.append(shard)
    return found


def md5_of(shard: Shard, info: dict[str, Any] | None = None) -> str:
    """The MD5 of a shard, remembered until what its store says of it (``info``) changes."""
    known = _infos([shard]).get(shard.uri, {}) if info is None else info
    size = int(known.get("size") or -1)
    return remembered("md5", shard.uri, size, changed_at(known), partial(digest_shard, shard))


def _mirror_md5s(folder: str) -> dict[tuple[str, int], str]:
    """What a mirror knows of its files, by name and size in bytes."""
    target = Target(folder)
    known: dict[tuple[str, int], str] = {}
    for kind in get_args(MirrorKind):
        for name, file in KnownFiles(target, kind).files.items():
            known[name, file.size] = file.md5
    return known


def _infos(shards: Iterable[Shard]) -> dict[str, dict[str, Any]]:
    """What the stores say of the shards, asking each folder once."""
    folders: dict[str, dict[str, dict[str, Any]]] = {}
    found = {}
    for shard in shards:
        if "::" in shard.uri:
            continue
        fs, path = filesystem(shard.uri)
        folder = str(PurePosixPath(path).parent)
        if folder not in folders:
            folders[folder] = {PurePosixPath(e["name"]).name: e for e in fs.ls(folder, detail=True)}
        if (info := folders[folder].get(PurePosixPath(path).name)) is not None:
            found[shard.uri] = info
    return found


def _prefix(folder: str) -> str:
    """How the URIs of a folder's shards begin."""
    if "://" in folder:
        return folder.rstrip("/") + "/"
    return str(filesystem(folder)[1]).rstrip("/") + "/"
