"""How many files a baseline has, as a mirror was told, whatever of it has been fetched."""

from pathlib import Path

from nlm_server import nlm_server

from engine.mirror.copying import mirror_of
from engine.mirror.published import baseline_files
from schemas.configs.refresh import MirrorPart


def test_an_interrupted_mirror_knows_how_many_files_there_are(tmp_path: Path) -> None:
    folder = str(tmp_path / "to")
    with nlm_server() as server:
        for number in range(1, 5):
            server.publish("baseline", f"pubmed26n{number:04}.xml.gz", b"content")
        options = MirrorPart(to=folder, source=server.url, kinds=["baseline"], retries=0)
        fetched = mirror_of(options, "baseline").run(limit=2).fetched  # as they came
        assert sorted(fetched) == ["pubmed26n0001.xml.gz", "pubmed26n0002.xml.gz"]
    assert baseline_files([str(tmp_path), folder], 26) == 4
    assert baseline_files([folder], 27) is None


def test_elsewhere_nothing_is_known(tmp_path: Path) -> None:
    assert baseline_files([str(tmp_path), str(tmp_path / "none"), "gopher://x", ""], 26) is None


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    with nlm_server() as server:
        server.publish("baseline", "pubmed26n0001.xml.gz", b"content")
        options = MirrorPart(to=str(tmp_path), source=server.url, kinds=["baseline"], retries=0)
        mirror_of(options, "baseline").run(dry_run=True)
    assert list(tmp_path.iterdir()) == []
