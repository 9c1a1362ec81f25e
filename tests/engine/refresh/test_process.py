"""Whether the process of a token still runs."""

import os
import subprocess

from engine.refresh.process import is_dead, this_process


def test_a_process_is_known_by_more_than_its_number() -> None:
    token = this_process()
    assert token and str(os.getpid()) in token.split() and not is_dead(token)
    world, pid, started = token.rsplit(" ", 2)
    assert is_dead(f"{world} {pid} {int(started) - 1}")  # the number was another's before
    other = subprocess.Popen(["sleep", "60"])
    assert is_dead(f"{world} {other.pid} {started}")
    other.kill()
    assert is_dead(f"{world} {other.pid} {started}")  # a zombie
    other.wait()


def test_of_processes_elsewhere_nothing_is_known() -> None:
    assert not is_dead(None) and not is_dead("") and not is_dead("a b c d")
    token = this_process()
    assert token
    boot, namespace, pid, _ = token.split(" ")
    assert not is_dead(f"another-boot {namespace} {pid} 1")
    assert not is_dead(f"{boot} pid:[1] {pid} 1")
