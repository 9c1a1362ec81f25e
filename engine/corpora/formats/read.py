"""A corpus's files found, opened and read, whatever their format."""

import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from engine.corpora.formats.bioc import read_bioc_json, read_bioc_xml
from engine.corpora.formats.brat import read_brat
from engine.corpora.formats.iob import read_iob
from engine.corpora.formats.mark_lines import read_marked
from engine.corpora.formats.pubtator import read_pubtator
from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.storage.filesystem import filesystem
from schemas.errors import DamagedSource, UsageError

FORMATS = {
    "mark": (".mark",),
    "pubtator": (".pubtator",),
    "bioc-xml": (".xml",),
    "bioc-json": (".json",),
    "iob": (".iob", ".iob2", ".bio", ".conll", ".tsv"),
    "brat": (".ann",),
}
"""The formats, and the endings (``.gz`` may follow) by which they are told where none is named."""


def read_corpus(file: str, form: str | None, tokenised: bool) -> Iterator[AnnotatedText | Fault]:
    """Yield what a file holds, or all files of the format in a folder, or of a glob.

    ``form`` is one of FORMATS, by the name if null: a folder that holds ``.ann`` files is brat's.

    Raises:
        UsageError: if nothing is there or can be opened, breaks off, or the format cannot be told.
    """
    try:
        fs, path = filesystem(file)
        paths = _find(fs, path)
    except (OSError, ValueError, ImportError) as e:
        raise UsageError(f"{file}: cannot be read: {e}") from e
    form = form or _tell_format(paths)
    if form not in FORMATS:
        raise UsageError(f"{file}: unknown format; expected --format {', '.join(FORMATS)}")
    if form == "brat":
        # An annotation file belongs to its text, also where only it is named.
        paths = sorted({str(PurePosixPath(p).with_suffix(".txt")) for p in paths if _of(p, ".ann")}
                       | {p for p in paths if _of(p, ".txt")})  # fmt: skip
    elif len(paths) > 1:
        paths = [p for p in paths if _of(p, *FORMATS[form], ".txt")]
    if not paths:
        raise UsageError(f"{file}: holds no file of {form} ({', '.join(FORMATS[form])})")
    root = str(PurePosixPath(paths[0]).parent) if len(paths) == 1 else path.rstrip("/")
    for p in paths:
        name = p.removeprefix(root).lstrip("/")
        try:
            yield from _read(fs, p, name, form, tokenised)
        except DamagedSource as e:
            raise UsageError(f"{file}, {name}, {e.place}: {e.cause}") from e
        except (OSError, EOFError, zlib.error) as e:
            raise UsageError(f"{file}, {name}: cannot be read: {e}") from e


def _read(
    fs: Any, path: str, name: str, form: str, tokenised: bool
) -> Iterator[AnnotatedText | Fault]:
    if form == "brat":
        beside = str(PurePosixPath(path).with_suffix(".ann"))
        annotations = fs.cat_file(beside) if fs.exists(beside) else None
        yield from read_brat(
            str(PurePosixPath(name).with_suffix("")), fs.cat_file(path), annotations
        )
        return
    with fs.open(path, "rb") as stream:
        match form:
            case "mark":
                yield from read_marked(stream, name.split(".")[0], tokenised)
            case "iob":
                yield from read_iob(stream, name.split(".")[0])
            case "pubtator":
                yield from read_pubtator(stream)
            case "bioc-xml":
                yield from read_bioc_xml(stream)
            case _:
                yield from read_bioc_json(stream)


def _find(fs: Any, path: str) -> list[str]:
    if fs.isfile(path):
        return [path]
    if fs.isdir(path):
        return sorted(fs.find(path))
    found = (
        sorted(p for p in fs.glob(path) if fs.isfile(p)) if any(c in path for c in "*?[") else []
    )
    if not found:
        raise FileNotFoundError("does not exist")
    return found


def _tell_format(paths: list[str]) -> str | None:
    for form, endings in FORMATS.items():
        if any(_of(p, *endings) for p in paths):
            return form
    return None


def _of(path: str, *endings: str) -> bool:
    return path.lower().removesuffix(".gz").endswith(endings)
