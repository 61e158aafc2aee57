"""What counts as an answer: exact matching, nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_active_rooms.agent.hitl import parse_hitl_answer
from hms_active_rooms.gate.approval import (
    ApprovalRequest,
    Approve,
    BadAnswerError,
    Edit,
    Reject,
    parse_answer,
)
from hms_active_rooms.gate.impact import Impact

ROOM = "6" * 24


def request(gate: str = "soft", tool: str = "hms-send-message") -> ApprovalRequest:
    return ApprovalRequest(
        action_id="a",
        tool=tool,
        arguments={"room_id": ROOM, "message": "hello", "type": "chat", "role": "student"},
        impact=Impact(kind="role", session_id="5" * 24, total=3),
        digest="d" * 64,
        deadline=datetime(2026, 1, 1, tzinfo=UTC),
        gate="soft" if gate == "soft" else "hard",
        editable=("message", "type"),
        text="",
    )


APPROVE = {"type": "approve", "digest": "d" * 64}


def edited(**changes: Any) -> dict[str, Any]:
    args = {**request().arguments, **changes}
    action = {"name": "hms-send-message", "args": args}
    return {"type": "edit", "digest": "d" * 64, "edited_action": action}


def test_exact_answers_are_decisions() -> None:
    assert parse_answer(APPROVE, request(), "ada") == Approve("d" * 64, "ada")
    assert parse_answer({"type": "reject", "message": "no"}, request(), "") == Reject("no")
    assert parse_answer(edited(message="bye"), request(), "") == Edit("d" * 64, {"message": "bye"})


NOT_ANSWERS: list[Any] = [
    None,
    True,
    1,
    "yes",
    "approve",
    [],
    {},
    ["approve"],
    {"type": "approve"},
    {"type": "approve "},
    {**APPROVE, "type": "approve "},
    {**APPROVE, "type": "Approve"},
    {**APPROVE, "type": "approved"},
    {"type": "accept"},
    {"type": True},
    {"type": ["approve"]},
    {**APPROVE, "args": {}},
    {**APPROVE, "scope": "always"},
    {**APPROVE, "digest": "e" * 64},
    {"type": "reject", "message": 1},
    {"type": "edit"},
    {"type": "edit", "edited_action": {"name": "hms-end-active-room", "args": {}}},
    {"type": "respond", "message": "approve"},
    {"decisions": [{"type": "approve"}]},
]


@pytest.mark.parametrize("answer", NOT_ANSWERS, ids=repr)
def test_anything_else_is_no_answer(answer: object) -> None:
    with pytest.raises(BadAnswerError):
        parse_answer(answer, request(), "")


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=10)
        | st.sampled_from(["approve", "once", "d" * 64]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "scope", "digest", "message", "decisions"])
                | st.text(max_size=5),
                inner,
                max_size=3,
            )
        ),
        max_leaves=6,
    )
)
def test_only_the_exact_shape_approves(answer: object) -> None:
    try:
        decision = parse_answer(answer, request("hard"), "")
    except BadAnswerError:
        return
    if isinstance(decision, Approve):
        assert answer in (APPROVE, {**APPROVE, "scope": "once"})


def test_words_left_out_of_an_edit_are_not_sent_all_the_same() -> None:
    answer = edited()
    del answer["edited_action"]["args"]["type"]
    with pytest.raises(BadAnswerError, match="missing"):
        parse_answer(answer, request(), "")


def test_answers_without_a_digest_count_only_where_code_says_so() -> None:
    answer = {"decisions": [{"type": "approve"}]}
    with pytest.raises(BadAnswerError, match="digest"):
        parse_hitl_answer(answer, [request()], "")
    assert parse_hitl_answer(answer, [request()], "", plain_answers=True) == [Approve("d" * 64)]
    stale = {"decisions": [{"type": "approve", "digest": "e" * 64}]}
    with pytest.raises(BadAnswerError, match="digest"):
        parse_hitl_answer(stale, [request()], "", plain_answers=True)


@pytest.mark.parametrize("field", ["room_id", "role"])
def test_a_target_cannot_be_edited(field: str) -> None:
    with pytest.raises(BadAnswerError, match="cannot be edited"):
        parse_answer(edited(**{field: "7" * 24}), request(), "")


def test_a_target_cannot_be_left_out_of_an_edit() -> None:
    answer = edited()
    del answer["edited_action"]["args"]["role"]
    with pytest.raises(BadAnswerError, match="missing"):
        parse_answer(answer, request(), "")


def test_a_destructive_action_is_never_approved_for_the_session() -> None:
    answer = {**APPROVE, "scope": "session"}
    assert parse_answer(answer, request(), "") == Approve("d" * 64, "", "session")
    with pytest.raises(BadAnswerError):
        parse_answer(answer, request("hard"), "")


@pytest.mark.parametrize(
    "answer",
    [
        {"decisions": []},
        {"decisions": [APPROVE]},
        {"decisions": [APPROVE] * 3},
        {"decisions": {"0": APPROVE, "1": APPROVE}},
        {"decisions": [APPROVE, "yes"]},
        {"decisions": [APPROVE, APPROVE], "extra": 1},
        [APPROVE, APPROVE],
        "yes",
        True,
    ],
    ids=repr,
)
def test_a_turns_answer_counts_wholly_or_not_at_all(answer: object) -> None:
    with pytest.raises(BadAnswerError):
        parse_hitl_answer(answer, [request(), request()], "")
