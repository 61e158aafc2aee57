"""An action's id and digest are the same in every process: what was approved in one is sent in another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SCRIPT = """
import asyncio
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.journal.records import Origin
from stand_in import ROOM, StandInRoom, gate_on, peer

call = parse_call("hms-remove-peers", {"room_id": ROOM, "role": "student", "reason": "rude"})
gate = gate_on(StandInRoom([peer(n) for n in range(1, 9)]))
action = asyncio.run(gate.propose(call, Origin("thread", "message", "call", "agent")))
print(action.state, action.id, action.digest)
"""


@pytest.mark.slow
def test_ids_and_digests_do_not_depend_on_the_process() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONPATH": str(TESTS), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert told.pop().startswith("proposed ")
