"""An action as it is shown: in words, and as data.

Every question shows the text of `describe`, and every report shows the text of `outcome`.
`ActionView` is the data for `--json`, REST, the page, MCP's structured content and the artifact of a
LangChain tool. Its size is limited, and strangers' text is escaped.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from hms_active_rooms.errors import default_hint
from hms_active_rooms.gate.actions.impact import SHOWN_ROLES
from hms_active_rooms.gate.actions.result import Executed
from hms_active_rooms.gate.approval import ApprovalRequest
from hms_active_rooms.gate.journal.records import (
    EDITED_INTO,
    Action,
    State,
    by_person,
    content_of,
    who,
)
from hms_active_rooms.untrusted import cut, quoted

# How the `note` of an action begins if an earlier revision was approved without a question.
ASKED_ONLY_NOW: Final = "Asked only now"

# Added to the outcome that the model reads, if a person has rejected the call.
NOT_AGAIN: Final = " Do not try again unless the person asks for it."


def describe(action: Action) -> str:
    """Return the question in a few lines: what would happen, to whom, and all texts in full."""
    if action.impact is None:
        # The call was refused before the room was read.
        arguments = action.call.arguments().items()
        return f"{action.tool}: " + ", ".join(f"{k} {quoted(str(v), 200)}" for k, v in arguments)
    lines = action.call.question(action.impact)
    lines += [f"Warning: {warning}" for warning in action.impact.warnings]
    if action.note.startswith(ASKED_ONLY_NOW):
        lines.insert(0, action.note)
    elif action.note and action.revision > 1:  # the note says what has changed
        lines.insert(0, f"Asked again: {action.note}")
    elif action.note:
        lines.append(f"Note: {action.note}")
    return "\n".join(lines)


def already(action: Action, newest: Action | None = None) -> str:
    """If a person decided, return a sentence that says who decided what, how and when. Else return ""."""
    if action.contradiction or action.decided_at is None or not by_person(action.decided_way):
        return ""
    # The newest action for the same call shows whether the person edited the call.
    edited = newest is not None and newest.edited_from == action.id
    word = "rejected" if action.state == "rejected" and not edited else "approved"
    who = f"{quoted(action.decided_by, 60)} ({action.decided_way})"
    who += " with other words" if edited else ""
    return f"Already {word} by {who} at {action.decided_at:%Y-%m-%d %H:%M:%S} UTC."


def outcome(action: Action) -> str:
    """Return what came of an action, in one short text for people and models."""
    if action.contradiction:
        return f"The record of the action {action.id} {action.contradiction}. Nothing is sent."
    edited = action.reason.startswith(EDITED_INTO)
    match action.state:
        case "proposed":
            return f"Not executed: waiting for a person to approve it (action {action.id})."
        case "approved":
            return f"Not executed yet: approved, not sent (action {action.id})."
        case "sent":
            return (
                f"A process began to send the action {action.id}. No answer is on record yet, so it "
                "may have been executed. Do not repeat the call. Look at the action in a moment."
            )
        case "rejected" if by_person(action.decided_way) and not edited:
            who = f" by {quoted(action.decided_by, 40)}" if action.decided_by else ""
            reason = f": {quoted(action.reason, 300)}" if action.reason else ""
            return f"Not executed: rejected{who}{reason}."
        case "rejected" | "expired":
            return f"Not executed: {(action.reason or 'not approved in time').rstrip('.')}."
    text = action.result.text
    if action.edited_from:
        text = f"The person edited the words. {text}"
    return f"{text} {' '.join(action.result.notes)}".strip() + f" (action {action.id})"


def remedy(action: Action) -> str:
    """Return further advice for a person about a failed action; "" if there is none."""
    return _hint(action, for_person=True) if action.state == "failed" else ""


def _hint(action: Action, *, for_person: bool = False) -> str:
    result = action.result
    hint = result.hint or default_hint(result.error, for_person=for_person)
    return "" if action.contradiction or hint in result.text else hint


def sent_before(action: Action, again: Action, now: datetime) -> str:
    """Return a note for the question about `again`: when `action` sent the same call, and its outcome."""
    ago_s = max((now - (action.sent_at or now)).total_seconds(), 0.0)  # clocks can be set back
    ago = f"{ago_s:.0f} s" if ago_s < 120 else f"{ago_s / 60:.0f} min"
    same = content_of(action.call) == again.content
    how = "sent" if same else "asked for, and sent with other words"
    return f"The same call was {how} {ago} ago. {outcome(action)}"


def for_model(action: Action) -> str:
    """Return what came of an action, in words, and what the model should do next."""
    text = outcome(action)
    if action.state == "rejected" and by_person(action.decided_way):
        return text + NOT_AGAIN
    ended = action.state in ("rejected", "failed", "expired")
    return f"{text} {_hint(action) if ended else ''}".rstrip()


# --- as data --------------------------------------------------------------------------------------

MAX_PEOPLE: Final = 20
"""The most people in a view, and the most outcomes of a role removal. Outcomes of people who may
still be in the room come first."""

_OUT: Final = ("removed", "gone", "no longer there")

# The validation context is the number of people to show. Without a context nothing is shortened: for
# a file, or when a view is validated again.


def _cut_to(most: int) -> BeforeValidator:
    return BeforeValidator(lambda text, info: text if info.context is None else cut(text, most))


def _largest(roles: Any, info: ValidationInfo) -> dict[str, int]:
    return dict(roles if info.context is None else roles[:SHOWN_ROLES])


_Name = Annotated[str, _cut_to(40)]
_Word = Annotated[str, _cut_to(24)]
_Line = Annotated[str, _cut_to(200)]
_Roles = Annotated[dict[_Word, int], BeforeValidator(_largest)]
_Time = Annotated[str, BeforeValidator(lambda at: at if isinstance(at, str) else at.isoformat())]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


class PersonView(_View):
    """One person who is affected. A text that was cut ends in an ellipsis."""

    id: str = Field(description="Full peer id.")
    name: _Name
    role: _Word
    user_id: _Word


_People = Annotated[list[PersonView], BeforeValidator(lambda people, info: people[: info.context])]


class ImpactView(_View):
    """The people whom the call affects, as they were shown."""

    kind: str
    session_id: str
    total: int = Field(description="How many people are affected.")
    by_role: _Roles = Field(description="Affected people by role; the largest roles.")
    people: _People = Field(description="The first of the affected people.")
    lock: bool = Field(description="The room is also locked.")
    warnings: list[str]


class OutcomeView(_View):
    """What became of one person when a role was removed."""

    id: str
    name: _Name
    outcome: str


class ResultView(_View):
    """How the sending ended."""

    text: str
    verified: bool | None = Field(description="Whether the room shows the effect; null: not read.")
    notes: list[str]
    people: list[OutcomeView]
    people_left_out: int
    error: str = Field(description="Code of the error, or empty.")


class ActionView(_View):
    """What is known now about one state-changing call."""

    action_id: str
    state: State
    executed: Executed = Field(description="Whether the call changed the room.")
    waiting: bool = Field(description="A person has to decide first. Nothing was executed.")
    tool: str
    room_id: str
    arguments: dict[str, Any] = Field(description="With the full peer id.")
    text: str = Field(description="What came of the call, in words.")
    question: str = Field(description="What a person decides on, in words.")
    impact: ImpactView | None = Field(description="Null if the call was refused at once.")
    digest: str = Field(description="Binds an answer to this call and these people.")
    gate: Literal["soft", "hard"]
    editable: list[str] = Field(description="Arguments whose words an approver may change.")
    note: str = Field(description="Why the person is asked again; else empty.")
    requester: _Line
    created_at: _Time = Field(description="RFC 3339, UTC.")
    deadline: _Time = Field(description="Until when a decision counts; RFC 3339, UTC.")
    approve_at: str = Field(description="Where a person decides, if one has to; else empty.")
    decided_by: _Line = Field(description="The person who decided; empty if none, or not known.")
    decided_way: str
    decided_at: _Time | None
    sent_at: _Time | None
    finished_at: _Time | None
    reason: str
    result: ResultView
    edited_from: str | None = Field(description="The action whose words a person edited.")


def view(
    action: Action, *, approve_at: str = "", text: str = "", people: int | None = MAX_PEOPLE
) -> ActionView:
    """Return an action as data, the same for every interface.

    Args:
        approve_at: Where a person decides. Shown only while the action waits for a decision.
        text: What came of the action, in words. By default, `outcome(action)`.
        people: The most people to show. None shows all people and all texts in full: only for a file.
    """
    same = {name: getattr(action, name, None) for name in ActionView.model_fields}
    result = {name: getattr(action.result, name, None) for name in ResultView.model_fields}
    told = sorted(action.result.people, key=lambda person: person.outcome in _OUT)[:people]
    left_out = len(action.result.people) - len(told)
    other = {
        "action_id": action.id,
        "arguments": action.call.arguments(),
        "text": text or outcome(action),
        "question": describe(action),
        "editable": sorted(action.call.editable),
        "deadline": action.expires_at,
        "approve_at": approve_at if action.waiting else "",
        "decided_by": "" if action.contradiction else who(action.decided_by, action.decided_way),
        "result": {**result, "people": told, "people_left_out": left_out},
    }
    return ActionView.model_validate({**same, **other}, context=people)


def question(request: ApprovalRequest) -> dict[str, Any]:
    """Return one question as plain JSON. LangChain's keys `name`, `args` and `description` come first."""
    problem = f"The last answer did not count: {request.problem}\n\n" if request.problem else ""
    impact = ImpactView.model_validate(request.impact, context=MAX_PEOPLE)
    return {
        "name": request.tool,
        "args": dict(request.arguments),
        "description": problem + request.text,
        "action_id": request.action_id,
        "digest": request.digest,
        "deadline": request.deadline.isoformat(),
        "gate": request.gate,
        "editable": list(request.editable),
        "impact": impact.model_dump(mode="json"),
        "note": request.note,
        "problem": request.problem,
    }
