"""What goes wrong around an agent: crashes, second answers, two resumes, replays."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, get_args

from langgraph.checkpoint.memory import InMemorySaver

from evals.scenario import Disturbance, Scenario
from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.journal import Clock, Journal
from hms_active_rooms.gate.journal.store import Reading, Writing
from hms_active_rooms.gate.journal.tables import actions
from hms_active_rooms.gate.journal.workers import this_worker

NO_PROCESS: Final = 2**31 - 1
"""A process id that nobody has: above what Linux gives."""


class Crashed(JournalError):
    """The process died here. To the code that tries to write something down on its way out,
    it is a journal that is gone."""


class Life:
    """A process that dies once: from that moment nothing is saved any more."""

    def __init__(self, when: Callable[[], bool]) -> None:
        self._when = when
        self._dead = False
        self._died = False

    def restarted(self) -> None:
        """A new process goes on with what was saved. It does not die again."""
        self._dead = False

    def over(self) -> None:
        """Whoever looks at what was saved does not die."""
        self._dead, self._died = False, True

    def perhaps_ends(self) -> None:
        """Die, if it is time; a dead process stays dead."""
        if self._dead or (not self._died and self._when()):
            self._dead = self._died = True
            raise Crashed("The process is gone.")


class CrashingSaver(InMemorySaver):
    """A checkpointer of a process that may die before it saves."""

    def __init__(self, life: Life) -> None:
        super().__init__()
        self._life = life
        self.kept: list[Any] = []
        self.artifacts: dict[str, Any] = {}

    def keep(self, what: Any) -> None:
        self._life.perhaps_ends()
        self.kept.append(replace(what, place=len(self.kept)))

    def put(self, *args: Any, **kwargs: Any) -> Any:
        self._life.perhaps_ends()
        return super().put(*args, **kwargs)

    def put_writes(self, *args: Any, **kwargs: Any) -> None:
        self._life.perhaps_ends()
        super().put_writes(*args, **kwargs)


class CrashingJournal(Journal):
    """A journal in memory, of a process that may die before it writes down what came back."""

    def __init__(self, life: Life, clock: Clock) -> None:
        self._life = life
        super().__init__(":memory:", clock=clock)

    @contextmanager
    def read(self) -> Iterator[Reading]:
        self._life.perhaps_ends()
        with super().read() as view:
            yield view

    @contextmanager
    def write(self, *, notes_only: bool = False) -> Iterator[Writing]:
        self._life.perhaps_ends()
        with super().write(notes_only=notes_only) as tx:
            yield tx

    def forget_worker(self) -> None:
        world = this_worker().rpartition(":")[0]
        with self.write() as tx:
            tx.db.execute(actions.update().values(worker=f"{world}:{NO_PROCESS}@0"))


def disturbance(scenario: Scenario, seed: int, rng: random.Random) -> Disturbance | None:
    """The scenario's own; in repeats of the suite for it, now and then any."""
    if seed == 0 or scenario.suite != "disturbed" or rng.random() < 0.5:
        return scenario.disturb
    anything: tuple[Disturbance, ...] = get_args(Disturbance)
    return rng.choice(anything)
