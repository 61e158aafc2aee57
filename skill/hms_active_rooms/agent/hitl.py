"""One interrupt for a whole turn, in the shape LangChain's human-in-the-loop UIs render and answer.

Asked:    {"action_requests": [{"name", "args", "description"}], "review_configs": [...]}
Answered: {"decisions": [{"type": "approve"} | {"type": "reject", "message"} | {"type": "edit", ...}]}
by position. Pure.
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
    answer: object, requests: Sequence[ApprovalRequest], by: str
) -> list[Decision]:
    """One decision per request, in order, matched exactly.

    Raises:
        BadAnswerError: a wrong shape, a wrong count, or one that is not an answer; none counts then.
    """
    if not isinstance(answer, dict) or set(answer) != {"decisions"}:
        raise BadAnswerError('expected {"decisions": [...]}')
    decisions = answer["decisions"]
    if not isinstance(decisions, list) or len(decisions) != len(requests):
        raise BadAnswerError(
            f"expected exactly {len(requests)} decisions, one per action, in order"
        )
    return [parse_answer(d, r, by) for d, r in zip(decisions, requests, strict=True)]
