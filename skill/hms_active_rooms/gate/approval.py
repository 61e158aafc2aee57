"""What a person is asked, and the only things that count as an answer.

`ApprovalRequest` is what every way of asking shows. An answer is an `Approve`,
`Reject` or `Edit` object, or a plain dict that matches one of them exactly
(`parse_answer`); whatever else comes back is not an answer, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    TypeAdapter,
    ValidationError,
    create_model,
)

from hms_active_rooms.gate.impact import Impact
from hms_active_rooms.untrusted import storable

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


class ApproveAnswer(_Answer):
    """`{"type": "approve", "digest": ...}`; for soft gates also `"scope": "session"`."""

    type: Literal["approve"]
    digest: str
    scope: Scope = "once"


def _storable(given: object) -> object:
    return storable(given) if isinstance(given, str) else given


ReasonText = Annotated[str, BeforeValidator(_storable)]
"""Why a person says no. Pydantic refuses a lone surrogate, and with it would go the no."""


class RejectAnswer(_Answer):
    """`{"type": "reject", "message": ...}`. It may leave the digest out: no is always safe."""

    type: Literal["reject"]
    message: ReasonText = Field(default="", max_length=2000)
    digest: str | None = None


class EditedAction(_Answer):
    """The call with other words."""

    name: str
    args: dict[str, object]


class EditAnswer(_Answer):
    """`{"type": "edit", "edited_action": {"name", "args"}, "digest": ...}`."""

    type: Literal["edit"]
    edited_action: EditedAction
    digest: str


_AnyAnswer = Annotated[ApproveAnswer | RejectAnswer | EditAnswer, Field(discriminator="type")]
_ANSWER: TypeAdapter[ApproveAnswer | RejectAnswer | EditAnswer] = TypeAdapter(_AnyAnswer)


@lru_cache(maxsize=256)  # a graph that resumes asks for the same one again
def answer_model(digest: str) -> type[RootModel[Any]]:
    """The answers to one request as a model (and a JSON schema): its digest is the only one.

    The digest ties an answer to its question: LangGraph hands out saved answers by
    position, and a plain resume to whatever is pending.
    """
    only = Literal[digest]  # type: ignore[valid-type]
    approve = create_model("ApproveAnswer", __base__=ApproveAnswer, digest=(only, ...))
    reject = create_model("RejectAnswer", __base__=RejectAnswer, digest=(only | None, None))
    edit = create_model("EditAnswer", __base__=EditAnswer, digest=(only, ...))
    return RootModel[Annotated[approve | reject | edit, Field(discriminator="type")]]


class BadAnswerError(Exception):
    """Not an answer to this request; the text says why. Never leaves the package."""


def parse_answer(answer: object, request: ApprovalRequest, by: str) -> Decision:
    """The decision a plain dict states, matched exactly: no synonyms, no truthiness.

    Raises:
        BadAnswerError: anything else.
    """
    if not isinstance(answer, dict):
        raise BadAnswerError("an answer is an object with a type")
    try:
        parsed = _ANSWER.validate_python(answer)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"])[:80]
        raise BadAnswerError(f"{place or 'type'}: {problem['msg'][:200]}") from None
    if parsed.digest is not None and parsed.digest != request.digest:
        raise BadAnswerError("the digest is not the one that was asked")
    match parsed:
        case RejectAnswer():
            return Reject(parsed.message, by)
        case ApproveAnswer():
            if parsed.scope == "session" and request.gate != "soft":
                raise BadAnswerError("a destructive action cannot be approved for the session")
            return Approve(parsed.digest, by, parsed.scope)
        case EditAnswer():
            return Edit(parsed.digest, _changes(parsed.edited_action, request), by)


def _changes(edited: EditedAction, request: ApprovalRequest) -> dict[str, object]:
    if edited.name != request.tool:
        raise BadAnswerError("an edit cannot change the tool")
    if missing := sorted(set(request.arguments) - set(edited.args)):
        raise BadAnswerError(f"{missing[0]!r} is missing from the edit; give all arguments")
    changes = {
        name: value
        for name, value in edited.args.items()
        if name not in request.arguments or request.arguments[name] != value
    }
    if foreign := sorted(set(changes) - set(request.editable)):
        raise BadAnswerError(f"{foreign[0][:40]!r} cannot be edited")
    return changes
