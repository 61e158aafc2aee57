"""kill -9 of a chat at every commit, checkpoint and request, then the same conversation again:
nothing is sent twice, and the person is told what the journal says."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import get_args

import pytest

from e2e.crash_chat import talk
from e2e.crash_worker import NEVER, Moment
from forks import forked
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.view import outcome
from hms_active_rooms.sim.server import Simulation, environment, running_sim
from hms_active_rooms.sim.settings import Settings

MOST_STEPS = 90
QUICK = Settings(removal_delay_s=0.01)


def chat(
    sim: Simulation, folder: Path, typed: str, step: int = NEVER, moment: Moment = "before"
) -> int | None:
    """The exit code; -9: killed."""
    state = str(folder / "state")
    environ = {"PATH": "", "HOME": str(folder), "XDG_STATE_HOME": state, **environment(sim)}
    environ["HMS_JOURNAL"] = f"sqlite:///{folder / 'journal.sqlite'}"
    worker = forked(talk, environ, sim.room_id, typed, str(folder / "said"), step, moment)
    try:
        worker.join(100)
        return worker.exitcode
    finally:
        worker.kill()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.nightly)])
def test_after_kill_9_of_a_chat_the_next_one_tells_the_truth_and_sends_nothing_twice(
    every: int, tmp_path: Path
) -> None:
    for step in range(every, MOST_STEPS, every):
        for moment in get_args(Moment):
            folder = tmp_path / f"{moment}{step}"
            folder.mkdir()
            with running_sim("classroom", settings=QUICK) as sim:
                first = chat(sim, folder, "kick Spam Bot\nyes\n", step, moment)
                if first == 0:
                    assert step > 20, "it was never killed"
                    return
                assert first == -signal.SIGKILL
                again = chat(sim, folder, "yes\n")
                cell = f"{moment} step {step}: {(said := (folder / 'said').read_text())}"
                assert again in (0, 3), cell
                sent = [r for r in sim.requests if r.method == "POST"]
                assert len(sent) <= 1, cell
                journal = Journal(f"sqlite:///{folder / 'journal.sqlite'}")
                rows = journal.actions()
                journal.close()
                assert len(rows) <= 1, cell
                assert rows or not sent, cell
                for row in rows:
                    if row.state == "unknown":  # told with what a look shows by now
                        assert "may have been executed" in said, cell
                    elif row.ended:
                        assert outcome(row).removesuffix(f" (action {row.id})") in said, cell
                        assert (row.state == "done") == bool(sent), cell
                    else:
                        assert f"hms-active-rooms approve {row.id}" in said, cell
                if not rows:
                    assert "[done]" not in said, cell
    pytest.fail(f"more than {MOST_STEPS} steps")
