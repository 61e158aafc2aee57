"""One action as every way in shows it: `--json`, REST, the page, MCP's structured content and the
artifact of a LangChain tool. Bounded, with strangers' text escaped. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from hms_active_rooms.gate.actions.impact import SHOWN_ROLES
from hms_active_rooms.gate.actions.result import Executed
from hms_active_rooms.gate.approval import ApprovalRequest
from hms_active_rooms.gate.journal.records import Action, State, who
from hms_active_rooms.gate.wording import describe, outcome
from hms_active_rooms.untrusted import cut

MAX_PEOPLE: Final = 20
"""Of those who are hit, and of the results of a role removal; those still there come first."""

_OUT: Final = ("removed", "gone", "no longer there")

# The context of a validation says how many people are shown. Without one everything stays whole:
# for a file, and where a view is only checked again.


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
    """One person who is hit. A text that was cut ends in an ellipsis."""

    id: str = Field(description="Full peer id.")
    name: _Name
    role: _Word
    user_id: _Word


_People = Annotated[list[PersonView], BeforeValidator(lambda people, info: people[: info.context])]


class ImpactView(_View):
    """Who the call hits, as it was shown."""

    kind: str
    session_id: str
    total: int = Field(description="How many people.")
    by_role: _Roles = Field(description="The largest roles of those.")
    people: _People = Field(description="Those named one by one; the first of them.")
    lock: bool = Field(description="The room is also locked.")
    warnings: list[str]


class OutcomeView(_View):
    """What became of one person of a role removal."""

    id: str
    name: _Name
    outcome: str


class ResultView(_View):
    """How sending ended."""

    text: str
    verified: bool | None = Field(description="The room showed the effect; null: not looked.")
    notes: list[str]
    people: list[OutcomeView]
    people_left_out: int
    error: str = Field(description="Code of the error that came, or empty.")


class ActionView(_View):
    """One state-changing call: what is known about it by now."""

    action_id: str
    state: State
    executed: Executed = Field(description="Whether it changed the room.")
    waiting: bool = Field(description="A person has to decide first. Nothing was executed.")
    tool: str
    room_id: str
    arguments: dict[str, Any] = Field(description="With the full peer id.")
    text: str = Field(description="What came of it, in words.")
    question: str = Field(description="What a person decides on, in words.")
    impact: ImpactView | None = Field(description="Null: refused before anybody was looked up.")
    digest: str = Field(description="Binds an answer to this call and these people.")
    gate: Literal["soft", "hard"]
    editable: list[str] = Field(description="Arguments an approver may give other words.")
    note: str = Field(description="Why it is asked again, if it is.")
    requester: _Line
    created_at: _Time = Field(description="RFC 3339, UTC.")
    deadline: _Time = Field(description="Until when a decision counts; RFC 3339, UTC.")
    approve_at: str = Field(description="Where a person decides, while it waits; else empty.")
    decided_by: _Line = Field(description="The person; empty while, and if, nobody decided.")
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
    """An action as every way in shows it.

    Args:
        approve_at: where a person decides, while it waits.
        text: what came of it in words; by default `outcome`.
        people: at most so many of those who are hit, and of their results. None: everybody, and
            every text whole, as it is on record; for a file, never for a model or a terminal.
    """
    waiting = action.state == "proposed" and not action.contradiction
    same = {name: getattr(action, name, None) for name in ActionView.model_fields}
    result = {name: getattr(action.result, name, None) for name in ResultView.model_fields}
    told = sorted(action.result.people, key=lambda person: person.outcome in _OUT)[:people]
    left_out = len(action.result.people) - len(told)
    other = {
        "action_id": action.id,
        "waiting": waiting,
        "arguments": action.call.arguments(),
        "text": text or outcome(action),
        "question": describe(action),
        "editable": sorted(action.call.words),
        "deadline": action.expires_at,
        "approve_at": approve_at if waiting else "",
        "decided_by": who(action.decided_by, action.decided_way),
        "result": {**result, "people": told, "people_left_out": left_out},
    }
    return ActionView.model_validate({**same, **other}, context=people)


def question(request: ApprovalRequest) -> dict[str, Any]:
    """One question as plain JSON, by every way that shows one as such: LangChain's `name`, `args`
    and `description`, then ours. Not every UI shows `problem`, so the description has it too."""
    problem = f"The last answer was not taken: {request.problem}\n\n" if request.problem else ""
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
