"""ray_cluster.yaml against Ray's own schema, and against the repository that it installs."""

import copy
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
FILE = ROOT / "ray_cluster.yaml"
TEXT = FILE.read_text(encoding="utf-8")
CONFIG: dict[str, Any] = yaml.safe_load(TEXT)
HEADER = TEXT.split("\ncluster_name:")[0]
TYPES: dict[str, Any] = CONFIG["available_node_types"]
WORKERS = {name: kind for name, kind in TYPES.items() if name != CONFIG["head_node_type"]}

# vCPUs and GPUs, from AWS's list of instance types.
MACHINES = {"m7i.2xlarge": (8, 0), "m7i.4xlarge": (16, 0), "g6e.xlarge": (4, 1)}


def prepared() -> dict[str, Any]:
    """The configuration as `ray up` completes it, before it asks AWS anything."""
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(copy.deepcopy(CONFIG))


def test_ray_accepts_it() -> None:
    from ray.autoscaler._private.util import validate_config

    config = prepared()
    validate_config(config)
    # Completing must not have put Ray's own example machines beside ours.
    assert set(config["available_node_types"]) == set(TYPES)
    assert config["head_setup_commands"] == CONFIG["setup_commands"]
    assert config["worker_setup_commands"] == CONFIG["setup_commands"]


def test_workers_start_at_none_and_fit_under_the_limit() -> None:
    assert (TYPES["head"]["min_workers"], TYPES["head"]["max_workers"]) == (0, 0)
    for name, kind in WORKERS.items():
        assert kind["min_workers"] == 0 < kind["max_workers"], name
    assert CONFIG["max_workers"] == sum(kind["max_workers"] for kind in WORKERS.values())


def test_resources_are_those_of_the_machines() -> None:
    for name, kind in TYPES.items():
        cpus, gpus = MACHINES[kind["node_config"]["InstanceType"]]
        assert kind["resources"].get("GPU", 0) == gpus, name
        assert 0 < kind["resources"]["CPU"] <= cpus, name


def test_the_head_is_on_demand_and_workers_are_spot() -> None:
    assert "InstanceMarketOptions" not in TYPES["head"]["node_config"]
    for name, kind in WORKERS.items():
        assert kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}, name


def test_engines_of_the_example_are_what_the_workers_can_hold() -> None:
    gpus = sum(kind["max_workers"] * kind["resources"].get("GPU", 0) for kind in WORKERS.values())
    low, high = re.findall(r"pubmark annotate .* --engines (\d+):(\d+)$", HEADER, re.M)[0]
    assert 1 <= int(low) <= int(high) == gpus


def test_the_head_says_that_gpus_may_join() -> None:
    gpus = sum(kind["max_workers"] * kind["resources"].get("GPU", 0) for kind in WORKERS.values())
    assert TYPES["head"]["resources"]["pubmark_gpu_workers"] == gpus
    assert '"pubmark_gpu_workers"' in (ROOT / "engine/runs/cluster.py").read_text(encoding="utf-8")


def test_every_placeholder_is_explained_and_nothing_else_is_filled_in() -> None:
    values = set(re.findall(r"[\w-]*CHANGE-ME[\w-]*", TEXT.removeprefix(HEADER)))
    assert values == {"ami-CHANGE-ME", "CHANGE-ME-head", "CHANGE-ME-worker"}
    for number in ("1. ImageId", "2. Head profile", "3. Worker profile"):
        assert f"\n# {number}" in HEADER
    for kind in TYPES.values():
        assert kind["node_config"]["ImageId"] == "ami-CHANGE-ME"
    # An access key, an account, an image or a subnet of somebody's.
    assert not re.findall(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\b\d{12}\b", TEXT)
    assert not re.findall(r"\b(?:ami|subnet|sg|vpc)-[0-9a-f]{8,}\b", TEXT)
    assert set(CONFIG["auth"]) == {"ssh_user"}


def test_workers_may_read_all_that_their_tasks_read() -> None:
    words = " ".join(HEADER.replace("#", " ").split())
    (worker,) = re.findall(r"3\. Worker profile: may read (.*?)\. ", words)
    assert all(what in worker for what in ("the sources", "the checkpoint", "the table"))
    assert "Workers never write to the table" in words


def test_one_region_throughout() -> None:
    region = CONFIG["provider"]["region"]
    zones = CONFIG["provider"]["availability_zone"].split(",")
    assert all(re.fullmatch(re.escape(region) + "[a-z]", zone) for zone in zones)
    assert re.findall(r"AWS_REGION=(\S+)", TEXT) == [region]
    assert re.findall(r"--region (\S+)", HEADER) == [region]


def test_ray_is_the_pinned_one_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(line) for line in project["dependencies"]]
    (specifier,) = [str(r.specifier) for r in wanted if r.name == "ray"]
    gpu = (ROOT / "requirements/gpu.txt").read_text(encoding="utf-8")
    assert re.findall(r"^ray(==\S+)", gpu, re.M) == [specifier]
    named = re.findall(r"ray\[default\](==[\d.]+)", TEXT)
    assert len(named) == 2 and set(named) == {specifier}


def test_what_is_mounted_exists() -> None:
    for remote, local in CONFIG["file_mounts"].items():
        assert (ROOT / local).exists(), local
        # The shape that the setup commands expect.
        assert remote == f"~/pubmark/{local}"


def test_requirement_files_exist_and_are_mounted() -> None:
    named = re.findall(r"-r (\S+)", "\n".join(CONFIG["setup_commands"]))
    assert named == ["requirements/gpu.txt"]
    for path in named:
        assert (ROOT / path).is_file()
        assert any(Path(path).is_relative_to(local) for local in CONFIG["file_mounts"].values())


@pytest.mark.parametrize("command", CONFIG["setup_commands"])
def test_setup_commands_are_shell(command: str) -> None:
    done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_path_is_extended_once_however_often_set_up_runs(tmp_path: Path) -> None:
    (command,) = [line for line in CONFIG["setup_commands"] if ".bashrc" in line]
    (tmp_path / ".bashrc").touch()
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    for _ in range(2):
        subprocess.run(["bash", "-c", command], env=env, check=True)
    assert (tmp_path / ".bashrc").read_text().count("export") == 1
    shown = subprocess.run(
        ["bash", "-c", "source ~/.bashrc; echo $AWS_REGION $PATH"],
        env=env, check=True, capture_output=True, text=True,
    )  # fmt: skip
    region = CONFIG["provider"]["region"]
    assert shown.stdout.split() == [region, f"{tmp_path}/pubmark-env/bin:/usr/bin:/bin"]


@pytest.mark.slow
def test_what_is_mounted_builds_the_whole_of_pubmark(tmp_path: Path) -> None:
    checkout = tmp_path / "pubmark"
    checkout.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    for local in CONFIG["file_mounts"].values():
        if (ROOT / local).is_dir():
            shutil.copytree(ROOT / local, checkout / local, ignore=ignore)
        else:
            shutil.copy(ROOT / local, checkout / local)
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = (checkout / "dist").glob("pubmark-*.whl")
    built = set(zipfile.ZipFile(wheel).namelist())
    for package in ("schemas", "engine", "jobs"):
        for suffix in ("py", "yaml"):
            for path in (checkout / package).rglob(f"*.{suffix}"):
                assert path.relative_to(checkout).as_posix() in built
