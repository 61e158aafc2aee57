"""Decisions from people who use another program: list, show, approve, reject, and run.

The first decision on an action counts, whichever way it came. Whoever comes second is told
which one it was, by whom and when. An approval carries the digest that was shown; one with
another digest decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from hms_active_rooms.errors import ActiveRoomsError, InvalidCall
from hms_active_rooms.gate.approval import (
    ApprovalRequest,
    Approve,
    BadAnswerError,
    Reject,
    parse_answer,
)
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.policy import ANY_ROOM
from hms_active_rooms.gate.records import Action, Event
from hms_active_rooms.gate.states import State
from hms_active_rooms.gate.wording import outcome
from hms_active_rooms.serve.calls import THREADS
from hms_active_rooms.serve.running import run_to_end
from hms_active_rooms.untrusted import quoted

MAX_LISTED = 500
_SCANNED = 10_000

_OWN_WAYS = ("policy", "gate", "claim")
"""Decisions that nobody made: the policy, a deadline, a change in the room."""

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
    now = gate.journal.now()
    # A question whose time is over still has its old state until somebody touches it.
    stored = state if state not in ("proposed", "approved", "expired") else None
    # Where every row read is one that is wanted, no more are read than are shown.
    all_fit = state == stored and (room_id is not None or ANY_ROOM in gate.policy.rooms)
    rows = await asyncio.to_thread(
        gate.journal.actions,
        state=stored,
        room_id=room_id,
        limit=limit if all_fit else _SCANNED,
    )
    fit = [r for r in rows if _allowed(gate, r) and state in (None, r.state_at(now))]
    return fit[:limit]


async def show(gate: Gate, action_id: str) -> Shown:
    """One action and everything that happened to it.

    Raises:
        InvalidCall: no such action.
        PolicyRefusal: it is about a room the policy does not allow.
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
        PolicyRefusal: another room, or too many actions a minute (approved, not sent).
        ActiveRoomsError: it was approved; the error says whether anything was executed.
    """
    action = await gate.expire_if_late(await _known(gate, action_id))
    if action.state == "approved":
        return await _on_approved(gate, action, answer, by, way)
    if action.state != "proposed":
        return await _second(gate, action)
    try:
        decision = parse_answer(answer, gate.request(action), by)
    except BadAnswerError as error:
        await gate.bad_answer(action, str(error), way=way)
        raise InvalidCall(
            f"That is no answer to this request: {error}. Nothing was decided.",
            hint="Look at the action again and answer what it shows.",
        ) from None
    await gate.decide(action.id, decision, by=by, way=way)
    decided = await gate.get(action.id)
    row = await gate.latest(decided)
    if not _is_ours(decided, row, isinstance(decision, Reject), by, way):
        return await _second(gate, decided)
    if row.state == "approved":
        row = await run_to_end(gate, row.id)
        if row.state == "rejected" and row.decided_way not in _OWN_WAYS:
            return await _second(gate, row)  # a no came in before it was sent
    return Verdict(True, row, _told(row))


async def run_approved(gate: Gate) -> list[Action]:
    """Send what was approved for a caller of ours and not sent before a restart; the rows then."""
    approved = await list_actions(gate, state="approved", limit=MAX_LISTED)
    rows = []
    for action in approved:
        if not action.thread.startswith(THREADS):
            continue
        try:
            rows.append(await run_to_end(gate, action.id))
        except ActiveRoomsError as error:
            # Still approved, or unknown: the row tells whoever asks.
            _log.warning("approved before, not finished: %s: %s", action.id, error.code)
    return rows


async def _known(gate: Gate, action_id: str) -> Action:
    action = await gate.get(action_id.strip().lower()[:64])
    gate.policy.check_room(action.room_id)
    return action


def _allowed(gate: Gate, action: Action) -> bool:
    return ANY_ROOM in gate.policy.rooms or action.room_id in gate.policy.rooms


async def _on_approved(gate: Gate, action: Action, answer: object, by: str, way: str) -> Verdict:
    """Approved and not sent yet: a no is still in time, and a second yes sends what waits."""
    try:
        decision = parse_answer(answer, gate.request(action), by)
    except BadAnswerError:
        return await _second(gate, action)
    if isinstance(decision, Reject):
        row = await gate.withdraw(action.id, decision.reason, by=by, way=way)
        if row.state == "rejected" and _is_ours(row, row, True, by, way):
            return Verdict(True, row, outcome(row))
        return await _second(gate, row)
    if isinstance(decision, Approve):
        await run_to_end(gate, action.id)
    return await _second(gate, await gate.get(action.id))


def _is_ours(row: Action, newest: Action, rejects: bool, by: str, way: str) -> bool:
    """Whether the decision in the row is the one just given (or the same by the same person)."""
    edited = newest.edited_from == row.id
    same = rejects == (row.state == "rejected" and not edited)
    return same and (row.decided_by, row.decided_way) == (by, way)


async def _second(gate: Gate, action: Action) -> Verdict:
    """For whoever comes after the decision that counts."""
    newest = await gate.latest(action)
    if action.state == "expired" and action.decided_way in _OWN_WAYS:
        text = outcome(action)
        if newest.id != action.id:
            text += f" It went on as action {newest.id}."
        return Verdict(False, newest, text)
    word = "rejected" if action.state == "rejected" else "approved"
    when = f" at {action.decided_at:%Y-%m-%d %H:%M:%S} UTC" if action.decided_at else ""
    who = f"{quoted(action.decided_by, 60)} ({quoted(action.decided_way, 40)[1:-1]})"
    return Verdict(False, newest, f"Already {word} by {who}{when}. {outcome(newest)}")


def _told(row: Action) -> str:
    if row.state == "proposed":
        return f"Asked again as action {row.id}: {row.note} Nothing was executed."
    return outcome(row)
