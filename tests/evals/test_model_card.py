"""The model card is current, its sentences are well-formed, and grading sees what goes wrong."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from evals import sentence_sets
from evals.model_card import CARD, REFUSED, write_card
from evals.sentence_sets import Sentence, Should, grade, grade_line, independent, never, shows
from hms_active_rooms.moderator.offline.reading import CHANGES, read

PEOPLE = (("Ada", "host", "u0"), ("Bo", "guest", "u1"), ("Cy", "guest", "u2"))


def test_the_committed_card_is_what_is_measured_now(tmp_path: Any) -> None:
    write_card(tmp_path / "card.md")
    written = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert CARD.read_text(encoding="utf-8") == written, "python -m evals card"


def test_no_sentence_of_the_independent_set_becomes_a_wrong_change() -> None:
    assert [graded for graded in independent() if graded.wrong_change] == []


def test_the_independent_set_is_of_three_shows_and_names_only_people_who_are_there() -> None:
    assert len(shows()) == 3
    assert sum(len(show.sentences) for show in shows()) >= 60
    for show in shows():
        names = {name for name, _, _ in show.roster()}
        for should in (should for sentence in show.sentences for should in sentence.should):
            assert {should.remove, should.tell} - {None} <= names
            assert {should.remove_role, should.tell_role} - {None} <= {*show.people, "everyone"}
            assert should.only in {"", *names, *show.people}


def test_what_must_change_nothing_says_why() -> None:
    for show in shows():
        for sentence in show.sentences:
            assert bool(sentence.why) == (not sentence.should), sentence.say


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"look": "people", "remove": "Ada"},
        {"tell": "Ada"},
        {"remove": "Ada", "saying": "x"},
        {"end": "open", "only": "host"},
        {"mute": "Ada"},
    ],
)
def test_a_label_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Should.model_validate(wrong)


def graded(say: str, *should: dict[str, Any]) -> tuple[bool, bool]:
    """Right, and a wrong change."""
    sentence = Sentence.model_validate({"say": say, "should": should})
    found = grade(sentence, PEOPLE)
    return found.right, found.wrong_change


@pytest.mark.parametrize(
    ("say", "should"),
    [
        ("kick Bo", {"remove": "Bo"}),
        ("remove all guests", {"remove_role": "guest"}),
        ("tell Bo: hello there", {"tell": "Bo", "saying": "Hello"}),
        ("tell everyone: hi", {"tell_role": "everyone", "saying": "hi"}),
        ("end the room", {"end": "open"}),
        ("end the room and lock it", {"end": "locked"}),
        ("who is here?", {"look": "people"}),
        ("show the guests", {"look": "people", "only": "guest"}),
        ("is the room live?", {"look": "room"}),
    ],
)
def test_what_should_happen_is_right(say: str, should: dict[str, Any]) -> None:
    assert graded(say, should) == (True, False)


@pytest.mark.parametrize(
    ("say", "should"),
    [
        ("kick Bo", {"remove": "Cy"}),
        ("kick Bo", {"remove_role": "guest"}),
        ("kick Bo", {"tell": "Bo", "saying": "x"}),
        ("kick Bo", {"look": "people"}),
        ("tell Bo: hello", {"tell": "Bo", "saying": "goodbye"}),
        ("tell everyone: hi", {"tell_role": "guest", "saying": "hi"}),
        ("end the room and lock it", {"end": "open"}),
    ],
)
def test_another_change_than_the_wanted_one_is_a_wrong_change(
    say: str, should: dict[str, Any]
) -> None:
    assert graded(say, should) == (False, True)


def test_a_change_where_none_should_be_is_wrong_and_nothing_where_one_should_be_is_not_right() -> (
    None
):
    assert graded("kick Bo") == (False, True)
    assert graded("don't kick Bo") == (True, False)
    assert graded("don't kick Bo", {"remove": "Bo"}) == (False, False)
    assert graded("kick Bo", {"remove": "Bo"}, {"end": "open"}) == (False, False)


def test_a_look_that_does_not_answer_is_not_right() -> None:
    assert graded("who is here?", {"look": "room"}) == (False, False)
    assert graded("show the guests", {"look": "people", "only": "Ada"}) == (False, False)


@pytest.mark.parametrize(
    ("line", "right", "wrong_change"),
    [
        ("kick spam bot\thms-remove-peers\tpriya", False, True),
        ("kick spam bot\thms-remove-peers\tguest-90417 & !priya", True, False),
        ("kick spam bot\tnone", False, True),
        ("who is here\thms-list-peers\treply:priya", True, False),
        ("kick sam // 1\thms-remove-peers\tsam.lee", True, False),
    ],
)
def test_a_line_of_a_table_is_wrong_if_a_change_hits_somebody_else(
    line: str, right: bool, wrong_change: bool
) -> None:
    found = grade_line(line)
    assert (found.right, found.wrong_change) == (right, wrong_change)


def test_a_change_in_the_never_set_is_counted(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "never.yaml"
    path.write_text("orders: [kick Spam Bot]\nnegations: [don't kick Spam Bot]\n")
    monkeypatch.setattr(sentence_sets, "NEVER", path)
    assert [(g.kind, g.right, g.wrong_change) for g in never()] == [
        ("orders", False, True),
        ("negations", True, False),
    ]


def test_what_the_card_calls_refused_is_refused() -> None:
    refused = {say for _, say in REFUSED} - {"kick Sam", "kick everyone", "kick somebody"}
    assert all(not {o.verb for o in read(say).orders} & CHANGES for say in refused)
