"""The names of NLM's files: pubmed26n0001.xml.gz is number 1 of production year 26.

Enters: names and paths. Leaves: year and number, which are the order in which the files count.
Left to others: the files themselves.
"""

import re

NLM_NAME = re.compile(r"(?:pubmed|medline)(\d\d)n(\d{4,})\.xml(?:\.gz)?")
"""The name of one of NLM's files, as published or unzipped. Groups: year and number."""

_AT_END = re.compile(f"{NLM_NAME.pattern}$")


def nlm_number(name: str) -> tuple[int, int] | None:
    """Production year (two digits) and running number of a file of NLM's; None of any other.

    ``name`` may be a path: what stands before the file's own name does not count.
    """
    match = _AT_END.search(name)
    return (int(match[1]), int(match[2])) if match else None


def identity(name: str) -> str:
    """The name that a file is known by: NLM's own name without the folder, any other path whole."""
    match = _AT_END.search(name)
    return match[0] if match else name
