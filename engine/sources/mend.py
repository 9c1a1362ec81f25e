"""Small faults of XML that harm nobody, mended in the bytes before they are parsed.

Enters: the bytes of a file, in pieces. Leaves: the same, in pieces, in which

- no white space or byte order mark stands before the XML declaration;
- ``]]>`` in text, which XML forbids there, is written ``]]&gt;``, which means the same.

Left to others: all other faults (pubmed_xml.py).
"""

import re
import zlib
from collections.abc import Iterable, Iterator

_MARK, _SECTION = b"]]>", b"<![CDATA["
_BORDER = re.compile(re.escape(_MARK) + b"|" + re.escape(_SECTION))


def mend(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``pieces`` without what stands before the XML declaration, and without ``]]>`` in
    text. If ``pieces`` raises an error, all that was read before is yielded first."""
    held, begun, in_section = b"", False, False
    try:
        for piece in pieces:
            held += piece
            if not begun:
                held = held.removeprefix(b"\xef\xbb\xbf").lstrip()
                if not held:
                    continue
                begun = True
            out, at = [], 0
            for border in _BORDER.finditer(held):
                out.append(held[at : border.start()])
                at = border.end()
                out.append(b"]]&gt;" if border[0] == _MARK and not in_section else border[0])
                in_section = border[0] == _SECTION
            # A border may be cut in two by the end of the piece.
            keep = max(at, len(held) - len(_SECTION) + 1)
            out.append(held[at:keep])
            held = held[keep:]
            yield b"".join(out)
    except (OSError, EOFError, zlib.error):
        if held:
            yield held
        raise
    if held:
        yield held
