"""How a tool that stands alone asks a person: by interrupt in a graph, else by callback, else not.

Threat: a graph re-runs a tool from its start on every resume and hands out saved answers by
position, so an answer can meet a question it was not given for. Invariant: the journal records
which question was asked at which position of a graph task; on a re-run each saved answer meets
that very question, whose digest it has to name; and one call of a graph task may ask.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.types import interrupt

from hms_active_rooms.errors import ApprovalNeeded
from hms_active_rooms.gate.actions.change import StateChange
from hms_active_rooms.gate.approval import (
    ApprovalRequest,
    BadAnswer,
    Confirm,
    Refuse,
    answer_schema,
)
from hms_active_rooms.gate.gate import Asking, Gate, refused_again
from hms_active_rooms.gate.journal.records import UNSENT, Action, Origin, call_key
from hms_active_rooms.tools.one_at_a_time import one_at_a_time

# LangGraph's private key for the saver a task runs under. If it is ever renamed, tools
# find no checkpointer and refuse, and the test that holds this name fails.
_CHECKPOINTER_KEY = "__pregel_checkpointer"

MESSAGE_KEY = "hms_message_id"
"""`configurable` key by which a graph tells a tool the id of the message that holds its call."""

THREAD_KEY = "hms_thread"
"""`configurable` key by which a graph without a thread id tells a tool the name of its run."""

_MAX_QUESTIONS = 20
"""Questions about one call in one graph task; a longer run of bad answers ends in a refusal."""

_NOBODY = Refuse("nobody can be asked here: no checkpointer to pause a graph, no callback")
_ANOTHER = Refuse("one call at a time can ask here; another one is asking. Call again afterwards")


@dataclass(frozen=True)
class Place:
    """Where in a LangGraph run a tool is called; fields are empty outside a graph.

    Attributes:
        thread: LangGraph thread id.
        task: checkpoint namespace, the same each time this task is run again.
        message: what holds the call: the model's message when the graph tells, else the task.
        can_interrupt: a checkpointer is there to keep the pause.
        approver: who answers interrupts, from `configurable["approver"]`.
        run: names the run of a graph without a thread id.
    """

    thread: str
    task: str
    message: str
    can_interrupt: bool
    approver: str
    run: str = ""

    @property
    def origin_thread(self) -> str:
        """The thread calls are recorded under; outside a graph one that no other call has."""
        return self.thread or self.run or f"none-{uuid4()}"

    def position(self, number: int) -> str:
        """The journal's name of the n-th question of this task."""
        return json.dumps([self.thread, self.task, number])


def place_of(config: RunnableConfig) -> Place:
    """The place that a tool call's config tells."""
    configurable = config.get("configurable") or {}
    thread = configurable.get("thread_id")
    task = configurable.get("checkpoint_ns")
    return Place(
        thread=str(thread) if thread is not None else "",
        task=str(task) if task else "",
        message=str(configurable.get(MESSAGE_KEY) or task or ""),
        can_interrupt=bool(thread and task and configurable.get(_CHECKPOINTER_KEY)),
        approver=str(configurable.get("approver") or ""),
        run=str(configurable.get(THREAD_KEY) or ""),
    )


def payload(request: ApprovalRequest, tool_call_id: str) -> dict[str, Any]:
    """The per-call interrupt value; what stands beside LangChain's keys is ours."""
    value = {
        "type": "tool_approval",
        "tool_call_id": tool_call_id,
        "name": request.tool,
        "args": dict(request.arguments),
        "description": request.text,
        "action_id": request.action_id,
        "digest": request.digest,
        "deadline": request.deadline.isoformat(),
    }
    return {**value, "problem": request.problem} if request.problem else value


async def perform(
    gate: Gate,
    call: StateChange,
    origin: Origin,
    place: Place,
    *,
    tool_call_id: str,
    confirm: Confirm | None = None,
    ask_here: bool = True,
) -> Action:
    """Propose, ask, run: the whole life of one state-changing tool call.

    Args:
        ask_here: False when the caller's graph asks by itself.

    Raises:
        ApprovalNeeded: a person has to decide and cannot be asked here; nothing was executed.
        GraphInterrupt: the graph pauses to ask.
        ActiveRoomsError: refused, or the room or the journal cannot be read.
    """
    if not ask_here:
        action = await gate.run(await gate.propose(call, origin))
        if action.state == "proposed":
            raise ApprovalNeeded("Waiting for a person to approve it.", action_id=action.id)
        return action
    if place.can_interrupt:
        # A graph can make one call twice in a message: the second must find the first one's answer.
        async with one_at_a_time(call_key(call, origin)):
            return await _Interrupts(gate, call, origin, place, tool_call_id).perform()
    if confirm is None:
        action = await gate.propose(call, origin)
        return await gate.drive(action, _nobody, by="gate", way="callback", shown=True)
    action = await gate.propose(call, origin, asking=Asking("callback"))
    return await gate.drive(
        action, _Callback(gate, confirm).ask, by="callback", way="callback", shown=True
    )


async def _nobody(_: ApprovalRequest) -> Refuse:
    return _NOBODY


class _Callback:
    """Asks by callback until the deadline; whatever else comes back, nothing is approved."""

    def __init__(self, gate: Gate, confirm: Confirm) -> None:
        self._gate = gate
        self._confirm = confirm

    async def ask(self, request: ApprovalRequest) -> object:
        """The callback's answer."""
        if request.problem:
            return Refuse(f"the answer was not understood: {request.problem}")
        left_s = (request.deadline - self._gate.journal.now()).total_seconds()
        try:
            async with asyncio.timeout(max(left_s, 0)):
                answer: object = await asyncio.to_thread(self._confirm, request)
                if inspect.isawaitable(answer):
                    answer = await answer
        except TimeoutError:
            return Refuse("nobody answered in time")
        return Refuse("the answer was not understood") if answer is None else answer


class _Interrupts:
    """One call in one graph task, asked about by interrupts."""

    def __init__(
        self, gate: Gate, call: StateChange, origin: Origin, place: Place, tool_call_id: str
    ) -> None:
        self._gate = gate
        self._call = call
        self._origin = origin
        self._place = place
        self._tool_call_id = tool_call_id
        self._key = call_key(call, origin)
        self._number = 0
        self._recorded = False

    async def perform(self) -> Action:
        """Give the saved answers to the questions they were given for, then go on asking."""
        action, asked = await asyncio.to_thread(self._look)
        if action is None:
            first = Asking("interrupt", self._place.position(0), _ANOTHER.reason)
            action = await self._gate.propose(self._call, self._origin, asking=first, looked=True)
            self._recorded = action.state == "proposed"
        else:
            refused_again(action)
        by, problem = self._place.approver or "interrupt", ""
        for row, before in asked if action.state in UNSENT else ():
            answer = self._interrupt(self._gate.request(row, before))
            if row.state in UNSENT and self._number == len(asked):
                decided = await self._gate.decide(row.id, answer, by=by, way="interrupt")
                problem = decided.problem
                action = decided.action if action.id == row.id else action
        return await self._gate.drive(
            action, self._ask, by=by, way="interrupt", shown=self._recorded, problem=problem
        )

    def _look(self) -> tuple[Action | None, list[tuple[Action, str]]]:
        """The newest row of the call, and the rows this task has asked about, in their order."""
        asked: list[tuple[Action, str]] = []
        with self._gate.journal.read() as view:
            action = view.latest(self._key)
            if action is not None:
                while items := view.asked_at(self._place.position(len(asked))):
                    key, action_id, problem = items
                    row = action if action.id == action_id else view.get(action_id)
                    if key != self._key or row is None:
                        break
                    asked.append((row, problem))
        return action, asked

    async def _ask(self, request: ApprovalRequest) -> object:
        """One question, at the next position of the task."""
        if self._number >= _MAX_QUESTIONS:
            return Refuse("no valid answer came")
        if not self._recorded and not await asyncio.to_thread(self._record, request):
            return _ANOTHER
        self._recorded = False
        self._interrupt(request)  # pauses, as nobody has seen this question yet
        return BadAnswer("an answer that was there before the question")

    def _record(self, request: ApprovalRequest) -> bool:
        items = [self._key, request.action_id, request.problem]
        with self._gate.journal.write() as tx:
            return tx.ask(self._place.position(self._number), items)

    def _interrupt(self, request: ApprovalRequest) -> object:
        self._number += 1
        return interrupt(
            payload(request, self._tool_call_id), response_schema=answer_schema(request.digest)
        )
