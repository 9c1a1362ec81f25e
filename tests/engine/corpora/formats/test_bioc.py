"""BioC: what the bioc package writes is read, in both forms alike."""

import gzip
import io
import json
from collections.abc import Callable
from typing import Any

import bioc
import pytest
from bioc import biocjson, biocxml

from engine.corpora.formats.bioc import read_bioc_json, read_bioc_xml
from engine.corpora.formats.texts import REASONS, AnnotatedText, Fault
from schemas.errors import DamagedSource
from schemas.spans import TypedSpan

Item = AnnotatedText | Fault
Passage = tuple[str, int, str]
Mention = tuple[int, int, str, str]
"""Offset, length, text, type."""


def document(passages: list[Passage], *mentions: Mention, number: str = "7") -> bioc.BioCDocument:
    made = bioc.BioCDocument()
    made.id = number
    for kind, offset, text in passages:
        passage = bioc.BioCPassage()
        passage.infons["type"] = kind
        passage.offset, passage.text = offset, text
        made.add_passage(passage)
    for i, (offset, length, text, kind) in enumerate(mentions):
        annotation = bioc.BioCAnnotation()
        annotation.id, annotation.text = str(i), text
        annotation.infons["type"] = kind
        annotation.add_location(bioc.BioCLocation(offset, length))
        owner = next((p for p in made.passages if p.offset <= offset < p.offset + len(p.text)),
                     made.passages[-1])  # fmt: skip
        owner.add_annotation(annotation)
    return made


def read_both(*documents: bioc.BioCDocument) -> list[Item]:
    collection = bioc.BioCCollection()
    for d in documents:
        collection.add_document(d)
    xml = list(read_bioc_xml(io.BytesIO(biocxml.dumps(collection).encode())))
    plain = list(read_bioc_json(io.BytesIO(biocjson.dumps(collection).encode())))
    assert xml == plain
    for item in xml:
        for fault in item.faults if isinstance(item, AnnotatedText) else [item]:
            assert fault.reason in REASONS
    return xml


CITATION = [("title", 0, "Göut & <flu>"), ("abstract", 13, "Gout is rare.")]


def test_title_and_abstract_are_a_citation() -> None:
    found = read_both(document(CITATION, (0, 4, "Göut", "Disease"), (13, 4, "Gout", "Disease")))
    assert found == [
        AnnotatedText(
            "7", "document 7", "Göut & <flu> Gout is rare.",
            [TypedSpan(0, 4, "Disease"), TypedSpan(13, 17, "Disease")], "citation", 7, 12,
        )
    ]  # fmt: skip


def test_offsets_are_shifted_to_our_layout() -> None:
    passages = [("front", 100, "Gout"), ("abstract", 200, "A."), ("abstract", 300, "Flu.")]
    (found,) = read_both(document(passages, (300, 3, "Flu", "D")))
    assert isinstance(found, AnnotatedText)
    assert (found.text, found.title_length) == ("Gout A. Flu.", 4)
    assert found.mentions == [TypedSpan(8, 11, "D")]


def test_other_passages_are_texts_of_their_own() -> None:
    passages = [("title", 0, "Gout"), ("abstract", 5, "A."), ("title_1", 10, "Methods"),
                ("paragraph", 20, "Flu."), ("paragraph", 30, " ")]  # fmt: skip
    found = read_both(document(passages, (20, 3, "Flu", "D")))
    texts = [i for i in found if isinstance(i, AnnotatedText)]
    assert [(t.document, t.text, t.title_length) for t in texts] == [
        ("7", "Gout A.", 4), ("7", "Methods", 7), ("7", "Flu.", 4),
    ]  # fmt: skip
    assert isinstance(found[2], AnnotatedText)
    assert found[2].mentions == [TypedSpan(0, 3, "D")]


def test_an_empty_title() -> None:
    (found,) = read_both(document([("title", 0, ""), ("abstract", 1, "Gout.")]))
    assert isinstance(found, AnnotatedText)
    assert (found.text, found.title_length) == (" Gout.", 0)


def test_passages_made_of_sentences() -> None:
    made = document([("abstract", 10, "")])
    for offset, text in [(10, "Gout."), (17, "Flu.")]:
        sentence = bioc.BioCSentence()
        sentence.offset, sentence.text = offset, text
        made.passages[0].add_sentence(sentence)
    annotation = bioc.BioCAnnotation()
    annotation.id, annotation.text = "1", "Flu"
    annotation.infons["type"] = "D"
    annotation.add_location(bioc.BioCLocation(17, 3))
    made.passages[0].sentences[1].add_annotation(annotation)
    (found,) = read_both(made)
    assert isinstance(found, AnnotatedText)
    assert (found.text, found.mentions) == ("Gout.  Flu.", [TypedSpan(7, 10, "D")])


@pytest.mark.parametrize(
    ("mention", "reason", "fatal", "message"),
    [
        ((0, 4, "Gout", "D"), "text differs", False, "'Gout' at 0-4, where 'Göut' stands"),
        ((20, 99, "x", "D"), "outside the text", True, "'x' at 20-119"),
        ((0, 0, "", "D"), "outside the text", True, ""),
        ((10, 6, "> Gou", "D"), "outside the text", True, "at 10-16"),
    ],
)
def test_a_mention_that_does_not_fit(
    mention: Mention, reason: str, fatal: bool, message: str
) -> None:
    (found,) = read_both(document(CITATION, mention))
    assert isinstance(found, AnnotatedText)
    (fault,) = found.faults
    assert (fault.place, fault.reason, fault.fatal) == ("document 7, annotation 0", reason, fatal)
    assert message in fault.found


def test_a_mention_of_several_pieces() -> None:
    made = document(CITATION, (13, 4, "Gout rare", "D"))
    made.passages[1].annotations[0].add_location(bioc.BioCLocation(21, 4))
    (found,) = read_both(made)
    assert isinstance(found, AnnotatedText)
    assert [f.reason for f in found.faults] == ["discontinuous mention"]
    assert (found.mentions, found.unplaced) == ([], 1)


def test_a_mention_given_twice() -> None:
    (found,) = read_both(document(CITATION, *[(13, 4, "Gout", "D")] * 2))
    assert isinstance(found, AnnotatedText)
    assert [f.reason for f in found.faults] == ["repeated mention"]
    assert (len(found.mentions), found.unplaced) == (1, 1)


PLAIN: dict[str, Any] = {"id": "7", "passages": [{"offset": 0, "text": "Gout", "infons": {}}]}


@pytest.mark.parametrize(
    "annotation",
    [
        {"id": "1", "text": "Gout", "infons": {}, "locations": [{"offset": 0, "length": 4}]},
        {"id": "1", "text": "Gout", "infons": {"type": "D"}, "locations": []},
        {"id": "1", "text": "Gout", "infons": {"type": "D"}},
        {"id": "1", "infons": {"type": "D"}, "locations": [{"offset": "x", "length": 4}]},
        "what",
    ],
)
def test_a_mention_without_type_or_place(annotation: object) -> None:
    passages = [PLAIN["passages"][0] | {"annotations": [annotation]}]
    (found,) = read_bioc_json(io.BytesIO(json.dumps(PLAIN | {"passages": passages}).encode()))
    assert isinstance(found, AnnotatedText)
    assert [(f.reason, f.fatal) for f in found.faults] == [("malformed mention", True)]


@pytest.mark.parametrize(
    "broken",
    [
        {"id": "7"},
        {"id": "7", "passages": []},
        {"id": "7", "passages": [{"text": "no offset"}]},
        {"id": "7", "passages": [{"offset": "x", "text": "t"}]},
        {"id": "7", "passages": ["what"]},
        {"id": "7", "passages": [{"offset": 0, "sentences": [{"offset": 10**12, "text": "t"}]}]},
        "what",
    ],
)
def test_a_document_without_text(broken: object) -> None:
    data = json.dumps({"documents": [broken, PLAIN]}).encode()
    bad, good = read_bioc_json(io.BytesIO(data))
    assert isinstance(bad, Fault) and isinstance(good, AnnotatedText)
    assert bad.reason == "malformed text"


@pytest.mark.parametrize(
    ("reader", "data"),
    [
        (read_bioc_json, b"{"),
        (read_bioc_json, b"[]"),
        (read_bioc_json, b'{"documents": 5}'),
        (read_bioc_json, b"na\xefve"),
        (read_bioc_xml, b""),
        (read_bioc_xml, b"<collection/>"),
        (read_bioc_xml, b"<collection><document>"),
        (read_bioc_xml, b"<collection>na\xefve</collection>"),
    ],
)
def test_no_bioc(reader: Callable[..., Any], data: bytes) -> None:
    with pytest.raises(DamagedSource):
        list(reader(io.BytesIO(data)))


def test_zipped() -> None:
    (found,) = read_bioc_json(io.BytesIO(gzip.compress(json.dumps(PLAIN).encode())))
    assert isinstance(found, AnnotatedText)


def test_entities_are_not_fetched(tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("secret")
    xml = f"""<!DOCTYPE c [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>
    <c><document><id>7</id><passage><offset>0</offset><text>a &x;</text></passage></document></c>"""
    (found,) = read_bioc_xml(io.BytesIO(xml.encode()))
    assert "secret" not in repr(found)


# Offsets in another count


def annotation(offset: int, text: str, length: int | None = None) -> dict[str, Any]:
    where = {"offset": offset, "length": len(text) if length is None else length}
    return {"id": "1", "text": text, "infons": {"type": "D"}, "locations": [where]}


def passage(offset: int, text: str, *mentions: dict[str, Any], **more: Any) -> dict[str, Any]:
    kind = "abstract" if offset else "title"
    return {
        "offset": offset,
        "text": text,
        "infons": {"type": kind},
        "annotations": mentions,
    } | more


def read_one(*passages: dict[str, Any]) -> AnnotatedText:
    data = json.dumps({"id": "7", "passages": passages}).encode()
    (found,) = read_bioc_json(io.BytesIO(data))
    assert isinstance(found, AnnotatedText)
    return found


TITLE, ABSTRACT = "Göut & 😀", "The flu is not göut."


@pytest.mark.parametrize(
    ("start", "flu", "gout", "count"),
    [
        (9, 13, 24, None),
        (10, 14, 25, None),  # passages may be apart
        (10, (14, 3), (25, 5), "UTF-8 bytes"),
        (13, (17, 3), (28, 5), "UTF-8 bytes"),
        (9, (17, 3), (28, 5), "UTF-8 bytes, from the start of the document"),
        (9, 14, 25, "code points, with 1 ahead of the text"),
        (13, 13, 24, "code points, from the start of the document"),
        (9, 4, 15, "code points, from the start of the passage"),
        (9, (4, 3), (15, 5), "UTF-8 bytes, from the start of the passage"),
    ],
)
def test_offsets_in_another_count(start: int, flu: Any, gout: Any, count: str | None) -> None:
    abstract = []
    for word, place in (("flu", flu), ("göut", gout)):
        offset, length = place if isinstance(place, tuple) else (place, len(word))
        abstract.append(annotation(offset, word, length))
    found = read_one(passage(0, TITLE), passage(start, ABSTRACT, *abstract))
    assert (found.count, found.faults) == (count, [])
    assert [found.text[m.start : m.end] for m in found.mentions] == ["flu", "göut"]
    assert found.text == f"{TITLE} {ABSTRACT}"


@pytest.mark.parametrize("offsets", [(9, 23), (0, 14)], ids=["of the document", "of the passage"])
@pytest.mark.parametrize("with_text", [True, False])
@pytest.mark.parametrize(("title", "whose"), [(0, "sentence"), (0, "sentence or passage")])
def test_offsets_from_the_sentence(
    offsets: tuple[int, int], with_text: bool, title: int, whose: str
) -> None:
    first, second = "We saw göut.", "Then flu."
    sentences = [
        {"offset": offsets[0], "text": first, "annotations": [annotation(7, "göut")]},
        {"offset": offsets[1], "text": second, "annotations": [annotation(5, "flu")]},
    ]
    beside = [annotation(0, "We")] if whose == "sentence or passage" else []
    text = f"{first}  {second}" if with_text else ""
    found = read_one(
        passage(0, TITLE, annotation(title, "Göut")),
        passage(9, text, *beside, sentences=sentences),
    )
    assert (found.count, found.faults) == (f"code points, from the start of the {whose}", [])
    words = [found.text[m.start : m.end] for m in found.mentions]
    assert words == ["Göut", *(["We"] if beside else []), "göut", "flu"]
    assert found.text == f"{TITLE} {first}  {second}"


def test_sentences_whose_offsets_count_bytes_are_as_far_apart_as_they_say() -> None:
    sentences = [
        {"offset": 0, "text": "Göut ödem.", "annotations": [annotation(0, "Göut", 5)]},
        {"offset": 13, "text": "Flu.", "annotations": [annotation(13, "Flu")]},
    ]
    found = read_one(passage(0, "", sentences=sentences))
    assert (found.count, found.text) == ("UTF-8 bytes", "Göut ödem. Flu.")
    assert [found.text[m.start : m.end] for m in found.mentions] == ["Göut", "Flu"]


def test_line_ends_in_another_count() -> None:
    text = "Gout\r\nand\r\nflu."
    found = read_one(passage(0, text, annotation(0, "Gout"), annotation(9, "flu")))
    assert found.count == "code points, each line end as 1"
    assert [found.text[m.start : m.end] for m in found.mentions] == ["Gout", "flu"]


def test_a_document_most_of_whose_mentions_differ_is_not_gold() -> None:
    wrong = [annotation(2, "Göut"), annotation(15, "flu")]
    paragraph = passage(30, "Flu.", annotation(30, "Flu")) | {"infons": {"type": "paragraph"}}
    parts = [passage(0, TITLE), passage(9, ABSTRACT, *wrong), paragraph]
    items = list(read_bioc_json(io.BytesIO(json.dumps({"id": "7", "passages": parts}).encode())))
    assert len(items) == 2
    for item in items:
        assert isinstance(item, AnnotatedText) and item.count is None
        fatal = [f for f in item.faults if f.fatal]
        assert [(f.place, f.reason, f.span) for f in fatal] == [
            ("document 7", "text differs", None)
        ]
    # One in doubt of three is not most.
    parts[1]["annotations"] = [annotation(13, "flu"), wrong[0]]
    items = list(read_bioc_json(io.BytesIO(json.dumps({"id": "7", "passages": parts}).encode())))
    assert not any(f.fatal for i in items if isinstance(i, AnnotatedText) for f in i.faults)


def test_a_mention_without_a_type_is_a_fault_of_its_own_text() -> None:
    untyped = annotation(30, "Flu") | {"infons": {}}
    parts = [passage(0, TITLE, annotation(0, "Göut")),
             passage(30, "Flu.", untyped) | {"infons": {"type": "paragraph"}}]  # fmt: skip
    items = list(read_bioc_json(io.BytesIO(json.dumps({"id": "7", "passages": parts}).encode())))
    faults = [[f.reason for f in i.faults] for i in items if isinstance(i, AnnotatedText)]
    assert faults == [[], ["malformed mention"]]
