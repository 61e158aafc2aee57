"""kill -9 between any two journal steps, then resume: at most one request, and the journal is true."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.sim.server import Simulation, environment, running_sim

HERE = Path(__file__).parent
MOST_STEPS = 40


def work(sim: Simulation, folder: Path, how: str, kill: str, call: tuple[str, Any]) -> Any:
    tool, arguments = call
    return subprocess.run(
        [
            sys.executable,
            str(HERE / "crash_worker.py"),
            how,
            f"sqlite:///{folder / 'journal.sqlite'}",
            str(folder / "checkpoints.sqlite"),
            kill,
            tool,
            json.dumps(arguments),
        ],
        env={
            "PATH": "",
            "PYTHONPATH": f"{HERE.parent}:{HERE.parents[1]}",
            "HOME": str(folder),
            "LANGGRAPH_STRICT_MSGPACK": "true",
            **environment(sim),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def spam_bot(sim: Simulation) -> str:
    return next(p.id for p in sim.world.peers(sim.room_id) if p.name == "Spam Bot")


def call_of(kind: str, sim: Simulation) -> tuple[str, Any]:
    room = {"room_id": sim.room_id}
    return {
        "message": ("hms-send-message", {**room, "message": "hi"}),
        "peer": ("hms-remove-peers", {**room, "peer_id": spam_bot(sim)}),
        "role": ("hms-remove-peers", {**room, "role": "viewer"}),
        "end": ("hms-end-active-room", {**room, "lock": True}),
    }[kind]


def posts(sim: Simulation) -> list[Any]:
    return [r for r in sim.requests if r.method == "POST"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("how", "kind"),
    [("gate", "message"), ("gate", "peer"), ("gate", "role"), ("gate", "end"), ("graph", "peer")],
)
def test_after_kill_9_at_any_step_and_a_resume_there_was_at_most_one_request(
    how: str, kind: str, tmp_path: Path
) -> None:
    ends: Counter[str] = Counter()
    for step in range(1, MOST_STEPS):
        for moment in ("before", "after"):
            folder = tmp_path / f"{moment}{step}"
            folder.mkdir()
            with running_sim("classroom") as sim:
                call = call_of(kind, sim)
                first = work(sim, folder, how, f"{moment}:{step}", call)
                if first.returncode == 0:
                    assert len(posts(sim)) == 1, first.stderr
                    assert step > 5, "the worker was never killed"
                    assert {"done"} <= set(ends)
                    return
                assert first.returncode == -signal.SIGKILL, first.stderr
                sent_before = len(posts(sim))
                second = work(sim, folder, how, "never", call)
                assert second.returncode == 0, second.stderr
                state = json.loads(second.stdout)["state"]
                ends[state] += 1
                sent = len(posts(sim))
                assert sent <= 1, f"{moment} step {step}: sent {sent} times"
                untouched = state in ("unknown", "failed")
                assert sent == 1 or untouched, f"{moment} step {step}: {state}, none sent"
                if kind == "message" and sent_before and state != "done":
                    assert state == "unknown"
                journal = Journal(f"sqlite:///{folder / 'journal.sqlite'}")
                [action] = journal.actions()
                assert action.state == state
                if action.state == "done":
                    assert sent == 1
                journal.close()
    pytest.fail(f"more than {MOST_STEPS} journal steps")
