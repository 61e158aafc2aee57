"""Whether whoever sent something can still be alive: no only when it is sure."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hms_active_rooms.gate.journal.workers import this_worker, worker_may_live

WORLD, _, PROCESS = this_worker().rpartition(":")
PID, _, STARTED = PROCESS.partition("@")
linux = pytest.mark.skipif(not STARTED, reason="the system does not tell when a process started")


def test_this_worker_lives_and_is_the_same_each_time() -> None:
    assert this_worker() == this_worker()
    assert int(PID) == os.getpid()
    assert worker_may_live(this_worker())


@pytest.mark.slow
def test_a_process_that_ended_does_not_live() -> None:
    words = "from hms_active_rooms.gate.journal.workers import this_worker; print(this_worker())"
    done = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip().rpartition(":")[0] == WORLD
    assert not worker_may_live(done.stdout.strip())


@linux
def test_another_process_with_the_same_id_is_not_that_worker() -> None:
    assert not worker_may_live(f"{WORLD}:{PID}@{int(STARTED) - 1}")


@pytest.mark.parametrize(
    "worker",
    [f"elsewhere/boot/ns:{PID}@{STARTED}", f"{WORLD}:x", "", f"other:{2**22 + 1}@1"],
    ids=["the same ids elsewhere", "no id", "nothing", "an id nobody has, elsewhere"],
)
def test_a_worker_of_another_world_may_live(worker: str) -> None:
    assert worker_may_live(worker)


def test_on_windows_no_signal_is_sent_to_look_at_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def ctrl_c(*_: int) -> None:
        raise AssertionError("Ctrl-C for the whole group")

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "kill", ctrl_c)
    assert worker_may_live(this_worker())
