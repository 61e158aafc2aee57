"""Decisions of people who use another program: list, show, approve, reject, and run.

The first decision counts, by whichever way it came; a later one is told which decision counted. The
person and the caller may go away at any time: what is approved is sent to its end. The row tells
what was executed: an error of the journal after the request has left does not mean that nothing was
executed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from hms_active_rooms.errors import ActiveRoomsError, InvalidCall, JournalError, OutcomeUnknown
from hms_active_rooms.gate.approval import BadAnswerError, Reject, parse_answer
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal.records import FINAL, OUTSIDE, Action, Event, State, Way
from hms_active_rooms.gate.view import already, outcome
from hms_active_rooms.serve.limits import refusals_of

MAX_LISTED = 500

_SENT_HERE: tuple[Way, ...] = ("page", "rest")
"""Ways of deciding after which this server sends the request, whoever asked for it."""

_log = logging.getLogger(__name__)

_running: set[asyncio.Task[Any]] = set()

_T = TypeVar("_T")

NO_ACTION: Final = "There is no such action."


class NoAction(InvalidCall):
    """There is no such action, or its room is not allowed by the policy."""

    code = "no_action"
    default_hint = "List those that there are: GET /v1/actions."


class NoAnswer(InvalidCall):
    """The answer is not valid for the question, so nothing was decided. `problem`: why not."""

    default_hint = "Look at the action again and answer what it shows."
    problem = ""


class StaleDigest(NoAnswer):
    """The answer is to another question than the one this action asks now."""

    code = "stale_digest"


@dataclass(frozen=True)
class Verdict:
    """What became of a decision: whether it counts, its action's newest revision, and a text."""

    counted: bool
    action: Action
    text: str


async def list_actions(
    gate: Gate,
    *,
    state: State | None = None,
    room_id: str | None = None,
    within: Collection[str] | None = None,
    limit: int = 50,
) -> list[Action]:
    """The newest actions in the rooms that the policy allows, newest first; see `Reading.actions`.
    Raises PolicyRefusal if `room_id` is not allowed."""
    if room_id is not None:
        gate.policy.check_room(room_id)
    rooms, wanted = gate.policy.only_rooms, gate.journal.actions
    return await asyncio.to_thread(
        wanted, state=state, room_id=room_id, rooms=rooms, within=within, limit=limit
    )


async def show(
    gate: Gate, action_id: str, within: Collection[str] | None = None
) -> tuple[Action, list[Event], Action]:
    """One action, its events (oldest first), and its call's newest revision. Raises NoAction: no
    action, a room that the policy does not allow, or a thread that is not in `within`."""

    def look() -> tuple[Action, list[Event], Action]:
        with gate.journal.read() as view:
            action = view.get(action_id)
            mine = within is None or view.count(id=action_id, within=within)
            if action is None or not mine:
                raise NoAction(NO_ACTION)
            return action, view.events(action.id), view.latest(action.call_key) or action

    action, events, newest = await asyncio.to_thread(look)
    if (rooms := gate.policy.only_rooms) is not None and action.room_id not in rooms:
        refusals_of(gate.journal).add("another_room", f"action {action.id}", "")
        raise NoAction(NO_ACTION)
    return action, events, newest


async def decide_and_run(
    gate: Gate, action_id: str, answer: object, *, by: str, way: Way
) -> Verdict:
    """Record a person's decision (`answer`: see `Gate.decide`) and run what it approves. Raises
    NoAction or NoAnswer if nothing was decided; other errors have the row's `executed`."""
    return await to_the_end(gate, action_id, _decide(gate, action_id, answer, by, way))


async def _decide(gate: Gate, action_id: str, answer: object, by: str, way: Way) -> Verdict:
    rooms, decision = gate.policy.only_rooms, None
    with suppress(BadAnswerError):  # the gate records what is wrong with it
        decision = parse_answer(answer)
    try:
        decided = await gate.decide(action_id, answer, by=by, way=way, rooms=rooms)
    except InvalidCall:
        await show(gate, action_id)  # records it if the action is of another room
        raise
    action = decided.action
    if decided.problem and action.state == "proposed":
        stale = decision is not None and decision.digest not in (None, action.digest)
        told = f"That is no answer to this request: {decided.problem}. Nothing was decided."
        wrong = (StaleDigest if stale else NoAnswer)(told)
        wrong.problem = decided.problem
        raise wrong
    approving = not isinstance(decision, Reject)
    if action.state == "approved" and approving and not decided.problem:
        # A second yes also sends an approved action that is not sent yet.
        action = await run(gate, action)
    if not decided.counted or (approving and action.state == "rejected"):
        return await already_decided(gate, action)
    return Verdict(True, action, _now(action))


async def already_decided(gate: Gate, action: Action) -> Verdict:
    """The verdict for a person who comes after the decision that counts. `action`: the row they
    were asked about, as it is now."""
    # A row that was sent is its call's newest revision, so the journal is not needed here.
    newest = action if action.sent_at else await gate.latest(action.id)
    return Verdict(False, newest, told(action, newest))


def told(action: Action, newest: Action) -> str:
    """What a person reads who answers the question of `action` after it was decided: whose decision
    counted, and what came of it. `newest`: the newest revision of the call. Pure."""
    if words := already(action, newest):
        return f"{words} {_now(newest)}"
    late = "Too late, nothing is sent. " if action.state == "expired" else ""
    went_on = f" {_now(newest)}" if newest.id != action.id else ""
    return f"{late}{outcome(action)}{went_on}"


def _now(action: Action) -> str:
    if action.state == "proposed" and action.revision > 1:
        return f"Asked again as action {action.id}: {action.note} Nothing was executed."
    return outcome(action)


async def run_approved(gate: Gate) -> list[Action]:
    """Look for the effect of requests that were sent but not finished, and send what was approved
    before a restart: calls by MCP or REST, and what a person approved on the page or by REST. All
    else is sent by the program that asked. Returns the rows that were sent."""
    await gate.look_again()
    rows = []
    for action in await list_actions(gate, state="approved", limit=MAX_LISTED):
        if not action.thread.startswith(OUTSIDE) and action.decided_way not in _SENT_HERE:
            continue
        try:
            rows.append(await to_the_end(gate, action.id, run(gate, action)))
        except ActiveRoomsError as error:
            # The row stays approved, or is unknown; it tells that to whoever asks.
            _log.warning("approved before, not finished: %s: %s", action.id, error.code)
    return rows


# --- sending to the end -------------------------------------------------------------------------


async def to_the_end(gate: Gate, action_id: str, work: Coroutine[Any, Any, _T]) -> _T:
    """Run work that may send the action, in a task of its own that the caller's cancellation does
    not stop. Returns its result; `executed` of every error is what the row says."""
    task = asyncio.create_task(work, name=f"send {action_id}")
    _running.add(task)
    task.add_done_callback(_forget)
    try:
        return await asyncio.shield(task)
    except InvalidCall:
        raise  # nothing was tried, and the row may belong to somebody else
    except ActiveRoomsError as error:
        raise _by_row(error, await _newest(gate, action_id), action_id) from None


def _forget(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # retrieved, so asyncio does not log it: the row tells what happened


async def run(gate: Gate, action: Action) -> Action:
    """`gate.run`, but if the row has ended, return it even if an error came afterwards."""
    try:
        return await gate.run(action)
    except ActiveRoomsError:
        row = await _newest(gate, action.id)
        if row is None or row.state not in FINAL:
            raise
        return row


def _by_row(error: ActiveRoomsError, row: Action | None, action_id: str) -> ActiveRoomsError:
    """The error, or one that agrees with the row, which is None if it could not be read."""
    if row is None:
        hidden = isinstance(error, JournalError) and error.executed == "no"
        text = f"Whether the action {action_id} was sent cannot be read."
        return OutcomeUnknown(f"{error} {text}") if hidden else error
    if row.executed == "no" or error.executed != "no":
        return error
    text = f"The action {row.id} was sent. {error}"
    if row.executed == "maybe":
        return OutcomeUnknown(text)
    return JournalError(text, executed="yes", hint="Do not send it again; look at the action.")


async def _newest(gate: Gate, action_id: str) -> Action | None:
    try:
        return await gate.latest(action_id)
    except (JournalError, InvalidCall):
        return None


@asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run `work` beside the block, and cancel it when the block ends. An error in `work` ends
    neither the block nor its caller."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def all_ended(timeout_s: float) -> None:
    """Wait until all requests of this loop are finished. After `timeout_s` seconds, cancel the
    others; their outcome is unknown."""
    loop = asyncio.get_running_loop()
    if mine := {task for task in _running if task.get_loop() is loop}:
        _, late = await asyncio.wait(mine, timeout=timeout_s)
        for task in late:
            _log.warning("stopped before its end: %s; look at the room", task.get_name())
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
