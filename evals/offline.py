"""Runs cases in worker processes and keeps every score at once, so that a crash loses none.

The scores are lines of JSON. The first line names the code they are of: with other code,
or other versions of what it stands on, everything runs again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import random
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from evals.made import About
from evals.matrix import Key, case_key, score_key
from evals.play import Case, play
from evals.score import Score

AT_ONCE: Final = 4
"""Runs at once in a process: each waits for the room most of the time, not for the processor."""

PATIENCE_S: Final = 300.0
"""A run that takes longer is broken off. None takes a tenth of it, if the machine is free."""


class Broken(Exception):
    """A worker process died. What it had finished is kept."""


class Ledger:
    """The scores of one state of the code, in a file."""

    def __init__(self, path: Path, made: About) -> None:
        self._path = path
        self.scores: dict[Key, Score] = {}
        before, found = read_ledger(path)
        if before is not None and before.code == made.code:
            made, self.scores = before, {score_key(score): score for score in found}
        keep(self.scores.values(), made, path)

    def add(self, score: Score) -> None:
        self.scores[score_key(score)] = score
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(score.as_json()) + "\n")


def keep(scores: Iterable[Score], made: About, path: Path) -> None:
    """Write a file that `read_ledger` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(made.as_json()), *(json.dumps(score.as_json()) for score in scores)]
    fresh = path.with_suffix(".new")
    fresh.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    fresh.replace(path)


def read_ledger(path: Path) -> tuple[About | None, list[Score]]:
    """The first line and the scores of a file; nothing if it is not there.

    A line that was cut off by a crash, the last one, is left out.
    """
    values = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError:
            break
    if not values:
        return None, []
    return About.from_json(values[0]), [Score.from_json(row) for row in values[1:]]


def run_cases(cases: Sequence[Case], workers: int) -> Iterator[Score]:
    """Run cases in so many processes, and give each score when it is there."""
    mixed = list(cases)
    random.Random(0).shuffle(mixed)  # so that all workers have about as much to do
    # Whole repeats first, our moderator before the others: what is there if somebody stops it.
    mixed.sort(key=lambda case: (case.seed, case.agent != "moderator"))
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        open_ends: dict[Connection[Any, Any], BaseProcess] = {}
        for number in range(min(workers, len(mixed))):
            ours, theirs = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(
                target=_work, args=(theirs, mixed[number::workers]), daemon=True
            )
            process.start()
            theirs.close()
            stack.callback(process.terminate)
            open_ends[ours] = process
        while open_ends:
            for end in wait(list(open_ends)):
                assert isinstance(end, Connection)
                try:
                    yield Score.from_json(end.recv())
                except EOFError:
                    process = open_ends.pop(end)
                    process.join()
                    if process.exitcode != 0:
                        raise Broken(f"a worker ended with {process.exitcode}") from None


def _work(results: Connection[Any, Any], cases: Sequence[Case]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    gc.set_threshold(20_000)  # a run makes many objects and keeps none: a tenth less time
    asyncio.run(_play_all(results, cases))


async def _play_all(results: Connection[Any, Any], cases: Sequence[Case]) -> None:
    todo = iter(cases)

    async def one_after_another() -> None:
        for case in todo:
            played = await play(case, give_up_s=PATIENCE_S)
            results.send(played.score.as_json())

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_another())


def missing(cases: Sequence[Case], ledger: Ledger) -> list[Case]:
    return [case for case in cases if case_key(case) not in ledger.scores]
