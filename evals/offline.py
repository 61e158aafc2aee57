"""Runs cases in worker processes and keeps every score at once, so that a crash loses none.

The scores are lines of JSON. The first line names the code they are of: with other code,
or other versions of what it stands on, everything runs again.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import random
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic
from typing import Any, Final

from pydantic import TypeAdapter

from evals.made import About
from evals.play import Case, attempted, play
from evals.score import Key, Score

ABOUT: Final = TypeAdapter(About)
SCORE: Final = TypeAdapter(Score)

AT_ONCE: Final = 4
"""Runs at once in a process: each waits for the room most of the time, not for the processor."""

PATIENCE_S: Final = 300.0
"""A conversation that takes longer is broken off. None takes a tenth of it, if the machine is free."""

TO_JUDGE_S: Final = 60.0
"""What a run may take besides: its room is started and stopped, and it is judged."""

SILENT_S: Final = PATIENCE_S + 2 * TO_JUDGE_S
"""A process that says nothing for so long is stuck: each of its runs would have been over."""

_TO_EXIT_S: Final = 5.0


class Broken(Exception):
    """Nothing can be run here. What was finished is kept."""


class Ledger:
    """The scores of one state of the code, in a file."""

    def __init__(self, path: Path, made: About) -> None:
        self._path = path
        self.scores: dict[Key, Score] = {}
        before, found = read_ledger(path)
        if before is not None and before.code == made.code:
            made, self.scores = before, {score.key: score for score in found}
        keep(self.scores.values(), made, path)

    def missing(self, cases: Sequence[Case]) -> list[Case]:
        return [case for case in cases if case.key not in self.scores]

    def add(self, score: Score) -> None:
        self.scores[score.key] = score
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(score) + "\n")


def keep(scores: Iterable[Score], made: About, path: Path) -> None:
    """Write a file that `read_ledger` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [ABOUT.dump_json(made).decode(), *map(_line, scores)]
    fresh = path.with_suffix(".new")
    fresh.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    fresh.replace(path)


def read_ledger(path: Path) -> tuple[About | None, list[Score]]:
    """The first line and the scores of a file; nothing if it is not there.

    A line that was cut off by a crash, the last one, is left out.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith(b"\n")]
    if not whole:
        return None, []
    return ABOUT.validate_json(whole[0]), [SCORE.validate_json(line) for line in whole[1:]]


def run_cases(cases: Sequence[Case], workers: int, silent_s: float = SILENT_S) -> Iterator[Score]:
    """Run cases in so many processes, and give each score when it is there.

    A process that dies, or says nothing for so long, takes no other run with it: which of its runs
    it was is found out by repeating those that were under way, each in a process of its own.

    Raises:
        Broken: a process did not come so far as to begin a run.
    """
    mixed = list(cases)
    random.Random(0).shuffle(mixed)  # so that all workers have about as much to do
    # Whole repeats first, our moderator before the others: what is there if somebody stops it.
    mixed.sort(key=lambda case: (case.seed, case.agent != "moderator"))
    todo: deque[Sequence[Case]] = deque(part for n in range(workers) if (part := mixed[n::workers]))
    crew: list[_Worker] = []
    try:
        while todo or crew:
            while todo and len(crew) < workers:
                crew.append(_Worker(todo.popleft()))
            heard = wait([worker.results for worker in crew], timeout=silent_s)
            for worker in list(crew):
                if worker.results in heard:
                    yield from worker.scores()
                if worker.is_over(silent_s):
                    crew.remove(worker)
                    undone, why = worker.ended()
                    if len(worker.cases) > 1:
                        todo.extend(undone)
                    elif undone:
                        yield worker.cases[0].scored(error=why)
    finally:
        for worker in crew:
            worker.process.kill()


class _Worker:
    """A process with its part of the cases, as it is seen from here."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = cases
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._dead, self._heard_at = False, monotonic()
        context = multiprocessing.get_context("spawn")
        self.results, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(theirs, cases), daemon=True)
        self.process.start()
        theirs.close()

    def scores(self) -> Iterator[Score]:
        self._heard_at = monotonic()
        try:
            while self.results.poll():
                number, line = self.results.recv()
                self._begun.add(number)
                if line is not None:
                    self._finished.add(number)
                    yield SCORE.validate_json(line)
        except (EOFError, OSError):  # OSError: it died in the middle of a message
            self._dead = True

    def is_over(self, silent_s: float) -> bool:
        """Whether nothing more comes from it."""
        # Before its first word it takes as long as its imports do.
        silent = monotonic() - self._heard_at >= (silent_s if self._begun else SILENT_S)
        return self._dead or silent or len(self._finished) == len(self.cases)

    def ended(self) -> tuple[list[Sequence[Case]], str]:
        """The parts that others have to do, and why; the process is gone then.

        What its runs left behind may keep a process for ever, so it is not waited for long."""
        why = "its process said nothing any more"
        if self._dead:
            self.process.join(_TO_EXIT_S)
            why = f"its process ended with {self.process.exitcode}"
        self.process.kill()
        self.process.join()
        if not self._begun:
            raise Broken(f"A worker began nothing: {why}")
        rest = [c for n, c in enumerate(self.cases) if n not in self._begun]
        alone = [[self.cases[n]] for n in sorted(self._begun - self._finished)]
        return [part for part in (rest, *alone) if part], why


def _work(results: Connection[Any, Any], cases: Sequence[Case]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    gc.set_threshold(20_000)  # a run makes many objects and keeps none: a tenth less time
    asyncio.run(_play_all(results, cases))


async def _play_all(results: Connection[Any, Any], cases: Sequence[Case]) -> None:
    todo = iter(enumerate(cases))

    async def one_after_another() -> None:
        for number, case in todo:
            results.send((number, None))
            results.send((number, await scored(case)))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_another())


async def scored(case: Case, patience_s: float = PATIENCE_S) -> str:
    """The score as a line of JSON, also of a run that cannot be set up, judged or written down."""

    async def line() -> str:
        return _line((await play(case, give_up_s=patience_s)).score)

    written, why = await attempted(line(), patience_s + TO_JUDGE_S)
    return written or _line(case.scored(error=why))


def _line(score: Score) -> str:
    return SCORE.dump_json(score).decode()
