"""Who is meant: the sure way first, and a question wherever two people fit."""

from __future__ import annotations

import pytest

from hms_active_rooms.moderator.offline.names import MAX_SUGGESTIONS
from hms_active_rooms.moderator.offline.replies import MAX_OPTIONS
from moderator.offline.rooms_for_tests import CLASSROOM, changes, peer_id, play, said

Person = tuple[str, str, str]


def removed(sentence: str, *people: Person) -> list[str]:
    """Names or roles of those a sentence proposes to remove."""
    room = people or CLASSROOM
    found = []
    for tool, arguments in changes(play(sentence, people=room)):
        assert tool == "hms-remove-peers"
        assert ("peer_id" in arguments) != ("role" in arguments)
        if "role" in arguments:
            found.append(f"role {arguments['role']}")
        else:
            found += [n for n, _, _ in room if peer_id(n, room) == arguments["peer_id"]]
    return found


BOB: Person = ("Bob", "student", "u1")
BOB_SMITH: Person = ("Bob Smith", "student", "u2")
SPAM: Person = ("Spam Bot", "student", "u3")


@pytest.mark.parametrize(
    "sentence",
    [
        "kick Priya Raman",
        "kick PRIYA   raman",
        "kick Priya",
        "kick raman",
        "kick priya.raman",
        'kick "priya raman"',
        "kick user priya.raman",
        f"kick {peer_id('Priya Raman')}",
        f"kick {peer_id('Priya Raman')[:8]}",
        f"kick {peer_id('Priya Raman')[:9]}".upper(),
        f"kick the one with id {peer_id('Priya Raman')[:8]}",
    ],
)
def test_a_person_is_found_by_name_user_id_and_short_or_full_id(sentence: str) -> None:
    assert removed(sentence) == ["Priya Raman"]


def test_the_whole_name_counts_before_a_part_of_one() -> None:
    assert removed("kick Bob", BOB, BOB_SMITH) == ["Bob"]
    assert removed("kick Bob Smith", BOB, BOB_SMITH) == ["Bob Smith"]
    assert removed("kick Smith", BOB, BOB_SMITH) == ["Bob Smith"]


def test_a_description_finds_a_name_that_begins_like_it() -> None:
    assert removed("kick the spammer") == ["Spam Bot"]


def test_a_bare_name_that_only_begins_like_one_is_asked_about() -> None:
    history = play("kick Mark", people=[("Marketing Bot", "student", "u1")])
    assert changes(history) == []
    assert 'Do you mean this one? Nothing was done yet.\n1. called "Marketing Bot"' in said(history)


def test_three_letters_are_no_description() -> None:
    assert removed("kick the spa", ("Spaniel", "student", "u")) == []
    assert removed("kick the spammer", ("Spa Owner", "student", "u")) == []


@pytest.mark.parametrize("name", ["Sam", "Chen Wei", "chen.wei", "Alice Martin", "alice"])
def test_people_who_share_a_name_or_look_alike_are_asked_about(name: str) -> None:
    history = play(f"kick {name}")
    assert changes(history) == []
    assert "Which one do you mean? Nothing was done yet.\n1. " in said(history)


@pytest.mark.parametrize(
    "name", ["Jose", "Аlice Martin", "Рriya Raman", "Ｐｒｉｙａ", "Zoe Fischer"]
)
def test_a_name_that_only_looks_the_same_is_asked_about(name: str) -> None:
    history = play(f"kick {name}")
    assert changes(history) == []
    assert "do you mean" in said(history).lower()


def test_a_name_with_a_blank_that_is_a_letter_is_asked_about() -> None:
    history = play("kick Sam Lee", people=[("Sam\u3164Lee", "student", "u1")])
    assert changes(history) == []
    assert "Do you mean this one?" in said(history)


def test_every_word_that_was_said_must_be_in_the_name() -> None:
    assert removed("kick Sam Raman") == []
    assert removed("kick Priya's friend") == []
    assert removed("kick Bob Jones", BOB, BOB_SMITH) == []


def test_nobody_of_that_name_brings_at_most_three_suggestions() -> None:
    people = [(f"Priya{i}", "student", f"u{i}") for i in range(9)]
    history = play("kick Pria", people=people)
    assert changes(history) == []
    assert said(history).startswith('Nobody here is called "Pria". Nothing was done. Similar: ')
    assert said(history).count("with id") == MAX_SUGGESTIONS


def test_a_question_lists_at_most_eight() -> None:
    people = [("Guest", "guest", f"u{i}") for i in range(30)]
    text = said(play('kick "Guest"', people=people))
    assert text.count("\n") == MAX_OPTIONS + 2
    assert "And 22 more" in text


@pytest.mark.parametrize(
    ("sentence", "role"),
    [
        ("remove all students", "student"),
        ("kick every student", "student"),
        ("remove the role student", "student"),
        ("remove the students", "student"),
        ("kick students", "student"),
        ("remove everyone with role viewer", "viewer"),
        ("kick the viewers", "viewer"),
    ],
)
def test_a_role_is_found_in_singular_and_plural(sentence: str, role: str) -> None:
    assert removed(sentence) == [f"role {role}"]


def test_one_of_a_role_is_the_person_and_never_the_whole_role() -> None:
    assert removed("kick the teacher") == ["Nora Berg"]
    assert removed("kick viewer") == ["Grace Okafor (parent)"]
    assert removed("kick the student") == []


def test_an_unknown_role_is_answered_with_the_roles_there_are() -> None:
    history = play("remove all moderators")
    assert changes(history) == []
    assert '1 as "teacher"' in said(history)
    assert 'role "moderators"' in said(history)


def test_a_role_of_several_words_or_dashes_is_found() -> None:
    people = [("Ann", "co-host", "u1"), ("Ben", "stage_guest", "u2"), ("Cy", "Co Host", "u3")]
    assert removed("remove all stage guests", *people) == ["role stage_guest"]
    assert removed("remove all co-hosts", *people) == []
    assert removed('remove the role "co-host"', *people) == ["role co-host"]


def test_a_name_that_is_also_a_role_is_asked_about() -> None:
    people = [("Student", "viewer", "u1"), ("Ann", "student", "u2"), ("Students", "viewer", "u3")]
    for sentence in ("kick student", "kick the student", "kick students", "kick the students"):
        history = play(sentence, people=people)
        assert changes(history) == [], sentence
        assert "Which one do you mean?" in said(history)
    assert removed("kick all students", *people) == ["role student"]
    assert removed('kick "Student"', *people) == ["Student"]


def test_a_name_that_holds_the_words_of_an_order_is_not_cut_unasked() -> None:
    people = [("Hope", "student", "u1"), ("Hope for All", "student", "u2")]
    history = play("kick Hope for All", people=people)
    assert changes(history) == []
    assert "Which one do you mean?" in said(history)
    assert removed('kick "Hope for All"', *people) == ["Hope for All"]
    history = play("kick Hope for All", people=people[1:])
    assert changes(history) == []
    assert "Do you mean this one?" in said(history)


def test_somebody_who_took_another_persons_id_as_a_name_is_asked_about() -> None:
    people = [("Ann", "student", "u-ann"), ("u-ann", "student", "u-troll")]
    assert removed("kick u-ann", *people) == []
    people = [("Ann", "student", "u1"), ("x", "student", "u2")]
    people.append((peer_id("Ann", people)[:8], "student", "u3"))
    assert removed(f"kick {peer_id('Ann', people)[:8]}", *people) == []


@pytest.mark.parametrize(
    ("sentence", "name", "message"),
    [
        ("tell Priya hello there", "Priya Raman", "hello there"),
        ("tell Priya Raman hello there", "Priya Raman", "hello there"),
        ("tell Priya to go to the board", "Priya Raman", "go to the board"),
        ("tell Priya we go to lunch", "Priya Raman", "we go to lunch"),
        ("tell Priya come to the front", "Priya Raman", "come to the front"),
        ("tell Sam Lee that it is fine", "Sam Lee", "it is fine"),
        ("tell the spammer to stop", "Spam Bot", "stop"),
        ("tell the teacher we are ready", "Nora Berg", "we are ready"),
        ("tell Spam Bot stop it", "Spam Bot", "stop it"),
        ("warn Spam Bot stop it", "Spam Bot", "stop it"),
    ],
)
def test_the_room_decides_where_a_name_ends_and_the_message_begins(
    sentence: str, name: str, message: str
) -> None:
    [(tool, arguments)] = changes(play(sentence))
    assert tool == "hms-send-message"
    assert arguments == {"peer_id": peer_id(name), "message": message}


def test_when_the_room_cannot_decide_nothing_is_sent() -> None:
    people = [BOB, ("Bob Will", "student", "u2")]
    history = play("tell Bob will you stop", people=people)
    assert changes(history) == []
    assert "Put a colon between them" in said(history)
    [(_, sent)] = changes(play("tell Bob: will you stop", people=people))
    assert sent == {"peer_id": peer_id("Bob", people), "message": "will you stop"}


def test_the_rest_of_a_name_is_not_sent_as_a_message() -> None:
    for sentence in (
        "tell Bob Smith",
        "warn Bob Smith",
        "message Bob Smith!",
        "tell bob smith to stop",
        "tell Bob Smith hello there",
        "tell Bob Smith: hello there",
        'tell Bob Smith "hello there"',
        "warn bob smith about spamming",
        "ask bob smith to stop",
    ):
        history = play(sentence, people=[("Bob Jones", "student", "u1"), SPAM])
        assert changes(history) == [], sentence


def test_a_message_to_a_role_goes_to_the_role() -> None:
    [(_, sent)] = changes(play("tell the students: sit down"))
    assert sent == {"role": "student", "message": "sit down"}
