"""Which of a corpus's own entity types are ours, and which of ours it annotates exhaustively.

Enters: a corpus's name or a mapping. Leaves: our type for each of the corpus's own. Left to others:
applying it (examples.py).

Guidelines differ between corpora. Two things decided: which mentions of a corpus the published
BioNER-LLaMA lines (btae163) mark, and what BioRED marks in documents that it shares with others.
The figures in ``why`` are from bench/corpora.py over ../shared/data; docs/corpora.md prints them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from schemas.configs.load import parse_yaml
from schemas.errors import UsageError, reason

UNTYPED = "mark"
"""The one type of formats that name no types: ``<mark>`` text, and tags without a type."""


@dataclass(frozen=True, slots=True)
class OwnType:
    """Our type for one of a corpus's own, null if its mentions are left out, and the reason."""

    ours: str | None
    why: str


class TypeMap:
    """Maps a corpus's own types to ours. Without a mapping, each becomes itself in lower case."""

    def __init__(self, name: str, mapping: Mapping[str, str | None] | None):
        self._name = name
        self._mapping = mapping
        self._met: set[str] = set()

    @property
    def annotated(self) -> list[str]:
        """Our types that the corpus marks exhaustively, sorted.

        Without a mapping these are the types met so far, complete once all mentions are mapped.
        """
        ours = self._met if self._mapping is None else set(self._mapping.values())
        return sorted(t for t in ours if t is not None)

    def map(self, own: str, place: str) -> str | None:
        """Our type for one of the corpus's own; None if its mentions are left out.

        Raises:
            UsageError: for a type that the mapping lacks, naming ``place``.
        """
        if self._mapping is None:
            self._met.add(own.lower())
            return own.lower()
        if own not in self._mapping:
            known = ", ".join(self._mapping)
            raise UsageError(
                f"{place}: entity type {own!r}, expected one of the mapping {self._name}: {known}"
            )
        return self._mapping[own]


CORPUS_TYPES: dict[str, dict[str, OwnType]] = {
    "BC5CDR": {
        "Disease": OwnType("disease", "the published lines mark 8,575 of 8,584"),
        "Chemical": OwnType("chemical", "the published lines mark 10,535 of 10,550"),
    },
    "NCBI-disease": {
        "SpecificDisease": OwnType("disease", "the published lines mark 3,490 of 3,498"),
        "DiseaseClass": OwnType("disease", "the published lines mark 886 of 889"),
        "Modifier": OwnType(
            "disease",
            "the published lines mark 1,530 of 1,550; where it is a gene that is named for a "
            "disease, BioRED calls it a gene (7 of 25)",
        ),
        "CompositeMention": OwnType("disease", "the published lines mark 135 of 135"),
    },
    "NLMChem": {
        "Chemical": OwnType("chemical", "the published lines mark 11,513 of 11,517"),
        "OTHER": OwnType(
            None, "the published lines mark 0 of 544: chemicals' names within other names"
        ),
        "NonStandardRef": OwnType(None, "the published lines mark 0 of 69: 'compound 1a'"),
    },
    "NLMGene": {
        "Gene": OwnType("gene", "the published lines mark 12,855 of 13,022"),
        "FamilyName": OwnType(
            "gene",
            "the published lines mark 1,723 of 1,839, and BioRED 412 of 485 as Gene",
        ),
        "DomainMotif": OwnType(
            None,
            "a part of a gene; the published lines mark 44 of 89, BioRED 0 of 6",
        ),
        "Cell": OwnType(None, "the published lines mark 0 of 1,210"),
        "ChromosomeLocation": OwnType(None, "the published lines mark 0 of 14"),
    },
    "GNormPlus": {
        "Gene": OwnType("gene", "BioRED marks 444 of 460 as Gene"),
        "FamilyName": OwnType("gene", "BioRED marks 36 of 45 as Gene; as in NLMGene"),
        "DomainMotif": OwnType(None, "a part of a gene; BioRED marks 0 of 9; as in NLMGene"),
    },
    "BioRED": {
        "Gene": OwnType("gene", "it marks 3,109 of NLMGene's 3,208 genes, and most families"),
        "Disease": OwnType("disease", "it marks 1,764 of BC5CDR's 1,835"),
        "Chemical": OwnType(
            "chemical",
            "it marks 3,061 of BC5CDR's 3,315; also classes of drugs, which BC5CDR does not",
        ),
        "Species": OwnType("species", "no other corpus has it"),
        "Variant": OwnType("variant", "no other corpus has it"),
        "CellLine": OwnType("cell_line", "no other corpus has it: NLMGene's Cell is also types"),
    },
}
"""By corpus, for its documents; the published lines have one type each, see UNTYPED."""


def parse_type_map(value: str | Mapping[str, str | None] | None) -> TypeMap:
    """The type map that a user gives.

    That is a mapping, the name of a corpus of CORPUS_TYPES, or text such as ``Own=ours,Other=``,
    which leaves mentions of ``Other`` out. Names with a comma or ``=`` are written as in YAML:
    ``{"Cell, line": cell_line, Other: null}``.

    Raises:
        UsageError: if it is none of these.
    """
    if value is None:
        return TypeMap("none", None)
    if not isinstance(value, str):
        return TypeMap(str(dict(value)), value)
    if value in CORPUS_TYPES:
        return TypeMap(value, {own: t.ours for own, t in CORPUS_TYPES[value].items()})
    if value.lstrip().startswith("{"):
        return TypeMap(value, _parse_yaml_map(value))
    mapping: dict[str, str | None] = {}
    for pair in value.split(","):
        own, equals, ours = (p.strip() for p in pair.partition("="))
        if not equals or not own or own in mapping:
            raise UsageError(
                f"types {value!r}: expected {', '.join(CORPUS_TYPES)}, or Own=ours,Other= "
                "with each type once"
            )
        mapping[own] = ours or None
    return TypeMap(value, mapping)


def _parse_yaml_map(value: str) -> dict[str, str | None]:
    try:
        mapping = parse_yaml(value)
    except yaml.YAMLError as e:
        raise UsageError(f"types {value!r}: is no YAML: {reason(e)}") from e
    names: dict[str, str | None] = {}
    for own, ours in mapping.items() if isinstance(mapping, dict) else [(None, None)]:
        if not isinstance(own, str) or not isinstance(ours, str | None):
            raise UsageError(f"types {value!r}: expected names, each with a name or null")
        names[own] = ours or None
    return names
