"""What a person is asked, and the only things that count as an answer.

`ApprovalRequest` is what every way of asking shows. An answer is an `Approve`,
`Reject` or `Edit` object, or a plain dict that matches one of them exactly
(`parse_answer`); whatever else comes back is not an answer, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hms_active_rooms.gate.impact import Impact

Scope = Literal["once", "session"]
"""`session`: also the next calls of this tool, room and audience kind, in this thread and session."""


@dataclass(frozen=True)
class Approve:
    """Run exactly what was shown. `digest` is the request's."""

    digest: str
    by: str = ""
    scope: Scope = "once"


@dataclass(frozen=True)
class Reject:
    """Do not run it. `reason` is told to the model."""

    reason: str = ""
    by: str = ""


@dataclass(frozen=True)
class Edit:
    """Run it with other words (`changes`: message, type or reason). `digest` is the request's."""

    digest: str
    changes: Mapping[str, object]
    by: str = ""


Decision = Approve | Reject | Edit


@dataclass(frozen=True)
class ApprovalRequest:
    """One question to a person.

    Attributes:
        action_id: the journal's row.
        tool: tool name of the contract.
        arguments: the exact call, ids in full.
        impact: who it hits, as read from the room when asked.
        digest: binds an answer to this call and this impact.
        deadline: answers after it are not used.
        gate: "soft" or "hard".
        editable: argument names the person may edit.
        text: the same, in words, safe for a terminal (several lines).
        note: why it is asked again, when it is.
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

    def approve(self, *, by: str = "", scope: Scope = "once") -> Approve:
        """An approval of exactly this request."""
        return Approve(self.digest, by, scope)

    def reject(self, reason: str = "", *, by: str = "") -> Reject:
        """A rejection of this request."""
        return Reject(reason, by)

    def edit(self, *, by: str = "", **changes: object) -> Edit:
        """An approval with other words."""
        return Edit(self.digest, changes, by)


Confirm = Callable[[ApprovalRequest], "Decision | Awaitable[Decision]"]
"""A callback that asks a person. Anything but a `Decision` is a refusal."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _ApproveAnswer(_Answer):
    type: Literal["approve"]
    scope: Scope = "once"
    digest: str | None = None


class _RejectAnswer(_Answer):
    type: Literal["reject"]
    message: str = Field(default="", max_length=2000)
    digest: str | None = None


class _EditedAction(_Answer):
    name: str
    args: dict[str, object]


class _EditAnswer(_Answer):
    type: Literal["edit"]
    edited_action: _EditedAction
    digest: str | None = None


class Answer(BaseModel):
    """The plain shape of one answer in an interrupt, as LangChain's UIs send it.

    `{"type": "approve"}`, optionally `"scope": "session"`;
    `{"type": "reject", "message": "..."}`;
    `{"type": "edit", "edited_action": {"name": ..., "args": {...}}}`.
    Each may carry `digest`, which then must be the one that was asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal["approve", "reject", "edit"]
    scope: Scope | None = None
    message: str | None = None
    edited_action: _EditedAction | None = None
    digest: str | None = None


class BadAnswerError(Exception):
    """Not an answer to this request; the text says why. Never leaves the package."""


def parse_answer(answer: object, request: ApprovalRequest, by: str) -> Decision:
    """The decision a plain dict states, matched exactly: no synonyms, no truthiness.

    Raises:
        BadAnswerError: anything else.
    """
    if isinstance(answer, Answer):
        answer = answer.model_dump(exclude_none=True)
    if not isinstance(answer, dict):
        raise BadAnswerError("an answer is an object with a type")
    kinds: dict[object, type[_ApproveAnswer | _RejectAnswer | _EditAnswer]] = {
        "approve": _ApproveAnswer,
        "reject": _RejectAnswer,
        "edit": _EditAnswer,
    }
    kind = answer.get("type")
    model = kinds.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise BadAnswerError("type must be exactly approve, reject or edit")
    try:
        parsed = model.model_validate(answer)
    except ValidationError as error:
        place = ".".join(str(p) for p in error.errors()[0]["loc"])
        raise BadAnswerError(f"the answer is malformed at {place[:80]!r}") from None
    if parsed.digest is not None and parsed.digest != request.digest:
        raise BadAnswerError("the digest is not the one that was asked")
    match parsed:
        case _RejectAnswer():
            return Reject(parsed.message, by)
        case _ApproveAnswer():
            if parsed.scope == "session" and request.gate != "soft":
                raise BadAnswerError("a destructive action cannot be approved for the session")
            return Approve(request.digest, by, parsed.scope)
        case _EditAnswer():
            return Edit(request.digest, _changes(parsed.edited_action, request), by)


def _changes(edited: _EditedAction, request: ApprovalRequest) -> dict[str, object]:
    if edited.name != request.tool:
        raise BadAnswerError("an edit cannot change the tool")
    changes = {
        name: value
        for name, value in edited.args.items()
        if name not in request.arguments or request.arguments[name] != value
    }
    if foreign := sorted(set(changes) - set(request.editable)):
        raise BadAnswerError(f"{foreign[0][:40]!r} cannot be edited")
    if missing := sorted(set(request.arguments) - set(edited.args) - set(request.editable)):
        raise BadAnswerError(f"{missing[0]!r} is missing from the edit")
    return changes
