"""Kill annotate at random instants again and again, and hold the table against an undisturbed one.

    python tests/chaos/kills.py --kills 50 --seeds 5
    python tests/chaos/kills.py --kills 10 --seeds 1 --backend vllm --source jobs/sample
    python tests/chaos/kills.py --kills 100 --seeds 5 --seconds 0.05 --without-ray

Killed, by SIGKILL, are the driver alone, an engine actor, another worker of Ray's, and the whole
tree. A killed run is run again by the same command; a table that is done makes place for a fresh
one, until all kills are spent. A table starts with older texts of a part of the citations, so that
rows are new, replaced, patched and removed. Then:

- the table equals the undisturbed one, row for row, but for run ids and times (with a real engine:
  the same PMIDs, texts and statuses, and mentions as near as those of two undisturbed runs);
- in no version of it does a PMID stand twice, and in no two was the same text of one annotated;
- no completion is made again that was committed when its run began.

Prints a line per kill, and JSON on the last line; exit code 1 if anything is amiss.
"""

import argparse
import gzip
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deltalake import DeltaTable

ROOT = Path(__file__).parents[2]
COUNTING = "counting_backend:CountingBackend"
KINDS = ("driver", "engine", "worker", "tree")
_ENGINES = ("ray::MapWorker(MapBatches(EngineActor))", "VLLM::")
# Parts of Ray's node, which dies with them, and the driver with it, without a word.
_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
_WITH_RAY = ("-c", "from jobs.cli import main; main()")
_WITHOUT_RAY = (str(ROOT / "tests/chaos/without_ray.py"),)
_AT_START = 0.25  # of the kills: at any instant from the start; the others after a commit

Key = tuple[int, int]  # PMID, revision of its text


# Processes


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    with suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(p for child in children for p in tree(int(child)))]
    return []


def title(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    return ""


def born(pid: int) -> str | None:
    """When a process began: tells it from a later process that has the same number."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    return None


def end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def victims(driver: int, kind: str) -> list[int]:
    """The processes that a kill of this kind may hit: one of them is killed, or all of a tree."""
    pids = tree(driver)
    if kind == "driver":
        return [driver]
    if kind == "tree":
        return pids
    engines = [p for p in pids if title(p).startswith(_ENGINES)]
    if kind == "engine":
        return engines
    others = (*_ENGINES, *_AGENTS)
    return [p for p in pids if title(p).startswith("ray::") and not title(p).startswith(others)]


# Citations


def write_source(folder: Path, citations: int) -> tuple[list[Path], list[Path]]:
    """Write files of invented records; returns those that a table starts with, and all files.

    The later files give a third of the first records another text, a third other metadata, and
    delete some.
    """
    old = citations // 4
    before = [_write(folder, 1, [_record(p, 0, "Journal") for p in range(1, old + 1)])]
    later: list[str] = []
    for pmid in range(1, old + 1):
        if pmid % 3 < 2:
            later.append(_record(pmid, 1 - pmid % 3, "Other journal"))
    later += [_record(p, 0, "Journal") for p in range(old + 1, citations + 1)]
    random.Random(0).shuffle(later)
    deleted = "".join(f"<PMID>{p}</PMID>" for p in range(2, old + 1, 24))
    files = [_write(folder, n + 2, later[n::3]) for n in range(3)]
    files.append(_write(folder, 5, [f"<DeleteCitation>{deleted}</DeleteCitation>"]))
    return before, before + files


def _record(pmid: int, revision: int, journal: str) -> str:
    named = f"case {pmid}r{revision}"
    more = " ".join(f"Visit {n} of {named} was about diabetes." for n in range(pmid % 3))
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="1">{pmid}</PMID><Article><Journal><Title>'
        f"{journal}</Title></Journal><ArticleTitle>Aspirin in {named}, with cancer and BRCA1 &amp; "
        f"CO<sub>2</sub>.</ArticleTitle><Abstract><AbstractText>Of {named} nothing more is known "
        f"than arthritis and TP53. {more}</AbstractText></Abstract></Article></MedlineCitation>"
        "</PubmedArticle>"
    )


def _write(folder: Path, number: int, records: list[str]) -> Path:
    path = folder / f"pubmed26n{number:04}.xml.gz"
    text = f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>"
    path.write_bytes(gzip.compress(text.encode(), 1))
    return path


# Tables


def rows(target: Path, version: int | None = None) -> dict[int, dict[str, Any]]:
    """What a table holds, by PMID."""
    found = DeltaTable(target / "annotations", version=version).to_pyarrow_table().to_pylist()
    by_pmid = {row["pmid"]: row for row in found}
    if len(by_pmid) != len(found):
        raise AssertionError(f"{target}, version {version}: a PMID stands twice")
    return by_pmid


def held(target: Path) -> set[Key]:
    """The texts that a table holds, of records that :func:`write_source` made."""
    if not (target / "annotations/_delta_log").exists():
        return set()
    return {
        (int(m[1]), int(m[2]))
        for row in rows(target).values()
        if (m := re.search(r"case (\d+)r(\d+)", row["text"]))
    }


def commits(target: Path) -> int:
    return len(list((target / "annotations/_delta_log").glob("*.json")))


def committed_twice(target: Path) -> list[int]:
    """The PMIDs whose very same text was annotated twice, in two versions of a table."""
    times: dict[tuple[int, bytes, str], set[Any]] = {}
    newest = DeltaTable(target / "annotations").version()
    for version in range(newest + 1):
        for pmid, row in rows(target, version).items():
            key = (pmid, row["text_digest"], row["annotator"])
            times.setdefault(key, set()).add((row["run_id"], row["annotated_at"]))
    return sorted({pmid for (pmid, _, _), found in times.items() if len(found) > 1})


def orphans(target: Path) -> int:
    """Files beside the table that no version of it has."""
    table = DeltaTable(target / "annotations")
    known: set[str] = set()
    for version in range(table.version() + 1):
        known |= set(DeltaTable(target / "annotations", version=version).file_uris())
    return len([p for p in (target / "annotations").glob("*.parquet") if str(p) not in known])


def comparable(row: dict[str, Any], real: bool) -> dict[str, Any]:
    left_out = {"run_id", "annotated_at"} | ({"mentions"} if real else set())
    return {k: v for k, v in row.items() if k not in left_out}


def mentions(found: dict[int, dict[str, Any]]) -> set[tuple[int, int, int, str]]:
    return {
        (pmid, m["start"], m["end"], m["entity_type"])
        for pmid, row in found.items()
        for m in row["mentions"]
    }


# Runs


@dataclass
class Chaos:
    """What is to be done, and what came of it."""

    folder: Path
    sources: list[Path]
    backend: str
    seconds: float
    start: Path | None = None
    ray: bool = True
    kills: Counter[str] = field(default_factory=Counter)
    figures: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _left: list[tuple[int, str | None]] = field(default_factory=list)

    @property
    def real(self) -> bool:
        return self.backend != COUNTING

    def annotate(self, target: Path, sources: list[Path], count: Path) -> subprocess.Popen[str]:
        """Start a run. Its stderr and the lines of its completions go to the folder ``count``."""
        count.mkdir()
        config = self.folder / "job.yaml"
        config.write_text("commit_every_seconds: 1\n")
        path = [str(ROOT), str(ROOT / "tests/support"), str(ROOT / "tests/chaos")]
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join(path),
            "PUBMARK_FAKE_SECONDS": str(self.seconds),
            "PUBMARK_CHAOS_COUNT": str(count),
        }
        with (count / "stderr").open("w") as stderr:
            return subprocess.Popen(
                [sys.executable, *(_WITH_RAY if self.ray else _WITHOUT_RAY), "annotate",
                 *map(str, sources), "--to", str(target), "--backend", self.backend,
                 "--config", str(config)],
                cwd=self.folder, env=env, stdout=subprocess.DEVNULL, stderr=stderr, text=True,
                start_new_session=True,
            )  # fmt: skip

    def undisturbed(self, name: str, sources: list[Path] | None = None) -> Path:
        """A table made by one run that was not killed."""
        target = self.fresh(name)
        # On a machine that is loaded enough, Ray does not start within its 30 s.
        for attempt in range(10):
            count = self.folder / f"{name}.{attempt}"
            if self.annotate(target, sources or self.sources, count).wait() == 0:
                return target
        raise SystemExit(f"an undisturbed run failed:\n{(count / 'stderr').read_text()}")

    def live(self, seed: int, count: int, expected: Path, second: Path | None) -> None:
        """Kill ``count`` times, then go on undisturbed, and compare."""
        chances = random.Random(seed)
        plan = [chances.choice(KINDS if self.ray else KINDS[:1]) for _ in range(count)]
        number = 0
        while True:
            number += 1
            target = self.fresh(f"seed{seed}-{number}")
            made: set[tuple[int, int, int]] = set()
            for run in range(10 * count + 10):
                done = self._run(target, run, plan, chances, made)
                if done:
                    break
            else:
                self.wrong.append(f"{target.name}: not done after {run + 1} runs")
            self._check(target, expected, second)
            if not plan:
                break
        self._sweep()

    def fresh(self, name: str) -> Path:
        """A target for a table, in the state before any run: empty, or with the older texts."""
        target = self.folder / name
        if self.start is not None:
            shutil.copytree(self.start, target)
        return target

    def _run(
        self,
        target: Path,
        number: int,
        plan: list[str],
        chances: random.Random,
        made: set[tuple[int, int, int]],
    ) -> bool:
        """One run, killed by the next kills of ``plan``. Returns whether it ended by itself."""
        before = held(target) if not self.real else set()
        first = commits(target)
        count = self.folder / f"{target.name}.{number}"
        process = self.annotate(target, self.sources, count)
        self.figures["runs"] += 1
        inside: Counter[str] = Counter()
        while plan and process.poll() is None:
            if not self._wait(process, target, first, plan[0], chances):
                break
            kind = plan[0]
            found = victims(process.pid, kind)
            if not found or process.poll() is not None:
                continue
            plan.pop(0)
            self.kills[kind] += 1
            inside[kind] += 1
            family = [(p, born(p)) for p in tree(process.pid)]
            for pid in found if kind == "tree" else [chances.choice(found)]:
                end(pid)
            if kind in ("driver", "tree"):
                self._left += family
                process.wait()
            print(
                f"{target.name}, run {number}: killed {kind} after {commits(target) - first} "
                f"commits ({self.kills.total()} kills)", flush=True,
            )  # fmt: skip
        code = process.wait()
        if code != -signal.SIGKILL:
            said = (count / "stderr").read_text()
            self.figures[f"exit_{code}"] += 1
            if "Traceback" in said:
                self.wrong.append(f"{target.name}, run {number}: traceback\n{said[-3000:]}")
            if code not in (0, 1):
                self.wrong.append(f"{target.name}, run {number}: exit code {code}\n{said[-2000:]}")
            if code == 1:
                self.figures["exit_1_without_a_word"] += "pubmark: " not in said
                print(f"  failed: {said.strip()[-300:]}", flush=True)
        if not self.real:
            self._count(target, count, before, made, inside)
        return code == 0

    def _wait(
        self,
        process: subprocess.Popen[str],
        target: Path,
        first: int,
        kind: str,
        chances: random.Random,
    ) -> bool:
        """Wait for the instant of the next kill. Returns False if the run ends before."""
        delay = chances.uniform(0, 12 if self.ray else 4)
        if chances.random() > _AT_START:
            delay = chances.uniform(0, 5 if self.ray else 2)
            while commits(target) < first + 1:
                if process.poll() is not None:
                    return False
                time.sleep(0.05)
        deadline = time.monotonic() + delay
        while time.monotonic() < deadline or not victims(process.pid, kind):
            if process.poll() is not None:
                return False
            time.sleep(0.05)
        return True

    def _count(
        self,
        target: Path,
        count: Path,
        before: set[Key],
        made: set[tuple[int, int, int]],
        inside: Counter[str],
    ) -> None:
        lines = [
            tuple(map(int, line.split()))
            for path in count.iterdir()
            if path.name != "stderr"
            for line in path.read_text().splitlines()
        ]
        prompts = {(p, r, c) for p, r, c in lines}
        after = held(target)
        self.figures["completions"] += len(lines)
        self.figures["repeated_after_a_run_was_killed"] += len(prompts & made)
        self.figures["repeated_within_a_run"] += len(lines) - len(prompts)
        self.figures["uncommitted_when_killed"] += len(
            {(p, r, c) for p, r, c in prompts if (p, r) not in after}
        )
        if again := {(p, r) for p, r, _ in prompts} & before:
            self.wrong.append(f"{target.name}: {len(again)} committed texts were asked again")
        # An engine's death costs the tasks that it had, up to six, of a block of some 32 citations
        # of 2 to 4 prompts each.
        if (twice := len(lines) - len(prompts)) > 768 * (inside["engine"] + inside["worker"]):
            self.wrong.append(f"{target.name}: {twice} prompts twice in one run, {dict(inside)}")
        made |= prompts

    def _check(self, target: Path, expected: Path, second: Path | None) -> None:
        self.figures["tables"] += 1
        self.figures["versions"] += DeltaTable(target / "annotations").version() + 1
        self.figures["orphans_left"] += orphans(target)
        want, found = rows(expected), rows(target)
        same = want.keys() == found.keys() and all(
            comparable(want[p], self.real) == comparable(found[p], self.real) for p in want
        )
        if not same:
            differ = [
                p
                for p in want.keys() | found.keys()
                if not (p in want and p in found)
                or comparable(want[p], self.real) != comparable(found[p], self.real)
            ]
            self.wrong.append(f"{target.name}: {len(differ)} rows differ, e.g. {differ[:5]}")
        if twice := committed_twice(target):
            self.wrong.append(f"{target.name}: committed twice: {twice[:5]}")
        if second is not None:
            undisturbed = mentions(want)
            self.figures["mentions"] = len(undisturbed)
            noise = len(undisturbed ^ mentions(rows(second)))
            self.figures["mentions_differ_undisturbed_twice"] = noise
            self.figures["mentions_differ_killed"] += len(undisturbed ^ mentions(found))

    def _sweep(self) -> None:
        """End what is left of killed runs: Ray's helpers take a minute to see that it is over."""
        for pid, start in self._left:
            if start is not None and born(pid) == start:
                end(pid)
        self._left.clear()


def chaos(
    folder: Path,
    kills: int,
    seeds: list[int],
    citations: int = 1030,
    seconds: float = 0.8,
    backend: str = COUNTING,
    source: Path | None = None,
    from_older: bool = True,
    ray: bool = True,
) -> dict[str, Any]:
    """Run everything, in ``folder``. Returns the figures; ``wrong`` is empty if all is well."""
    if source is None:
        folder.joinpath("source").mkdir()
        before, sources = write_source(folder / "source", citations)
    else:
        before, sources, from_older = [], [source.resolve()], False
    made = Chaos(folder, sources, backend, 0.0, ray=ray)
    made.ray = ray and made.real  # what is undisturbed is the same in one process, and sooner there
    if from_older:
        made.start = made.undisturbed("start", before)
    expected = made.undisturbed("undisturbed")
    second = made.undisturbed("again") if made.real else None
    made.seconds, made.ray = seconds, ray
    for seed, count in zip(seeds, _split(kills, len(seeds)), strict=True):
        made.live(seed, count, expected, second)
    figures: dict[str, Any] = {"citations": len(rows(expected)), "kills": dict(made.kills)}
    return figures | dict(sorted(made.figures.items())) | {"wrong": made.wrong}


def _split(total: int, parts: int) -> Iterator[int]:
    for i in range(parts):
        yield total // parts + (i < total % parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=5, help="How many.")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--citations", type=int, default=1030)
    parser.add_argument("--seconds", type=float, default=0.8, help="Of a prompt, if faked.")
    parser.add_argument("--backend", default=COUNTING)
    parser.add_argument("--without-ray", action="store_true", help="Kill the driver, all it is.")
    parser.add_argument("--source", type=Path, help="Real citations, for a real engine.")
    options = parser.parse_args()
    seeds = list(range(options.first_seed, options.first_seed + options.seeds))
    with tempfile.TemporaryDirectory() as folder:
        figures = chaos(
            Path(folder), options.kills, seeds, options.citations, options.seconds,
            options.backend, options.source, ray=not options.without_ray,
        )  # fmt: skip
    for line in figures["wrong"]:
        print(line)
    print(json.dumps(figures))
    sys.exit(bool(figures["wrong"]))


if __name__ == "__main__":
    main()
