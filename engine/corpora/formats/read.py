"""A corpus's files: found, opened and read in the format that they have.

Enters: a path or URI of a file, a folder or a glob. Leaves: annotated texts and faults. Left to
others: each format (a module each), and what becomes of faults (:mod:`engine.corpora.examples`).

A format is told in one of two ways. :func:`read_corpus` goes by the ending of a name, as a folder
holds other files too. :func:`tell_format` goes by a file's first line, for files of any name.
"""

import logging
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from engine.corpora.formats.bioc import read_bioc_json, read_bioc_xml
from engine.corpora.formats.brat import read_brat
from engine.corpora.formats.iob import is_iob, read_iob
from engine.corpora.formats.lines import read_lines
from engine.corpora.formats.mark_lines import read_marked
from engine.corpora.formats.pubtator import is_title, read_pubtator
from engine.corpora.formats.texts import AnnotatedText, Fault
from engine.storage.filesystem import filesystem, open_input
from schemas.credentials import name_without_credentials
from schemas.errors import DamagedSource, UsageError
from schemas.examples import QUARANTINE

logger = logging.getLogger(__name__)


class Format(NamedTuple):
    """A format's name for people, and the endings of its files' names (``.gz`` may follow)."""

    title: str
    endings: tuple[str, ...]


FORMATS = {
    "mark": Format("text with <mark>", (".mark",)),
    "pubtator": Format("PubTator", (".pubtator",)),
    "bioc-xml": Format("BioC XML", (".xml",)),
    "bioc-json": Format("BioC JSON", (".json", ".jsonl", ".ndjson")),
    "iob": Format("IOB", (".iob", ".iob2", ".bio", ".conll", ".tsv")),
    "brat": Format("brat", (".ann",)),
}
"""The formats, by the names that users give them."""


def read_corpus(file: str, form: str | None, tokenised: bool) -> Iterator[AnnotatedText | Fault]:
    """Yield what a file holds, or all files of the format in a folder or of a glob.

    ``form`` is a key of FORMATS; if null, the names' endings tell it: a folder that holds ``.ann``
    files is brat's. ``tokenised`` says whether the words of ``<mark>`` text are set apart. Once per
    file it is logged if its offsets do not count code points.

    Raises:
        UsageError: if no file is there, one cannot be opened or breaks off, or the format cannot be
            told.
    """
    for _, item in read_files(file, form, tokenised):
        yield item


def read_files(
    file: str, form: str | None, tokenised: bool
) -> Iterator[tuple[str, AnnotatedText | Fault]]:
    """As :func:`read_corpus`, each item with the name of its file, within the folder if one was
    named. The pairs of files in a folder of brat's are one file."""
    with _readable(file):
        fs, path = filesystem(file)
        paths = _find(fs, path)
    form = form or _format_of_names(paths)
    if form not in FORMATS:
        raise UsageError(f"{file}: unknown format; expected --format {', '.join(FORMATS)}")
    endings = FORMATS[form].endings
    if form == "brat":
        # An annotation file belongs to its text, also where only the annotation file is named.
        texts = {str(PurePosixPath(p).with_suffix(".txt")) for p in paths if _ends(p, ".ann")}
        paths = sorted(texts | {p for p in paths if _ends(p, ".txt")})
    elif len(paths) > 1:
        paths = [p for p in paths if _ends(p, *endings, ".txt")]
    if not paths:
        raise UsageError(f"{file}: holds no file of {form} ({', '.join(endings)})")
    root = str(PurePosixPath(paths[0]).parent) if len(paths) == 1 else path.rstrip("/")
    whole = PurePosixPath(path.rstrip("/")).name
    counts = _CountsMet(file)
    for p in paths:
        name = p.removeprefix(root).lstrip("/")
        if "://" in file:
            name = name_without_credentials(name)
        empty = len(paths) > 1
        try:
            for item in _read(fs, p, name, form, tokenised):
                counts.add(item)
                empty = False
                yield whole if form == "brat" else name, item
            if empty:
                yield name, Fault("at the start", "malformed text", "is empty")
        except DamagedSource as e:
            raise UsageError(f"{file}, {name}, {e.place}: {e.cause}") from e
        except (OSError, EOFError, zlib.error) as e:
            raise UsageError(f"{file}, {name}: cannot be read: {e}") from e
        if form != "brat":
            counts.tell(name if len(paths) > 1 else None)
    counts.tell(None)


class _CountsMet:
    """The documents whose offsets do not count code points, to be told once per file."""

    def __init__(self, file: str):
        self._file = file
        self._documents: dict[str, list[str]] = defaultdict(list)

    def add(self, item: AnnotatedText | Fault) -> None:
        """Note a text's count."""
        if isinstance(item, AnnotatedText) and item.count is not None:
            documents = self._documents[item.count]
            if item.document not in documents[-1:]:  # a document may be several texts
                documents.append(item.document)

    def tell(self, name: str | None) -> None:
        """Log what was noted of a file, if there is anything, and begin anew."""
        if self._documents:
            where = self._file if name is None else f"{self._file}, {name}"
            said = "; ".join(
                f"{count} in {len(documents):,} (such as {documents[0]})"
                for count, documents in self._documents.items()
            )
            logger.warning(
                "%s: offsets do not count code points of the text in some documents, which are "
                "read by what every mention says its text is: %s", where, said
            )  # fmt: skip
        self._documents.clear()


def first_line(file: str) -> str | None:
    """The first line of a file (plain or gzip) that is not empty; None if all are.

    Bytes that are not UTF-8 come as U+FFFD.

    Raises:
        UsageError: if the file cannot be read.
    """
    with _readable(file):
        fs, path = filesystem(file)
        with open_input(fs, path) as stream:
            for _, line in read_lines(stream):
                text = line if isinstance(line, str) else line.object.decode(errors="replace")
                if text.strip():
                    return text
    return None


_BIOC_XML = re.compile(r"\s*<(\?xml|!DOCTYPE|collection|document)\b")
_JSON = re.compile(r"\s*[\[{]")


def tell_format(line: str) -> str | None:
    """The key of FORMATS that a file beginning with ``line`` has; None if it looks like none.

    brat is never told: its texts have no form of their own.
    """
    if is_title(line):
        return "pubtator"
    if is_iob(line):  # before JSON: a sentence may begin with the token "["
        return "iob"
    if _BIOC_XML.match(line):
        return "bioc-xml"
    if _JSON.match(line):
        return "bioc-json"
    return "mark" if "<mark>" in line else None


@contextmanager
def _readable(file: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, ImportError, DamagedSource) as e:
        raise UsageError(f"{file}: cannot be read: {e}") from e


def _read(
    fs: Any, path: str, name: str, form: str, tokenised: bool
) -> Iterator[AnnotatedText | Fault]:
    if form == "brat":
        beside = str(PurePosixPath(path).with_suffix(".ann"))
        annotations = fs.cat_file(beside) if fs.exists(beside) else None
        stem = str(PurePosixPath(name).with_suffix(""))
        yield from read_brat(stem, fs.cat_file(path), annotations)
        return
    with open_input(fs, path) as stream:
        yield from _read_stream(stream, name.split(".")[0], form, tokenised)


def _read_stream(
    stream: IO[bytes], stem: str, form: str, tokenised: bool
) -> Iterator[AnnotatedText | Fault]:
    match form:
        case "mark":
            return read_marked(stream, stem, tokenised)
        case "iob":
            return read_iob(stream, stem)
        case "pubtator":
            return read_pubtator(stream)
        case "bioc-xml":
            return read_bioc_xml(stream)
        case _:
            return read_bioc_json(stream)


def _find(fs: Any, path: str) -> list[str]:
    if fs.isfile(path):
        return [path]
    if fs.isdir(path):
        return sorted(p for p in fs.find(path) if not p.endswith(QUARANTINE))
    is_glob = any(c in path for c in "*?[")
    paths = sorted(p for p in fs.glob(path) if fs.isfile(p)) if is_glob else []
    if not paths:
        raise FileNotFoundError("does not exist")
    return paths


def _format_of_names(paths: list[str]) -> str | None:
    for form, (_, endings) in FORMATS.items():
        if any(_ends(p, *endings) for p in paths):
            return form
    return None


def _ends(path: str, *endings: str) -> bool:
    return path.lower().removesuffix(".gz").endswith(endings)
