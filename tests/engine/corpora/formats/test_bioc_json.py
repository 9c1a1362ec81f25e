"""BioC JSON as its sources give it: what is wrapped around documents is taken off."""

import gzip
import io
import json
from typing import Any

import pytest

from engine.corpora.formats.bioc import read_bioc_json
from engine.corpora.formats.bioc_json import documents_of
from engine.corpora.formats.texts import AnnotatedText, Fault
from schemas.errors import DamagedSource


def document(number: int, **more: Any) -> dict[str, Any]:
    return {"id": str(number), "passages": [{"offset": 0, "text": "Gout", "infons": {}}]} | more


def collection(*documents: Any) -> dict[str, Any]:
    return {"source": "PubTator", "infons": {}, "documents": list(documents)}


def ids(data: bytes) -> list[str]:
    found = []
    for item in read_bioc_json(io.BytesIO(data)):
        found.append(item.document if isinstance(item, AnnotatedText) else item.reason)
    return found


ONE, TWO = document(1), document(2)


@pytest.mark.parametrize(
    "value",
    [
        collection(ONE, TWO),
        [ONE, TWO],
        [collection(ONE, TWO)],
        [collection(ONE), collection(), collection(TWO)],
        {"PubTator3": [ONE, TWO]},
        {"PubTator3": [collection(ONE), TWO], "next": None},
        {"results": {"PubTator3": [ONE, TWO]}, "count": 2},
        {"7": ONE, "8": TWO},
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_documents_in_wrappers(value: Any, indent: int | None) -> None:
    data = json.dumps(value, indent=indent).encode()
    assert ids(data) == ids(b"\xef\xbb\xbf" + data) == ids(gzip.compress(data)) == ["1", "2"]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("between", ["\n", "\r\n", "\n\n \n"])
@pytest.mark.parametrize("wrap", [lambda d: d, collection, lambda d: {"PubTator3": [d]}])
def test_a_value_after_another(indent: int | None, between: str, wrap: Any) -> None:
    data = between.join(json.dumps(wrap(d), indent=indent) for d in (ONE, TWO)).encode()
    assert ids(data) == ids(data + b"\n") == ids(gzip.compress(data)) == ["1", "2"]


def test_one_document() -> None:
    assert ids(json.dumps(ONE).encode()) == ids(json.dumps(ONE).encode() + b"\n") == ["1"]


def test_a_line_that_is_damaged_costs_itself() -> None:
    good = [json.dumps(document(n)).encode() for n in (1, 2, 3)]
    for bad in (b'{"id": "9", "passa', b"na\xefve", b"what"):
        items = list(documents_of(io.BytesIO(b"\n".join([*good[:1], bad, *good[1:]]))))
        (fault,) = (i for i in items if isinstance(i, Fault))
        assert (fault.place, fault.reason) == ("line 2", "malformed text")
        assert fault.found.startswith("not JSON: ")
        assert [i["id"] for i in items if not isinstance(i, Fault)] == ["1", "2", "3"]


def test_a_document_that_is_none_costs_itself() -> None:
    assert ids(json.dumps({"PubTator3": [ONE, {"id": "9"}, "what", TWO]}).encode()) == [
        "1", "malformed text", "malformed text", "2",
    ]  # fmt: skip


def test_an_id_may_be_that_of_a_database() -> None:
    keyed = document(1, _id="77|None")
    assert ids(json.dumps(keyed).encode()) == ["1"]
    del keyed["id"]
    assert ids(json.dumps(keyed).encode()) == ["77"]


@pytest.mark.parametrize(
    "data",
    [
        b"", b" \n", b"[]", b"5", b'"a"', b"{", b'{"documents": 5}', b'{"documents": []}',
        b"{} x", b"[" * 100_000, b"na\xefve", json.dumps(collection(ONE), indent=1).encode()[:-3],
        json.dumps(collection(ONE)).encode()[:-3], b"[[], {}]"[:4],
    ],
)  # fmt: skip
def test_what_is_no_bioc(data: bytes) -> None:
    with pytest.raises(DamagedSource):
        list(documents_of(io.BytesIO(data)))
