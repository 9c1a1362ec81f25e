"""The names of NLM's files: pubmed26n0001.xml.gz is number 1 of production year 26."""

import re

_NLM_NAME = re.compile(r"(?:pubmed|medline)(\d\d)n(\d{4,})\.xml(?:\.gz)?$")


def nlm_number(name: str) -> tuple[int, int] | None:
    """Production year (two digits) and running number of a file of NLM's, None of any other."""
    match = _NLM_NAME.search(name)
    return (int(match[1]), int(match[2])) if match else None


def identity(name: str) -> str:
    """What a file is known by: NLM's by their own name, in whatever folder they stand."""
    match = _NLM_NAME.search(name)
    return match[0] if match else name
