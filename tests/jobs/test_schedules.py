"""The schedules that ship, each checked by its own tool where there is one."""

import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.configs.refresh import RefreshConfig

FOLDER = Path(__file__).parents[2] / "jobs/schedules"
COMMAND = "pubmark refresh --config /etc/pubmark/refresh.yaml"


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")))


def cron_lines() -> list[str]:
    lines = (FOLDER / "crontab").read_text(encoding="utf-8").splitlines()
    return [s for line in lines if (s := line.strip()) and not re.match(r"#|\w+=", s)]


def test_the_crontab_starts_a_turn_an_hour() -> None:
    cronsim = pytest.importorskip("cronsim", reason="cronsim is not installed")
    (line,) = cron_lines()
    *when, command = line.split(maxsplit=5)
    times = cronsim.CronSim(" ".join(when), datetime(2026, 1, 1, tzinfo=UTC))
    assert [next(times).strftime("%H:%M") for _ in range(3)] == ["00:17", "01:17", "02:17"]
    assert COMMAND in command and "%" not in command  # which cron takes for a line's end


@pytest.mark.parametrize(("code", "said"), [(0, ""), (3, "a problem\n")])
def test_cron_hears_of_trouble_only(tmp_path: Path, code: int, said: str) -> None:
    fake = tmp_path / "pubmark"
    fake.write_text(f"#!/bin/bash\necho a problem >&2\nexit {code}\n")
    fake.chmod(0o755)
    command = cron_lines()[0].split(maxsplit=5)[5]
    done = subprocess.run(
        ["bash", "-c", command], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, said)


def test_systemd_takes_its_units(tmp_path: Path) -> None:
    if not (analyze := shutil.which("systemd-analyze")):
        pytest.skip("systemd-analyze is not installed")
    service = (FOLDER / "pubmark-refresh.service").read_text(encoding="utf-8")
    assert COMMAND.removeprefix("pubmark") in service
    # It looks whether the program is there.
    program = tmp_path / "pubmark"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "pubmark-refresh.service"
    text = service.replace("/opt/pubmark/.venv/bin/pubmark", str(program))
    unit.write_text(text.replace("Documentation=file:///opt/pubmark/README.md\n", ""))
    timer = shutil.copy(FOLDER / "pubmark-refresh.timer", tmp_path)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit), str(timer)], capture_output=True, text=True
    )
    if "bus" in done.stderr.lower() or "container" in done.stderr.lower():
        pytest.skip(f"systemd-analyze does not run here: {done.stderr.strip()}")
    ours = [line for line in done.stderr.splitlines() if "pubmark" in line]
    assert (done.returncode, ours) == (0, []), done.stderr
    hourly = subprocess.run([analyze, "calendar", "hourly"], capture_output=True, text=True)
    assert hourly.returncode == 0


def test_a_user_without_a_home_is_given_one() -> None:
    service = (FOLDER / "pubmark-refresh.service").read_text(encoding="utf-8")
    assert "DynamicUser=yes" in service
    (state,) = re.findall(r"^StateDirectory=(.+)$", service, re.M)
    assert re.findall(r"^Environment=HOME=(.+)$", service, re.M) == [f"/var/lib/{state}"]
    _, _, job = documents()
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    home = {v["name"]: v["value"] for v in container["env"]}["HOME"]
    assert home in {m["mountPath"] for m in container["volumeMounts"]}


def test_kubernetes_takes_its_objects() -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    found = documents()
    assert [d["kind"] for d in found] == ["ConfigMap", "PersistentVolumeClaim", "CronJob"]
    for document in found:
        validate.validate(document, "1.31", strict=True)


def test_the_cron_job_runs_one_turn_at_a_time_with_a_config_that_loads() -> None:
    config, _, job = documents()
    RefreshConfig.model_validate(yaml.safe_load(config["data"]["refresh.yaml"]))
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert job["spec"]["schedule"] == " ".join(cron_lines()[0].split()[:5])
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert " ".join(container["args"][:4]) == COMMAND
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
