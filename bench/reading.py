"""How fast PubMed XML is read, and in how much memory.

    .venv/bin/python bench/reading.py [--records FOLDER] [--citations 30000 60000] [--runs 3]
        [--peer-python PYTHON]

Builds files of that many citations from real records under new PMIDs, reads each in a fresh process
by both passes (scan_shard, read_citations), and prints a table; the last line is the same as JSON.
30,000 citations make a baseline file. The peak (ru_maxrss) counts the whole process with its
libraries: it must stay under the limit, and must not grow with the file.

With --peer-python, a Python that can import pubmed_parser, that reads the same file (its
parse_medline_xml, all records) in turn with ours: medians, and how many times as fast we are. Run
both on one core, say under ``taskset -c 1``; the CPU time (cpu_s) tells whether it was shared. Each
process reads one citation before the clock starts, so that loading libraries does not count.
"""

import argparse
import gzip
import itertools
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_MB = 400  # what reading may take beside an engine on a small machine
_ARTICLE = re.compile(rb"<PubmedArticle>.*?</PubmedArticle>", re.DOTALL)
_COLUMNS = (
    "step", "citations", "plain_mb", "gzip_mb", "seconds", "cpu_s", "citations_per_s",
    "plain_mb_per_s", "peak_mb", "of_limit",
)  # fmt: skip
_WIDTHS = "{:<14} {:>9} {:>8} {:>7} {:>7} {:>7} {:>15} {:>14} {:>7} {:>8}"
_PEER = """
import json, sys, time
import pubmed_parser
sum(1 for _ in pubmed_parser.parse_medline_xml(sys.argv[2]))
start, cpu = time.perf_counter(), time.process_time()
rows = sum(1 for _ in pubmed_parser.parse_medline_xml(sys.argv[1]))
seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
print(json.dumps({"rows": rows, "seconds": seconds, "cpu_s": cpu_s}))
"""
_PMID = re.compile(rb"(<PMID[^>]*>)\d+")  # the first one is the record's own


def build(records: list[bytes], citations: int, path: Path) -> float:
    """Write ``records`` over and over, under the PMIDs 1, 2, …; returns the plain size in MB."""
    size = 0
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(b'<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n')
        for pmid, record in enumerate(itertools.islice(itertools.cycle(records), citations), 1):
            size += file.write(_PMID.sub(rb"\g<1>%d" % pmid, record, count=1) + b"\n")
        file.write(b"</PubmedArticleSet>\n")
    return size / 1e6


def real_records(folder: Path) -> list[bytes]:
    """The articles of all files under ``folder``, shuffled by a fixed seed."""
    records = []
    for path in sorted(folder.rglob("*.xml*")):
        data = path.read_bytes()
        records += _ARTICLE.findall(gzip.decompress(data) if path.suffix == ".gz" else data)
    random.Random(0).shuffle(records)
    return records


def measure(step: str, path: str, warm_up: str) -> dict[str, float]:
    """Read one file by one pass, in this process, after ``warm_up``."""
    import resource

    from engine.sources.read import read_citations, scan_shard
    from engine.sources.shards import find_shards

    [shard], [small] = find_shards([path]), find_shards([warm_up])
    scan_shard(small, 0)
    list(read_citations(small))
    start, cpu = time.perf_counter(), time.process_time()
    if step == "scan_shard":
        [row] = scan_shard(shard, 0).to_pylist()
        rows = len(row["pmid"]) if row["damage"] is None else 0
    else:
        rows = sum(batch.num_rows for batch in read_citations(shard))
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"rows": rows, "seconds": seconds, "cpu_s": cpu_s, "peak_mb": peak_mb}


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT.parent / "shared/data/pubmed-xml"
    parser.add_argument("--records", type=Path, default=default, help="folder of PubMed XML")
    parser.add_argument("--citations", type=int, nargs="+", default=[30_000, 60_000])
    parser.add_argument("--runs", type=int, default=3, help="of each; the median counts")
    parser.add_argument("--peer-python", help="a Python that can import pubmed_parser")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # step, file, small file
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return
    records = real_records(arguments.records)
    if not records:
        sys.exit(f"no <PubmedArticle> in files under {arguments.records}")

    print(_WIDTHS.format(*_COLUMNS))
    results = []
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.xml.gz"
        build(records, 1, small)
        for citations in arguments.citations:
            path = Path(folder) / f"{citations}.xml.gz"
            plain_mb = build(records, citations, path)
            files = [str(path), str(small)]
            commands = {
                step: [sys.executable, __file__, "--measure", step, *files]
                for step in ("scan_shard", "read_citations")
            }
            if arguments.peer_python:
                commands["pubmed_parser"] = [arguments.peer_python, "-c", _PEER, *files]
            runs: dict[str, list[dict[str, float]]] = {step: [] for step in commands}
            for _ in range(arguments.runs):
                for step, command in commands.items():
                    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
                    runs[step].append(json.loads(output))
            for step, measured in runs.items():
                if any(run["rows"] != citations for run in measured):
                    sys.exit(f"{step} read {measured[0]['rows']} citations, expected {citations}")
                seconds = statistics.median(run["seconds"] for run in measured)
                peak_mb = max(run.get("peak_mb", 0) for run in measured)
                result = {
                    "step": step,
                    "citations": citations,
                    "plain_mb": round(plain_mb, 1),
                    "gzip_mb": round(path.stat().st_size / 1e6, 1),
                    "seconds": round(seconds, 2),
                    "cpu_s": round(statistics.median(run["cpu_s"] for run in measured), 2),
                    "citations_per_s": round(citations / seconds),
                    "plain_mb_per_s": round(plain_mb / seconds, 1),
                    "peak_mb": round(peak_mb, 1) or None,
                    "of_limit": round(peak_mb / LIMIT_MB, 2) or None,
                }
                results.append(result)
                print(_WIDTHS.format(*(str(result[column] or "") for column in _COLUMNS)))
            if arguments.peer_python:
                ours, theirs = results[-2], results[-1]
                ours["times_peer"] = round(theirs["seconds"] / ours["seconds"], 2)
                ours["times_peer_cpu"] = round(theirs["cpu_s"] / ours["cpu_s"], 2)
                print(
                    f"read_citations is {ours['times_peer']} times as fast as pubmed_parser "
                    f"({ours['times_peer_cpu']} times by CPU time)"
                )
    print(json.dumps({"limit_mb": LIMIT_MB, "results": results}))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
