"""How far a mention's score can be trusted: precision and recall at thresholds, per type.

    .venv/bin/python bench/scores.py ../shared/data/pubtator --limit 100

Annotates the raw text of PubTator test corpora and holds the mentions with a score of at least the
threshold against the gold ones, exact span and type. A corpus counts for the types that it
annotates: BC5CDR for chemicals and diseases, NLM-Gene for genes. JSON on the last line.
"""

import argparse
import gzip
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from deltalake import DeltaTable

from jobs.annotate import run
from schemas.configs.annotate import AnnotateConfig

CORPORA = {
    "BC5CDR_Test.PubTator.gz": {"Chemical": "chemical", "Disease": "disease"},
    "NLMgene_Test.PubTator.gz": {"Gene": "gene"},
}
THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
Mention = tuple[int, int, int]


def read_gold(file: Path, types: dict[str, str]) -> Iterator[tuple[dict[str, object], dict]]:  # type: ignore[type-arg]
    """Each document as a citation, and its gold mentions by our types."""
    with gzip.open(file, "rt", encoding="utf-8") as f:
        blocks = f.read().strip().split("\n\n")
    for block in blocks:
        title, abstract, *rest = block.strip("\n").split("\n")
        pmid, _, title = title.split("|", 2)
        gold = defaultdict(set)
        for fields in (line.split("\t") for line in rest):
            if fields[1].isdigit() and fields[4] in types:
                gold[types[fields[4]]].add((int(pmid), int(fields[1]), int(fields[2])))
        text = abstract.split("|", 2)[2]
        yield {"pmid": int(pmid), "title": title, "abstract": text}, gold


def main() -> None:
    """Annotate, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--limit", type=int, default=100, help="documents of each corpus")
    parser.add_argument("--checkpoint", default="nano")
    parser.add_argument("--backend", default="vllm")
    options = parser.parse_args()
    table = []
    for name, types in CORPORA.items():
        documents = list(read_gold(options.corpora / name, types))[: options.limit]
        gold: dict[str, set[Mention]] = defaultdict(set)
        for _, mentions in documents:
            for kind, spans in mentions.items():
                gold[kind] |= spans
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "gold.jsonl"
            source.write_text("".join(json.dumps(row) + "\n" for row, _ in documents))
            run(AnnotateConfig(
                sources=[str(source)], to=f"{folder}/t", backend=options.backend,
                checkpoint=options.checkpoint, entity_types=list(types.values()),
            ))  # fmt: skip
            rows = DeltaTable(f"{folder}/t/annotations").to_pyarrow_table().to_pylist()
        for kind in types.values():
            found = {
                (row["pmid"], m["start"], m["end"]): m["score"]
                for row in rows
                for m in row["mentions"]
                if m["entity_type"] == kind
            }
            for threshold in THRESHOLDS:
                kept = {m for m, score in found.items() if score >= threshold}
                right = len(kept & gold[kind])
                precision, recall = right / max(1, len(kept)), right / max(1, len(gold[kind]))
                table.append({
                    "corpus": name.split(".")[0], "type": kind, "score_at_least": threshold,
                    "mentions": len(kept), "precision": round(precision, 3),
                    "recall": round(recall, 3),
                })  # fmt: skip
    row_format = "{:<14} {:<9} {:>14} {:>9} {:>10} {:>7}"
    print(row_format.format(*table[0]))
    for row in table:
        print(row_format.format(*row.values()))
    print(json.dumps(table))


if __name__ == "__main__":
    main()
