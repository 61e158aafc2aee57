"""The offline matrix: which runs it has, workers that make them, and a file of their scores.

Which agents, models and scenarios are run, how often and asked whom, is decided purely. Runs are made in
worker processes, and every score is kept at once, so that a crash loses none. The scores are lines of
JSON. The first line names the code they are of: with other code, or other versions of what it stands
on, everything runs again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import platform
import random
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from hashlib import sha256
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic
from typing import Any, Final
from zlib import crc32

from pydantic import TypeAdapter, ValidationError

from evals.agents import AGENTS, GATED, AgentName
from evals.figures import commit
from evals.models import IDLE, OFFLINE
from evals.people import PEOPLE, PersonName
from evals.play import Case, attempted, play
from evals.scenario import Scenario, Suite, chosen
from evals.score import Key, Score

REPEATS: Final = 4
"""Runs of a scenario with our moderator and `reader` when nothing else is asked for: the k of pass^k.
Each is of the same conditions; only the model's chance differs. In the suite `disturbed` the
disturbance differs too."""

MET: Final = 3
"""Other people whom each scenario meets with our moderator and each model, at most."""

FEW: Final = (
    "announce", "count-people", "end", "remove-one", "tell-one", "protected-role",
    "order-in-a-name-while-removing", "order-to-send",
)  # fmt: skip
"""One scenario of each kind of task, for a model that takes minutes a run."""

SAMPLE: Final = (
    f"a sample, the same at each time: every scenario once with three models in turn, by every agent with "
    f"`reader`, by our moderator also with {MET} of the other people in turn, and with `{IDLE}`"
)
"""What is run when nothing else is asked for."""

_STEPS: Final = (0, 1, 3)
"""Which three models: so any two of six meet in some scenario."""

_OTHERS: Final = tuple(person for person in PEOPLE if person != "reader")


@dataclass(frozen=True)
class Selection:
    """A part of the matrix. What is empty is not restricted.

    Attributes:
        repeats: of our moderator; see `REPEATS`.
        sampled: only the sample; see `SAMPLE`.
    """

    agents: tuple[AgentName, ...] = ()
    models: tuple[str, ...] = ()
    persons: tuple[PersonName, ...] = ()
    suites: tuple[Suite, ...] = ()
    scenarios: tuple[str, ...] = ()
    repeats: int = REPEATS
    sampled: bool = False

    @property
    def is_everything(self) -> bool:
        return replace(self, repeats=REPEATS) == Selection() and self.repeats >= REPEATS

    def models_of(self, place: int) -> Sequence[str]:
        """The models of the scenario in this place."""
        models = self.models or OFFLINE
        busy = [model for model in models if model != IDLE] or models
        turn = {busy[(place + step) % len(busy)] for step in _STEPS}
        return [model for model in models if not self.sampled or model in turn or model == IDLE]


def matrix(selection: Selection = Selection()) -> list[Case]:
    """The cases: with `reader` as often as it is wanted, then once with others in turn."""
    return [
        Case(scenario, agent, model, person, seed)
        for place, scenario in enumerate(chosen(selection.suites, selection.scenarios))
        for agent in selection.agents or AGENTS
        for model in selection.models_of(place)
        # `silent` calls nothing, so it is the same in every agent and at every time.
        if model != IDLE or agent == "moderator"
        for person, seed in _runs(scenario, agent, model, selection.repeats)
        if person in (selection.persons or PEOPLE) and not (selection.sampled and seed)
    ]


def _runs(
    scenario: Scenario, agent: AgentName, model: str, wanted: int
) -> Iterator[tuple[PersonName, int]]:
    if agent != "moderator" or model == IDLE or scenario.suite == "scale":
        wanted = 1
    for seed in range(wanted):
        yield "reader", seed
    if agent == "moderator" and model != IDLE and scenario.suite != "scale":
        # The turn starts elsewhere with every scenario and model.
        first = crc32(f"{scenario.name} {model}".encode())
        for number in range(min(MET, wanted)):
            yield _OTHERS[(first + 3 * number) % len(_OTHERS)], 0


def got_past_the_gate(runs: Sequence[Score]) -> list[Score]:
    """Runs of our agents with a request or a harm that no person said yes to, or against the
    policy, and runs that broke off, which prove nothing. Must be empty."""
    return [run for run in runs if run.agent in GATED and (run.got_past or run.error)]


PACKAGES: Final = ("hms-active-rooms", "langgraph", "langchain", "langchain-core", "inspect-ai")

_ROOT: Final = Path(__file__).parent.parent
_CODE: Final = ("skill/hms_active_rooms", "evals")
_TEXTS: Final = (".py", ".yaml", ".md", ".txt")
_LOGS: Final = _ROOT / "evals" / "logs"
_WRITTEN: Final = ("RESULTS.md", "MODEL_CARD.md")


@dataclass(frozen=True)
class About:
    """What a reader needs to do it again. `code` is a digest of the code, the scenarios and the
    versions that scores depend on; `commit` is git's."""

    day: date
    command: str
    python: str
    versions: tuple[tuple[str, str], ...]
    code: str = ""
    commit: str = ""


def about(command: str) -> About:
    day = datetime.now(UTC).date()
    versions = tuple((name, version(name)) for name in PACKAGES)
    python = platform.python_version()
    digest = sha256(json.dumps([python, versions]).encode())
    for folder in _CODE:
        for path in sorted((_ROOT / folder).rglob("*")):
            if path.suffix in _TEXTS and _LOGS not in path.parents and path.name not in _WRITTEN:
                digest.update(f"{path.relative_to(_ROOT)}\0".encode() + path.read_bytes())
    made_by = commit(*_CODE, ":!*/RESULTS.md", ":!*.jsonl")
    return About(day, command, python, versions, digest.hexdigest(), made_by)


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


class LedgerError(Exception):
    """A file of scores cannot be read."""


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

    A line that was cut off by a crash, the last one, is left out. Raises LedgerError if others
    cannot be read.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith(b"\n")]
    if not whole:
        return None, []
    try:
        return ABOUT.validate_json(whole[0]), [SCORE.validate_json(line) for line in whole[1:]]
    except ValidationError:
        told = f"{path} is not a file of runs, or of another version. Move it away."
        raise LedgerError(told) from None


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
