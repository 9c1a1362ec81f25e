"""The files of the sources that a table has not taken in, without reading those that it has.

Enters: shards, a table's ledger. Leaves: the shards whose name and MD5 are not in the ledger. Left
to others: reading them.

For files of a mirror the MD5 is in the mirror's own record. For others it is computed, again only
when a file has changed.
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
from schemas.credentials import without_credentials


def pending(shards: Sequence[Shard], ledger: Ledger, mirrored: str | None) -> list[Shard]:
    """The shards that the table has not taken in, in the order given.

    ``mirrored`` is the folder of a mirror, if some of the shards are from one. NLM's files of years
    before the newest complete baseline are not pending: the baseline has replaced them.
    """
    md5s = _mirror_md5s(mirrored) if mirrored else {}
    prefix = _prefix(mirrored) if mirrored else ""
    newest = ledger.baseline or 0
    infos = _infos(shards)
    new = []
    for shard in shards:
        number = nlm_number(shard.name)
        if number and number[0] < newest:
            continue
        info = infos.get(shard.uri, {})
        size = int(info.get("size") or -1)
        name = PurePosixPath(shard.name).name
        md5 = None
        if without_credentials(shard.uri).startswith(prefix):
            md5 = md5s.get((name, size))
        if md5 is None:
            md5 = md5_of(shard, info)
        if ledger.position(shard.name, md5) is None:
            new.append(shard)
    return new


def md5_of(shard: Shard, info: dict[str, Any] | None = None) -> str:
    """The MD5 of a shard's bytes, in hex, remembered on this machine until the shard changes.

    ``info`` is the shard's fsspec info, by which a change shows; it is asked for if not given.
    """
    if info is None:
        info = _infos([shard]).get(shard.uri, {})
    size = int(info.get("size") or -1)
    return remembered("md5", shard.uri, size, changed_at(info), partial(digest_shard, shard))


def _mirror_md5s(folder: str) -> dict[tuple[str, int], str]:
    """The MD5s in a mirror's record, by the names and sizes (in bytes) of its files."""
    target = Target(folder)
    return {
        (name, file.size): file.md5
        for kind in get_args(MirrorKind)
        for name, file in KnownFiles(target, kind).files.items()
    }


def _infos(shards: Iterable[Shard]) -> dict[str, dict[str, Any]]:
    """The shards' fsspec infos by URI, each folder listed once; none of files within archives."""
    folders: dict[str, dict[str, dict[str, Any]]] = {}
    infos = {}
    for shard in shards:
        if "::" in shard.uri:
            continue
        fs, path = filesystem(shard.uri)
        folder = str(PurePosixPath(path).parent)
        if folder not in folders:
            folders[folder] = {PurePosixPath(e["name"]).name: e for e in fs.ls(folder, detail=True)}
        if (info := folders[folder].get(PurePosixPath(path).name)) is not None:
            infos[shard.uri] = info
    return infos


def _prefix(folder: str) -> str:
    """The beginning that the URIs of a folder's shards have in common, without credentials."""
    if "://" in folder:
        return without_credentials(folder).partition("?")[0].rstrip("/") + "/"
    return str(filesystem(folder)[1]).rstrip("/") + "/"
