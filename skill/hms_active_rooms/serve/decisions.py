"""Decisions from people who use another program: list, show, approve, reject, and run.

The first decision counts, whichever way it came; whoever comes second is told which one it was.
Whoever decides or calls may go away at any moment: what is approved is sent to its end, and what
comes back is what the row tells: an error of the journal after the request left is no sign that
nothing was executed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
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
"""Ways of deciding after which this server sends, whoever asked."""

_log = logging.getLogger(__name__)

_running: set[asyncio.Task[Any]] = set()

_T = TypeVar("_T")

NO_ACTION: Final = "There is no such action."


class NoAction(InvalidCall):
    """There is no such action, or none in the rooms the policy allows."""

    code = "no_action"
    default_hint = "List those that there are: GET /v1/actions."


class NoAnswer(InvalidCall):
    """What was given is no answer to the question; nothing was decided. `problem`: why."""

    default_hint = "Look at the action again and answer what it shows."
    problem = ""


class StaleDigest(NoAnswer):
    """An answer to another question than this action asks now."""

    code = "stale_digest"


@dataclass(frozen=True)
class Verdict:
    """What became of a decision: whether it is the one that counts, the newest revision of its
    action by now, and both in words."""

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
    """The newest actions of the rooms the policy allows, newest first; see `Reading.actions`.
    PolicyRefusal: a room it does not allow."""
    if room_id is not None:
        gate.policy.check_room(room_id)
    rooms, wanted = gate.policy.only_rooms, gate.journal.actions
    return await asyncio.to_thread(
        wanted, state=state, room_id=room_id, rooms=rooms, within=within, limit=limit
    )


async def show(
    gate: Gate, action_id: str, within: Collection[str] | None = None
) -> tuple[Action, list[Event], Action]:
    """One action, what happened to it, oldest first, and the newest revision of its call. NoAction:
    none in the rooms the policy allows, or in these conversations (see `Reading.actions`)."""

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
    """Write a person's decision and run what it approves. `answer`: see `Gate.decide`. NoAction,
    NoAnswer: nothing was decided; in every other error `executed` is what the row says."""
    return await to_the_end(gate, action_id, _decide(gate, action_id, answer, by, way))


async def _decide(gate: Gate, action_id: str, answer: object, by: str, way: Way) -> Verdict:
    rooms, decision = gate.policy.only_rooms, None
    with suppress(BadAnswerError):  # the gate puts on record what was wrong with it
        decision = parse_answer(answer)
    try:
        decided = await gate.decide(action_id, answer, by=by, way=way, rooms=rooms)
    except InvalidCall:
        await show(gate, action_id)  # what is wanted of another room goes on record
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
        # A second yes sends what waits, too.
        action = await run(gate, action)
    if not decided.counted or (approving and action.state == "rejected"):
        return await already_decided(gate, action)
    return Verdict(True, action, _now(action))


async def already_decided(gate: Gate, action: Action) -> Verdict:
    """For whoever comes after the decision that counts: which one it was, by whom and when.
    `action`: the row they were asked about, as it is now."""
    # What was sent is the newest revision of its call: known even if the journal fails by now.
    newest = action if action.sent_at else await gate.latest(action)
    return Verdict(False, newest, told(action, newest))


def told(action: Action, newest: Action) -> str:
    """What a person reads who answers the question of `action` after it was decided: whose decision
    counted, and what came of it. `newest`: the newest revision of the same call. Pure."""
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
    """Look for what became of what was left half sent, and send what was approved before a restart:
    what programs asked for by MCP or REST, and what a person approved on the page or by REST, who was
    told that it runs. All else is sent by whoever asked. Returns the rows that were sent."""
    await gate.look_again()
    rows = []
    for action in await list_actions(gate, state="approved", limit=MAX_LISTED):
        if not action.thread.startswith(OUTSIDE) and action.decided_way not in _SENT_HERE:
            continue
        try:
            rows.append(await to_the_end(gate, action.id, run(gate, action)))
        except ActiveRoomsError as error:
            # Still approved, or unknown: the row tells whoever asks.
            _log.warning("approved before, not finished: %s: %s", action.id, error.code)
    return rows


# --- sending to the end -------------------------------------------------------------------------


async def to_the_end(gate: Gate, action_id: str, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of work that may send the action, from a task of its own: a cancelled caller
    does not cancel it. In every error `executed` is what the row says."""
    task = asyncio.create_task(work, name=f"send {action_id}")
    _running.add(task)
    task.add_done_callback(_forget)
    try:
        return await asyncio.shield(task)
    except InvalidCall:
        raise  # nothing was tried, and the row may be none of the caller's
    except ActiveRoomsError as error:
        raise _by_row(error, await _newest(gate, action_id), action_id) from None


def _forget(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # taken note of: the row tells what happened, whoever still listens


async def run(gate: Gate, action: Action) -> Action:
    """`gate.run`; once the row has ended it is the answer, whatever went wrong behind it."""
    try:
        return await gate.run(action)
    except ActiveRoomsError:
        row = await _newest(gate, action.id)
        if row is None or row.state not in FINAL:
            raise
        return row


def _by_row(error: ActiveRoomsError, row: Action | None, action_id: str) -> ActiveRoomsError:
    """The error, or one that says what the row says was executed. No row: it cannot be read."""
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
async def meanwhile(
    work: Coroutine[Any, Any, _T], ended: Callable[[asyncio.Task[_T]], None] | None = None
) -> AsyncIterator[None]:
    """Run `work` beside the block, and cancel it when the block ends. An error in `work` ends
    neither the block nor its caller. `ended` is called with the task of `work` once that is over."""
    task = asyncio.create_task(work)
    if ended is not None:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def all_ended(timeout_s: float) -> None:
    """Wait for what is being sent in this loop; what is not done by then is called unknown."""
    loop = asyncio.get_running_loop()
    if mine := {task for task in _running if task.get_loop() is loop}:
        _, late = await asyncio.wait(mine, timeout=timeout_s)
        for task in late:
            _log.warning("stopped before its end: %s; look at the room", task.get_name())
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
