"""The model card is current, its sentences are well-formed, and grading sees what goes wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evals.model_card import CARD, REFUSED, card
from evals.sentences import INDEPENDENT, TABLES, grade, never, shows, table
from hms_active_rooms.moderator.offline.reading import CHANGES, read
from hms_active_rooms.moderator.offline.turns import TOOLS

PEOPLE = (("Ada", "host", "u0"), ("Bo", "guest", "u1"), ("Cy", "guest", "u2"))


@pytest.mark.nightly
def test_the_committed_card_is_what_is_measured_now_and_nobody_else_is_ever_proposed() -> None:
    assert CARD.read_text(encoding="utf-8") == card(), "python -m evals card"
    for name, path in TABLES.items():
        least = 0.97 if name in ("plain", "near") else 0.9
        assert sum(one.right for one in table(path)) / len(table(path)) >= least, name
        assert [one.say for one in table(path) if one.wrong_change] == []


@pytest.mark.slow
def test_of_the_sets_nine_of_ten_are_right_and_nobody_else_is_ever_proposed() -> None:
    """All of the independent set; of the others, by day, one in five."""
    others = [
        grade(line, people)
        for path in TABLES.values()
        for people, lines in shows(path)
        for line in lines[::5]
    ]
    for graded in (table(INDEPENDENT), others):
        assert sum(one.right for one in graded) / len(graded) >= 0.9
        assert [one.say for one in graded if one.wrong_change] == []
    assert [one.say for one in never() if not one.right] == []


def test_the_independent_set_is_of_three_shows_and_names_only_people_who_are_there() -> None:
    found = [(people, lines) for people, lines in shows(INDEPENDENT) if lines]
    assert len(found) == 3
    assert sum(len(lines) for _, lines in found) >= 60
    for people, lines in found:
        users, roles = {user for _, _, user in people}, {role for _, role, _ in people}
        for line in lines:
            _, tools, fragments, *_ = (*line.split("\t"), "")
            assert set(re.findall(r"\buser-\d", fragments)) <= users
            assert set(re.findall(r'(?<!!)"role": "(.*?)"', fragments)) <= roles
            assert tools == "none" or set(tools.split(" + ")) <= TOOLS


def test_what_must_change_nothing_says_why() -> None:
    for _, lines in shows(INDEPENDENT):
        for line in lines:
            assert (line.split("\t")[1] == "none") == (len(line.split("\t")) == 6), line


REMOVE, SEND, END, LIST = (
    "hms-remove-peers", "hms-send-message", "hms-end-active-room", "hms-list-peers",
)  # fmt: skip


@pytest.mark.parametrize(
    ("say", "wanted"),
    [
        ("kick Bo", f"{REMOVE}\tu1"),
        ("remove all guests", f'{REMOVE}\t"role": "guest"'),
        ("tell Bo: hello there", f"{SEND}\tu1 & hello"),
        ("tell everyone: hi", f'{SEND}\t!peer_id & !"role" & hi'),
        ("end the room", f'{END}\t!"lock": true'),
        ("end the room and lock it", f'{END}\t"lock": true'),
        ("kick Bo and Cy", f"{REMOVE} + {REMOVE}\tu1 + u2"),
        ("who is here?", f"{LIST}\treply:9 people | reply:Ada & reply:Bo & reply:Cy"),
        ("show the guests", f"{LIST}\treply:2 people | reply:nobody"),
        ("is the room live?", "hms-retrieve-active-room"),
        ("don't kick Bo", "none"),
    ],
)
def test_what_should_happen_is_right(say: str, wanted: str) -> None:
    found = grade(f"{say}\t{wanted}", PEOPLE)
    assert (found.right, found.wrong_change) == (True, False)


@pytest.mark.parametrize(
    ("say", "wanted", "wrong_change"),
    [
        ("kick Bo", f"{REMOVE}\tu2", True),
        ("kick Bo", f'{REMOVE}\t"role": "guest"', True),
        ("kick Bo", f"{SEND}\tu1", True),
        ("kick Bo", LIST, True),
        ("kick Bo", "none", True),
        ("kick Bo", f"{REMOVE} + {END}\tu1 + !lock", True),
        ("kick Bo and Cy", f"{REMOVE} + {REMOVE}\tu1 + u1", True),
        ("tell Bo: hello", f"{SEND}\tu1 & goodbye", True),
        ("tell everyone: hi", f'{SEND}\t"role": "guest" & hi', True),
        ("end the room and lock it", f'{END}\t!"lock": true', True),
        ("don't kick Bo", f"{REMOVE}\tu1", False),
        ("who is here?", "hms-retrieve-active-room", False),
        ("show the guests", f"{LIST}\treply:1 person | reply:Ada", False),
    ],
)
def test_anything_else_is_not_right_and_a_change_is_a_wrong_one(
    say: str, wanted: str, wrong_change: bool
) -> None:
    found = grade(f"{say}\t{wanted}", PEOPLE)
    assert (found.right, found.wrong_change) == (False, wrong_change)


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
    found = grade(line)
    assert (found.right, found.wrong_change) == (right, wrong_change)


def test_a_change_in_the_never_set_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "never.yaml"
    path.write_text("orders: [kick Spam Bot]\nnegations: [don't kick Spam Bot]\n")
    assert [(g.kind, g.right, g.wrong_change) for g in never(path)] == [
        ("orders", False, True),
        ("negations", True, False),
    ]


def test_what_the_card_calls_refused_is_refused() -> None:
    refused = {say for _, say in REFUSED} - {"kick Sam", "kick everyone", "kick somebody"}
    assert all(not {o.verb for o in read(say).orders} & CHANGES for say in refused)
