"""Small faults of XML that harm nobody, mended in the bytes before they are parsed.

Enters: the bytes of a file, in pieces. Leaves: the same, in pieces, in which

- no white space or byte order mark stands before the XML declaration;
- ``]]>`` in text, which XML forbids there, is written ``]]&gt;``, which means the same.

Left to others: all other faults (pubmed_xml.py).
"""

import re
import zlib
from collections.abc import Iterable, Iterator

_MARK = b"]]>"
_ENDS = {b"<![CDATA[": b"]]>", b"<!--": b"-->"}
"""What begins a piece in which ``]]>`` is no fault, and what ends it."""

_BORDER = re.compile(b"|".join(map(re.escape, (_MARK, *_ENDS, b"-->"))))
_LONGEST = max(map(len, _ENDS))


def mend(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``pieces`` without what stands before the XML declaration, and without ``]]>`` in
    text. If ``pieces`` raises an error, all that was read before is yielded first."""
    held, begun = b"", False
    end: bytes | None = None  # of the CDATA section or comment that is open
    try:
        for piece in pieces:
            held += piece
            if not begun:
                held = held.lstrip().removeprefix(b"\xef\xbb\xbf").lstrip()
                if not held:
                    continue
                begun = True
            out, at = [], 0
            # To look for each is many times as fast as to match them all, and they are rare.
            if end or _MARK in held or any(mark in held for mark in _ENDS):
                for border in _BORDER.finditer(held):
                    out.append(held[at : border.start()])
                    at = border.end()
                    out.append(b"]]&gt;" if border[0] == _MARK and end is None else border[0])
                    if end is None:
                        end = _ENDS.get(border[0])
                    elif border[0] == end:
                        end = None
            # A border may be cut in two by the end of the piece.
            keep = max(at, len(held) - _LONGEST + 1)
            out.append(held[at:keep])
            held = held[keep:]
            yield b"".join(out)
    except (OSError, EOFError, zlib.error):
        if held:
            yield held
        raise
    if held:
        yield held
