"""A decision on an action, written once, inside one transaction of the journal.

The first decision counts. A person's no counts until the request is sent, also after another's
yes. An answer that is none, or that names another question, moves nothing; nor does one that comes
too late. Both are put on record.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.actions.change import StateChange
from hms_active_rooms.gate.approval import (
    Approve,
    BadAnswerError,
    Edit,
    Refuse,
    Reject,
    parse_answer,
)
from hms_active_rooms.gate.journal.records import (
    NOWHERE,
    OUTSIDE,
    UNSENT,
    Action,
    Grant,
    Way,
    action_id,
    by_person,
)
from hms_active_rooms.gate.journal.workers import this_worker
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.untrusted import storable

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal.store import Writing

_MAX_REASON_CHARS = 2000
_LATE = "It did not count: decided before, or too late."


@dataclass(frozen=True)
class Decided:
    """What became of a decision.

    Attributes:
        counted: it counts; else somebody was first, or it was too late, or it was no answer.
        action: the row by now; the successor when the person edited it.
        newest: the newest revision of the same call by then.
        problem: why it was no answer to this question, so that nothing was decided; else "".
    """

    counted: bool
    action: Action
    newest: Action
    problem: str = ""


def record_decision(
    tx: Writing,
    wanted: Action | str,
    answer: object,
    *,
    by: str,
    way: Way,
    policy: Policy,
    rooms: Collection[str] | None = None,
) -> Decided:
    """Write a decision on a row.

    Args:
        tx: the transaction.
        wanted: the row, as this transaction read it, or its id.
        policy: for how long a grant lasts, and how far it reaches.

    See `Gate.decide` for the rest.
    """
    row = tx.get(wanted) if isinstance(wanted, str) else wanted
    if row is None or (rooms is not None and row.room_id not in rooms):
        # The same words: nobody learns of a room that is not theirs.
        raise no_such_action()
    row.check()
    if isinstance(answer, Refuse):  # nobody's no: it takes back no yes
        answer, by, way = Reject(answer.reason), "gate", "gate"
    try:
        decision = parse_answer(answer)
        named = decision.digest
        if named != row.digest and not (named is None and isinstance(decision, Reject)):
            raise BadAnswerError("the answer names another question than this one")
        by = storable(decision.by or by)
        match decision:
            case Reject():
                return _reject(tx, row, decision.reason, by, way)
            case _ if row.state != "proposed":
                return _did_not_count(tx, row, by, way)
            case Approve(scope="session") if row.gate != "soft":
                raise BadAnswerError("a destructive action cannot be approved for the session")
            case Approve(scope="session") if row.thread.startswith(OUTSIDE):
                raise BadAnswerError(
                    "what another program asks for is approved once, never for the session"
                )
            case Approve(scope="once" | "session"):
                approved = tx.move(row, "approved", by=by, way=way)
                if decision.scope == "session" and not row.thread.startswith(NOWHERE):
                    granted = grant_for(approved, policy, tx.now())
                    tx.add_grant(replace(granted, granted_by=by, action_id=row.id))
                return Decided(True, approved, approved)
            case Edit():
                return _edit(tx, row, decision, by, way)
            case _:
                raise BadAnswerError("an approval is for once or for the session")
    except BadAnswerError as error:
        tx.note(row.id, "bad_answer", by=storable(by), way=way, reason=storable(str(error)))
        return _did_not_count(tx, row, problem=str(error))


def _did_not_count(
    tx: Writing, row: Action, by: str = "", way: Way = "gate", problem: str = ""
) -> Decided:
    newest, now = tx.latest(row.call_key), tx.expire_if_late(row)
    if by_person(way):
        tx.note(row.id, "late_answer", by=by, way=way, reason=_LATE)
    return Decided(False, now, newest or row, problem)


def _reject(tx: Writing, row: Action, reason: str, by: str, way: Way) -> Decided:
    # The words a person edited a row into are the same question: a no to it takes them back.
    while (edited := tx.edited_into(row.id)) is not None:
        row = edited
    # The gate's own refusals say nothing about what a person wants. A person's no ends what was
    # allowed for the session, also if it comes too late for this row.
    if by_person(way):
        tx.revoke_grants(row.thread)
    if row.state not in UNSENT or (row.state == "approved" and not by_person(way)):
        return _did_not_count(tx, row, by, way)
    reason = storable(reason)[:_MAX_REASON_CHARS]
    rejected = tx.move(row, "rejected", by=by, way=way, reason=reason)
    return Decided(True, rejected, rejected)


def _edit(tx: Writing, row: Action, edit: Edit, by: str, way: Way) -> Decided:
    arguments = row.call.arguments()
    if edit.tool not in ("", row.tool):
        raise BadAnswerError("an edit cannot change the tool")
    if edit.whole and (missing := sorted(set(arguments) - set(edit.changes))):
        raise BadAnswerError(f"{missing[0]!r} is missing from the edit; give all arguments")
    changes = {k: v for k, v in edit.changes.items() if k not in arguments or arguments[k] != v}
    try:
        call = row.call.edited(changes)
    except InvalidCall as error:
        raise BadAnswerError(f"the edit is wrong: {str(error).rstrip('.')}") from None
    successor = next_revision(row, call, tx.now(), ttl_s=None).bound(call, row.shown)
    successor = successor.decided("approved", by, way, tx.now())
    successor = replace(successor, edited_from=row.id)
    text = f"edited by the person into action {successor.id}"
    tx.move(row, "rejected", by=by, way=way, reason=text, data={"next": successor.id})
    successor = tx.insert(successor)
    return Decided(True, successor, successor)


def next_revision(row: Action, call: StateChange, now: datetime, *, ttl_s: float | None) -> Action:
    """The row of the next revision of a call; it keeps the deadline if no time to live is given."""
    kept = ("call_key", "thread", "requester", "gate", "content")
    return Action(
        id=action_id(row.call_key, row.revision + 1),
        revision=row.revision + 1,
        call=call,
        impact=None,
        digest="",
        state="proposed",
        created_at=now,
        expires_at=row.expires_at if ttl_s is None else now + timedelta(seconds=ttl_s),
        **{name: getattr(row, name) for name in kept},
    )


def grant_for(action: Action, policy: Policy, now: datetime) -> Grant:
    """The grant that "approve for the session" creates for this action."""
    impact = action.shown
    return Grant(
        tool=action.tool,
        room_id=action.room_id,
        session_id=impact.session_id,
        thread=action.thread,
        requester=action.requester,
        worker=this_worker(),
        audience=action.call.audience(impact),
        most=int(impact.total * (1 + policy.audience_growth)),
        granted_by="",
        action_id="",
        expires_at=now + timedelta(seconds=policy.grant_ttl_s),
    )


def find_grant(tx: Writing, action: Action, policy: Policy) -> Grant | None:
    """What a person allowed for the rest of this session, if it covers this row now."""
    if action.gate != "soft":
        return None
    # The grant's own limit already holds the room for growth.
    wanted = replace(grant_for(action, policy, tx.now()), most=action.shown.total)
    return tx.find_grant(wanted)


def no_such_action() -> InvalidCall:
    """For an id that names nothing."""
    return InvalidCall("There is no such action.", hint="List them with: actions.")
