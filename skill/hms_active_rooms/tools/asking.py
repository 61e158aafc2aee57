"""Asks a person about a tool call: inside a graph by an interrupt, elsewhere by the callback
`confirm`. If neither is possible, nobody is asked and nothing is sent.

Threat: when a graph resumes, LangGraph runs a node again from its start. The first interrupt returns
the first saved answer, the second interrupt the second answer, and so on. If the node asks other
questions this time, an answer is used for a question that the person did not see.

Invariant: the journal records which questions a graph task asked first, second, and so on. A saved
answer counts only for the questions at its position, and only if it repeats their digests.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphInterrupt
from langgraph.types import interrupt

from hms_active_rooms.blocking import in_own_thread
from hms_active_rooms.errors import ActiveRoomsError, BrokenRecord
from hms_active_rooms.gate.actions.change import StateChange
from hms_active_rooms.gate.actions.impact import Impact
from hms_active_rooms.gate.approval import (
    ApprovalRequest,
    BadAnswerError,
    Confirm,
    Refuse,
    answer_schema,
    record_decision,
)
from hms_active_rooms.gate.gate import ANOTHER_ASKS, Gate, refused_again, skip_if_broken
from hms_active_rooms.gate.journal.records import NOWHERE, Action, Origin, Way, call_key, content_of
from hms_active_rooms.gate.view import question

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal.store import Writing

# LangGraph's private config key for a task's checkpointer. If LangGraph renames it, tools find no
# checkpointer and refuse, and a test fails.
_CHECKPOINTER_KEY: Final = "__pregel_checkpointer"

MAX_QUESTIONS: Final = 20  # in one graph task; then the action is rejected
# Prefixes of a position in the journal.
_HEARD: Final = "heard "  # this answer in the graph is recorded
_UNANSWERED: Final = "unanswered "  # the questions were decided without an answer in the graph

_POLL_S: Final = 0.02
_MAX_RESTARTS = 3  # a subgraph that asks this often in one run has no checkpointer, it seems

NOBODY = Refuse(
    "nobody could be asked about this call. To ask a person, a graph needs a checkpointer, and a "
    "`thread_id` in the config of each run. Outside a graph, the toolkit needs a `confirm` function"
)
_FORGETS = Refuse("this subgraph loses each answer; compile it without checkpointer=False")


@dataclass(frozen=True)
class Place:
    """Where in a LangGraph run a tool is called."""

    thread: str  # LangGraph's thread id
    task: str  # the checkpoint namespace, the same when this task runs again; "" outside a graph
    can_interrupt: bool  # a checkpointer can keep the graph paused
    approver: str  # who answers interrupts, or "", from `configurable["approver"]`

    def position(self, number: int) -> str:
        """Return the journal's key for the questions of this task's interrupt `number`, counted from 0."""
        return json.dumps([self.thread, self.task, number])

    def subgraph(self) -> str:
        """Return how each `position` in this run of a subgraph begins; "" outside a subgraph."""
        run, _, _ = self.task.rpartition("|")
        return json.dumps([self.thread, f"{run}|"])[:-2] if ":" in run else ""


def _unbroken(read: Callable[[str], Action | None], name: str) -> Action | BrokenRecord | None:
    try:
        return read(name)
    except BrokenRecord as error:
        return error


def place_of(config: RunnableConfig) -> Place:
    configurable = config.get("configurable") or {}
    given = configurable.get("thread_id")  # of any type; 0 is an id, too
    thread = "" if given is None else str(given)
    task = str(configurable.get("checkpoint_ns") or "")
    can_interrupt = bool(thread and task and configurable.get(_CHECKPOINTER_KEY))
    return Place(thread, task, can_interrupt, str(configurable.get("approver") or ""))


def outside() -> str:
    """Return a new thread name for calls outside a graph, which have no thread id."""
    return f"{NOWHERE}{uuid4()}"


def payload(request: ApprovalRequest, tool_call_id: str) -> dict[str, Any]:
    """Return the value of an interrupt: the dict of `view.question`, with `type` and `tool_call_id` added."""
    return {"type": "tool_approval", "tool_call_id": tool_call_id, **question(request)}


Pause = Callable[[Sequence[ApprovalRequest]], Sequence[object]]
"""Shows questions by one `interrupt`, and returns one answer for each. Raises GraphInterrupt if nobody
has answered yet, and BadAnswerError if the answer does not fit these questions."""


class Interrupts:
    """Asks the questions of one graph task. The function `pause` interrupts the graph."""

    def __init__(
        self, gate: Gate, place: Place, pause: Pause, shown: Way | None = "interrupt"
    ) -> None:
        # `shown`: the way of asking that the journal records; with None, the caller records it.
        self._gate, self._place, self._pause, self._way = gate, place, pause, shown
        self._by = place.approver or "interrupt"
        self._number = 0
        self._on_record = self._forgets = False
        self._problems: dict[str, str] = {}
        self._approved = set[str]()

    async def rows(self, keys: Sequence[str]) -> dict[str, Action]:
        """Record the answers that LangGraph saved. Return the newest action for each known call key."""
        return await asyncio.to_thread(self._rows, keys)

    def _rows(self, keys: Sequence[str]) -> dict[str, Action]:
        pause: GraphInterrupt | None = None
        with self._gate.journal.write() as tx:
            latest = {key: _unbroken(tx.latest, key) for key in keys}
            # An action with a broken record is left out. `Gate.propose` raises an error for its call.
            rows = {key: row for key, row in latest.items() if isinstance(row, Action)}
            calls = {row.call_key for row in rows.values()}
            # Every question is asked again, even if it is decided. LangGraph returns the saved answers
            # in order: an answer that is not taken here would go to the next question.
            while rows and pause is None:
                place = self._place.position(self._number)
                if tx.asked_at(_UNANSWERED + place):
                    self._number += 1
                    continue
                items = tx.asked_at(place)
                known = {row.id: row for row in rows.values()}
                found = [known.get(each) or _unbroken(tx.get, each) for each in items[::2]]
                others = [r for r in found if isinstance(r, Action) and r.call_key not in calls]
                if not items or len(items) % 2 or None in found or others:
                    break
                try:
                    answers = self._answers(map(self._shown, items[::2], found, items[1::2]))
                except GraphInterrupt as nobody_answered:
                    if any(isinstance(r, Action) and r.waiting for r in found):
                        pause = nobody_answered
                    else:
                        # A person has decided already, elsewhere or on the same call earlier in
                        # this task, or nobody can, as the record is broken. No answer may count
                        # here when the task runs again.
                        tx.ask(_UNANSWERED + place, items)
                    continue
                # Each answer is recorded once, however often the task runs again.
                said = hashlib.sha256(repr(answers).encode(errors="replace")).hexdigest()
                if tx.ask(f"{_HEARD}{said} {place}", items):
                    self._hear(tx, rows, items[::2], answers)
        if pause is not None:
            raise pause
        return rows

    def _hear(
        self, tx: Writing, rows: dict[str, Action], ids: Sequence[str], answers: Sequence[object]
    ) -> None:
        for action_id, answer in zip(ids, answers, strict=True):
            with skip_if_broken(action_id):
                decided = record_decision(tx, action_id, answer, by=self._by, way="interrupt")
                newest = decided.newest
                # Two calls can have the same action, if it was held back (`HELD`).
                same = [key for key, one in rows.items() if one.call_key == newest.call_key]
                rows |= dict.fromkeys(same, newest)
                self._problems[newest.id] = decided.problem
                self._approved.update([newest.id] if decided.counted else [])

    def _shown(self, action_id: str, row: object, problem: str) -> ApprovalRequest:
        if isinstance(row, Action) and not row.contradiction:
            return self._gate.request(row, problem)
        # A broken record gets an empty question, so that the other questions keep their positions.
        now, nobody = self._gate.journal.now(), Impact("", "", 0)
        return ApprovalRequest(action_id, "", {}, nobody, "", now, "hard", (), "")

    async def propose(self, call: StateChange, origin: Origin, once: str = "") -> Action:
        """Do what `Gate.propose` does, in a graph task that makes one call only."""
        # The action and the question are recorded in one transaction.
        forgets = await self._has_forgotten(content_of(call))
        shown, first = (None, "") if forgets else (self._way, self._place.position(0))
        action = await self._gate.propose(
            call, origin, is_new=True, shown=shown, place=first, once=once
        )
        self._on_record = not forgets and action.state == "proposed"
        return action

    async def _has_forgotten(self, content: str) -> bool:
        # A subgraph without a checkpointer starts again with each answer, loses it, and asks again.
        run = self._place.subgraph()

        def asked() -> bool:
            with self._gate.journal.read() as view:
                rows = [view.get(items[0]) for items in view.asked_below(run)]
            waiting = [r for r in rows if r and r.state == "proposed" and r.content == content]
            return len(waiting) >= _MAX_RESTARTS

        self._forgets = bool(run) and await asyncio.to_thread(asked)
        return self._forgets

    async def drive(self, actions: Sequence[Action]) -> list[Action | ActiveRoomsError]:
        """Do what `Gate.drive` does, by interrupts. Raises GraphInterrupt if nobody has answered yet."""
        return await self._gate.drive(
            actions,
            self._ask,
            by=self._by,
            way="interrupt",
            on_record=None,
            problems=self._problems,
            approved=self._approved,
        )

    async def _ask(self, requests: Sequence[ApprovalRequest]) -> Sequence[object]:
        refusal: Refuse | None = _FORGETS if self._forgets else Refuse("no valid answer came")
        if not self._forgets and self._number < MAX_QUESTIONS:
            recorded, self._on_record = self._on_record, False
            refusal = None if recorded else await asyncio.to_thread(self._record, requests)
        if refusal is None:
            self._answers(requests)  # raises GraphInterrupt: nobody has answered these yet
        stale = BadAnswerError("the answer came before the question")
        return [refusal or stale for _ in requests]

    def _record(self, requests: Sequence[ApprovalRequest]) -> Refuse | None:
        items = [part for each in requests for part in (each.action_id, each.problem)]
        with self._gate.journal.write(notes_only=True) as tx:
            place = self._place.position(self._number)
            # Two runs may ask the same question. A different question here is another call's.
            if not tx.ask(place, items) and tx.asked_at(place) != items:
                return Refuse(ANOTHER_ASKS)
            for each in requests:
                if self._way is not None:
                    tx.note(each.action_id, "asked", way=self._way, digest=each.digest)
        return None

    def _answers(self, shown: Iterable[ApprovalRequest]) -> Sequence[object]:
        self._number, requests = self._number + 1, list(shown)
        try:
            return self._pause(requests)
        except BadAnswerError as error:
            return [error for _ in requests]


async def perform(
    gate: Gate, call: StateChange, origin: Origin, place: Place, confirm: Confirm | None = None
) -> Action:
    """Record a call, ask a person, and run the call if approved. Return the newest action of the call."""
    if place.can_interrupt:
        # One message can hold the same call twice. The second has to find the answer to the first.
        async with _one_at_a_time(f"{origin} {content_of(call)}"):
            return await _interrupting(gate, call, origin, place)
    way: Way = "callback"
    action = await gate.propose(call, origin, shown=None if confirm is None else way)

    async def ask(requests: Sequence[ApprovalRequest]) -> list[object]:
        return [await _called_back(gate, confirm, request) for request in requests]

    return _ended(await gate.drive([action], ask, by=way, way=way, on_record=[action.id]))


async def _interrupting(gate: Gate, call: StateChange, origin: Origin, place: Place) -> Action:
    def pause(requests: Sequence[ApprovalRequest]) -> list[object]:
        [request] = requests
        schema = answer_schema(request.digest)
        return [interrupt(payload(request, origin.call), response_schema=schema)]

    asks, key = Interrupts(gate, place, pause), call_key(call, origin)
    rows = await asks.rows([key])
    # If a graph goes on from an earlier checkpoint, its step has a new name, but the call has its id.
    action = rows.get(key) or await asks.propose(call, origin, once=origin.call)
    return _ended(await asks.drive([refused_again(action)]))


def _ended(actions: Sequence[Action | ActiveRoomsError]) -> Action:
    [ended] = actions
    if isinstance(ended, ActiveRoomsError):
        raise ended
    return ended


async def _called_back(gate: Gate, confirm: Confirm | None, request: ApprovalRequest) -> object:
    """Return the answer of `confirm`, or a `Refuse` if no valid answer comes before the deadline."""
    if confirm is None:
        return NOBODY
    if request.problem:
        return Refuse(f"the answer does not count, because {request.problem}")
    left_s = (request.deadline - gate.journal.now()).total_seconds()
    first = threading.Lock()  # taken by the answer or by the end of the wait, whichever is first

    def heard(answer: object) -> object:
        if not first.acquire(blocking=False):
            with gate.journal.write() as tx:
                record_decision(tx, request.action_id, answer, by="callback", way="callback")
        return answer

    def called() -> object:
        try:
            answer: object = confirm(request)
        except StopIteration as error:  # asyncio would lose it
            raise RuntimeError("confirm raised StopIteration") from error
        return answer if inspect.isawaitable(answer) else heard(answer)

    async def answered() -> object:
        try:
            # A person thinks long. asyncio's own threads are few, and the journal needs them.
            answer = await in_own_thread(called)
            if inspect.isawaitable(answer):
                answer = await asyncio.to_thread(heard, await answer)
            return answer
        except (SystemExit, KeyboardInterrupt) as error:
            # In a task these would end the event loop, and so all other calls.
            raise RuntimeError(f"confirm raised {type(error).__name__}") from error

    task = asyncio.create_task(answered())
    try:
        await asyncio.wait([task], timeout=max(left_s, 0))
    finally:
        too_late = first.acquire(blocking=False) and not task.done()
    with suppress(TimeoutError):
        if not too_late:
            return await task
    return Refuse("nobody answered in time")


_running: dict[tuple[int, str], object] = {}


@asynccontextmanager
async def _one_at_a_time(key: str) -> AsyncIterator[None]:
    """Let calls with the same key take turns, so that a question is not asked twice. An asyncio lock
    would fail, since the calls may run on different event loops, or in a forked child."""
    place, mine = (os.getpid(), key), object()
    # `setdefault` is atomic. It is the turn of the call whose object is in the dict.
    while _running.setdefault(place, mine) is not mine:  # noqa: ASYNC110 - maybe on another loop
        await asyncio.sleep(_POLL_S)
    try:
        yield
    finally:
        del _running[place]
