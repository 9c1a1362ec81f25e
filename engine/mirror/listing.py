"""What NLM publishes: file names in a directory's index, and their md5.

Enters: pages as the server sent them. Leaves: names in the order in which the files count, and
digests. Left to others: how they are fetched, and whether a file is wanted.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urljoin

from lxml import etree, html

from engine.sources.nlm import NLM_FILE, nlm_number

FOLDERS = {"baseline": "baseline", "updates": "updatefiles"}
"""What a command calls a set of files, and what NLM calls its folder."""

_DIGEST = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{32}(?![0-9a-fA-F])")
_SIZE = re.compile(r"(?<!\S)(\d+(?:\.\d+)?)\s?([KMGT]?)i?B?\s*$", re.I)
_INDEX = re.compile(rb"index of|directory listing", re.I)


@dataclass(frozen=True, slots=True)
class Listed:
    """A file in the index. ``line`` is all that it says of the file and its md5 (dates, sizes),
    empty where it says nothing; ``bytes`` is the size as rounded there."""

    name: str
    line: str = ""
    bytes: int | None = None


def folder_url(source: str, kind: str) -> str:
    """Where a set's index is, below a base URL or at it, with a slash at the end."""
    folder = FOLDERS[kind]
    url = source.rstrip("/")
    return f"{url}/" if url.endswith(f"/{folder}") else f"{url}/{folder}/"


def parse_listing(page: bytes, url: str) -> list[Listed]:
    """NLM's files that an HTML index at ``url`` links to, by year and number.

    Whatever server wrote it: as lines (Apache, nginx, NLM's) or as rows of a table. Other names,
    and links that lead elsewhere, are passed over.

    Raises:
        ValueError: if the page was cut, or is no index.
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
    found = []
    for name, line in lines.items():
        if name.endswith(".gz") and NLM_FILE.fullmatch(name):
            said = " | ".join(filter(None, (line, lines.get(f"{name}.md5"))))
            found.append(Listed(name, said, _bytes_in(line)))
    if not found and not _INDEX.search(page):
        raise ValueError("is no directory index: links to no file of NLM's")
    return sorted(found, key=lambda f: nlm_number(f.name) or (0, 0))


def parse_md5(text: bytes, name: str) -> str:
    """The digest in a file's ``.md5``, in lower case.

    Either as openssl prints it, ``MD5(pubmed26n0001.xml.gz)= 3cf5…``, or as md5sum does,
    ``3cf5…  pubmed26n0001.xml.gz``.

    Raises:
        ValueError: if there is not exactly one digest, or it is another file's.
    """
    said = text.decode("latin-1")
    others = {m[0] for m in NLM_FILE.finditer(said)} - {name}
    found = {d.lower() for d in _DIGEST.findall(said)}
    if others or len(found) != 1:
        raise ValueError(f"its .md5 says {said[:80].strip()!r}, expected one digest of {name}")
    return found.pop()


def _line_of(link: html.HtmlElement) -> str:
    """What stands beside a link: the rest of its row, or of its line."""
    row = next(link.iterancestors("tr"), None)
    if row is not None:
        cells = ["".join(cell.itertext()) for cell in row if link not in cell.iter()]
    else:
        cells = [(link.tail or "").split("\n", 1)[0]]
    return " ".join(" ".join(cells).split())


def _bytes_in(line: str) -> int | None:
    match = _SIZE.search(line)
    if match is None:
        return None
    return round(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))
