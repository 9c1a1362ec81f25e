"""How a tree's modules hang together, read from its syntax trees; nothing is imported.

    python bench/arrows.py [ROOT]

ROOT is a checkout, this one by default; an older one works as well. A wing is a folder of
``engine`` with all below it, or a module that lies flat in ``engine``; ``schemas`` and ``jobs`` are
one each. ``tests/test_imports.py`` asserts by the same functions.
"""

import ast
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("schemas", "engine", "jobs")
_ROOT = Path(__file__).parents[1]

Arrow = tuple[str, str]
"""The importing module, or wing, and the imported one."""


@dataclass(frozen=True)
class Module:
    """A module by its dotted name, with the dotted names of all that it imports: at its top, within
    functions, and for a type checker."""

    name: str
    path: Path
    tree: ast.Module
    lines: int
    imports: frozenset[str]

    @property
    def wing(self) -> str:
        """See above."""
        depth = 2 if self.name.startswith("engine.") else 1
        return ".".join(self.name.split(".")[:depth])

    @property
    def flat(self) -> bool:
        """Whether it lies in ``engine`` without a wing's folder around it."""
        return self.name.startswith("engine.") and self.path.parent.name == "engine"

    def functions(self) -> Iterator[tuple[str, int]]:
        """Each function and method with its length in lines, decorators included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                yield f"{self.name}:{node.name}", (node.end_lineno or first) - first + 1


def read_modules(root: Path = _ROOT) -> dict[str, Module]:
    """All modules of a checkout, by name."""
    paths = {
        ".".join(p.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): p
        for package in PACKAGES
        for p in sorted((root / package).rglob("*.py"))
    }
    modules = {}
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        modules[name] = Module(
            name, path, tree, len(text.splitlines()), frozenset(_imports(tree, paths))
        )  # fmt: skip
    return modules


def _imports(tree: ast.Module, ours: Collection[str]) -> Iterator[str]:
    """What import statements name: modules, not what is taken from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for name in (f"{base}.{a.name}" for a in node.names):
                yield name if name in ours else base


def arrows(modules: Mapping[str, Module]) -> set[Arrow]:
    """Who imports whom among modules of ours, each pair once."""
    return {
        (m.name, target)
        for m in modules.values()
        for target in m.imports
        if target in modules and target != m.name
    }


def between_wings(modules: Mapping[str, Module]) -> set[Arrow]:
    """The pairs of modules of which one imports the other from another wing."""
    return {(a, b) for a, b in arrows(modules) if modules[a].wing != modules[b].wing}


def circles(pairs: Iterable[Arrow]) -> list[list[str]]:
    """The largest sets within which each reaches each other by arrows, sorted."""
    onward: dict[str, set[str]] = {}
    for a, b in pairs:
        onward.setdefault(a, set()).add(b)
    reached = {a: _reach(a, onward) for a in onward}
    found = {
        frozenset(b for b in there if a in reached.get(b, ()))
        for a, there in reached.items()
        if a in there
    }
    return sorted(sorted(circle) for circle in found)


def _reach(start: str, onward: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    ahead = [start]
    while ahead:
        for name in onward.get(ahead.pop(), set()) - seen:
            seen.add(name)
            ahead.append(name)
    return seen


def back_edges(modules: Mapping[str, Module]) -> set[Arrow]:
    """The pairs of :func:`between_wings` that lie within a circle of wings: with any of them gone,
    or turned round, the wings would come nearer to standing on floors."""
    pairs = between_wings(modules)
    rings = circles({(modules[a].wing, modules[b].wing) for a, b in pairs})
    return {
        (a, b)
        for a, b in pairs
        if any(modules[a].wing in ring and modules[b].wing in ring for ring in rings)
    }


def main() -> None:
    modules = read_modules(Path(sys.argv[1]) if len(sys.argv) > 1 else _ROOT)
    pairs = between_wings(modules)
    wings = {(modules[a].wing, modules[b].wing) for a, b in pairs}
    longest = max(modules.values(), key=lambda m: m.lines)
    functions = (f for m in modules.values() for f in m.functions())
    name, length = max(functions, key=lambda f: f[1])
    print(
        f"modules: {len(modules)}, of them flat in engine: {sum(m.flat for m in modules.values())}"
    )
    print(f"wings: {len({m.wing for m in modules.values()})}")
    print(f"pairs of wings of which one imports the other: {len(wings)}")
    print(f"imports between wings, pairs of modules: {len(pairs)}")
    print(f"circles of modules: {len(circles(arrows(modules)))}")
    print(f"imports within a circle of wings: {len(back_edges(modules))}")
    print(f"longest module: {longest.name}, {longest.lines} lines")
    print(f"longest function: {name}, {length} lines")


if __name__ == "__main__":
    main()
