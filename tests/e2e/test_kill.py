"""kill -9 before and after every commit, checkpoint write and request, then resume: at most one
request, and the journal is true."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, get_args

import pytest

from e2e.crash_worker import GRAPHS, NEVER, Job, Moment, main
from forks import FORKS, forked
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.sim.server import Simulation, environment, running_sim
from hms_active_rooms.sim.settings import Settings
from postgresql_server import new_database, running_postgresql
from simulated import peer_id, posts

MOST_STEPS = 60
QUICK = Settings(removal_delay_s=0.01)


@dataclass(frozen=True)
class Ended:
    """How a worker ended: its exit code (-9: killed) and its answer."""

    code: int | None
    answer: str


def work(
    sim: Simulation,
    folder: Path,
    how: str,
    call: tuple[str, Any],
    journal: str,
    step: int = NEVER,
    moment: Moment = "before",
) -> Ended:
    checkpoints = str(folder / "graph.sqlite")
    job = Job(how, journal, checkpoints, step, moment, *call)
    environ = {"PATH": "", "HOME": str(folder), **environment(sim)}
    answer, end = FORKS.Pipe(duplex=False)
    worker = forked(main, environ, end, job)
    end.close()
    try:
        worker.join(100)
        return Ended(worker.exitcode, answer.recv() if answer.poll() else "")
    except EOFError:
        return Ended(worker.exitcode, "")
    finally:
        worker.kill()
        answer.close()


def call_of(kind: str, sim: Simulation) -> tuple[str, Any]:
    room = {"room_id": sim.room_id}
    return {
        "message": ("hms-send-message", {**room, "message": "hi"}),
        "peer": ("hms-remove-peers", {**room, "peer_id": peer_id(sim, "Spam Bot")}),
        "role": ("hms-remove-peers", {**room, "role": "viewer"}),
        "end": ("hms-end-active-room", {**room, "lock": True}),
    }[kind]


WAYS = [
    *(("gate", kind) for kind in ("message", "peer", "role", "end")),
    *((graph, "peer") for graph in GRAPHS),
]
BY_DAY = {("gate", "peer"): 1, **{(graph, "peer"): 7 for graph in GRAPHS}}
"""By day the worker dies at each step of a removal, in a graph at every seventh, else at every third."""


@pytest.fixture
def new_journal(store: str, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes the URL of an empty journal."""
    numbers = count()
    with ExitStack() as until_the_end:
        if store == "sqlite":
            yield lambda: f"sqlite:///{tmp_path / f'journal{next(numbers)}.sqlite'}"
        else:
            server = until_the_end.enter_context(running_postgresql())
            yield lambda: new_database(server)


no_server = pytest.mark.skipif(not shutil.which("initdb"), reason="no PostgreSQL")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("how", "kind", "every", "store"),
    [
        pytest.param("gate", "peer", 3, "postgresql", marks=no_server),
        *((*way, BY_DAY.get(way, 3), "sqlite") for way in WAYS),
        *(
            pytest.param(*way, 1, "sqlite", marks=pytest.mark.nightly)
            for way in WAYS
            if BY_DAY.get(way) != 1
        ),
    ],
)
def test_after_kill_9_at_any_step_and_a_resume_there_was_at_most_one_request(
    how: str,
    kind: str,
    every: int,
    new_journal: Callable[[], str],
    tmp_path: Path,
) -> None:
    ends: Counter[str] = Counter()
    for step in range(every, MOST_STEPS, every):
        for moment in get_args(Moment):
            folder = tmp_path / f"{moment}{step}"
            folder.mkdir()
            url = new_journal()
            with running_sim("classroom", settings=QUICK) as sim:
                call = call_of(kind, sim)
                first = work(sim, folder, how, call, url, step, moment)
                if first.code == 0:
                    assert len(posts(sim)) == 1, first.answer
                    assert step > 5, "the worker was never killed"
                    assert {"done"} <= set(ends)
                    return
                assert first.code == -signal.SIGKILL, first.answer
                sent_before = len(posts(sim))
                second = work(sim, folder, how, call, url)
                assert second.code == 0, second.answer
                state = second.answer
                ends[state] += 1
                sent = len(posts(sim))
                assert sent <= 1, f"{moment} step {step}: sent {sent} times"
                untouched = state in ("unknown", "failed")
                assert sent == 1 or untouched, f"{moment} step {step}: {state}, none sent"
                if kind == "message" and sent_before and state != "done":
                    assert state == "unknown"
                journal = Journal(url)
                [action] = journal.actions()
                assert action.state == state
                if action.state == "done":
                    assert sent == 1
                journal.close()
    pytest.fail(f"more than {MOST_STEPS} steps")
