"""A life of PubMed: files that NLM might give out, and a model of what a table then holds."""

import gzip
import random
from collections.abc import Callable, Iterable
from pathlib import Path

from engine.sources.pubmed_xml import read_pubmed_xml
from schemas.citation import Citation, Deletion

Template = Callable[[int, int, int, int], str]
"""Makes a record's XML from its PMID and three counts: the revisions of its text, of its metadata,
and of what no column holds."""

HAND_MADE = (
    '<PubmedArticle><MedlineCitation><PMID Version="1">{0}</PMID><DateRevised><Year>1990</Year>'
    "</DateRevised><Article><Journal><Title>Journal {2}</Title></Journal><ArticleTitle>Aspirin {0}"
    " in {1}</ArticleTitle></Article><MeshHeadingList><MeshHeading><DescriptorName>Heading {3}"
    "</DescriptorName></MeshHeading></MeshHeadingList></MedlineCitation></PubmedArticle>"
)


class Model:
    """What a table must hold after it has taken in some files: PubMed's rules in plain Python."""

    def __init__(self) -> None:
        self.files: dict[tuple[int, int], Path] = {}
        self.baseline = 0

    def take_in(self, paths: Iterable[Path], baseline: bool = False) -> None:
        for path in paths:
            year, number = path.name.removeprefix("pubmed").removesuffix(".xml.gz").split("n")
            self.files[int(year), int(number)] = path
            if baseline:
                self.baseline = max(self.baseline, int(year))

    def rows(self) -> dict[int, Citation]:
        rows: dict[int, Citation] = {}
        for place in sorted(self.files):
            if place[0] < self.baseline:
                continue
            in_file: dict[int, Citation] = {}
            deleted = []
            with self.files[place].open("rb") as stream:
                for record in read_pubmed_xml(stream):
                    if isinstance(record, Deletion):
                        deleted.append(record.pmid)
                    elif isinstance(record, Citation):
                        former = in_file.get(record.pmid)
                        if former is None or record.version >= former.version:
                            in_file[record.pmid] = record
            rows |= in_file
            for pmid in deleted:
                rows.pop(pmid, None)
        return rows


class Nlm:
    """Makes files as NLM gives them out. Counts the revisions of each PMID's text, metadata and
    rest, and keeps the counts of deleted PMIDs, which may come back."""

    def __init__(self, folder: Path, template: Template, seed: int):
        self._folder, self._template = folder, template
        self._random = random.Random(seed)
        self.live: dict[int, list[int]] = {}
        self._deleted: dict[int, list[int]] = {}
        self._next = 1

    def baseline(self, year: int, pmids: int, files: int) -> list[Path]:
        """A baseline of ``pmids`` citations: new ones, and those that live. Of these one in fifty
        is dropped without a DeleteCitation, and one in ten is revised."""
        lost = self._some(len(self.live) // 50)
        for pmid in lost:
            del self.live[pmid]
        for pmid in self._some(len(self.live) // 10):
            self.live[pmid][self._random.randrange(3)] += 1
        while len(self.live) < pmids:
            self._new()
        every = sorted(self.live)
        return [self._write(year, i + 1, every[i::files]) for i in range(files)]

    def update(self, year: int, number: int, of_each: int) -> Path:
        """An update with ``of_each`` citations of each kind: new; with another text; with other
        metadata; with other MeSH terms; deleted; and deleted before, now back."""
        chosen = self._some(4 * of_each)
        named = [self._new() for _ in range(of_each)]
        for kind in range(3):
            for pmid in chosen[kind * of_each : (kind + 1) * of_each]:
                self.live[pmid][kind] += 1
                named.append(pmid)
        back = self._random.sample(sorted(self._deleted), min(of_each, len(self._deleted)))
        for pmid in back:
            self.live[pmid] = self._deleted.pop(pmid)
            named.append(pmid)
        deleted = chosen[3 * of_each :]
        for pmid in deleted:
            self._deleted[pmid] = self.live.pop(pmid)
        return self._write(year, number, named, [*deleted, 10**7 + number])

    def _some(self, count: int) -> list[int]:
        return self._random.sample(sorted(self.live), min(count, len(self.live)))

    def _new(self) -> int:
        pmid, self._next = self._next, self._next + self._random.randint(1, 3)
        self.live[pmid] = [0, 0, 0]
        return pmid

    def _write(self, year: int, number: int, pmids: list[int], deleted: Iterable[int] = ()) -> Path:
        path = self._folder / f"pubmed{year}n{number:04}.xml.gz"
        block = "".join(f'<PMID Version="1">{p}</PMID>' for p in deleted)
        records = "".join(self._template(p, *self.live[p]) for p in pmids)
        block = f"<DeleteCitation>{block}</DeleteCitation>" if block else ""
        text = f"<PubmedArticleSet>{records}{block}</PubmedArticleSet>"
        path.write_bytes(gzip.compress(text.encode(), 1))
        return path
