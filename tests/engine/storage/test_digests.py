"""Digests of files: what they are over, and when they are computed again."""

import hashlib
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.storage import digests
from engine.storage.digests import changed_at, digest_files, remembered


def test_a_digest_is_computed_once_for_each_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "cache"))
    asked: list[int] = []

    def compute() -> str:
        asked.append(1)
        return f"d{len(asked)}"

    old = time.time_ns() - 10**10
    assert [remembered("md5", "a", 5, old, compute) for _ in range(2)] == ["d1", "d1"]
    assert remembered("md5", "a", 6, old, compute) == "d2"
    assert remembered("md5", "a", 6, old + 1, compute) == "d3"
    assert [remembered("md5", "b", 6, None, compute) for _ in range(2)] == ["d4", "d5"]
    # Changed just now: it may change again without its time showing it.
    assert [remembered("md5", "b", 6, time.time_ns(), compute) for _ in range(2)] == ["d6", "d7"]
    monkeypatch.setenv("PUBMARK_CACHE", "/proc/no")
    assert remembered("md5", "a", 5, old, compute) == "d8"


def test_a_change_shows_in_what_the_store_tells() -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)
    assert changed_at({"ETag": '"a"', "LastModified": when}) == '"a"'
    assert changed_at({"last_modified": when}) == when
    assert changed_at({"mtime": 1.5}) == 1_500_000_000  # nanoseconds, as remembered() has them
    assert changed_at({"size": 3}) is None


def test_the_digest_of_files_is_over_names_and_contents_in_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"1")
    b.write_bytes(b"2")
    total = hashlib.blake2b(digest_size=16)
    for path in (a, b):
        content = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        total.update(path.name.encode() + b"\0" + content)
    assert digest_files([a, b]) == total.hexdigest() != digest_files([b, a])
    before = digest_files([a])
    assert digest_files([a.rename(tmp_path / "c")]) != before


def test_the_digest_of_a_large_file_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_LARGE_BYTES", 4)
    file, old = tmp_path / "weights", time.time_ns() - 10**10

    def digest(content: bytes, changed: int) -> str:
        file.write_bytes(content)
        os.utime(file, ns=(changed, changed))
        return digest_files([file])

    first = digest(b"1234", old)
    # Only the content has changed, which nothing shows: so it was not read again.
    assert digest(b"5678", old) == first
    # But for the time that the system sets: an engine's weights are compared by that too.
    strict = digest_files([file], strict=True)
    digest(b"9012", old)
    assert digest_files([file], strict=True) != strict
    assert digest(b"5678", old + 1) != first
    assert digest(b"123", old) != digest(b"567", old)  # small: read each time
