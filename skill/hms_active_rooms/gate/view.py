"""One action as every way in shows it: `--json`, REST, the page, MCP's structured content and the
artifact of a LangChain tool. Bounded, with strangers' text escaped. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from hms_active_rooms.gate.actions.impact import SHOWN_ROLES, Impact
from hms_active_rooms.gate.actions.result import Executed, Result
from hms_active_rooms.gate.approval import ApprovalRequest
from hms_active_rooms.gate.journal.records import Action, State, who
from hms_active_rooms.gate.wording import describe, outcome
from hms_active_rooms.untrusted import cut

MAX_PEOPLE: Final = 20
"""Of those who are hit, and of the results of a role removal; those still there come first."""

_OUT: Final = ("removed", "gone", "no longer there")
_NAME_CHARS: Final = 40
_WORD_CHARS: Final = 24
_LINE_CHARS: Final = 200


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PersonView(_View):
    """One person who is hit. A text that was cut ends in an ellipsis."""

    id: str = Field(description="Full peer id.")
    name: str
    role: str
    user_id: str


class ImpactView(_View):
    """Who the call hits, as it was shown."""

    kind: str
    session_id: str
    total: int = Field(description="How many people.")
    by_role: dict[str, int] = Field(description="The largest roles of those.")
    people: list[PersonView] = Field(description="Those named one by one; the first of them.")
    lock: bool = Field(description="The room is also locked.")
    warnings: list[str]


class OutcomeView(_View):
    """What became of one person of a role removal."""

    id: str
    name: str
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
    requester: str
    created_at: str = Field(description="RFC 3339, UTC.")
    deadline: str = Field(description="Until when a decision counts; RFC 3339, UTC.")
    approve_at: str = Field(description="Where a person decides, while it waits; else empty.")
    decided_by: str = Field(description="The person; empty while, and if, nobody decided.")
    decided_way: str
    decided_at: str | None
    sent_at: str | None
    finished_at: str | None
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
    bounded = _cutter(people)
    times = {
        name: moment.isoformat() if (moment := getattr(action, name)) else None
        for name in ("created_at", "decided_at", "sent_at", "finished_at")
    }
    same = {name: getattr(action, name) for name in _SAME}
    return ActionView(
        action_id=action.id,
        waiting=waiting,
        arguments=action.call.arguments(),
        text=text or outcome(action),
        question=describe(action),
        impact=None if action.impact is None else _impact(action.impact, people),
        editable=sorted(action.call.words),
        requester=bounded(action.requester, _LINE_CHARS),
        deadline=action.expires_at.isoformat(),
        approve_at=approve_at if waiting else "",
        decided_by=bounded(who(action.decided_by, action.decided_way), _LINE_CHARS),
        result=_result(action.result, people),
        **same,
        **times,
    )


_SAME: Final = (
    "state", "executed", "tool", "room_id", "digest", "gate", "note", "decided_way", "reason",
    "edited_from",
)  # fmt: skip


def question(request: ApprovalRequest) -> dict[str, Any]:
    """One question as plain JSON, by every way that shows one as such: LangChain's `name`, `args`
    and `description`, then ours. Not every UI shows `problem`, so the description has it too."""
    problem = f"The last answer was not taken: {request.problem}\n\n" if request.problem else ""
    return {
        "name": request.tool,
        "args": dict(request.arguments),
        "description": problem + request.text,
        "action_id": request.action_id,
        "digest": request.digest,
        "deadline": request.deadline.isoformat(),
        "gate": request.gate,
        "editable": list(request.editable),
        "impact": _impact(request.impact, MAX_PEOPLE).model_dump(mode="json"),
        "note": request.note,
        "problem": request.problem,
    }


def _impact(impact: Impact, most: int | None) -> ImpactView:
    bounded, roles = _cutter(most), None if most is None else SHOWN_ROLES
    return ImpactView(
        kind=impact.kind,
        session_id=impact.session_id,
        total=impact.total,
        by_role={bounded(role, _WORD_CHARS): count for role, count in impact.by_role[:roles]},
        people=[
            PersonView(
                id=person.id,
                name=bounded(person.name, _NAME_CHARS),
                role=bounded(person.role, _WORD_CHARS),
                user_id=bounded(person.user_id, _WORD_CHARS),
            )
            for person in impact.people[:most]
        ],
        lock=impact.lock,
        warnings=list(impact.warnings),
    )


def _result(result: Result, most: int | None) -> ResultView:
    bounded = _cutter(most)
    # Those who are still there first.
    people = sorted(result.people, key=lambda person: person.outcome in _OUT)[:most]
    return ResultView(
        text=result.text,
        verified=result.verified,
        notes=list(result.notes),
        people=[
            OutcomeView(id=p.id, name=bounded(p.name, _NAME_CHARS), outcome=p.outcome)
            for p in people
        ],
        people_left_out=len(result.people) - len(people),
        error=result.error,
    )


def _cutter(people: int | None) -> Callable[[str, int], str]:
    return cut if people is not None else lambda text, _: text
