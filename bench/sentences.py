"""Sentence splitters compared: which share of the gold mentions they cut, and how fast they are.

Usage: .venv/bin/python bench/sentences.py [--corpora DIR] [--rounds N]

Reads the PubTator corpora. Ours (sentencex) always runs; nupunkt runs where it can be imported,
which is not needed for anything else: give its place by PYTHONPATH. Prints a table, then JSON.
"""

import argparse
import gzip
import json
import statistics
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from engine.steps.sentences import SPLITTER_VERSION, split_sentences
from schemas.spans import Span, trim

CORPORA = Path(__file__).parents[2] / "shared" / "data" / "pubtator"

Splitter = Callable[[str, int], list[Span]]


class Passage(NamedTuple):
    """A text as PubTator lays it out, and its gold mentions."""

    text: str
    title_length: int
    mentions: list[Span]


def read_passages(corpora: Path) -> Iterator[Passage]:
    """Every passage of every ``*.PubTator.gz`` in a directory."""
    for file in sorted(corpora.glob("*.PubTator.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as f:
            blocks = f.read().strip().split("\n\n")
        for block in blocks:
            title, abstract, *rest = block.strip("\n").split("\n")
            title, abstract = (line.split("|", 2)[2] for line in (title, abstract))
            # A mention has six fields; a relation has four.
            fields = [line.split("\t") for line in rest]
            mentions = [Span(int(f[1]), int(f[2])) for f in fields if f[1].isdigit()]
            yield Passage(f"{title} {abstract}", len(title), mentions)


def count_cut(passage: Passage, sentences: list[Span]) -> int:
    """How many of a passage's mentions are not wholly within one sentence."""
    starts = [s.start for s in sentences]
    cut = 0
    for mention in passage.mentions:
        place = bisect_right(starts, mention.start) - 1
        cut += place < 0 or mention.end > sentences[place].end
    return cut


def splitters() -> dict[str, Splitter]:
    """Those that can be run here, by name and version."""
    found: dict[str, Splitter] = {SPLITTER_VERSION: split_sentences}
    try:
        import nupunkt
    except ImportError:
        return found

    def split_with_nupunkt(text: str, title_length: int) -> list[Span]:
        sentences = []
        for part in (Span(0, title_length), Span(title_length + 1, len(text))):
            for start, end in nupunkt.sent_spans(text[part.start : part.end]):
                sentences.append(trim(text, Span(start, end).shift(part.start)))
        return sentences

    return found | {f"nupunkt-{nupunkt.__version__}": split_with_nupunkt}


def main() -> None:
    """Compare the splitters and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--corpora", type=Path, default=CORPORA, help="directory of *.PubTator.gz")
    parser.add_argument("--rounds", type=int, default=5, help="into how many to part the corpora")
    options = parser.parse_args()
    passages = list(read_passages(options.corpora))
    if not passages:
        parser.error(f"no *.PubTator.gz in {options.corpora}")
    characters = sum(len(p.text) for p in passages)
    mentions = sum(len(p.mentions) for p in passages)

    found = splitters()
    sentences: Counter[str] = Counter()
    cut: Counter[str] = Counter()
    speeds: dict[str, list[float]] = {name: [] for name in found}
    for split in found.values():
        split("Loads what is loaded once.", 26)
    for turn in range(options.rounds):
        # Each round has passages of its own: nupunkt remembers what it has seen, and then runs at
        # 25 million characters a second instead of 10, which no text of PubMed would see.
        part = passages[turn :: options.rounds]
        size = sum(len(p.text) for p in part) / 1e6
        for name, split in found.items():
            began = time.process_time()
            spans = [split(p.text, p.title_length) for p in part]
            speeds[name].append(size / (time.process_time() - began))
            sentences[name] += sum(map(len, spans))
            cut[name] += sum(count_cut(p, s) for p, s in zip(part, spans, strict=True))

    print(f"{mentions:,} gold mentions, {characters:,} characters, {options.rounds} rounds")
    print(f"{'splitter':<20}{'sentences':>12}{'cut':>8}{'share':>10}{'M chars/s':>12}")
    results = {}
    for name in found:
        speed, share = statistics.median(speeds[name]), cut[name] / mentions
        print(f"{name:<20}{sentences[name]:>12,}{cut[name]:>8,}{share:>10.4%}{speed:>12.1f}")
        results[name] = {
            "sentences": sentences[name],
            "cut": cut[name],
            "share_cut": share,
            "million_characters_per_second": speed,
        }
    print(json.dumps({"mentions": mentions, "characters": characters, "splitters": results}))


if __name__ == "__main__":
    main()
