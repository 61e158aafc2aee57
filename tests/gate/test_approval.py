"""What counts as an answer: exact matching, nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_active_rooms.gate.approval import (
    Approve,
    BadAnswerError,
    Decision,
    Edit,
    Refuse,
    Reject,
    answer_schema,
    parse_answer,
)

ROOM = "6" * 24


APPROVE = {"type": "approve", "digest": "d" * 64}
WORDS = {"room_id": ROOM, "message": "bye"}


def test_exact_answers_are_decisions_and_name_their_question() -> None:
    edit = {"name": "hms-send-message", "args": WORDS}
    decisions: list[tuple[object, Decision]] = [
        (APPROVE, Approve("d" * 64)),
        ({**APPROVE, "scope": "session"}, Approve("d" * 64, scope="session")),
        ({"type": "reject"}, Reject()),
        ({"type": "reject", "message": None}, Reject()),
        ({"type": "reject", "message": "x" * 2001}, Reject("x" * 2000)),
        ({**APPROVE, "type": "reject", "message": "no"}, Reject("no", digest="d" * 64)),
        (
            {"type": "edit", "digest": "d" * 64, "edited_action": edit},
            Edit("d" * 64, WORDS, tool="hms-send-message", whole=True),
        ),
        (Approve("d" * 64, "ada"), Approve("d" * 64, "ada")),
        (Reject("no", "ada"), Reject("no", "ada")),
        # As programs give what they lack: `reject(form.get("reason"))`.
        (Reject(None, None), Reject()),  # type: ignore[arg-type]
        (Reject("x" * 2001), Reject("x" * 2000)),
        (Approve("d" * 64, None), Approve("d" * 64)),  # type: ignore[arg-type]
    ]
    for answer, decision in decisions:
        assert parse_answer(answer) == decision


def test_the_answers_to_one_question_are_those_that_name_it() -> None:
    schema = answer_schema("d" * 64)
    approve, reject, edit = (schema["$defs"][name] for name in ANSWERS)
    assert approve["properties"]["digest"]["const"] == "d" * 64
    assert edit["properties"]["digest"]["const"] == "d" * 64
    assert {"const": "d" * 64} in reject["properties"]["digest"]["anyOf"]


ANSWERS = ("ApproveAnswer", "RejectAnswer", "EditAnswer")

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
    {**APPROVE, "digest": None},
    {**APPROVE, "digest": 1},
    {"type": "reject", "message": 1},
    Reject(1),  # type: ignore[arg-type]
    Approve("d" * 64, by=7),  # type: ignore[arg-type]
    Approve("d" * 64, scope="forever"),  # type: ignore[arg-type]
    Edit("d" * 64, None),  # type: ignore[arg-type]
    {"type": "edit"},
    {"type": "edit", "edited_action": {"name": "hms-end-active-room", "args": {}}},
    {"type": "edit", "digest": "d" * 64, "edited_action": {"name": "x"}},
    Approve,
    BadAnswerError("nothing that can be read"),
    Refuse("nobody is here"),
    {"type": "respond", "message": "approve"},
    {"decisions": [{"type": "approve"}]},
]


def test_anything_else_is_no_answer() -> None:
    for answer in NOT_ANSWERS:
        with pytest.raises(BadAnswerError):
            parse_answer(answer)


@pytest.mark.parametrize(("field", "told"), [("digest", True), ("scope", False)])
def test_an_answer_without_a_digest_is_told_where_it_stands(field: str, told: bool) -> None:
    answer = {"type": "approve", "digest": "d", "scope": "once", field: 7}
    with pytest.raises(BadAnswerError) as caught:
        parse_answer(answer)
    assert ("copy `digest` from the question" in str(caught.value)) is told


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
        decision = parse_answer(answer)
    except BadAnswerError:
        return
    if isinstance(decision, Approve):
        exact = {"type": "approve", "digest": decision.digest}
        assert answer in (exact, {**exact, "scope": "once"})
        assert isinstance(decision.digest, str)
