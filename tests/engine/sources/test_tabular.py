"""Parquet and JSONL to citations: good rows, rejected rows, damaged files."""

import gzip
import io
import json
import zlib
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.sources.tabular import read_jsonl, read_parquet
from schemas.citation import Citation, Rejection, citations_to_batch
from schemas.errors import DamagedSource

Row = Citation | Rejection
GOOD = {"pmid": 1, "title": "Fine."}
PMID_EXPECTED = "expected a positive whole number"


def lines(*rows: dict[str, object] | str) -> bytes:
    """JSONL; a string is a line as it stands. JSON escapes lone surrogates, as a file would."""
    return b"".join((r if isinstance(r, str) else json.dumps(r)).encode() + b"\n" for r in rows)


def parquet(table: pa.Table | dict[str, list[object]], **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), sink, **options)
    return sink.getvalue()


def jsonl(data: bytes) -> list[Row]:
    return list(read_jsonl(io.BytesIO(data), "a file"))


def read_damaged(reader: Callable[..., object], data: bytes) -> tuple[list[Row], DamagedSource]:
    rows: list[Row] = []
    with pytest.raises(DamagedSource) as caught:
        for row in reader(io.BytesIO(data)):  # type: ignore[attr-defined]
            rows.append(row)
    return rows, caught.value


def rejected(row: dict[str, object]) -> Rejection:
    """The rejection of ``row``, from between two good ones; it can be stored as Arrow text."""
    before, found, after = jsonl(lines(GOOD, row, GOOD))
    assert isinstance(found, Rejection)
    assert before == after == Citation(1, "Fine.", 5)
    assert len(found.reason) < 400
    pa.array([found.place, found.reason])
    return found


FULL = {
    "pmid": 7,
    "title": " A\u00a0title ",
    "abstract": "BACKGROUND: a\nb",
    "version": 2,
    "pub_year": 1999,
    "journal": "J",
    "language": "eng",
    "doi": "10.9/x",
    "publication_types": ["Review"],
    "unknown": {"left": "alone"},
}
FULL_CITATION = Citation(7, "A title BACKGROUND: a b", 7, 2, 1999, "J", "eng", "10.9/x", ["Review"])


def test_jsonl_takes_over_all_columns() -> None:
    assert jsonl(lines(FULL)) == [FULL_CITATION]


def test_parquet_takes_over_all_columns() -> None:
    data = parquet({name: [value] for name, value in FULL.items()})
    assert list(read_parquet(io.BytesIO(data))) == [FULL_CITATION]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"pmid": 1}, Citation(1, "", 0)),
        ({"pmid": 1, "title": None, "abstract": None}, Citation(1, "", 0)),
        ({"pmid": 1, "abstract": "A."}, Citation(1, " A.", 0)),
        ({"pmid": 1, "title": "T.", "abstract": " \n"}, Citation(1, "T.", 2)),
        ({"pmid": 1, "title": "T.", "journal": "", "doi": None}, Citation(1, "T.", 2)),
        ({"pmid": 1, "title": "𝒜🧬"}, Citation(1, "𝒜🧬", 2)),
        ({"pmid": "0012", "title": "T."}, Citation(12, "T.", 2)),
        ({"pmid": 2**63 - 1, "title": "T."}, Citation(2**63 - 1, "T.", 2)),
        ({"pmid": 1, "pub_year": 2020.0, "version": 2.0}, Citation(1, "", 0, 2, 2020)),
        ({"pmid": 12.0, "title": "T."}, Citation(12, "T.", 2)),
        ({"pmid": "12.0", "title": "T."}, Citation(12, "T.", 2)),
        ({"PMID": 1, "Title": "T.", "ABSTRACT": "A."}, Citation(1, "T. A.", 2)),
        ({"PMID": 2, "pmid": 1, "Title": "U.", "title": "T."}, Citation(1, "T.", 2)),
        ({"pmid": 1, "pub_year": "2020"}, Citation(1, "", 0, pub_year=2020)),
        ({"pmid": 1, "language": ["eng"]}, Citation(1, "", 0, language="eng")),
        ({"pmid": 1, "publication_types": "R."}, Citation(1, "", 0, publication_types=["R."])),
        ({"pmid": 1, "pub_year": float("nan")}, Citation(1, "", 0)),
        (
            {"pmid": 1, "title": float("nan"), "pub_year": "2020.0"},
            Citation(1, "", 0, pub_year=2020),
        ),
    ],
    ids=lambda v: "" if isinstance(v, Citation) else json.dumps(v),
)
def test_row(row: dict[str, object], expected: Citation) -> None:
    found = jsonl(lines(row))
    assert repr(found) == repr([expected])  # 2020.0 == 2020
    citations_to_batch([c for c in found if isinstance(c, Citation)], "s")


@pytest.mark.parametrize(
    "pmid",
    [None, 0, -1, 1.5, 1e17, float("inf"), "1.5", True, 2**63, 10**4000, "", "x", " 1", "-1", "²",
     "9" * 19, "9" * 5000, [1], {"a": 1}, "\ud800"],
    ids=lambda v: repr(v)[:12],
)  # fmt: skip
def test_unusable_pmid(pmid: object) -> None:
    found = rejected({"pmid": pmid, "title": "T."})
    assert found == Rejection("line 2", f"pmid {pmid!r:.80}, {PMID_EXPECTED}")


def test_missing_pmid() -> None:
    assert rejected({"title": "T."}) == Rejection("line 2", f"pmid None, {PMID_EXPECTED}")


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("title", ["T."], "title is no string: ['T.']"),
        ("abstract", 5, "abstract is no string: 5"),
        ("title", "\ud800", "text is not valid Unicode"),
        ("abstract", "a\udfff", "text is not valid Unicode"),
    ],
)
def test_wrong_type(column: str, value: object, reason: str) -> None:
    found = rejected({"pmid": 9, "title": "T.", column: value})
    assert found.place == "line 2, PMID 9"
    assert reason in found.reason


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("journal", "\ud800"), ("journal", 5), ("doi", {"a": "\ud800"}), ("language", ["a", "b"]),
        ("version", "two"), ("version", "\ud800"), ("version", 1.5), ("version", True),
        ("version", 40_000), ("version", 10**30), ("pub_year", "20-20"), ("pub_year", float("inf")),
        ("publication_types", [1]), ("publication_types", ["\ud800"]),
    ],
)  # fmt: skip
def test_an_optional_value_that_does_not_fit_is_left_out_and_counted(
    column: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"pmid": 9, "title": "T.", column: value}
    found = jsonl(lines(GOOD, row, row))
    assert found[1:] == [Citation(9, "T.", 2)] * 2
    citations_to_batch([c for c in found if isinstance(c, Citation)], "s")
    (record,) = caplog.records
    assert f"a file: column {column}: 2 values left out, expected a " in record.getMessage()


def test_two_columns_that_differ_in_case_only_are_told() -> None:
    row = {"Pmid": 1, "PMID": 1, "title": "T."}
    found = rejected(row)
    assert found.reason == "columns Pmid, PMID, expected one pmid"
    _, damage = read_damaged(read_parquet, parquet({n: [v] for n, v in row.items()}))
    assert str(damage) == "at the start: columns Pmid, PMID, expected one pmid"


def test_parquet_of_loose_types() -> None:
    columns = {"PMID": [1.0, None], "Title": ["T.", "U."], "pub_year": ["1999", "soon"]}
    found = list(read_parquet(io.BytesIO(parquet(columns))))
    assert found[0] == Citation(1, "T.", 2, pub_year=1999)
    assert found[1] == Rejection("row 2", f"pmid None, {PMID_EXPECTED}")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ('{"pmid": 1', "not JSON"),
        ("nothing", "not JSON"),
        ('{"pmid": ' + "9" * 5000 + "}", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('[{"pmid": 1}]', "not a JSON object"),
        ("null", "not a JSON object"),
    ],
    ids=lambda v: v[:15],
)
def test_bad_line(line: str, reason: str) -> None:
    before, found, after = jsonl(lines(GOOD, line, GOOD))
    assert before == after == Citation(1, "Fine.", 5)
    assert isinstance(found, Rejection)
    assert found.place == "line 2"
    assert found.reason.startswith(reason)


def test_line_of_invalid_utf8() -> None:
    found = jsonl(b'{"pmid": 1, "title": "na\xefve"}\n' + lines(GOOD))
    assert isinstance(found[0], Rejection)
    assert found[1:] == [Citation(1, "Fine.", 5)]


def test_empty_lines_count_but_are_passed_over() -> None:
    assert jsonl(b"\n" + lines(GOOD) + b" \r\n[]") == [
        Citation(1, "Fine.", 5),
        Rejection("line 4", "not a JSON object"),
    ]


def test_jsonl_with_bom_and_windows_line_ends() -> None:
    data = lines(GOOD, GOOD).replace(b"\n", b"\r\n")
    assert jsonl(b"\xef\xbb\xbf" + data) == [Citation(1, "Fine.", 5)] * 2


def test_empty_jsonl() -> None:
    assert jsonl(b"") == []


def test_gzip_by_content() -> None:
    assert jsonl(gzip.compress(lines(GOOD))) == [Citation(1, "Fine.", 5)]


def test_truncated_gzip_keeps_the_lines_before() -> None:
    rows = [{"pmid": n, "title": str(n * 7919 % 100_003)} for n in range(1, 20_000)]
    cut = gzip.compress(lines(*rows))[:-5000]
    whole = zlib.decompressobj(wbits=31).decompress(cut).count(b"\n")
    found, damage = read_damaged(read_jsonl, cut)
    assert [c.pmid for c in found if isinstance(c, Citation)] == list(range(1, whole + 1))
    assert damage.place == f"after line {whole}"
    assert damage.cause.startswith("damaged gzip")


def test_endless_line() -> None:
    found, damage = read_damaged(read_jsonl, lines(GOOD) + b" " * ((16 << 20) + 1))
    assert found == [Citation(1, "Fine.", 5)]
    assert str(damage) == "line 2: longer than 16 MiB"


# Parquet.


@pytest.mark.parametrize("missing", ["pmid", "title"])
def test_parquet_without_a_needed_column(missing: str) -> None:
    columns = {"pmid": [1], "title": ["T."], "abstract": ["A."]}
    del columns[missing]
    found, damage = read_damaged(read_parquet, parquet(columns))
    assert found == []
    assert str(damage) == f"at the start: no column {missing}, expected pmid, title, abstract"


def test_parquet_without_abstract() -> None:
    data = parquet({"pmid": [1, 2], "title": ["T.", None]})
    assert list(read_parquet(io.BytesIO(data))) == [Citation(1, "T.", 2), Citation(2, "", 0)]


@pytest.mark.parametrize("kind", [pa.int32(), pa.uint64(), pa.string(), pa.large_string()])
def test_parquet_pmid_types(kind: pa.DataType) -> None:
    table = pa.table({"pmid": pa.array([1, 2]).cast(kind), "title": ["T.", "U."]})
    found = list(read_parquet(io.BytesIO(parquet(table))))
    assert found == [Citation(1, "T.", 2), Citation(2, "U.", 2)]


def test_parquet_rejects_row_by_row() -> None:
    table = pa.table(
        {
            "pmid": pa.array([1, None, 2**64 - 1, 3], pa.uint64()),
            "title": pa.array(["T.", "U.", "V.", "W."]).dictionary_encode(),
        }
    )
    assert list(read_parquet(io.BytesIO(parquet(table)))) == [
        Citation(1, "T.", 2),
        Rejection("row 2", f"pmid None, {PMID_EXPECTED}"),
        Rejection("row 3", f"pmid {2**64 - 1}, {PMID_EXPECTED}"),
        Citation(3, "W.", 2),
    ]


def test_parquet_with_a_column_of_bytes() -> None:
    data = parquet({"pmid": [1], "title": [b"T."]})
    assert list(read_parquet(io.BytesIO(data))) == [
        Rejection("row 1, PMID 1", "title is no string: b'T.'")
    ]


def test_parquet_with_invalid_utf8_in_a_string() -> None:
    # Other writers put unchecked bytes there; Arrow passes them on until they become Python's.
    offsets = pa.array([0, 1, 2, 3], pa.int32()).buffers()[1]
    titles = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"T\xffU")])
    found = list(read_parquet(io.BytesIO(parquet(pa.table({"pmid": [1, 2, 3], "title": titles})))))
    assert found[0::2] == [Citation(1, "T", 1), Citation(3, "U", 1)]
    assert isinstance(found[1], Rejection)
    assert found[1].place == "row 2"


@pytest.mark.parametrize("data", [b"", b"no Parquet", b"PAR1" + bytes(40) + b"PAR1"])
def test_not_parquet(data: bytes) -> None:
    found, damage = read_damaged(read_parquet, data)
    assert found == []
    assert damage.place == "after row 0"
    assert damage.cause.startswith("damaged Parquet")


def test_parquet_damaged_in_the_middle_keeps_the_rows_before() -> None:
    columns = {"pmid": list(range(1, 3001)), "title": [f"Title {n}" for n in range(3000)]}
    data = bytearray(parquet(columns, row_group_size=1000, compression="zstd"))
    start = pq.ParquetFile(io.BytesIO(bytes(data))).metadata.row_group(1).column(0).data_page_offset
    data[start : start + 200] = b"\xff" * 200
    found, damage = read_damaged(read_parquet, bytes(data))
    assert [c.pmid for c in found if isinstance(c, Citation)] == list(range(1, 1001))
    assert damage.place == "after row 1000"
