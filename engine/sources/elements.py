"""The elements of PubMed XML that are records, as the parser ends them.

Enters: the bytes of a document, in pieces. Leaves: the elements of records and of blocks of
deletions, one at a time. Left to others: what is in them (pubmed_xml.py), and going on behind what
is broken.

Nothing is fetched, no DTD is loaded, a file that declares entities of its own is refused, and a
record may take at most MAX_RECORD_BYTES.
"""

import re
from collections.abc import Iterator, Sequence

from lxml import etree

from engine.sources.records import MAX_RECORD_BYTES
from schemas.errors import DamagedSource

RECORDS = ("PubmedArticle", "PubmedBookArticle", "MedlineCitation", "BookDocument")
_ENTITY = re.compile(rb"&(?!amp;|lt;|gt;|quot;|#)[^;]*;")
_PLACE = re.compile(r",? line \d+(?:, column \d+)?| \(<string>.*\)")
"""Where a fault is, in a parser's words: of no use for a record that is parsed alone."""


class Broken(Exception):
    """XML that can be parsed no further, and why."""

    @property
    def cause(self) -> str:
        """The message without the place."""
        return _PLACE.sub("", str(self))


class Elements:
    """Parses one document in pieces. ``ended`` counts the records so far,
    ``root`` is the root's element once the document has ended."""

    def __init__(self) -> None:
        self.root: etree._Element | None = None
        self.ended = 0
        self._pending = 0  # bytes fed since the last record ended
        self._checked = False  # whether the file is known to declare no entities
        self._parser = etree.XMLPullParser(
            ("end",),
            tag=(*RECORDS, "DeleteCitation"),
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )

    def whole(self, document: bytes) -> Iterator[etree._Element]:
        """Yield the elements of a document that is given at once."""
        yield from self.feed(document)
        yield from self.feed(b"")

    def feed(self, piece: bytes, names: Sequence[str] = ()) -> Iterator[etree._Element]:
        """Yield the records and blocks of deletions that end in ``piece``; b"" ends the document.
        An element is gone when the next is asked for. ``names`` are those of records that hold no
        record.

        Raises:
            Broken: if the document can be parsed no further, after all that ended before.
        """
        broken: tuple[str, Exception | None] | None = None
        try:
            if piece:
                self._parser.feed(piece)
            else:
                self.root = self._parser.close()
        except etree.XMLSyntaxError as e:
            # That a prefix is not declared, as of MathML, is told at the end, and harms nobody;
            # what else is wrong is in the log.
            if e.code != etree.ErrorTypes.NS_ERR_UNDEFINED_NAMESPACE:
                broken = (f"broken XML: {e}", e)
        # lxml raises nothing for an undefined entity, and after some errors it would take the next
        # bytes for a new file: its log has both.
        log = self._parser.feed_error_log
        if not broken and (fatal := next(iter(log.filter_from_fatals()), None)):
            broken = (f"broken XML: {fatal.message}", None)
        undefined = bool(log.filter_types(etree.ErrorTypes.WAR_UNDECLARED_ENTITY))
        self._pending += len(piece) if not broken else 0
        for _, element in self._parser.read_events():
            if not self._checked:
                _refuse_entities(element)
                self._checked = True
            parent = element.getparent()
            if parent is not None and parent.tag in RECORDS:
                if element.tag in names:
                    raise Broken("broken XML: a record within a record")
                continue  # a MedlineCitation in a PubmedArticle: read when the latter ends
            if undefined and (entity := _ENTITY.search(etree.tostring(element))):
                raise Broken(f"entity {entity[0].decode()} is not defined in the file")
            self.ended += element.tag != "DeleteCitation"
            self._pending = 0
            yield element
            _forget(element)
        if not broken and self._pending > MAX_RECORD_BYTES:
            broken = (f"a record of more than {MAX_RECORD_BYTES >> 20} MiB", None)
        if broken:
            raise Broken(broken[0]) from broken[1]


def _refuse_entities(element: etree._Element) -> None:
    dtd = element.getroottree().docinfo.internalDTD
    if dtd is not None and (entity := next(iter(dtd.iterentities()), None)) is not None:
        raise DamagedSource(
            "at the start", f"declares entities of its own (&{entity.name};), which are refused"
        )


def _forget(element: etree._Element) -> None:
    """Free a record and its predecessors, so that memory does not grow with the file."""
    element.clear()
    parent = element.getparent()
    if parent is not None:
        while element.getprevious() is not None:
            del parent[0]
