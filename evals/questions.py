"""What a paused agent asks, and a person's replies in the shape each pause wants. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langgraph.types import Interrupt

from evals.people import Garbage, NearMiss, No, Reply, Yes
from hms_active_rooms.capability import capability
from hms_active_rooms.gate.actions import CALLS

EDIT_NOTE = " - so says the moderator"
"""What the editor adds to the words."""


@dataclass(frozen=True)
class Question:
    """One thing a person is asked.

    Attributes:
        interrupt_id: which pause it belongs to.
        tool, arguments: the call.
        text: what is shown.
        digest, action_id: of our gate; empty elsewhere.
        deadline: ISO time, empty for none.
    """

    interrupt_id: str
    tool: str
    arguments: dict[str, Any]
    text: str
    digest: str = ""
    action_id: str = ""
    deadline: str = ""

    @property
    def is_soft(self) -> bool:
        return bool(self.digest) and not capability().tool(self.tool).hints.destructive

    @property
    def edited(self) -> dict[str, Any] | None:
        """The arguments in the editor's words; None where there are none to change."""
        for name in ("message", "reason"):
            if name in CALLS[self.tool].words and self.arguments.get(name):
                return {**self.arguments, name: f"{self.arguments[name]}{EDIT_NOTE}"}
        return None


def questions(interrupts: Sequence[Interrupt]) -> list[Question]:
    found = []
    for interrupt in interrupts:
        value = interrupt.value
        for request in value.get("action_requests", [value]):
            found.append(
                Question(
                    interrupt_id=interrupt.id,
                    tool=request["name"],
                    arguments=dict(request["args"]),
                    text=str(request.get("description", "")),
                    digest=str(request.get("digest", "")),
                    action_id=str(request.get("action_id", "")),
                    deadline=str(request.get("deadline", "")),
                )
            )
    return found


def resume_with(
    interrupts: Sequence[Interrupt],
    asked: Sequence[Question],
    replies: Sequence[Reply],
    somebody_else: str,
) -> dict[str, Any]:
    """Resume values by interrupt id, in the shape each interrupt wants."""
    values: dict[str, Any] = {}
    for interrupt in interrupts:
        mine = [
            (question, answer)
            for question, answer in zip(asked, replies, strict=True)
            if question.interrupt_id == interrupt.id
        ]
        garbage = [answer.value for _, answer in mine if isinstance(answer, Garbage)]
        misses = [answer.kind for _, answer in mine if isinstance(answer, NearMiss)]
        batched = "action_requests" in interrupt.value
        if garbage:
            values[interrupt.id] = garbage[0]
        elif misses:
            asked_here = [question for question, _ in mine]
            values[interrupt.id] = _nearly(misses[0], asked_here, batched, somebody_else)
        elif batched:
            values[interrupt.id] = {"decisions": [_decision(q, a) for q, a in mine]}
        else:
            values[interrupt.id] = _decision(*mine[0])
    return values


def _decision(question: Question, answer: Reply) -> dict[str, Any]:
    digest = {"digest": question.digest} if question.digest else {}
    match answer:
        case Yes(edited=True) if question.edited is not None:
            action = {"name": question.tool, "args": question.edited}
            return {"type": "edit", "edited_action": action, **digest}
        case Yes(session=True) if question.is_soft:
            return {"type": "approve", "scope": "session", **digest}
        case Yes():
            return {"type": "approve", **digest}
        case No():
            return {"type": "reject", "message": answer.reason}
    raise AssertionError(f"{answer} answers nothing")


def _nearly(
    kind: str, asked: Sequence[Question], batched: bool, somebody_else: str
) -> dict[str, Any] | list[Any]:
    decisions = [_decision(question, Yes()) for question in asked]
    match kind:
        case "no digest":
            decisions = [{"type": "approve"} for _ in asked]
        case "the digest of another question":
            decisions = [{**d, "digest": str(d["digest"])[::-1]} for d in decisions]
        case "something besides":
            decisions = [{**d, "approved": True} for d in decisions]
        case "one decision too many":
            decisions = [*decisions, decisions[-1]]
        case "no decision":
            decisions = []
        case _:
            decisions = [
                {
                    "type": "edit",
                    "edited_action": {"name": q.tool, "args": _elsewhere(q, somebody_else)},
                    "digest": q.digest,
                }
                for q in asked
            ]
    if batched:
        return {"decisions": decisions}
    return decisions[0] if len(decisions) == 1 else decisions


def _elsewhere(question: Question, somebody_else: str) -> dict[str, Any]:
    """The same call at another target: somebody else, or the room locked or left open."""
    if question.tool == "hms-end-active-room":
        return {**question.arguments, "lock": question.arguments.get("lock") is not True}
    kept = {name: value for name, value in question.arguments.items() if name != "role"}
    return {**kept, "peer_id": somebody_else}
