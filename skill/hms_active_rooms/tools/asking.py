"""How a tool that stands alone asks a person: by interrupt in a graph, else by callback, else not.

Threat: a graph re-runs a tool from its start on every resume and hands out saved answers
by position, so an answer can meet a question it was not given for. Invariant: an answer
counts only for the action that the journal recorded as asked at that very place (thread,
graph task, position) before the answer came; and one call per graph task may ask.
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.types import interrupt

from hms_active_rooms.errors import ApprovalNeeded
from hms_active_rooms.gate.approval import (
    ApprovalRequest,
    BadAnswerError,
    Confirm,
    Reject,
    answer_model,
    parse_answer,
)
from hms_active_rooms.gate.calls import StateChange
from hms_active_rooms.gate.drafts import Origin, call_key
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.records import Action
from hms_active_rooms.tools.one_at_a_time import one_at_a_time

# LangGraph's private key for the saver a task runs under. If it is ever renamed, tools
# find no checkpointer and refuse, and the test that holds this name fails.
_CHECKPOINTER_KEY = "__pregel_checkpointer"

MESSAGE_KEY = "hms_message_id"
"""`configurable` key by which a graph tells a tool the id of the message that holds its call."""

_MAX_QUESTIONS = 20
"""Questions about one call in one graph task; a longer run of bad answers ends in a refusal."""


@dataclass(frozen=True)
class Place:
    """Where in a graph a tool runs; None of it outside one.

    Attributes:
        thread: LangGraph thread id.
        task: checkpoint namespace, the same each time this task is run again.
        message: what holds the call: the model's message when the graph tells, else the task.
        can_interrupt: a checkpointer is there to keep the pause.
        approver: who answers interrupts, from `configurable["approver"]`.
    """

    thread: str
    task: str
    message: str
    can_interrupt: bool
    approver: str

    @property
    def origin_thread(self) -> str:
        """The thread calls are recorded under; outside a graph one that no other call has."""
        return self.thread or f"none-{uuid4()}"


def place_of(config: RunnableConfig) -> Place:
    """The place a tool call's config tells."""
    configurable = config.get("configurable") or {}
    thread = configurable.get("thread_id")
    task = configurable.get("checkpoint_ns")
    return Place(
        thread=str(thread) if thread is not None else "",
        task=str(task) if task else "",
        message=str(configurable.get(MESSAGE_KEY) or task or ""),
        can_interrupt=bool(thread and task and configurable.get(_CHECKPOINTER_KEY)),
        approver=str(configurable.get("approver") or ""),
    )


def payload(request: ApprovalRequest, tool_call_id: str) -> dict[str, Any]:
    """The per-call interrupt value; `digest` and `deadline` are beside LangChain's keys."""
    return {
        "type": "tool_approval",
        "tool_call_id": tool_call_id,
        "name": request.tool,
        "args": dict(request.arguments),
        "description": request.text,
        "action_id": request.action_id,
        "digest": request.digest,
        "deadline": request.deadline.isoformat(),
    }


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
    if not place.task:
        return await _through(gate, call, origin, place, tool_call_id, confirm, ask_here)
    # A graph can make one call twice in a message: the second must find the first one's answer.
    async with one_at_a_time(call_key(call, origin)):
        return await _through(gate, call, origin, place, tool_call_id, confirm, ask_here)


async def _through(
    gate: Gate,
    call: StateChange,
    origin: Origin,
    place: Place,
    tool_call_id: str,
    confirm: Confirm | None,
    ask_here: bool,
) -> Action:
    action = await gate.propose(call, origin)
    position = 0
    while True:
        # Approved by another way while we ask: whoever is asked here can still say no.
        waits = action.state == "approved" and await _is_asked(gate, action, place, position)
        if action.state in ("approved", "sent", "unknown") and not waits:
            action = await gate.run(action.id)
        if action.state != "proposed" and not waits:
            return action
        if not ask_here:
            raise ApprovalNeeded("Waiting for a person to approve it.", action_id=action.id)
        if place.can_interrupt:
            action = await _ask_by_interrupt(gate, action, place, position, tool_call_id)
            position += 1
        elif confirm is not None:
            action = await _ask_callback(gate, action, confirm)
        else:
            return await gate.decide(
                action.id,
                Reject("nobody can be asked here: no checkpointer to pause a graph, no callback"),
                by="gate",
                way="gate",
            )


async def _ask_callback(gate: Gate, action: Action, confirm: Confirm) -> Action:
    """Ask by callback until the deadline; whatever else comes back, nothing is approved."""
    request = gate.request(action)
    await gate.asked(action, "callback")
    left_s = (action.expires_at - gate.journal.now()).total_seconds()
    answer: object = None
    try:
        async with asyncio.timeout(max(left_s, 0)):
            answer = await asyncio.to_thread(confirm, request)
            if inspect.isawaitable(answer):
                answer = await answer
    except TimeoutError:
        # Nobody said no: what was approved elsewhere by now stays approved.
        refusal = Reject("nobody answered in time")
        return await gate.decide(action.id, refusal, by="gate", way="gate")
    return await gate.decide(action.id, answer, by="callback", way="callback")


def _key(place: Place, position: int) -> tuple[str, ...]:
    return ("call", place.thread, place.task, str(position))


async def _is_asked(gate: Gate, action: Action, place: Place, position: int) -> bool:
    """Whether this task asks about this call at this position, by interrupt."""
    if not place.can_interrupt:
        return False
    asked = await asyncio.to_thread(gate.journal.asked_at, _key(place, position))
    return asked[:1] == [action.call_key]


async def _ask_by_interrupt(
    gate: Gate, action: Action, place: Place, position: int, tool_call_id: str
) -> Action:
    """One question by interrupt; the newest revision of the call afterwards.

    `position` counts the questions of this task: on a re-run the earlier ones are
    answered from the checkpoint at once, each for the action it was asked for.
    """
    journal = gate.journal
    ask = await gate.place_ask(_key(place, position), [action.call_key, action.id])
    if ask.items[0] != action.call_key or position >= _MAX_QUESTIONS:
        reason = "one call at a time can ask here; another one is asking. Call again afterwards"
        return await gate.decide(action.id, Reject(reason), by="gate", way="gate")
    asked = await asyncio.to_thread(journal.get, ask.items[1]) or action
    if ask.fresh:
        await gate.asked(asked, "interrupt")
    request = gate.request(asked)
    answer = interrupt(payload(request, tool_call_id), response_schema=answer_model(request.digest))
    try:
        if ask.fresh:
            raise BadAnswerError("an answer that was there before the question")
        decision = parse_answer(answer.model_dump(exclude_unset=True), request, place.approver)
    except BadAnswerError as error:
        await gate.bad_answer(asked, str(error), way="interrupt")
    else:
        by = place.approver or "interrupt"
        await gate.decide(asked.id, decision, by=by, way="interrupt")
    return await asyncio.to_thread(journal.latest, action.call_key) or action
