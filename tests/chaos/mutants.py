"""Damaged PubMed XML, by seed: what is done to it, and what must still be read."""

import gzip
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

RECORD = (
    '<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM"><PMID Version="1">{0}</PMID>'
    "<DateRevised><Year>2020</Year></DateRevised><Article><Journal><JournalIssue><PubDate>"
    "<Year>19{1}</Year></PubDate></JournalIssue><Title>Journal {1}</Title></Journal><ArticleTitle>"
    "Aspirin é α {0} &amp; CO<sub>2</sub>.</ArticleTitle><Abstract><AbstractText "
    'Label="AIM">{2}</AbstractText></Abstract><AuthorList CompleteYN="Y"><Author><LastName>N{0}'
    "</LastName></Author></AuthorList><Language>eng</Language><PublicationTypeList><PublicationType"
    ">Review</PublicationType></PublicationTypeList></Article><MedlineJournalInfo><MedlineTA>J{1}"
    "</MedlineTA></MedlineJournalInfo><MeshHeadingList><MeshHeading><DescriptorName>D</"
    "DescriptorName></MeshHeading></MeshHeadingList></MedlineCitation><PubmedData><History>"
    '<PubMedPubDate PubStatus="pubmed"><Year>2020</Year></PubMedPubDate></History><ArticleIdList>'
    '<ArticleId IdType="doi">10.1/{0}</ArticleId></ArticleIdList><ReferenceList><Reference>'
    "<Citation>R</Citation></Reference></ReferenceList></PubmedData></PubmedArticle>\n"
)
HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD '
    'PubMedArticle, 1st January 2025//EN" "https://dtd.nlm.nih.gov/pubmed_250101.dtd">\n'
    "<PubmedArticleSet>\n"
)
TAIL = "<DeleteCitation><PMID>7</PMID></DeleteCitation></PubmedArticleSet>\n"
ENTITIES = (
    '<!ENTITY a "aaaaaaaaaa">',
    '<!ENTITY a SYSTEM "file:///etc/passwd">',
    '<!ENTITY a PUBLIC "x" "http://192.0.2.1/x">',
    '<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;',
    "<!ENTITY % a \"<!ENTITY b 'c'>\"> %a;",
    '<!ENTITY a "&b;&b;"><!ENTITY b "&c;&c;"><!ENTITY c "c">',
)

Damage = Callable[[bytes, random.Random], tuple[bytes, int]]
"""Returns the damaged bytes, and how many bytes at their beginning are unchanged."""


@dataclass(frozen=True)
class Mutant:
    """A damaged file. ``whole`` are the PMIDs, in order, of records that end before the damage and
    must be read as they were written. ``refused``: it declares entities."""

    kind: str
    data: bytes
    whole: list[int]
    refused: bool = False


def make_file(rng: random.Random) -> tuple[bytes, list[tuple[int, int]]]:
    """A sound file, and for each of its records the PMID and the byte at which it ends."""
    data, ends = HEAD.encode(), []
    for i in range(rng.randint(1, 12)):
        pmid = 1000 + 7 * i
        words = " ".join(str(rng.random()) for _ in range(rng.choice([0, 3, 30, 300])))
        data += RECORD.format(pmid, rng.randint(50, 99), words).encode()
        ends.append((pmid, len(data) - 1))
    return data + TAIL.encode(), ends


def flip(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    places = sorted(rng.randrange(len(data)) for _ in range(rng.choice([1, 1, 3, 20])))
    changed = bytearray(data)
    for at in places:
        changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed), places[0]


def cut(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    at = rng.randrange(len(data))
    return data[:at], at


def drop(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    start, end = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:start] + data[end:], start


def double(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    start, end = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:end] + data[start:], end


def put_in(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    at = rng.randrange(len(data))
    what = rng.choice([
        b"<", b">", b"&", b"\0", b"\xff", b"&nbsp;", b"&#0;", b"&#x110000;", b"<![CDATA[", b"<!--",
        b"-->", b"<?", b"</PubmedArticle>", b"<PubmedArticle>", b"</PubmedArticleSet>", b"<PMID>",
        b"<AuthorList>", b"</AuthorList>", b"<History>", b"\xed\xa0\x80", rng.randbytes(9),
        b"<a>" * 3000, b" " * 300_000, b"<a b='" + b"x" * 20_000,
    ])  # fmt: skip
    return data[:at] + what + data[at:], at


def swap_tags(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    starts = [i for i in range(len(data)) if data[i] == 60]
    one, other = sorted(rng.sample(starts, 2))
    a, b = data.find(b">", one) + 1, data.find(b">", other) + 1
    return data[:one] + data[other:b] + data[a:other] + data[one:a] + data[b:], one


def recode(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    name = rng.choice(["utf-16", "latin-1", "us-ascii", "utf-7", "ebcdic-cp-us", "nonsense", ""])
    return data.replace(b'"utf-8"', f'"{name}"'.encode(), 1), 30


def recode_truly(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    name = rng.choice(["utf-16", "utf-32-le", "cp037", "utf-8-sig"])
    return data.decode().encode(name, "replace"), 0


XML: dict[str, Damage] = {
    "bytes flipped": flip, "cut": cut, "a span dropped": drop, "a span twice": double,
    "something put in": put_in, "tags swapped": swap_tags, "another encoding named": recode,
    "another encoding used": recode_truly,
}  # fmt: skip


def members(data: bytes, rng: random.Random) -> bytes:
    """Compress with gzip, in one or several members, each of a random level."""
    ends = sorted(rng.randrange(len(data)) for _ in range(rng.choice([0, 0, 1, 4])))
    borders = [0, *ends, len(data)]
    return b"".join(
        gzip.compress(data[a:b], rng.randint(0, 9), mtime=0) for a, b in pairwise(borders)
    )


def _header(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    at = rng.randrange(2, 10)
    return data[:at] + rng.randbytes(1) + data[at + 1 :], at


def _trailer(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    at = len(data) - rng.randint(1, 8)
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :], at


def _tail(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    what = [b"\0" * 9, b"garbage", b"\x1f\x8b", b"\x1f\x8b\x08\xff", rng.randbytes(30), data[:99]]
    return data + rng.choice(what), len(data)


GZIP: dict[str, Damage] = {
    "gzip: bytes flipped": flip, "gzip: cut": cut, "gzip: a span dropped": drop,
    "gzip: a span twice": double, "gzip: header": _header, "gzip: CRC or length": _trailer,
    "gzip: something behind it": _tail,
}  # fmt: skip


def inflated(data: bytes) -> bytes:
    """The plain bytes of the intact beginning of a gzip file."""
    out, rest = b"", data
    while rest[:2] == b"\x1f\x8b":
        one = zlib.decompressobj(31)
        try:
            for i in range(0, len(rest), 1):
                out += one.decompress(rest[i : i + 1])
                if one.eof:
                    rest = rest[i + 1 :]
                    break
            else:
                return out
        except zlib.error:
            return out
    return out


def make_mutant(seed: int) -> Mutant:
    """A damaged file, always the same for the same ``seed``."""
    rng = random.Random(seed)
    data, ends = make_file(rng)
    kinds = [*XML, *GZIP, "entities", "gzip: damaged XML"]
    kind = kinds[seed % len(kinds)]
    if kind == "entities":
        end = data.index(b">", data.index(b"<!DOCTYPE"))
        data = data[:end] + f"[{rng.choice(ENTITIES)}]".encode() + data[end:]
        data = data.replace(b"Aspirin", b"&a; Aspirin", rng.choice([0, 1, 99]))
        return Mutant(kind, members(data, rng) if rng.random() < 0.3 else data, [], True)
    if kind == "gzip: damaged XML":
        name = rng.choice(sorted(XML))
        data, good = XML[name](data, rng)
        return Mutant(f"{kind}, {name}", members(data, rng), _whole(ends, good))
    if kind in XML:
        data, good = XML[kind](data, rng)
        return Mutant(kind, data, _whole(ends, good))
    zipped, good = GZIP[kind](members(data, rng), rng)
    # A damaged header may pass; what it gives is what counts.
    return Mutant(kind, zipped, _whole(ends, len(inflated(zipped[:good]))))


def _whole(ends: list[tuple[int, int]], good: int) -> list[int]:
    return [pmid for pmid, end in ends if end <= good]


__all__ = ["Mutant", "make_file", "make_mutant"]
