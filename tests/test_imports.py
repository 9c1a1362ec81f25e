"""Imports run jobs → engine → schemas, never back, and light ones load nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "schemas": {"schemas"},
    "engine": {"schemas", "engine"},
    "jobs": {"schemas", "engine", "jobs"},
}
HEAVY = ("vllm", "torch", "transformers", "peft")
NO_JOB = {"cli", "sample", "configs"}


def modules() -> list[Path]:
    return [p for package in ALLOWED for p in (ROOT / package).rglob("*.py")]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_run_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {n.split(".")[0] for n in imported(path)} & set(ALLOWED)
    assert ours <= ALLOWED[package]
    if package == "jobs" and not NO_JOB & set(path.relative_to(ROOT).with_suffix("").parts):
        others = {n.split(".")[1] for n in imported(path) if n.startswith("jobs.")}
        assert others <= NO_JOB, "a job imports another"


def test_vllm_is_imported_in_one_module() -> None:
    users = [p for p in modules() if any(n.split(".")[0] == "vllm" for n in imported(p))]
    assert [p.name for p in users] == ["vllm.py"]


def test_nothing_heavy_is_loaded_before_an_engine_starts() -> None:
    names = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for p in modules()
    ]
    code = f"import sys, {', '.join(names)}; print(set({HEAVY!r}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
