"""Runs cases in worker processes and keeps every score at once, so that a crash loses none.

The scores are lines of JSON. The first line names the code they are of: with other code,
or other versions of what it stands on, everything runs again.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from hashlib import sha256
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from evals.matrix import Key, case_key, score_key
from evals.play import Case, play
from evals.report import About
from evals.score import Score

AT_ONCE: Final = 4
"""Runs at once in a process: each waits for the room most of the time, not for the processor."""

PATIENCE_S: Final = 300.0
"""A run that takes longer is broken off. None takes a tenth of it, if the machine is free."""

_ROOT: Final = Path(__file__).parent.parent
_CODE: Final = ("skill/hms_active_rooms", "evals")
_TEXTS: Final = (".py", ".yaml", ".md", ".txt")
_LOGS: Final = _ROOT / "evals" / "logs"
_WRITTEN: Final = ("RESULTS.md", "MODEL_CARD.md")


class Broken(Exception):
    """A worker process died. What it had finished is kept."""


def head_of(made: About) -> dict[str, Any]:
    """The first line of a ledger: of what code and on what its scores are."""
    return {
        "code": fingerprint(made),
        "day": made.day.isoformat(),
        "command": made.command,
        "python": made.python,
        "versions": made.versions,
    }


def about_of(head: dict[str, Any]) -> About:
    """What the first line of a ledger says of its runs."""
    versions = tuple((str(name), str(number)) for name, number in head["versions"])
    return About(date.fromisoformat(head["day"]), head["command"], head["python"], versions)


def fingerprint(made: About) -> str:
    """A digest of the code, the scenarios and the versions that scores depend on."""
    digest = sha256(json.dumps([made.python, made.versions]).encode())
    for folder in _CODE:
        for path in sorted((_ROOT / folder).rglob("*")):
            if path.suffix in _TEXTS and _LOGS not in path.parents and path.name not in _WRITTEN:
                digest.update(f"{path.relative_to(_ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


class Ledger:
    """The scores of one state of the code, in a file.

    Args:
        path: the file; made if it is not there, begun anew if it is of other code.
        head: what its first line says.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self._path = path
        self.scores: dict[Key, Score] = {}
        before, found = read_ledger(path)
        # The day and the command may differ, the code may not.
        if before.get("code") == head["code"]:
            self.scores = {score_key(score): score for score in found}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(head), *(json.dumps(s.as_json()) for s in self.scores.values())]
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        fresh.replace(path)

    def add(self, score: Score) -> None:
        """Keep a score, on disk when this returns."""
        self.scores[score_key(score)] = score
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(score.as_json()) + "\n")


def read_ledger(path: Path) -> tuple[dict[str, Any], list[Score]]:
    """The first line and the scores of a file; empty if it is not there.

    A line that was cut off by a crash, the last one, is left out.
    """
    if not path.exists():
        return {}, []
    values = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError:
            break
    head, *rows = values or [{}]
    return head, [Score.from_json(row) for row in rows]


def run_cases(cases: Sequence[Case], workers: int) -> Iterator[Score]:
    """Run cases in so many processes, and give each score when it is there.

    Raises:
        Broken: a worker died.
    """
    mixed = list(cases)
    random.Random(0).shuffle(mixed)  # so that all workers have about as much to do
    mixed.sort(key=lambda case: case.seed)  # whole repeats first, if somebody stops it
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
    """The cases that have no score yet."""
    return [case for case in cases if case_key(case) not in ledger.scores]
