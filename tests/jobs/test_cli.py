"""The command line: results, exit codes, and each row of the table of bad input."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import Result
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner

from jobs.cli import app

ROOT = Path(__file__).parents[2]
FAKE = ["--backend", "fake_backend:FakeBackend"]
GOOD = (
    "<PubmedArticle><MedlineCitation><PMID>{0}</PMID><Article><ArticleTitle>aspirin {0}"
    "</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
)
Writer = Callable[..., str]

pytestmark = pytest.mark.usefixtures("ray_session")


def pubmark(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def annotate(source: str | Path, to: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, what --json printed, and stderr."""
    result = pubmark("annotate", source, "--to", to, "--json", *FAKE, *options)
    return result.exit_code, json.loads(result.stdout or "{}"), result.stderr


def pmids(to: Path) -> list[int]:
    return sorted(DeltaTable(to / "annotations").to_pyarrow_table()["pmid"].to_pylist())


def write_xml(path: Path, records: list[str]) -> Path:
    text = f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def articles(*numbers: int) -> list[str]:
    return [GOOD.format(n) for n in numbers]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    folder = tmp_path_factory.mktemp("table")
    write_xml(folder / "a.xml", articles(1, 2, 3))
    assert annotate(folder / "a.xml", folder / "t")[0] == 0
    return folder / "t"


# Results


def test_json_is_the_only_thing_on_stdout(tmp_path: Path) -> None:
    code, result, _ = annotate(write_xml(tmp_path / "a.xml", articles(1, 2)), tmp_path / "t")
    assert code == 0
    assert list(result) == [
        "run_id", "read", "annotated", "settled", "empty", "partial", "failed", "deleted",
        "rejected", "damaged", "mentions", "unplaced", "seconds",
    ]  # fmt: skip
    assert (result["read"], result["annotated"], result["mentions"]) == (2, 2, 2)


def test_without_json_a_person_reads_it(tmp_path: Path) -> None:
    source = write_xml(tmp_path / "a.xml", articles(1))
    result = pubmark("annotate", source, "--to", tmp_path / "t", *FAKE)
    assert result.exit_code == 0
    assert "1 citations read, 0 settled before, 1 annotated" in result.stdout
    again = pubmark("annotate", source, "--to", tmp_path / "t", *FAKE)
    assert "1 settled before, 0 annotated" in again.stdout


def test_dry_run_says_what_it_would_cost(tmp_path: Path) -> None:
    source = write_xml(tmp_path / "a.xml", articles(1, 2))
    code, result, _ = annotate(source, tmp_path / "t", "--dry-run")
    assert code == 0
    assert (result["new"], result["settled"], result["empty"], result["prompts"]) == (2, 0, 0, 2)
    assert result["prompt_tokens"] > 0 and not (tmp_path / "t").exists()


def test_deletions_come_after_the_records_of_their_file(tmp_path: Path) -> None:
    annotate(write_xml(tmp_path / "a.xml", articles(1, 2, 3)), tmp_path / "t")
    block = "<DeleteCitation><PMID>1</PMID><PMID>2</PMID><PMID>77</PMID></DeleteCitation>"
    source = write_xml(tmp_path / "b.xml", [*articles(1), block])
    code, result, _ = annotate(source, tmp_path / "t")
    assert (code, result["deleted"], pmids(tmp_path / "t")) == (0, 2, [3])


def test_optimize_and_vacuum(tmp_path: Path) -> None:
    for numbers in ((1, 2), (5,), (3, 4)):
        annotate(write_xml(tmp_path / "a.xml", articles(*numbers)), tmp_path / "t")
    result = pubmark("optimize", "--to", tmp_path / "t")
    assert (result.exit_code, result.stdout) == (0, "3 files, now 1\n")
    assert pmids(tmp_path / "t") == [1, 2, 3, 4, 5]
    again = json.loads(pubmark("optimize", "--to", tmp_path / "t", "--json").stdout)
    assert again == {"files_before": 1, "files_after": 1, "removed": 0, "added": 0}
    counts = json.loads(pubmark("vacuum", "--to", tmp_path / "t", "--json").stdout)["files"]
    assert counts == dict.fromkeys(("annotations", "annotators", "runs", "files"), 0)
    assert pubmark("optimize", "--to", tmp_path / "no").exit_code == 2
    assert pubmark("vacuum", "--to", tmp_path / "no").exit_code == 2


def test_options_win_over_the_config_file(tmp_path: Path) -> None:
    source = write_xml(tmp_path / "a.xml", articles(1, 2, 3))
    config = tmp_path / "job.yaml"
    config.write_text(
        f"sources: ['{source}']\nto: {tmp_path / 't'}\nbackend: {FAKE[1]}\nlimit: 1\n"
    )
    result = pubmark("annotate", "--config", config, "--limit", "2", "--json")
    assert json.loads(result.stdout)["annotated"] == 2


def test_show_prints_the_mentions_in_place(table: Path) -> None:
    result = pubmark("show", "2", "--from", table)
    assert result.exit_code == 0 and "[aspirin chemical] 2" in result.stdout
    assert "PMID 2" in result.stdout
    shown = json.loads(pubmark("show", "2", "--from", table, "--json").stdout)
    assert (shown["pmid"], shown["text"], shown["status"]) == (2, "aspirin 2", "ok")


def test_show_of_a_pmid_that_is_not_there(table: Path) -> None:
    result = pubmark("show", "999", "--from", table)
    assert result.exit_code == 2 and "PMID 999" in result.stderr


def test_sql_sees_every_view(table: Path) -> None:
    query = (
        "SELECT (SELECT count(*) FROM annotations) AS a, (SELECT count(*) FROM runs) AS r, "
        "(SELECT count(*) FROM annotators) AS n, (SELECT count(*) FROM mentions) AS m"
    )
    result = pubmark("sql", query, "--from", table, "--format", "jsonl")
    assert json.loads(result.stdout)["a"] == 3 and json.loads(result.stdout)["r"] == 1


def test_sql_as_csv_and_as_a_table(table: Path) -> None:
    query = "SELECT pmid, text FROM annotations ORDER BY pmid LIMIT 1"
    assert pubmark("sql", query, "--from", table).stdout == "pmid,text\n1,aspirin 1\n"
    assert "│" in pubmark("sql", query, "--from", table, "--format", "table").stdout


def test_sql_as_csv_keeps_numbers_whole(table: Path) -> None:
    out = pubmark("sql", "SELECT 12345678.9::DOUBLE AS x, NULL AS y", "--from", table).stdout
    assert out == "x,y\n12345678.9,\n"


def test_sql_that_is_wrong(table: Path, tmp_path: Path) -> None:
    result = pubmark("sql", "SELECT nothing FROM nowhere", "--from", table)
    assert result.exit_code == 2 and "nowhere" in result.stderr
    assert pubmark("sql", "SELECT 1", "--from", tmp_path / "none").exit_code == 2


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, jobs.cli; from typer.testing import CliRunner;"
        "out = CliRunner().invoke(jobs.cli.app, ['--help']).stdout;"
        "assert all(c in out for c in ('annotate', 'show', 'sql')), out;"
        "heavy = {'ray', 'vllm', 'torch', 'pyarrow', 'deltalake', 'duckdb'} & set(sys.modules);"
        "assert heavy <= {'pyarrow'}, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Bad input: the table of the README, row by row


WHOLE = ("<PubmedArticleSet>" + "".join(articles(*range(1, 3000)))).encode()
ZIPPED = gzip.compress(WHOLE, 1)


@pytest.mark.parametrize(
    ("name", "content", "at_least", "said"),
    [
        ("not.xml", b"no angle brackets here", 0, "damaged at the start: broken XML"),
        ("broken.xml", WHOLE[:5000] + b"</Med>", 20, "damaged after record"),
        ("cut.xml.gz", ZIPPED[: len(ZIPPED) // 2], 1000, "damaged gzip"),
    ],
)
def test_what_is_good_before_the_damage_is_annotated(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    content: bytes,
    at_least: int,
    said: str,
) -> None:
    (tmp_path / name).write_bytes(content)
    code, result, _ = annotate(tmp_path / name, tmp_path / "t")
    assert (code, result["damaged"]) == (3, 1)
    (line,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert name in line and said in line
    assert result["annotated"] == result["read"] >= at_least
    if at_least:
        assert pmids(tmp_path / "t") == list(range(1, result["read"] + 1))


def test_a_record_without_a_usable_pmid_is_rejected_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    none = GOOD.format(5).replace("<PMID>5</PMID>", "")
    source = write_xml(tmp_path / "a.xml", [*articles(1), none, GOOD.format("x7"), *articles(4)])
    code, result, _ = annotate(source, tmp_path / "t")
    assert (code, result["rejected"], pmids(tmp_path / "t")) == (3, 2, [1, 4])
    lines = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "record 2: no PMID" in lines[0] and "record 3: PMID 'x7'" in lines[1]
    assert annotate(source, tmp_path / "t", "--strict")[0] == 1


@pytest.mark.parametrize("source", ["nowhere.xml", "no*such.xml", "gopher://host/a.xml"])
def test_a_source_that_cannot_be(tmp_path: Path, source: str) -> None:
    code, _, stderr = annotate(source, tmp_path / "t")
    assert code == 2 and source in stderr and not (tmp_path / "t").exists()


def test_no_citations_at_all(tmp_path: Path) -> None:
    code, _, stderr = annotate(write_xml(tmp_path / "a.xml", []), tmp_path / "t")
    assert code == 2 and "no citations in" in stderr and not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda d: shutil.rmtree(d), "does not exist"),
        (lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"), "pytorch_model.bin"),
        (lambda d: (d / "pubmark.json").unlink(), "no pubmark.json"),
        (lambda d: (d / "modeling_x.py").write_text("import os"), "remote code"),
        (
            lambda d: (d / "config.json").write_text(
                json.dumps(
                    json.loads((d / "config.json").read_text()) | {"auto_map": {"AutoModel": "x.y"}}
                )
            ),
            "remote code",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_served(
    tmp_path: Path, spoil: Callable[[Path], object], named: str
) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(ROOT / "checkpoints/nano", checkpoint)
    spoil(checkpoint)
    source = write_xml(tmp_path / "a.xml", articles(1))
    code, _, stderr = annotate(source, tmp_path / "t", "--checkpoint", str(checkpoint))
    assert code == 2 and named in stderr and "expected" in stderr.lower()
    assert not (tmp_path / "t").exists()


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    code, _, stderr = annotate(
        "nowhere.xml", tmp_path / "t", "--entity-types", "gene,virus", "--checkpoint", "nano"
    )
    assert code == 2 and "nowhere.xml" in stderr
    assert "unknown entity type virus; valid: disease, chemical, gene" in " ".join(stderr.split())
    config = tmp_path / "job.yaml"
    config.write_text("colour: red\nlimit: -1\nto: t\nsources: [a.xml]\n")
    result = pubmark("annotate", "--config", config)
    assert result.exit_code == 2 and "limit" in result.stderr
    assert "colour: unknown key; valid: sources, to, checkpoint" in " ".join(result.stderr.split())


def test_a_target_of_another_program_is_not_touched(tmp_path: Path) -> None:
    source = write_xml(tmp_path / "a.xml", articles(1))
    write_deltalake(tmp_path / "t/annotations", pa.table({"x": [1]}))
    code, _, stderr = annotate(source, tmp_path / "t")
    assert code == 2 and "table of another program" in " ".join(stderr.split())
    assert DeltaTable(tmp_path / "t/annotations").version() == 0
    code, _, stderr = annotate(source, tmp_path / "t/annotations")
    assert code == 2 and "is a Delta table itself" in " ".join(stderr.split())


def test_a_target_with_another_task_is_not_touched(table: Path, tmp_path: Path) -> None:
    source = write_xml(tmp_path / "a.xml", articles(1))
    before = DeltaTable(table / "annotations").version()
    code, _, stderr = annotate(source, table, "--entity-types", "gene")
    assert code == 2 and "--force" in stderr
    assert DeltaTable(table / "annotations").version() == before


def test_a_sentence_longer_than_the_context_is_split(tmp_path: Path) -> None:
    long = "aspirin with many more plain words between this one and the next one and " * 1000
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"pmid": 1, "title": long, "abstract": ""}))
    code, result, _ = annotate(path, tmp_path / "t", "--entity-types", "chemical")
    assert (code, result["mentions"], result["partial"]) == (0, 1000, 0)


# Interruption and death, of a process with a cluster of its own


def start(source: Path, to: Path, seconds: float) -> subprocess.Popen[str]:
    env = os.environ | {"PUBMARK_FAKE_SECONDS": str(seconds)}
    config = to.parent / "job.yaml"
    config.write_text("commit_every_seconds: 0.5\n")
    return subprocess.Popen(
        [sys.executable, "-c", "from jobs.cli import main; main()", "annotate", source,
         "--to", to, *FAKE, "--config", config],
        cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= {int(child)} | descendants(int(child))
    return found


# Two small processes of Ray's own, which end a minute after its head: they try for so long to tell
# it that it is dead (ray/_private/utils.py, publish_error_to_driver).
RAY_HELPERS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def running(pid: int) -> str | None:
    """The name of a process; None if it is gone or a zombie."""
    try:
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return None
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0] or None
    except (FileNotFoundError, ProcessLookupError):
        return None


def wait_for_commit(to: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not list((to / "annotations/_delta_log").glob("*1.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no commit within 240 s"
        time.sleep(0.1)


@pytest.mark.chaos
def test_what_ray_says_of_a_dead_engine_is_not_on_stdout(tmp_path: Path) -> None:
    fatal = GOOD.format(2).replace("aspirin", f"KILLS={tmp_path}/killed= aspirin")
    source = write_xml(tmp_path / "a.xml", [*articles(1), fatal])
    done = subprocess.run(
        [sys.executable, "-c", "from jobs.cli import main; main()", "annotate", source,
         "--to", tmp_path / "t", *FAKE, "--json"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert (tmp_path / "killed").exists() and json.loads(done.stdout)["annotated"] == 2


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_commits_what_is_finished_and_goes_on(
    tmp_path: Path, write_jsonl: Writer, number: signal.Signals
) -> None:
    source = Path(write_jsonl([(i, f"Aspirin {i}", "word " * 800) for i in range(1, 201)]))
    process = start(source, tmp_path / "t", seconds=1.0)
    wait_for_commit(tmp_path / "t", process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 130, stderr
    done = pmids(tmp_path / "t")
    assert 0 < len(done) < 200 and f"{len(done)} annotated" in stdout
    runs = DeltaTable(tmp_path / "t/runs").to_pyarrow_table().to_pylist()
    assert [r["outcome"] for r in runs] == ["interrupted"]
    if number == signal.SIGTERM:  # the table is as after SIGINT
        return
    code, result, _ = annotate(source, tmp_path / "t")
    assert (code, result["settled"], result["annotated"]) == (0, len(done), 200 - len(done))
    assert pmids(tmp_path / "t") == list(range(1, 201))


@pytest.mark.chaos
def test_a_killed_driver_leaves_no_process_and_no_half_batch(
    tmp_path: Path, write_jsonl: Writer
) -> None:
    source = Path(write_jsonl([(i, f"Aspirin {i}", "word " * 800) for i in range(1, 201)]))
    process = start(source, tmp_path / "t", seconds=1.0)
    wait_for_commit(tmp_path / "t", process)
    ours = descendants(process.pid)
    assert len(ours) > 3
    process.kill()
    process.communicate(timeout=120)
    deadline = time.monotonic() + 120
    while alive := {name for p in ours if (name := running(p)) and name not in RAY_HELPERS}:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(0.5)
    done = pmids(tmp_path / "t")
    assert 0 < len(done) < 200
    code, result, _ = annotate(source, tmp_path / "t")
    assert (code, result["settled"]) == (0, len(done))
    assert pmids(tmp_path / "t") == list(range(1, 201))
