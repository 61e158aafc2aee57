"""One interrupt for a whole turn, in the shape LangChain's human-in-the-loop UIs render and answer.

Asked:    {"action_requests": [{"name", "args", "description"}], "review_configs": [...]}
Answered: {"decisions": [{"type": "approve", "digest"} | {"type": "reject", "message"} | ...]}
by position. `digest` is the request's, in `action_requests`: it ties the answer to what was
shown, since LangGraph gives a plain resume to whatever is pending. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hms_active_rooms.gate.approval import ApprovalRequest, BadAnswerError, Decision, parse_answer


def hitl_request(requests: Sequence[ApprovalRequest], problem: str = "") -> dict[str, Any]:
    """The interrupt value. `problem` says what was wrong with the last answer."""
    value: dict[str, Any] = {
        "action_requests": [
            {
                "name": r.tool,
                "args": dict(r.arguments),
                "description": r.text,
                "action_id": r.action_id,
                "digest": r.digest,
                "deadline": r.deadline.isoformat(),
                "gate": r.gate,
            }
            for r in requests
        ],
        "review_configs": [
            {"action_name": r.tool, "allowed_decisions": ["approve", "edit", "reject"]}
            for r in requests
        ],
    }
    if problem:
        value["problem"] = problem
    return value


def parse_hitl_answer(
    answer: object, requests: Sequence[ApprovalRequest], by: str, *, plain_answers: bool = False
) -> list[Decision]:
    """One decision per request, in order, matched exactly.

    Args:
        plain_answers: take answers without a digest, from UIs that know LangChain's shape only.

    Raises:
        BadAnswerError: a wrong shape, a wrong count, or one that is no answer; none counts then.
    """
    if not isinstance(answer, dict) or set(answer) != {"decisions"}:
        raise BadAnswerError('expected {"decisions": [...]}')
    decisions = answer["decisions"]
    if not isinstance(decisions, list) or len(decisions) != len(requests):
        raise BadAnswerError(
            f"expected exactly {len(requests)} decisions, one per action, in order"
        )
    if plain_answers:
        decisions = [
            {"digest": r.digest, **d} if isinstance(d, dict) else d
            for d, r in zip(decisions, requests, strict=True)
        ]
    return [parse_answer(d, r, by) for d, r in zip(decisions, requests, strict=True)]
