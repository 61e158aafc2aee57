"""What a person is asked, which answers count, and how a decision is written to the journal.

A question is an `ApprovalRequest`. An answer is an `Approve`, `Reject` or `Edit`, or a plain dict
that matches one of the answer models exactly. Any other answer does not count, and nothing is sent.

The first decision counts. One exception: a person can still reject an approved action until it is
sent. An answer that is malformed, late or for another question is only recorded.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.actions.change import StateChange
from hms_active_rooms.gate.actions.impact import Impact
from hms_active_rooms.gate.journal import records
from hms_active_rooms.gate.journal.records import Action, Way, action_id
from hms_active_rooms.gate.journal.workers import this_worker
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.plain import explain
from hms_active_rooms.untrusted import storable

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal.store import Writing

Scope = Literal["once", "session"]
"""What an approval covers. `once`: only this action. `session`: also later calls of the same tool for
the same room and audience, in the same conversation and the same session of the room."""


@dataclass(frozen=True)
class Approve:
    """A yes: run exactly the call that was shown.

    Args:
        digest: Copied from the `ApprovalRequest`.
        by: The name of the person, for the journal.
        scope: "once", or "session" for an approval that covers further messages of the conversation, too.
    """

    digest: str
    by: ReasonText = ""
    scope: Scope = "once"


@dataclass(frozen=True)
class Reject:
    """A no: do not run the action.

    Args:
        reason: Told to the model.
        by: The name of the person, for the journal.
        digest: Not needed. If given, it must equal `ApprovalRequest.digest`.
    """

    reason: ReasonText = ""
    by: ReasonText = ""
    digest: str | None = None


@dataclass(frozen=True)
class Edit:
    """A yes with changed arguments.

    Args:
        digest: Copied from the `ApprovalRequest`.
        changes: New values by argument name. Only names in `ApprovalRequest.editable` may get a new value.
        by: The name of the person, for the journal.
        tool: The tool's name, or "". Another name makes the edit invalid.
        whole: Whether `changes` must hold all arguments.
    """

    digest: str
    changes: Mapping[str, object]
    by: ReasonText = ""
    tool: str = ""
    whole: bool = False


Decision = Approve | Reject | Edit


class BadAnswerError(Exception):
    """An answer does not count. Nothing is decided, and the journal records why.

    Code that asks a person may return this error in place of an answer.
    """


@dataclass(frozen=True)
class Refuse:
    """The answer of a program that can ask nobody. A waiting action is rejected, but no approved action."""

    reason: str


@dataclass(frozen=True)
class ApprovalRequest:
    """One question to a person.

    Attributes:
        action_id: The id of this action in the journal.
        tool: The name of the tool.
        arguments: The exact call, with full ids.
        impact: Who is affected, as read from the room for this question.
        digest: Identifies this call and impact. An approval or an edit must repeat it.
        deadline: Later answers do not count.
        gate: "hard" for a destructive tool. If "soft", an approval may cover further messages.
        editable: Names of the arguments that the person may edit.
        text: The whole question in several lines, safe to print on a terminal.
        note: Why the person is asked again, or when the same call was sent before. Else "".
        problem: Why the person's last answer to this question did not count. Else "".
    """

    action_id: str
    tool: str
    arguments: Mapping[str, object]
    impact: Impact
    digest: str
    deadline: datetime
    gate: Literal["soft", "hard"]
    editable: tuple[str, ...]
    text: str
    note: str = ""
    problem: str = ""

    def approve(self, *, by: str = "", scope: Scope = "once") -> Approve:
        """Return an approval of this request.

        Args:
            by: The name of the person, for the journal.
            scope: "once", or "session": for `Policy.grant_ttl_s` seconds, the approval also covers further
                messages of the conversation with the same target and type. For messages only.
        """
        return Approve(self.digest, by, scope)

    def reject(self, reason: str = "", *, by: str = "") -> Reject:
        """Return a rejection of this request."""
        return Reject(reason, by)

    def edit(self, *, by: str = "", **changes: object) -> Edit:
        """Return an approval with changed arguments, as in `request.edit(message="Please be kind")`."""
        return Edit(self.digest, changes, by)


Confirm = Callable[[ApprovalRequest], "Decision | Awaitable[Decision]"]
"""A callback that asks a person. If it does not return a valid answer, the call is rejected."""


MAX_REASON_CHARS = 2000


def _reason(given: object) -> object:
    if isinstance(given, str):
        return storable(given)[:MAX_REASON_CHARS]
    return "" if given is None else given


ReasonText = Annotated[str, BeforeValidator(_reason)]
"""A reason or a name. Null becomes "", and a long text is cut, so that a rejection stays valid."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ApproveAnswer(_Answer):
    """An approval: `{"type": "approve", "digest": ...}`, for a message also with `"scope": "session"`."""

    type: Literal["approve"]
    digest: str
    scope: Scope = "once"


class RejectAnswer(_Answer):
    """A rejection: `{"type": "reject", "message": ...}`. It needs no digest, since a no is safe."""

    type: Literal["reject"]
    message: ReasonText = Field(default="", max_length=MAX_REASON_CHARS)
    digest: str | None = None


class EditedAction(_Answer):
    """The tool's name, and all its arguments as edited."""

    name: str
    args: dict[str, object]


class EditAnswer(_Answer):
    """An edit: `{"type": "edit", "edited_action": {"name": ..., "args": ...}, "digest": ...}`."""

    type: Literal["edit"]
    edited_action: EditedAction
    digest: str


_AnyAnswer = ApproveAnswer | RejectAnswer | EditAnswer
_ANSWER: TypeAdapter[_AnyAnswer] = TypeAdapter(Annotated[_AnyAnswer, Field(discriminator="type")])
_OBJECTS: dict[type[Decision], TypeAdapter[Decision]] = {
    kind: TypeAdapter(kind) for kind in (Approve, Reject, Edit)
}
_SCHEMA = json.dumps(_ANSWER.json_schema())


def answer_schema(digest: str) -> dict[str, Any]:
    """Return the JSON schema of an answer to the request with this digest. No other digest is valid."""
    schema: dict[str, Any] = json.loads(_SCHEMA)
    only = {"const": digest}
    for name in ("ApproveAnswer", "EditAnswer"):
        schema["$defs"][name]["properties"]["digest"] = only
    schema["$defs"]["RejectAnswer"]["properties"]["digest"] = {"anyOf": [only, {"type": "null"}]}
    return schema


def parse_answer(answer: object) -> Decision:
    """Return an answer as `Approve`, `Reject` or `Edit`. Raises BadAnswerError if the answer is not valid."""
    if isinstance(answer, BadAnswerError):
        raise answer
    if not isinstance(answer, dict) and type(answer) not in _OBJECTS:
        raise BadAnswerError(
            f"it is of the type {type(answer).__name__}. A function `confirm` has to return "
            "`request.approve()` or `request.reject()`. A graph has to be resumed with "
            '{"type": "approve", "digest": the digest of the question} or {"type": "reject"}'
        )
    try:
        if isinstance(answer, Decision):
            return _OBJECTS[type(answer)].validate_python(vars(answer))
        parsed = _ANSWER.validate_python(answer)
    except ValidationError as error:
        where = "; copy `digest` from the question" if "digest" in error.errors()[0]["loc"] else ""
        raise BadAnswerError(f"{explain(error, 'field')}{where}") from None
    match parsed:
        case RejectAnswer():
            return Reject(parsed.message, digest=parsed.digest)
        case ApproveAnswer():
            return Approve(parsed.digest, scope=parsed.scope)
        case EditAnswer():
            edited = parsed.edited_action
            return Edit(parsed.digest, edited.args, tool=edited.name, whole=True)


# --- a decision on an action, inside one transaction of the journal -----------------------------


@dataclass(frozen=True)
class Decided:
    """What came of an answer. `counted` says whether the answer decided something."""

    counted: bool  # False if it was not valid, too late, or came after another decision
    action: Action  # as it is now; after an edit, the one with the edited call
    newest: Action  # the newest action for the same call
    problem: str = ""  # why the answer was not valid


def record_decision(
    tx: Writing,
    action_id: str,
    answer: object,
    *,
    by: str,
    way: Way,
    rooms: Collection[str] | None = None,
) -> Decided:
    """Record an answer about an action in the transaction `tx`. All else is as for `Gate.decide`."""
    row = tx.get(action_id)
    if row is None or (rooms is not None and row.room_id not in rooms):
        # The same error in both cases, so that callers learn nothing about other rooms.
        raise no_such_action()
    row.check()
    if isinstance(answer, Refuse):  # not a person's no, so an approval stays
        answer, by, way = Reject(answer.reason), "gate", "gate"
    decision: Decision | None = None
    try:
        decision = parse_answer(answer)
        named = decision.digest
        if named != row.digest and not (named is None and isinstance(decision, Reject)):
            raise BadAnswerError(
                "its digest is not the digest of this question; copy `digest` from the question"
            )
        by = decision.by or storable(by)
        match decision:
            case Reject():
                return _reject(tx, row, decision.reason, by, way)
            case _ if row.state != "proposed":
                return _did_not_count(tx, row, decision, by, way)
            case Approve(scope="session") if row.gate != "soft":
                raise BadAnswerError("a destructive action cannot be approved for the session")
            case Approve(scope="session") if row.thread.startswith(records.OUTSIDE):
                raise BadAnswerError(
                    "a call of another program is approved once, never for the session"
                )
            case Approve():
                more = decision.scope == "session" and not row.thread.startswith(records.NOWHERE)
                return _approve(tx, row, by, way, this_worker() if more else "")
            case Edit():
                return _edit(tx, row, decision, by, way)
    except BadAnswerError as error:
        tx.note(row.id, "bad_answer", by=storable(by), way=way, reason=storable(str(error)))
        return _did_not_count(tx, row, decision, problem=str(error))


def _did_not_count(
    tx: Writing,
    row: Action,
    decision: Decision | None,
    by: str = "",
    way: Way = "gate",
    problem: str = "",
) -> Decided:
    newest, now = tx.latest(row.call_key) or row, tx.expire_if_late(row)
    if isinstance(decision, Edit) and newest.state == "approved":
        tx.note(newest.id, records.OTHER_WORDS, by=by, way=way)
    if records.by_person(way):
        why = "This answer came too late, or after another one."
        tx.note(row.id, "late_answer", by=by, way=way, reason=why)
    return Decided(False, now, newest, problem)


def _approve(tx: Writing, row: Action, by: str, way: Way, granted_in: str = "") -> Decided:
    approved = tx.move(row, "approved", by=by, way=way, granted_in=granted_in)
    return Decided(True, approved, approved)


def _reject(tx: Writing, row: Action, reason: str, by: str, way: Way) -> Decided:
    if records.by_person(way):
        # After an edit or a change of the room there is a newer revision: reject that one.
        row = tx.latest(row.call_key) or row
    counts = row.state == "proposed" or (row.state == "approved" and records.by_person(way))
    if counts:
        row = tx.move(row, "rejected", by=by, way=way, reason=reason)
    # A person's no also ends approvals with the scope "session", even if it comes too late for this
    # action. The gate's own refusals do not.
    if records.by_person(way):
        tx.revoke_grants(row.thread, by=by, way=way)
    return Decided(True, row, row) if counts else _did_not_count(tx, row, None, by, way)


def _edit(tx: Writing, row: Action, edit: Edit, by: str, way: Way) -> Decided:
    if edit.tool not in ("", row.tool):
        raise BadAnswerError("an edit cannot change the tool")
    if edit.whole and (missing := sorted(set(row.call.arguments()) - set(edit.changes))):
        raise BadAnswerError(f"{missing[0]!r} is missing from the edit; give all arguments")
    try:
        call = row.call.edited(dict(edit.changes))
    except InvalidCall as error:
        raise BadAnswerError(f"the edit is wrong: {str(error).rstrip('.')}") from None
    if call == row.call:
        return _approve(tx, row, by, way)
    successor = next_revision(row, call, row.shown, tx.now(), row.expires_at)
    successor = successor.decided("approved", by, way, tx.now(), edited_from=row.id)
    text = f"{records.EDITED_INTO}{successor.id}"
    tx.move(row, "rejected", by=by, way=way, reason=text, data={"next": successor.id})
    successor = tx.insert(successor)
    return Decided(True, successor, successor)


def next_revision(
    row: Action, call: StateChange, impact: Impact, now: datetime, deadline: datetime
) -> Action:
    """Return a new action (`proposed`, not recorded) that replaces `row`, with this call and impact."""
    kept = ("call_key", "thread", "requester", "gate", "content")
    successor = Action(
        id=action_id(row.call_key, row.revision + 1),
        revision=row.revision + 1,
        call=call,
        impact=None,
        digest="",
        state="proposed",
        created_at=now,
        expires_at=deadline,
        **{name: getattr(row, name) for name in kept},
    )
    return successor.bound(call, impact)


def grant_for(tx: Writing, action: Action, policy: Policy) -> Action | None:
    """Return an earlier action whose approval for further messages covers `action`, too, or None."""

    def target(one: Action) -> tuple[object, ...]:
        impact = one.shown
        return one.tool, one.room_id, one.requester, impact.session_id, one.call.audience(impact)

    now, growth = tx.now(), 1 + policy.audience_growth
    since = now - timedelta(seconds=policy.grant_ttl_s)

    def covers(row: Action) -> bool:
        return (
            # If the clock was set back since, nobody knows how old the approval is.
            since < (row.decided_at or records.NO_TIME) <= now
            and row.granted_in == this_worker()
            and target(row) == target(action)
            and action.shown.total <= int(row.shown.total * growth)
        )

    return next(filter(covers, tx.grants(action.thread)), None) if action.gate == "soft" else None


def no_such_action() -> InvalidCall:
    return InvalidCall("There is no such action.", hint="The command `actions` lists all actions.")
