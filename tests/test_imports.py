"""Imports run jobs → engine → schemas and down the wings of engine, never back; light ones load
nothing heavy; modules and functions are short. ``bench/arrows.py`` reads the syntax trees."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from arrows import PACKAGES, Module, arrows, circles, read_modules

ROOT = Path(__file__).parents[1]
MODULES = read_modules(ROOT)

STANDS_ON = {
    "codecs": (),
    "storage": (),
    "sources": ("storage",),
    "mirror": ("sources",),
    "checkpoints": ("storage",),
    "backends": ("checkpoints",),
    "steps": ("backends", "codecs"),
    "corpora": ("steps",),
    "tables": ("steps", "sources"),
    "views": ("tables",),
    "planning": ("tables",),
    "runs": ("planning",),
    "scoring": ("runs", "corpora"),
    "refresh": ("scoring", "mirror"),
    "training": ("scoring",),
}
"""The wings of engine, lowest first. A wing may import those that it stands on, and all that they
stand on in turn; none above it, and none beside it."""

IMPORTERS = {
    "vllm": {"engine.backends.vllm"},
    # Files of `annotations` are known in tables.layout alone, but for two that read row groups of
    # them: one row in place, and an export's files. The others' files are their own: citations,
    # predictions, examples, what training keeps of them, and the checkpoints of Delta's log.
    "pyarrow.parquet": {
        "engine.corpora.importer",
        "engine.scoring.gold",
        "engine.sources.tabular",
        "engine.tables.layout",
        "engine.tables.log",
        "engine.tables.rows",
        "engine.training.data.material",
        "engine.views.export",
    },
    # Adding and removing a table's files by ourselves, not by delta-rs's writer.
    "deltalake.transaction": {"engine.tables.layout"},
    # The pipeline alone knows all steps.
    "engine.steps.generate": {"engine.runs.pipeline", "engine.steps.finish"},
    "engine.steps.finish": {"engine.runs.pipeline"},
}
"""Walls: what only these may import. A folder stands for all in it."""

USERS = {
    # Files are written in tables.layout: delta-rs writes view types, in no order, and panics where
    # a disk is full.
    "write_deltalake": set(),
    "create_write_transaction": {"engine.tables"},
    # Its dataset takes a bound that a file does not state for null; tables.reading makes another
    # of it.
    "to_pyarrow_dataset": {"engine.tables.reading"},
    "to_pyarrow_table": set(),
}
"""Walls: names that only these may use, as an attribute or by themselves."""

HEAVY = ("vllm", "torch", "transformers", "peft")
NO_JOB = {"cli", "sample", "configs"}
"""What lies in jobs beside the jobs."""

LONGEST_MODULE, LONGEST_FUNCTION = 400, 80
"""In lines."""

LONGER: dict[str, str] = {}
"""Modules, and functions as ``module:name``, that may be longer, and why."""


def below(wing: str) -> set[str]:
    """All wings that one may import."""
    return set(STANDS_ON[wing]).union(*map(below, STANDS_ON[wing]))


def parts(name: str) -> tuple[str, str]:
    """The package of a module or import, and what of it (``""``: the package itself)."""
    package, _, rest = name.partition(".")
    return package, rest.split(".")[0]


def fault(importing: str, imported: str) -> str | None:
    """Why one module of ours may not import another; null if it may."""
    (package, part), (other, target) = parts(importing), parts(imported)
    if PACKAGES.index(other) > PACKAGES.index(package):
        return "imports run jobs → engine → schemas"
    if package == other == "engine" and part != target and target not in below(part):
        return f"{part} does not stand on {target}"
    if package == other == "jobs" and part not in NO_JOB and target not in {part, *NO_JOB}:
        return "a job imports another"
    return None


def within(name: str, folders: set[str]) -> bool:
    return any(name == f or name.startswith(f"{f}.") for f in folders)


def names(module: Module) -> set[str]:
    nodes = list(ast.walk(module.tree))
    return {n.attr for n in nodes if isinstance(n, ast.Attribute)} | {
        n.id for n in nodes if isinstance(n, ast.Name)
    }


def too_long(module: Module) -> dict[str, str]:
    """What of a module is longer than it should be, and how long it is."""
    lengths = [(module.name, module.lines, LONGEST_MODULE)]
    lengths += [(name, lines, LONGEST_FUNCTION) for name, lines in module.functions()]
    return {name: f"{n} lines, more than {most}" for name, n, most in lengths if n > most}


@pytest.mark.parametrize("module", MODULES.values(), ids=lambda m: m.name)
def test_a_module_keeps_its_place_and_its_measure(module: Module) -> None:
    wrong = [
        f"{module.name} imports {target}: {why}"
        for target in sorted(module.imports & MODULES.keys())
        if (why := fault(module.name, target))
    ]
    wrong += [
        f"{module.name} imports {target}, which only {', '.join(sorted(importers))} may"
        for target, importers in IMPORTERS.items()
        if any(within(i, {target}) for i in module.imports) and not within(module.name, importers)
    ]
    used = names(module)
    wrong += [
        f"{module.name} uses {name}, which only {', '.join(sorted(users)) or 'none'} may"
        for name, users in USERS.items()
        if name in used and not within(module.name, users)
    ]
    longer = too_long(module)
    wrong += [f"{name}: {said}" for name, said in longer.items() if name not in LONGER]
    wrong += [
        f"{name} is no longer too long"
        for name in LONGER.keys() - longer.keys()
        if name.partition(":")[0] == module.name
    ]
    if module.flat:
        wrong.append(f"{module.name} lies in no wing of engine")
    assert not wrong


def test_no_module_stands_in_a_circle() -> None:
    assert circles(arrows(MODULES)) == []


def test_a_wing_stands_on_those_before_it() -> None:
    wings = list(STANDS_ON)
    for number, wing in enumerate(wings):
        assert set(STANDS_ON[wing]) <= set(wings[:number])
    # No wing is in the table that is not in the tree, nor the other way round.
    assert set(wings) == {parts(name)[1] for name in MODULES if name.startswith("engine.")}


@pytest.mark.parametrize("wing", STANDS_ON)
def test_a_wing_says_what_it_is_for(wing: str) -> None:
    says = ast.get_docstring(MODULES[f"engine.{wing}"].tree) or ""
    assert len(re.findall(r"\.(?=\s|$)", says)) >= 2, "two sentences are the least"


@pytest.mark.parametrize(
    ("importing", "imported"),
    [
        ("schemas.task", "engine.codecs"),
        ("engine.runs.stream", "jobs.annotate"),
        ("engine.tables.store", "engine.runs.result"),
        ("engine.views.sql", "engine.planning.plan"),
        ("engine.mirror.client", "engine.checkpoints.load"),
        ("jobs.annotate", "jobs.refresh"),
    ],
)
def test_what_runs_back_or_aside_is_a_fault(importing: str, imported: str) -> None:
    assert fault(importing, imported)


def test_nothing_heavy_is_loaded_before_an_engine_starts() -> None:
    code = f"import sys, {', '.join(MODULES)}; print(set({HEAVY!r}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
