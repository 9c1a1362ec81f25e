"""The files that a SOURCE names, in the order in which their records count.

Enters: paths, directories, globs, URIs. Leaves: one :class:`Shard` for each file. Left to others:
what is in the files.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, cast

from fsspec.implementations.local import LocalFileSystem

from engine.sources.nlm import nlm_number
from engine.storage.filesystem import ARROW_SCHEMES, filesystem, open_input
from schemas.credentials import name_without_credentials, redact, user_of, without_credentials
from schemas.errors import UsageError

FORMATS = {
    ".xml": "pubmed-xml",
    ".xml.gz": "pubmed-xml",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
}
"""The format of a file, by the end of its name."""


_COPIED_BYTES = 1 << 30  # NLM's files have up to 100 MB
_COPIED_IN_MEMORY_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Shard:
    """One input file. ``name`` is its path below the SOURCE that named it, and is stored as the
    ``source`` of its citations: it holds no credentials, and is the same with others. ``md5`` is
    that of its bytes when it was scanned, in hex; None if it has not been scanned."""

    uri: str = field(repr=False)
    name: str
    format: str
    md5: str | None = None

    @property
    def shown(self) -> str:
        """Where it is, for people: its URI with its credentials hidden."""
        return redact(self.uri)


def find_shards(sources: Sequence[str]) -> list[Shard]:
    """Expand ``sources`` to files, each once, in the order in which a later record wins.

    NLM's files (``pubmed26n0001.xml.gz``) come first, by year and number. All others follow in
    the order given, those of a directory or glob by name.

    Raises:
        UsageError: if a source does not exist, has an unknown scheme or ending, or holds nothing
            to read; the message names all such sources.
    """
    shards: dict[str, Shard] = {}
    faults = []
    for source in sources:
        try:
            for shard in _expand(source):
                shards.pop(shard.uri, None)  # of a file that is named twice, the last time counts
                shards[shard.uri] = shard
        except UsageError as e:
            faults.append(str(e))
    if faults:
        raise UsageError("\n".join(faults))
    return sorted(shards.values(), key=_nlm_order)


@contextmanager
def open_shard(shard: Shard) -> Iterator[IO[bytes]]:
    """The raw bytes of a shard, seekable, not decompressed."""
    # fs must live until the end: a zip file is closed with the file system that reads it.
    fs, path = filesystem(shard.uri)
    with open_input(fs, path) as stream:
        yield stream


@contextmanager
def fetched_shard(shard: Shard) -> Iterator[tuple[IO[bytes], str]]:
    """The raw bytes of a shard, seekable, and their MD5 as :func:`digest_shard` gives it.

    A file of a store is asked for once, and read from a temporary copy of it, unless it is longer
    than _COPIED_BYTES.
    """
    fs, path = filesystem(shard.uri)
    digest, size = hashlib.md5(usedforsecurity=False), 0
    copied = not isinstance(fs, LocalFileSystem)
    with (
        open_input(fs, path) as stream,
        tempfile.SpooledTemporaryFile(_COPIED_IN_MEMORY_BYTES) as copy,
    ):
        while piece := stream.read(1 << 20):
            digest.update(piece)
            size += len(piece)
            copied = copied and size <= _COPIED_BYTES
            if copied:
                copy.write(piece)
        given = cast("IO[bytes]", copy) if copied else stream
        given.seek(0)
        yield given, digest.hexdigest()


def digest_shard(shard: Shard) -> str:
    """The MD5 of a shard's bytes as they are stored, in hex: what NLM publishes beside a file."""
    digest = hashlib.md5(usedforsecurity=False)
    with open_shard(shard) as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _nlm_order(shard: Shard) -> tuple[int, int, int]:
    # Files that are not NLM's have equal keys, so that sorted() leaves them in the order given.
    number = nlm_number(shard.name)
    return (0, *number) if number else (1, 0, 0)


def _expand(source: str) -> list[Shard]:
    expected = f"expected a file, directory or glob of {', '.join(FORMATS)}"
    if not source:
        raise UsageError(f"source '': is empty; {expected}")
    scheme = source.split("://", 1)[0] + "://" if "://" in source else ""
    if scheme == "file://":
        scheme = ""  # so that the shard is the same as that of the plain path
    try:
        fs, path = filesystem(source)
    except Exception as e:  # each file system has errors of its own
        raise UsageError(f"source {source}: cannot open this kind of URI ({e})") from e
    # ``rest`` is in the URI but not in the path: an S3 URI's query, from which pyarrow reads
    # options, or, in ``zip://a.xml::some.zip``, the file around it.
    mark = "?" if scheme.removesuffix("://") in ARROW_SCHEMES else "::"
    _, mark, rest = source.removeprefix(scheme).partition(mark)
    rest = mark + rest if scheme else ""
    # pyarrow takes user and password for the file system's, fsspec for a part of the path.
    head = scheme + user_of(source) if scheme.removesuffix("://") in ARROW_SCHEMES else scheme
    try:
        if fs.isfile(path):
            return [_shard(head, rest, path, _own_name(path), source)]
        if fs.isdir(path):
            root, paths = path.rstrip("/"), fs.find(path)
        elif any(c in source for c in "*?[") and (matches := fs.glob(path, detail=True)):
            paths = [p for p, info in matches.items() if info["type"] == "file"]
            root = str(PurePosixPath(re.split(r"[*?\[]", path)[0] + "x").parent)
        else:
            raise UsageError(f"source {source}: does not exist; {expected}")
    except OSError as e:
        raise UsageError(f"source {source}: {e}") from e
    names = {p: p[len(root) :].lstrip("/") for p in sorted(paths) if _format(p)}
    shards = [
        _shard(head, rest, p, name, source)
        for p, name in names.items()
        if not any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)
    ]
    if not shards:
        raise UsageError(f"source {source}: holds no file to read; {expected}")
    return shards


def _shard(scheme: str, rest: str, path: str, name: str, source: str) -> Shard:
    form = _format(path)
    if form is None:
        raise UsageError(f"source {source}: unknown kind of file; expected {', '.join(FORMATS)}")
    if scheme:
        name = name_without_credentials(name)
    if scheme and "://" not in path:
        path = scheme + path + rest
    return Shard(path, name, form)


def _own_name(path: str) -> str:
    """The name of a file. That of a URL is what stands before its query, if that is a file's name:
    the query may be a signature, with slashes in it."""
    if path.startswith(("http://", "https://")):
        before = path.partition("?")[0]
        if _ending(PurePosixPath(before).name):
            return PurePosixPath(before).name
        path = without_credentials(path)
    return PurePosixPath(path).name


def _format(path: str) -> str | None:
    """The format by the end of the name, in whatever case; None if it is none of FORMATS."""
    return _ending(_own_name(path))


def _ending(name: str) -> str | None:
    name = name.lower()
    return next((form for ending, form in FORMATS.items() if name.endswith(ending)), None)
