"""How fast PubMed XML is read, and in how much memory.

    .venv/bin/python bench/reading.py [--records FOLDER] [--citations 30000 60000] [--runs 1]

Builds files of that many citations from real records under new PMIDs, reads each in a fresh process
by both passes (scan_shard, read_citations), and prints a table; the last line is the same as JSON.
30,000 citations make a baseline file. The peak (ru_maxrss) counts the whole process with its
libraries: it must stay under the limit, and must not grow with the file.
"""

import argparse
import gzip
import itertools
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_MB = 400  # what reading may take beside an engine on a small machine
_ARTICLE = re.compile(rb"<PubmedArticle>.*?</PubmedArticle>", re.DOTALL)
_COLUMNS = (
    "step", "citations", "plain_mb", "gzip_mb", "seconds", "citations_per_s", "plain_mb_per_s",
    "peak_mb", "of_limit",
)  # fmt: skip
_WIDTHS = "{:<14} {:>9} {:>8} {:>7} {:>7} {:>15} {:>14} {:>7} {:>8}"
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


def measure(step: str, path: str) -> dict[str, float]:
    """Read one file by one pass, in this process."""
    import resource

    from engine.sources.read import read_citations, scan_shard
    from engine.sources.shards import find_shards

    [shard] = find_shards([path])
    start = time.perf_counter()
    if step == "scan_shard":
        [row] = scan_shard(shard, 0).to_pylist()
        rows = len(row["pmid"]) if row["damage"] is None else 0
    else:
        rows = sum(batch.num_rows for batch in read_citations(shard))
    seconds = time.perf_counter() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {"rows": rows, "seconds": seconds, "peak_mb": peak_mb}


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT.parent / "shared/data/pubmed-xml"
    parser.add_argument("--records", type=Path, default=default, help="folder of PubMed XML")
    parser.add_argument("--citations", type=int, nargs="+", default=[30_000, 60_000])
    parser.add_argument("--runs", type=int, default=1, help="of each; the fastest counts")
    parser.add_argument("--measure", nargs=2, metavar=("STEP", "FILE"), help=argparse.SUPPRESS)
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
        for citations in arguments.citations:
            path = Path(folder) / f"{citations}.xml.gz"
            plain_mb = build(records, citations, path)
            for step in ("scan_shard", "read_citations"):
                command = [sys.executable, __file__, "--measure", step, str(path)]
                runs = [
                    json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                    for _ in range(arguments.runs)
                ]
                if any(run["rows"] != citations for run in runs):
                    sys.exit(f"{step} read {runs[0]['rows']} citations, expected {citations}")
                seconds = min(run["seconds"] for run in runs)
                peak_mb = max(run["peak_mb"] for run in runs)
                result = {
                    "step": step,
                    "citations": citations,
                    "plain_mb": round(plain_mb, 1),
                    "gzip_mb": round(path.stat().st_size / 1e6, 1),
                    "seconds": round(seconds, 2),
                    "citations_per_s": round(citations / seconds),
                    "plain_mb_per_s": round(plain_mb / seconds, 1),
                    "peak_mb": round(peak_mb, 1),
                    "of_limit": round(peak_mb / LIMIT_MB, 2),
                }
                results.append(result)
                print(_WIDTHS.format(*(result[column] for column in _COLUMNS)))
    print(json.dumps({"limit_mb": LIMIT_MB, "results": results}))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
