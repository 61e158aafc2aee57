"""What a person is asked, and the only things that count as an answer.

`ApprovalRequest` is what every way of asking shows. An answer is an `Approve`, `Reject` or
`Edit` object, or a plain dict that matches one of the answer models exactly; whatever else comes
back is not an answer, and nothing is sent.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from hms_active_rooms.gate.actions.impact import Impact
from hms_active_rooms.untrusted import storable

Scope = Literal["once", "session"]
"""`session`: also the next calls of this tool, room and audience, in this thread and session."""


@dataclass(frozen=True)
class Approve:
    """Run exactly what was shown. `digest` is the request's."""

    digest: str
    by: str = ""
    scope: Scope = "once"


@dataclass(frozen=True)
class Reject:
    """Do not run it. `reason` is told to the model. A no may name no question: it is always safe."""

    reason: str = ""
    by: str = ""
    digest: str | None = None


@dataclass(frozen=True)
class Edit:
    """Run it with other words: `changes` of message, type or reason.

    An argument that stays as it is may be repeated, and `tool` too. `whole`: `changes` holds all
    arguments, as LangChain's edits do; none may be missing.
    """

    digest: str
    changes: Mapping[str, object]
    by: str = ""
    tool: str = ""
    whole: bool = False


Decision = Approve | Reject | Edit


class BadAnswerError(Exception):
    """What came back is no answer to this request: nothing is decided, and the record says why.
    Raised, or given in place of an answer; never leaves the package."""


@dataclass(frozen=True)
class Refuse:
    """Nobody decided, or nobody can be asked: the gate refuses, and the model is told why."""

    reason: str


@dataclass(frozen=True)
class ApprovalRequest:
    """One question to a person.

    Attributes:
        arguments: the exact call, ids in full.
        impact: who it hits, as read from the room when asked.
        digest: binds an answer to this call and this impact.
        deadline: answers after it are not used.
        editable: argument names the person may edit.
        text: the same, in words, safe for a terminal (several lines).
        note: why it is asked again, when it is.
        problem: what was wrong with the last answer, if it was none.
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
        """An approval of exactly this request."""
        return Approve(self.digest, by, scope)

    def reject(self, reason: str = "", *, by: str = "") -> Reject:
        """A rejection of this request."""
        return Reject(reason, by)

    def edit(self, *, by: str = "", **changes: object) -> Edit:
        """An approval with other words."""
        return Edit(self.digest, changes, by)


Confirm = Callable[[ApprovalRequest], "Decision | Awaitable[Decision]"]
"""A callback that asks a person. What is no `Decision` and no answer model is a refusal."""


ReasonText = Annotated[
    str, BeforeValidator(lambda given: storable(given) if isinstance(given, str) else given)
]
"""Why a person says no. Pydantic refuses a lone surrogate, and with it would go the no."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ApproveAnswer(_Answer):
    """`{"type": "approve", "digest": ...}`; for soft gates also `"scope": "session"`."""

    type: Literal["approve"]
    digest: str
    scope: Scope = "once"


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


_AnyAnswer = ApproveAnswer | RejectAnswer | EditAnswer
_ANSWER: TypeAdapter[_AnyAnswer] = TypeAdapter(Annotated[_AnyAnswer, Field(discriminator="type")])
_SCHEMA = json.dumps(_ANSWER.json_schema())


def answer_schema(digest: str) -> dict[str, Any]:
    """The answers to one request as a JSON schema for clients: its digest is the only one."""
    schema: dict[str, Any] = json.loads(_SCHEMA)
    only = {"const": digest}
    for name in ("ApproveAnswer", "EditAnswer"):
        schema["$defs"][name]["properties"]["digest"] = only
    schema["$defs"]["RejectAnswer"]["properties"]["digest"] = {"anyOf": [only, {"type": "null"}]}
    return schema


def parse_answer(answer: object) -> Decision:
    """The decision an answer states, matched exactly (no synonyms, no truthiness).

    Raises:
        BadAnswerError: anything else.
    """
    if isinstance(answer, Decision):
        return answer
    if isinstance(answer, BadAnswerError):
        raise answer
    if not isinstance(answer, dict):
        raise BadAnswerError("an answer is an object with a type")
    try:
        parsed = _ANSWER.validate_python(answer)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"])[:80]
        raise BadAnswerError(f"{place or 'type'}: {problem['msg'][:200]}") from None
    match parsed:
        case RejectAnswer():
            return Reject(parsed.message, digest=parsed.digest)
        case ApproveAnswer():
            return Approve(parsed.digest, scope=parsed.scope)
        case EditAnswer():
            edited = parsed.edited_action
            return Edit(parsed.digest, edited.args, tool=edited.name, whole=True)
