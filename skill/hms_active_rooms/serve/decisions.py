"""Decisions from people who use another program: list, show, approve, reject, and run.

The first decision on an action counts, whichever way it came. Whoever comes second is told
which one it was, by whom and when. An approval carries the digest that was shown; one with
another digest decides nothing. Whoever decides may go away at any moment: a yes that is on
record is sent.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from hms_active_rooms.errors import ActiveRoomsError, InvalidCall, JournalError
from hms_active_rooms.gate.approval import (
    ApprovalRequest,
    Approve,
    BadAnswerError,
    Decision,
    Edit,
    Reject,
    parse_answer,
)
from hms_active_rooms.gate.calls import parse_call
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.policy import ANY_ROOM
from hms_active_rooms.gate.records import Action, Event
from hms_active_rooms.gate.states import State
from hms_active_rooms.gate.wording import NOBODYS_WAYS, already, outcome
from hms_active_rooms.serve.calls import THREADS
from hms_active_rooms.serve.refusals import refusals_of
from hms_active_rooms.serve.running import run, run_to_end, to_the_end, truthful
from hms_active_rooms.untrusted import storable

MAX_LISTED = 500

_SENT_HERE = ("page", "rest")
"""Ways of deciding after which this server sends, whoever asked."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """One action as a person sees it.

    Attributes:
        action: the row; its state is `expired` as soon as its time is over.
        request: what is asked, with the digest; None when it was refused on the spot.
        events: what happened to it, oldest first.
        newest: the newest revision of the same call, the action itself if there is none.
    """

    action: Action
    request: ApprovalRequest | None
    events: tuple[Event, ...]
    newest: Action


@dataclass(frozen=True)
class Verdict:
    """What became of a decision.

    Attributes:
        counted: it is the one that counts; else somebody was first, or it was too late.
        action: the row by now; the newest revision when it was edited or is asked again.
        text: both in words.
    """

    counted: bool
    action: Action
    text: str


async def list_actions(
    gate: Gate, *, state: State | None = None, room_id: str | None = None, limit: int = 50
) -> list[Action]:
    """The newest actions of the rooms the policy allows, newest first.

    Raises:
        PolicyRefusal: a room the policy does not allow.
        InvalidCall: a limit out of range.
    """
    if not 1 <= limit <= MAX_LISTED:
        raise InvalidCall(f"The limit is 1 to {MAX_LISTED}.")
    if room_id is not None:
        gate.policy.check_room(room_id)
    return await asyncio.to_thread(
        gate.journal.actions,
        state=state,
        # A question whose time is over still has its old state until somebody touches it.
        at=gate.journal.now(),
        room_id=room_id,
        rooms=allowed_rooms(gate),
        limit=limit,
    )


def allowed_rooms(gate: Gate) -> tuple[str, ...] | None:
    """The rooms the policy allows; None: any."""
    return None if ANY_ROOM in gate.policy.rooms else gate.policy.rooms


async def show(gate: Gate, action_id: str) -> Shown:
    """One action and everything that happened to it.

    Raises:
        InvalidCall: no such action in the rooms the policy allows.
    """
    action = await gate.expire_if_late(await _known(gate, action_id))
    events = await asyncio.to_thread(gate.journal.events, action.id)
    request = gate.request(action) if action.impact is not None else None
    return Shown(action, request, tuple(events), await gate.latest(action))


async def asked(gate: Gate, action: Action, way: str) -> None:
    """Record that a person was shown an action that waits."""
    if action.state == "proposed":
        await gate.asked(action, way)


async def decide(gate: Gate, action_id: str, answer: object, *, by: str, way: str) -> Verdict:
    """Write a person's decision and run what it approves.

    Args:
        gate: the gate.
        action_id: which action.
        answer: `{"type": "approve", "digest": ...}`, `{"type": "reject", "message": ...}` or an
            edit, exactly as `gate.approval` describes them.
        by: who decides.
        way: how they were asked ("page", "rest", "elicitation").

    Raises:
        InvalidCall: no such action, or an answer that is none; nothing was decided.
        PolicyRefusal: too many actions a minute (approved, not sent).
        ActiveRoomsError: `executed` is what the row says.
    """
    action = await gate.expire_if_late(await _known(gate, action_id))
    try:
        return await to_the_end(action.id, _decide(gate, action, answer, by, way))
    except JournalError as error:
        raise await truthful(gate, action.id, error) from None


async def _decide(gate: Gate, action: Action, answer: object, by: str, way: str) -> Verdict:
    if action.state == "approved":
        return await _on_approved(gate, action, answer, by, way)
    if action.state != "proposed":
        return await already_decided(gate, action)
    try:
        decision = _understood(gate, action, answer, by)
    except BadAnswerError as error:
        await gate.bad_answer(action, str(error), way=way)
        raise InvalidCall(
            f"That is no answer to this request: {error}. Nothing was decided.",
            hint="Look at the action again and answer what it shows.",
        ) from None
    await gate.decide(action.id, decision, by=by, way=way)
    decided = await gate.get(action.id)
    row = await gate.latest(decided)
    if not is_ours(decided, row, rejects=isinstance(decision, Reject), by=by, way=way):
        return await already_decided(gate, decided)
    if row.state == "approved":
        row = await run(gate, row.id)
    no_before_it_was_sent = row.state == "rejected" and row.decided_way not in NOBODYS_WAYS
    if no_before_it_was_sent and not isinstance(decision, Reject):
        return await already_decided(gate, row)
    return Verdict(True, row, _told(row))


def _understood(gate: Gate, action: Action, answer: object, by: str) -> Decision:
    """The decision, which the gate can carry out: it takes what it cannot for a no.

    Raises:
        BadAnswerError: anything else.
    """
    decision = parse_answer(answer, gate.request(action), by)
    match decision:
        case Approve(scope="session") if action.thread.startswith(THREADS):
            raise BadAnswerError(
                "what a program from outside asks for is approved once, never for the session"
            )
        case Edit():
            try:
                parse_call(action.tool, action.arguments).edited(dict(decision.changes))
            except InvalidCall as error:
                raise BadAnswerError(f"the edit is wrong: {str(error).rstrip('.')}") from None
    return decision


async def already_decided(gate: Gate, action: Action) -> Verdict:
    """For whoever comes after the decision that counts: which one it was, by whom and when.

    Args:
        gate: the gate.
        action: the row they were asked about, as it is now.
    """
    # What was sent is the newest revision of its call: known even if the journal fails by now.
    newest = action if action.sent_at else await gate.latest(action)
    if not (words := already(action)):
        text = outcome(action)
        if action.state == "expired" and action.decided_way == "gate":
            text = f"Too late, nothing is sent. {text}"
        if newest.id != action.id:
            text += f" It went on as action {newest.id}."
        return Verdict(False, newest, text)
    return Verdict(False, newest, f"{words} {outcome(newest)}")


async def run_approved(gate: Gate) -> list[Action]:
    """Send what was approved and not sent before a restart; the rows then.

    For callers of ours, and what anybody asked for and a person approved here: whoever
    approves on the page is told that it runs. The rest belongs to the programs that asked.
    """
    approved = await list_actions(gate, state="approved", limit=MAX_LISTED)
    rows = []
    for action in approved:
        if not action.thread.startswith(THREADS) and action.decided_way not in _SENT_HERE:
            continue
        try:
            rows.append(await run_to_end(gate, action.id))
        except ActiveRoomsError as error:
            # Still approved, or unknown: the row tells whoever asks.
            _log.warning("approved before, not finished: %s: %s", action.id, error.code)
    return rows


async def _known(gate: Gate, action_id: str) -> Action:
    action = await gate.get(action_id.strip().lower()[:64])
    rooms = allowed_rooms(gate)
    if rooms is not None and action.room_id not in rooms:
        _log.warning("refused action %s: another room", action.id)
        refusals_of(gate.journal).add("another_room", f"action {action.id}", "")
        # The words of one that is not there: nobody learns of a room that is not theirs.
        return await gate.get("")
    return action


async def _on_approved(gate: Gate, action: Action, answer: object, by: str, way: str) -> Verdict:
    """Approved and not sent yet: a no is still in time, and a second yes sends what waits."""
    try:
        decision = _understood(gate, action, answer, by)
    except BadAnswerError:
        return await already_decided(gate, action)
    if isinstance(decision, Reject):
        row = await gate.withdraw(action.id, decision.reason, by=by, way=way)
        if row.state == "rejected" and is_ours(row, row, rejects=True, by=by, way=way):
            return Verdict(True, row, outcome(row))
        return await already_decided(gate, row)
    if isinstance(decision, Approve):
        row = await run(gate, action.id)
        if row.sent_at:
            return await already_decided(gate, row)
    return await already_decided(gate, await gate.get(action.id))


def is_ours(row: Action, newest: Action, *, rejects: bool, by: str, way: str) -> bool:
    """Whether the decision in the row is the one just given (or the same by the same person).

    Args:
        row: the row that was decided on, as it is now.
        newest: the newest revision of the same call.
        rejects: whether the decision was a no.
        by: who gave it.
        way: how they were asked.
    """
    edited = newest.edited_from == row.id
    same = rejects == (row.state == "rejected" and not edited)
    return same and (row.decided_by, row.decided_way) == (storable(by), way)


def _told(row: Action) -> str:
    if row.state == "proposed":
        return f"Asked again as action {row.id}: {row.note} Nothing was executed."
    return outcome(row)
