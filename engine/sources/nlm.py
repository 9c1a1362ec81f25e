"""The names of NLM's files: pubmed26n0001.xml.gz is number 1 of production year 26.

Enters: names and paths. Leaves: numbers, by which the order of records is decided.
"""

import re

NLM_FILE = re.compile(r"(?:pubmed|medline)(\d\d)n(\d{4,})\.xml(?:\.gz)?")
"""A file's name, alone or at the end of a path."""


def nlm_number(name: str) -> tuple[int, int] | None:
    """Production year (two digits) and running number of a file of NLM's, None of any other."""
    match = _match(name)
    return (int(match[1]), int(match[2])) if match else None


def identity(name: str) -> str:
    """What a file is known by: NLM's by their own name, in whatever folder they stand."""
    match = _match(name)
    return match[0] if match else name


def _match(name: str) -> re.Match[str] | None:
    return re.search(f"{NLM_FILE.pattern}$", name)
