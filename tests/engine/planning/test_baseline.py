"""A year's complete baseline: which year, whether it is complete, what it no longer holds."""

import numpy as np
import pyarrow as pa
import pytest

from engine.planning.baseline import (
    baseline_year,
    check_complete,
    missing_numbers,
    numbers_of,
    vanished,
)
from engine.sources.shards import Shard
from schemas.errors import UsageError


def shards(*names: str) -> list[Shard]:
    return [Shard(f"/d/{name}", name, "pubmed-xml") for name in names]


def nlm(year: int, *numbers: int) -> list[Shard]:
    return shards(*(f"pubmed{year}n{n:04}.xml.gz" for n in numbers))


def test_the_year_is_the_newest_there_is() -> None:
    assert baseline_year([*nlm(25, 3), *nlm(26, 1, 2), *shards("mine.xml")]) == 26


def test_a_number_that_is_missing_is_named() -> None:
    assert numbers_of([*nlm(26, 1, 3, 5), *nlm(25, 2, 4)], 26) == {1, 3, 5}
    with pytest.raises(UsageError, match=r"year 26 up to 0005, 2 are neither .* the first 0002"):
        check_complete([1, 3, 5], 26, None)
    assert missing_numbers([]) == missing_numbers([1, 2]) == []


def test_that_the_last_files_are_missing_shows_by_how_many_there_are() -> None:
    check_complete([1, 2], 26, None)
    with pytest.raises(UsageError, match=r"year 26 up to 0004, 2 are neither .* the first 0003"):
        check_complete([1, 2], 26, 4)
    assert missing_numbers([1, 2, 5], 4) == [3, 4]


def test_other_files_are_no_baseline() -> None:
    with pytest.raises(UsageError, match="no file of NLM's"):
        baseline_year(shards("mine.xml", "yours.jsonl"))


def test_what_vanished_is_nlms_and_not_held() -> None:
    rows = pa.record_batch(
        {
            "pmid": [9, 2, 5, 7, 3],
            "source": ["pubmed25n0001.xml.gz", "pubmed26n0001.xml.gz", "mine.xml", None,
                       "a/pubmed25n0002.xml"],
        }
    )  # fmt: skip
    assert vanished([rows], np.array([2, 4])).tolist() == [3, 9]
    assert vanished([rows], np.array([2, 3, 9, 11])).tolist() == []
    assert vanished([], np.array([], np.int64)).tolist() == []
