"""Turns that start, end and are killed all the time: never are two of them at it."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

TURNS, PER_KILL = 40, 8

CODE = """
import os, random, sys, time
from engine.refresh.lock import Held, turn
root, log, stop = sys.argv[1:]
out = os.open(log, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
number = 0
while not os.path.exists(stop):
    me, number = f"{os.getpid()}.{number}", number + 1
    try:
        with turn(root, me, 3.0):
            os.write(out, f"in {me}\\n".encode())
            time.sleep(random.random() / 10)
            os.write(out, f"out {me}\\n".encode())
    except Held:
        pass
"""


@pytest.mark.chaos
def test_no_two_turns_are_at_it_at_once(tmp_path: Path) -> None:
    log, stop = tmp_path / "log", tmp_path / "stop"
    log.touch()

    def start() -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", CODE, tmp_path / "t", log, stop]
        return subprocess.Popen(words, stderr=subprocess.PIPE)

    rng, running, killed = random.Random(1), [start() for _ in range(3)], set[int]()
    deadline = time.monotonic() + 360
    while (turns := log.read_text().count("in ")) < TURNS:
        assert time.monotonic() < deadline, f"{turns} turns in six minutes"
        if turns >= (len(killed) + 1) * PER_KILL:
            i = rng.randrange(len(running))
            running[i].kill()
            running[i].communicate()
            killed.add(running[i].pid)
            running[i] = start()
        time.sleep(0.01)
    stop.touch()
    for process in running:
        said = process.communicate(timeout=240)[1]
        assert process.returncode == 0, said.decode()
    inside = None
    for line in log.read_text().splitlines():
        what, who = line.split()
        if what == "in":
            # Only one that was killed does not say that it ends.
            assert inside is None or int(inside.split(".")[0]) in killed, (inside, who)
            inside = who
        else:
            assert inside == who
            inside = None
    assert len(killed) >= TURNS // PER_KILL - 1
