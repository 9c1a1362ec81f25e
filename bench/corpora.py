"""What docs/corpora.md says of the corpora, measured: ``python -m bench.corpora ../shared/data``.

How the published lines count the mentions of the documents that they were taken from, by the
corpus's own types; what BioRED makes of the mentions of documents that it shares with another
corpus; and what each train split shares with a test split.
"""

import argparse
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.corpora.formats.read import read_corpus
from engine.corpora.formats.texts import AnnotatedText
from engine.corpora.leaks import HeldOut, remove_leaks, split_words
from engine.corpora.provenance import find_documents
from engine.corpora.types import CORPUS_TYPES, OwnType
from jobs.corpus import run
from schemas.configs.corpus import CorpusImportConfig
from schemas.configs.load import load_config
from schemas.spans import TypedSpan

CONFIG = Path(__file__).parents[1] / "jobs/configs/corpora.yaml"

LINES = [
    ("BC5CDR-disease_train.txt", "BC5CDR_TrainDev", "BC5CDR"),
    ("BC5CDR-disease_test.txt", "BC5CDR_Test", "BC5CDR"),
    ("BC5CDR-chemical_train.txt", "BC5CDR_TrainDev", "BC5CDR"),
    ("BC5CDR-chemical_test.txt", "BC5CDR_Test", "BC5CDR"),
    ("NCBI-disease_train.txt", "NCBIdisease_TrainDev", "NCBI-disease"),
    ("NCBI-disease_test.txt", "NCBIdisease_Test", "NCBI-disease"),
    ("NLMGene_train.txt", "NLMgene_Train", "NLMGene"),
    ("NLMGene_test.txt", "NLMgene_Test", "NLMGene"),
    ("NLMChem_test.txt", "NLMchem_Test", "NLMChem"),
]
SHARED = [
    ("BC5CDR", ["BC5CDR_TrainDev", "BC5CDR_Test"]),
    ("NCBI-disease", ["NCBIdisease_TrainDev", "NCBIdisease_Test"]),
    ("NLMGene", ["NLMgene_Train", "NLMgene_Test"]),
    ("GNormPlus", ["GNormPlus_Train", "GNormPlus_Test"]),
]
BIORED = ["BioRED_TrainDev", "BioRED_Test"]


def read(data: Path, *names: str) -> list[AnnotatedText]:
    files = [str(data / "pubtator" / f"{name}.PubTator.gz") for name in names]
    return [
        i for f in files for i in read_corpus(f, "pubtator", False) if isinstance(i, AnnotatedText)
    ]


def in_words(text: str, mention: TypedSpan) -> tuple[int, int]:
    """How many words begin before a mention's start, and before its end."""
    return len(split_words(text[: mention.start])), len(split_words(text[: mention.end]))


def compare_lines(
    lines: list[AnnotatedText], documents: list[AnnotatedText]
) -> tuple[Counter, Counter]:
    """By own type, mentions of the documents that the lines mark and that they do not, and by
    whether a line has nested marks, lines whose marks are the document's and others."""
    by_pmid: dict[int, list[AnnotatedText]] = defaultdict(list)
    for d in documents:
        by_pmid[d.pmid or 0].append(d)
    words = {id(d): split_words(d.text) for d in documents}
    mentions = {
        id(d): [(in_words(d.text, m), m.entity_type) for m in d.mentions] for d in documents
    }
    found = find_documents([li.text for li in lines], [(d.pmid or 0, d.text) for d in documents])
    types: Counter = Counter()
    kinds: Counter = Counter()
    for line, pmids in zip(lines, found, strict=True):
        inside = split_words(line.text)
        if any(f.fatal for f in line.faults) or len(pmids) != 1 or len(inside) < 4:
            continue
        places = [
            (d, i)
            for d in by_pmid[min(pmids)]
            for i in range(len(words[id(d)]) - len(inside) + 1)
            if words[id(d)][i : i + len(inside)] == inside
        ]
        if len(places) != 1:
            continue
        document, at = places[0]
        marked = {tuple(at + n for n in in_words(line.text, m)) for m in line.mentions}
        gold: dict[tuple[int, int], str] = {
            span: kind for span, kind in mentions[id(document)] if at <= span[0] < at + len(inside)
        }
        types.update((kind, span in marked) for span, kind in gold.items())
        nested = any(f.reason == "nested marks" for f in line.faults)
        kinds[nested, marked <= set(gold)] += 1
    return types, kinds


def report_lines(data: Path) -> None:
    by_corpus: dict[str, Counter] = defaultdict(Counter)
    nested: Counter = Counter()
    for name, documents, corpus in LINES:
        file = str(data / "bioner-llama" / name)
        lines = [i for i in read_corpus(file, "mark", False) if isinstance(i, AnnotatedText)]
        types, kinds = compare_lines(lines, read(data, documents))
        # The two files of BC5CDR mark one type each.
        own = [t for t in ("disease", "chemical") if f"-{t}_" in name and corpus == "BC5CDR"]
        by_corpus[corpus] += Counter(
            {k: n for k, n in types.items() if not own or k[0].lower() in own}
        )
        if corpus in ("BC5CDR", "NCBI-disease"):
            nested += kinds
    print("| corpus | own type | ours | marked by the published lines | of |")
    print("|---|---|---|---|---|")
    for corpus, types in by_corpus.items():
        for own, kind in CORPUS_TYPES[corpus].items():
            count = types[own, True]
            print(f"| {corpus} | {own} | {kind.ours or '-'} | {count:,} | "
                  f"{count + types[own, False]:,} |")  # fmt: skip
    print("\n| BC5CDR, NCBI-disease | all marks are the document's | some are not |\n|---|---|---|")
    for name, key in (("lines with nested marks", True), ("other lines", False)):
        print(f"| {name} | {nested[key, True]:,} | {nested[key, False]:,} |")


def report_shared(data: Path) -> None:
    biored = {d.pmid: d for d in read(data, *BIORED)}
    print("| corpus | documents shared | own type | mentions | in BioRED: the same, as | other |")
    print("|---|---|---|---|---|---|")
    for corpus, names in SHARED:
        documents = [d for d in read(data, *names) if d.pmid in biored]
        same: dict[str, Counter] = defaultdict(Counter)
        total: Counter = Counter()
        for d in documents:
            theirs = {m.span: m.entity_type for m in biored[d.pmid].mentions}
            for m in d.mentions:
                total[m.entity_type] += 1
                if m.span in theirs:
                    same[m.entity_type][theirs[m.span]] += 1
        for own in CORPUS_TYPES[corpus]:
            by_type = ", ".join(f"{kind} {n:,}" for kind, n in same[own].most_common())
            rest = total[own] - same[own].total()
            print(
                f"| {corpus} | {len(documents)} | {own} | {total[own]:,} | {by_type} | {rest:,} |"
            )


def report_leaks(data: Path) -> None:
    with tempfile.TemporaryDirectory() as to:
        settings = load_config(CorpusImportConfig, str(CONFIG), {"root": str(data), "to": to})
        names = [(i.corpus, i.unit, i.paths[0]) for i in run(settings).imported]
        tables = [(corpus, unit, pq.read_table(path)) for corpus, unit, path in names]
    everything = pa.concat_tables(table for _, _, table in tables)
    test = HeldOut.from_examples(everything.filter(pc.equal(everything["split"], "test")))
    dev = HeldOut.from_examples(everything.filter(pc.equal(everything["split"], "dev")))
    print("| corpus | unit | train | with a test: PMID | sentence | 13 words | left | with a dev |")
    print("|---|---|---|---|---|---|---|---|")
    for corpus, unit, table in tables:
        train = table.filter(pc.equal(table["split"], "train"))
        kept, leaks = remove_leaks(train, test)
        _, with_dev = remove_leaks(kept, dev)
        if len(train):
            row = [len(train), leaks["pmid"], leaks["sentence"], leaks["run"], len(kept),
                   with_dev.total()]  # fmt: skip
            print(f"| {corpus} | {unit} | " + " | ".join(f"{n:,}" for n in row) + " |")


def types_table(types: dict[str, dict[str, OwnType]] = CORPUS_TYPES) -> str:
    """CORPUS_TYPES as docs/corpora.md prints it."""
    rows = ["| corpus | its type | ours | why |", "|---|---|---|---|"]
    for corpus, own_types in types.items():
        for own, t in own_types.items():
            rows.append(f"| {corpus} | {own} | {t.ours or 'left out'} | {t.why} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder of bioner-llama/ and pubtator/")
    data = parser.parse_args().data
    print(types_table(), end="\n\n")
    report_lines(data)
    print()
    report_shared(data)
    print()
    report_leaks(data)


if __name__ == "__main__":
    main()
