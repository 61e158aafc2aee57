"""A turn's answers: each matched exactly and to its question, all of them or none."""

from __future__ import annotations

import pytest

from hms_active_rooms.gate.approval import BadAnswerError
from hms_active_rooms.moderator.moderator import parse_hitl_answer

ASKED = {"name": "hms-send-message", "digest": "d" * 64}
APPROVE = {"type": "approve", "digest": "d" * 64}


def test_answers_without_a_digest_count_only_where_code_says_so() -> None:
    answer = {"decisions": [{"type": "approve"}]}
    with pytest.raises(BadAnswerError, match="digest"):
        parse_hitl_answer(answer, [ASKED])
    assert parse_hitl_answer(answer, [ASKED], plain_answers=True) == [APPROVE]
    for plain_answers in (False, True):
        stale = {"decisions": [{"type": "approve", "digest": "e" * 64}]}
        with pytest.raises(BadAnswerError, match="digest"):
            parse_hitl_answer(stale, [ASKED], plain_answers=plain_answers)


def test_a_turns_answer_counts_wholly_or_not_at_all() -> None:
    for answer in [
        {"decisions": []},
        {"decisions": [APPROVE]},
        {"decisions": [APPROVE] * 3},
        {"decisions": {"0": APPROVE, "1": APPROVE}},
        {"decisions": [APPROVE, "yes"]},
        {"decisions": [APPROVE, {"type": "reject", "digest": "e" * 64}]},
        {"decisions": [APPROVE, APPROVE], "extra": 1},
        [APPROVE, APPROVE],
        "yes",
        True,
    ]:
        with pytest.raises(BadAnswerError):
            parse_hitl_answer(answer, [ASKED, ASKED])
