"""Lists, shows and decides actions for people who use the page, REST or an MCP client.

The first decision on an action counts, wherever it was made. An approved action is sent to its end,
even if the person or program disconnects. An error after that must not say "not executed", so its
`executed` comes from the journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

from hms_active_rooms import errors
from hms_active_rooms.errors import ActiveRoomsError, InvalidCall
from hms_active_rooms.gate.approval import Approve, BadAnswerError, Reject, parse_answer
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal.records import FINAL, OUTSIDE, Action, Event, Way
from hms_active_rooms.gate.sending import Waits, nobody_waits
from hms_active_rooms.gate.view import already, outcome, remedy
from hms_active_rooms.serve.limits import refusals_of

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal.store import Which

MAX_LISTED = 500
NO_ACTION: Final = "There is no such action."
_SENT_HERE: tuple[Way, ...] = ("page", "rest")
"""If a person approved by one of these, this server sends the action; else the program that asked."""

_log = logging.getLogger(__name__)
_running: set[asyncio.Task[Any]] = set()
_T = TypeVar("_T")


class NoAction(InvalidCall):
    """Raised if there is no such action, or if the policy does not allow its room."""

    code = "no_action"
    default_hint = "List the actions: GET /v1/actions."


class NoAnswer(InvalidCall):
    """Raised if a decision does not fit its question. Nothing was decided. Its `problem` says why."""

    default_hint = "Read the action again, and answer the question that it shows now."
    problem = ""


class StaleDigest(NoAnswer):
    """Raised if a decision has the digest (a hash) of another question than the one that waits now."""

    code = "stale_digest"


@dataclass(frozen=True)
class Verdict:
    """What became of a person's decision.

    Args:
        counted: false if it came too late, or if the policy refuses the action.
        action: the action afterwards, or its newest revision.
        text: what the person is told.
    """

    counted: bool
    action: Action
    text: str


async def list_actions(gate: Gate, *, limit: int = 50, **which: Unpack[Which]) -> list[Action]:
    """Return the newest actions in rooms that the policy allows. `which` are conditions, such as
    `state="sent"`. Raises PolicyRefusal for a `room_id` that the policy does not allow."""
    if (room_id := which.get("room_id")) is not None:
        gate.policy.check_room(room_id)
    which["rooms"] = gate.policy.only_rooms
    return await asyncio.to_thread(gate.journal.actions, limit=limit, **which)


async def show(
    gate: Gate, action_id: str, within: Collection[str] | None = None
) -> tuple[Action, list[Event], Action]:
    """Return an action, its events (oldest first), and its newest revision. If `within` is given, the
    action's thread has to be one of these. Raises NoAction if there is none, or the policy does not allow
    its room."""

    def look() -> tuple[Action, list[Event], Action]:
        with gate.journal.read() as view:
            action, events = view.story(action_id)
            mine = within is None or view.count(id=action_id, within=within)
            if action is None or not mine:
                raise NoAction(NO_ACTION)
            return action, events, view.latest(action.call_key) or action

    action, events, newest = await asyncio.to_thread(look)
    if (rooms := gate.policy.only_rooms) is not None and action.room_id not in rooms:
        refusals_of(gate.journal).add("another_room", f"action {action.id}", "")
        raise NoAction(NO_ACTION)
    return action, events, newest


async def decide_and_run(
    gate: Gate, action_id: str, answer: object, *, by: str, way: Way, waits: Waits = nobody_waits
) -> Verdict:
    """Record a person's decision, and send the action if it is approved.

    Args:
        gate: decides and sends.
        action_id: the action that waits.
        answer: an `Approve`, `Reject` or `Edit`, or a dict with the same fields.
        by: the person's name.
        way: how the person was asked.
        waits: tells whether the calling program still waits.

    Raises:
        NoAction: there is no such action. Nothing was decided.
        NoAnswer: the answer is not valid. Nothing was decided.
        ActiveRoomsError: the action was decided, but not sent. `executed` says whether the room changed.
    """
    return await to_the_end(gate, action_id, _decide(gate, action_id, answer, by, way, waits))


async def _decide(
    gate: Gate, action_id: str, answer: object, by: str, way: Way, waits: Waits
) -> Verdict:
    rooms, decision = gate.policy.only_rooms, None
    with suppress(BadAnswerError):  # `Gate.decide` records what is wrong with the answer
        decision = parse_answer(answer)
    try:
        decided = await gate.decide(action_id, answer, by=by, way=way, rooms=rooms)
    except InvalidCall:
        await show(gate, action_id)  # records the refusal if the policy does not allow the room
        raise
    action = decided.action
    if decided.problem and action.state == "proposed":
        stale = decision is not None and decision.digest not in (None, action.digest)
        told = f"This answer does not count: {decided.problem}. Nothing was decided."
        wrong = (StaleDigest if stale else NoAnswer)(told)
        wrong.problem = decided.problem
        raise wrong
    approving = not isinstance(decision, Reject)
    if action.state == "approved" and (
        decided.counted or (isinstance(decision, Approve) and not decided.problem)
    ):
        # A second yes also sends an action that was approved and not sent. An edit does not,
        # since this person wants other words.
        action = await run(gate, action, waits, new_yes=True)
    if not decided.counted or (approving and action.state == "rejected"):
        return await already_decided(gate, action)
    if approving and action.result.error == errors.PolicyRefusal.code:
        return Verdict(False, action, outcome(action))
    return Verdict(True, action, _now(action))


async def already_decided(gate: Gate, action: Action) -> Verdict:
    """The verdict for a person who decided too late: `action` was decided before, or had expired."""
    # Only the newest revision is ever sent, so a sent action has no newer one.
    newest = action if action.sent_at else await gate.latest(action.id)
    return Verdict(False, newest, told(action, newest))


def told(action: Action, newest: Action) -> str:
    """Return the text for a person who decided too late: who decided before, and how the action ended."""
    if words := already(action, newest):
        return f"{words} {_now(newest)}"
    late = "Too late, nothing is sent. " if action.state == "expired" else ""
    went_on = f" {_now(newest)}" if newest.id != action.id and newest.state != "proposed" else ""
    return f"{late}{outcome(action)}{went_on}"


def _now(action: Action) -> str:
    if action.state == "proposed" and action.revision > 1:
        again = f"The person is asked again, as action {action.id}"
        return f"{again}: {action.note} Nothing was executed."
    return f"{outcome(action)} {remedy(action)}".rstrip()


async def run_approved(gate: Gate) -> list[Action]:
    """Finish what a stopped server left open: look up the outcome of sent actions, and send approved ones.
    Return the actions that were sent. Actions of other programs stay as they are."""
    await gate.look_again()
    rows = []
    for action in await list_actions(gate, state="approved", limit=MAX_LISTED):
        if not action.thread.startswith(OUTSIDE) and action.decided_way not in _SENT_HERE:
            continue
        try:
            row = await to_the_end(gate, action.id, run(gate, action))
            rows += [row] if row.state != "approved" else []
        except ActiveRoomsError as error:
            # The action stays approved or unknown, which its caller is told.
            _log.warning("the approved action %s is not finished: %s", action.id, error.code)
    return rows


# --- sending to the end -------------------------------------------------------------------------


async def to_the_end(gate: Gate, action_id: str, work: Coroutine[Any, Any, _T]) -> _T:
    """Await `work`, which may send the action, and return its result. If the caller is cancelled, `work`
    continues."""
    task = asyncio.create_task(work, name=f"send {action_id}")
    _running.add(task)
    task.add_done_callback(_forget)
    try:
        return await asyncio.shield(task)
    except InvalidCall:
        raise  # nothing was sent, and the action may be another caller's
    except ActiveRoomsError as error:
        raise _by_row(error, await _newest(gate, action_id), action_id) from None


def _forget(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # so that asyncio does not log it; the journal has the outcome


async def run(
    gate: Gate, action: Action, waits: Waits = nobody_waits, *, new_yes: bool = False
) -> Action:
    """Call `Gate.run`. If this raises an error although the action has ended, return the action instead."""
    try:
        if not new_yes and await gate.needs_new_yes(action):
            return action
        return await gate.run(action, waits=waits)
    except ActiveRoomsError:
        row = await _newest(gate, action.id)
        if row is None or row.state not in FINAL:
            raise
        return row


def _by_row(error: ActiveRoomsError, row: Action | None, action_id: str) -> ActiveRoomsError:
    """The error with the `executed` of `row`, which is None if the journal cannot be read."""
    if row is None or row.contradiction:
        hidden = isinstance(error, errors.JournalError) and error.executed == "no"
        text = f"Nobody can tell whether the action {action_id} was sent."
        return errors.OutcomeUnknown(f"{error} {text}") if hidden else error
    if row.state == "approved":
        error.args = (f"{error} The action stays approved. The same call or a new yes sends it.",)
    if row.executed == "no" or error.executed != "no":
        return error
    text = f"The action {row.id} was sent. {error}"
    if row.executed == "maybe":
        return errors.OutcomeUnknown(text)
    return errors.JournalError(text, executed="yes", hint="Do not call again. Look at the action.")


async def _newest(gate: Gate, action_id: str) -> Action | None:
    try:
        return await gate.latest(action_id)
    except (errors.JournalError, InvalidCall):
        return None


@asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run `work` while the block runs, then cancel it. Ignores errors of `work`."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def all_ended(timeout_s: float) -> None:
    """Wait until the actions that this event loop sends have ended. After `timeout_s` seconds cancel
    the rest, whose outcome is then unknown."""
    loop = asyncio.get_running_loop()
    if mine := {task for task in _running if task.get_loop() is loop}:
        _, late = await asyncio.wait(mine, timeout=timeout_s)
        for task in late:
            _log.warning("%s: stopped before its end, so its outcome is unknown", task.get_name())
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
