"""What only the driver's machine has, on a cluster of two nodes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nodes import Cluster

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_what_a_node_lacks_is_named_before_anything_starts(tmp_path: Path) -> None:
    alone = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if alone.returncode:
        pytest.skip("a mount of one's own is not allowed here")
    (tmp_path / "count").mkdir()
    mine, all_have = tmp_path / "mine", tmp_path / "all"
    mine.mkdir()
    all_have.mkdir()
    for folder in (mine, all_have):
        row = {"pmid": 1, "title": "Aspirin", "abstract": ""}
        (folder / "a.jsonl").write_text(json.dumps(row) + "\n")
    shutil.copytree(ROOT / "checkpoints/nano", mine / "tuned")
    cluster = Cluster(tmp_path, 0.0)

    def annotate(source: Path, *told: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", "from jobs.cli import main; main()", "annotate", str(source),
             "--to", str(tmp_path / "t"), *told],
            env=cluster.env | {"RAY_ADDRESS": cluster.address, "PUBMARK_CHAOS_NODE": "driver"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, " ".join(done.stderr.split())

    try:
        cluster.start()
        cluster.add("node1", without=mine)
        fake = ("--backend", "fake_backend:FakeBackend")
        code, said = annotate(mine / "a.jsonl", *fake)
        assert code == 2 and f"{mine}/a.jsonl: does not exist on node" in said, said
        code, said = annotate(all_have / "a.jsonl", *fake, "--checkpoint", str(mine / "tuned"))
        assert code == 2 and f"{mine}/tuned: does not exist on node" in said, said
        assert not (tmp_path / "t").exists()
        assert annotate(all_have / "a.jsonl", *fake)[0] == 0
    finally:
        cluster.stop()
