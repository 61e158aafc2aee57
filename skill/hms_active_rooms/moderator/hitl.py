"""One interrupt for a whole turn, in the shape that LangChain's human-in-the-loop UIs use.

Asked:    {"action_requests": [{"name", "args", "description"}], "review_configs": [...]}
Answered: {"decisions": [{"type": "approve", "digest"} | {"type": "reject", "message"} | ...]}

by position. `digest` is that of the request, in `action_requests`. It ties the answer to what was
shown, since LangGraph gives a resume value without an id to any pending interrupt. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hms_active_rooms.gate.approval import BadAnswerError, parse_answer


def hitl_request(requests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The interrupt value for these questions (dicts made by `gate.view.question`). `problem`, if
    set, says why the last answer did not count."""
    value: dict[str, Any] = {
        "action_requests": list(requests),
        "review_configs": [
            {"action_name": r["name"], "allowed_decisions": ["approve", "edit", "reject"]}
            for r in requests
        ],
    }
    problem = next((r["problem"] for r in requests if r["problem"]), "")
    return {**value, "problem": problem} if problem else value


def parse_hitl_answer(
    answer: object, requests: Sequence[dict[str, Any]], *, plain_answers: bool = False
) -> list[dict[str, Any]]:
    """One answer for each request, in order; each matches an answer model and names the right
    digest.

    Args:
        answer: what the graph was resumed with.
        requests: what was asked.
        plain_answers: accept answers without a digest, from UIs that only know LangChain's shape.

    Raises:
        BadAnswerError: wrong shape, wrong count, or one invalid answer; then no answer counts.
    """
    if not isinstance(answer, dict) or set(answer) != {"decisions"}:
        raise BadAnswerError('expected {"decisions": [...]}')
    given = answer["decisions"]
    if not isinstance(given, list) or len(given) != len(requests):
        raise BadAnswerError(
            f"expected exactly {len(requests)} decisions, one per action, in order"
        )
    answers: list[dict[str, Any]] = []
    for one, request in zip(given, requests, strict=True):
        if plain_answers and isinstance(one, dict):
            one = {"digest": request["digest"], **one}
        digest = parse_answer(one).digest
        # A question without a digest is about a broken row, which no answer can change.
        if digest is not None and request["digest"] and digest != request["digest"]:
            raise BadAnswerError("the digest is not the one that was asked")
        answers.append(one)
    return answers
