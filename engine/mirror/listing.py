"""What NLM publishes: the files in a directory's index, and their md5.

Enters: pages as the server sent them. Leaves: files in the order in which they count, and digests.
Left to others: how pages and files are fetched, and whether a file is wanted.
"""

import re
from dataclasses import dataclass
from operator import itemgetter
from urllib.parse import unquote, urljoin

from lxml import etree, html

from engine.sources.nlm import NLM_NAME

FOLDERS = {"baseline": "baseline", "updates": "updatefiles"}
"""NLM's folder for each kind of set, as the command line names it."""

_PUBLISHED = ".xml.gz"  # as files are named in NLM's folders; a user may have unzipped ones
_DIGEST = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{32}(?![0-9a-fA-F])")
_SIZE = re.compile(r"(?<!\S)(\d+(?:\.\d+)?)\s?([KMGT]?)i?B?\s*$", re.I)
_INDEX = re.compile(rb"index of|directory listing", re.I)


@dataclass(frozen=True, slots=True)
class Listed:
    """A file in the index. ``line`` is the index's text beside the file's name and beside its
    .md5 (dates, sizes), empty where there is none; ``bytes`` is the size, rounded as it is there,
    None where no size is given."""

    name: str
    line: str = ""
    bytes: int | None = None


def folder_url(source: str, kind: str) -> str:
    """The URL of a set's index, with a slash at the end; ``source`` is NLM's base URL, or already
    the folder's."""
    folder = FOLDERS[kind]
    url = source.rstrip("/")
    return f"{url}/" if url.endswith(f"/{folder}") else f"{url}/{folder}/"


def parse_listing(page: bytes, url: str) -> list[Listed]:
    """NLM's files that an HTML index at ``url`` links to, by year and number.

    The index may be lines (Apache, nginx, NLM's own) or rows of a table. Other names, and links
    to other folders, are passed over.

    Raises:
        ValueError: if the page was cut short, or is no index.
    """
    if re.search(rb"<html", page, re.I) and not re.search(rb"</html", page, re.I):
        raise ValueError("was cut: no </html>")
    lines: dict[str, str] = {}
    try:
        links = html.fromstring(page).iter("a")
    except (etree.ParserError, ValueError) as e:
        raise ValueError(f"is no directory index: {e}") from e
    for link in links:
        target = unquote(urljoin(url, link.get("href") or ""))
        lines.setdefault(target.removeprefix(url), _line_of(link))
    files: list[tuple[tuple[int, int], Listed]] = []
    for name, line in lines.items():
        match = NLM_NAME.fullmatch(name)
        if match and name.endswith(_PUBLISHED):
            both = " | ".join(filter(None, (line, lines.get(f"{name}.md5"))))
            files.append(((int(match[1]), int(match[2])), Listed(name, both, _bytes_in(line))))
    if not files and not _INDEX.search(page):
        raise ValueError("is no directory index: links to no file of NLM's")
    return [file for _, file in sorted(files, key=itemgetter(0))]


def parse_md5(text: bytes, name: str) -> str:
    """The digest in the ``.md5`` of the file ``name``, in lower-case hex.

    Its text is as openssl prints it, ``MD5(pubmed26n0001.xml.gz)= 3cf5…``, or as md5sum does,
    ``3cf5…  pubmed26n0001.xml.gz``.

    Raises:
        ValueError: if there is not exactly one digest, or another file is named.
    """
    line = text.decode("latin-1")
    others = {m[0] for m in NLM_NAME.finditer(line) if m[0].endswith(_PUBLISHED)} - {name}
    digests = {d.lower() for d in _DIGEST.findall(line)}
    if others or len(digests) != 1:
        raise ValueError(f"its .md5 says {line[:80].strip()!r}, expected one digest of {name}")
    return digests.pop()


def _line_of(link: html.HtmlElement) -> str:
    """The text beside a link: the other cells of its table row, or the rest of its line."""
    row = next(link.iterancestors("tr"), None)
    if row is not None:
        cells = ["".join(cell.itertext()) for cell in row if link not in cell.iter()]
    else:
        cells = [(link.tail or "").split("\n", 1)[0]]
    return " ".join(" ".join(cells).split())


def _bytes_in(line: str) -> int | None:
    """The size at the end of an index's line, such as 585, 17M or 1.2 GiB, in bytes."""
    match = _SIZE.search(line)
    if match is None:
        return None
    return round(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))
