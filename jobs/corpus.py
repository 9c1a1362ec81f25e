"""``pubmark corpus import``: annotated corpora as examples, for tuning and for scoring."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from engine.corpora.examples import Counts
from engine.corpora.importer import Corpus, Imported, import_corpora
from schemas.configs.corpus import CorpusImportConfig


@dataclass(frozen=True, slots=True)
class CorpusImportResult:
    """The counts and files of each corpus, in each unit."""

    imported: list[Imported]

    def summary(self) -> list[dict[str, Any]]:
        """What ``--json`` prints."""
        return [
            {
                "corpus": i.corpus,
                "unit": i.unit,
                "annotated_types": i.annotated_types,
                "counts": {split: _plain(counts) for split, counts in i.counts.items()},
                "paths": i.paths,
                "without_examples": i.without_examples,
            }
            for i in self.imported
        ]

    def exit_code(self) -> int:
        """0, or 3 if nothing of one of the files became an example."""
        return 3 if any(i.without_examples for i in self.imported) else 0


def run(config: CorpusImportConfig) -> CorpusImportResult:
    """Import all corpora of ``config``.

    Raises:
        UsageError: if a file cannot be read or is not of its format, if a corpus is empty or has an
            unknown type, if nothing of it became an example, or if a target exists already.
    """
    corpora = [
        Corpus(
            name=c.name,
            files={s: [_join(config.root, f) for f in files] for s, files in c.files.items()},
            format=c.format,
            types=c.types,
            units=c.units,
            tokenised=c.tokenised,
            lines_of=c.lines_of,
            dev=c.dev,
            dev_block_lines=c.dev_block_lines,
        )
        for c in config.corpora
    ]
    return CorpusImportResult(import_corpora(corpora, config.to, config.force))


def notes(result: CorpusImportResult) -> list[str]:
    """The files of which nothing became an example, though their corpus has others; a line each."""
    return [
        f"corpus {i.corpus}, no {i.unit} of {told}"
        for i in result.imported
        for told in i.without_examples
    ]


def describe(result: CorpusImportResult) -> str:
    """Two tables in Markdown: the examples, and what is quarantined or in doubt."""
    examples = [
        "| corpus | unit | split | documents | examples | with a mention | mentions "
        "| quarantined | left out |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    faults = [
        "| corpus | unit | split | reason | quarantined | kept |",
        "|---|---|---|---|---|---|",
    ]
    for i in result.imported:
        for split, c in i.counts.items():
            lost = f"{c.quarantined_units:,} with {_mentions(c.lost + c.unplaced)}"
            row = [i.corpus, i.unit, split, c.documents, c.examples, c.with_mentions,
                   _by_count(c.mentions), lost if c.quarantined_units else "",
                   _by_count(c.left_out)]  # fmt: skip
            examples.append(_row(row))
            for reason in sorted(c.quarantined | c.reported):
                counts = [c.quarantined[reason], c.reported[reason]]
                faults.append(_row([i.corpus, i.unit, split, reason, *counts]))
    return "\n".join([*examples, "", *faults])


def _plain(counts: Counts) -> dict[str, Any]:
    # Not asdict(): it would make a Counter of a Counter's items, and so count them.
    values = ((f.name, getattr(counts, f.name)) for f in fields(counts))
    return {name: dict(v) if isinstance(v, Counter) else v for name, v in values}


def _row(values: Iterable[object]) -> str:
    shown = (f"{v:,}" if isinstance(v, int) else str(v) for v in values)
    return "| " + " | ".join(shown) + " |"


def _by_count(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items()))


def _mentions(count: int) -> str:
    return f"{count:,} mention{'' if count == 1 else 's'}"


def _join(root: str | None, file: str) -> str:
    absolute = file.startswith("/") or "://" in file
    return file if root is None or absolute else f"{root.rstrip('/')}/{file}"
