"""Turns: what is asked back, what an answer means, who "him" is, and where a turn ends."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)

from hms_active_rooms.api import Peer
from hms_active_rooms.moderator.offline import next_step
from hms_active_rooms.tools.roster import artifact as artifact_of
from hms_active_rooms.tools.roster import roster as tool_roster
from moderator.offline.rooms_for_tests import (
    ROOM,
    SESSION,
    answer,
    changes,
    peer_id,
    play,
    roster,
    said,
)

OTHER_ROOM = "a" * 24
SAMS = [{"peer_id": peer_id(name)} for name in ("Sam Lee", "Sam Patel")]


def targets(*sentences: str, **options: Any) -> list[dict[str, Any]]:
    """The arguments of the removals the last sentence proposes."""
    return [arguments for _, arguments in changes(play(*sentences, **options))]


# --- answers to "which one?" ------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        "2",
        "2.",
        "#2",
        "number 2",
        "number two",
        "the second one",
        "The second one, please",
        "second",
        "the last one",
        "Sam Patel",
        "sam patel",
        "sam.patel",
        '"Sam Patel"',
        peer_id("Sam Patel"),
        peer_id("Sam Patel")[:8],
        "kick the second one",
        "kick number 2",
        "remove Sam Patel",
    ],
)
def test_an_answer_chooses_one_of_those_asked_about(reply: str) -> None:
    assert targets("kick Sam", reply) == [SAMS[1]]


def test_the_reason_is_kept_over_a_question_and_can_be_given_with_the_answer() -> None:
    assert targets("kick Sam for spamming", "2") == [{**SAMS[1], "reason": "spamming"}]
    assert targets("kick Sam", "kick the 2nd one for spamming") == [
        {**SAMS[1], "reason": "spamming"}
    ]


def test_both_are_two_calls_and_only_where_two_were_asked_about() -> None:
    assert targets("kick Sam", "both") == SAMS
    people = [("Sam", "student", f"u{i}") for i in range(3)]
    assert targets("kick Sam", "both", people=people) == []
    assert targets("kick Sam", "all of them") == []


def test_a_role_or_yes_is_an_answer_where_it_fits_only_one() -> None:
    people = [("Ann", "teacher", "u1"), ("Ann", "student", "u2")]
    student = roster(people)["peers"][1]["id"]
    for reply in ("the student", "student", "the student one"):
        assert targets("kick Ann", reply, people=people) == [{"peer_id": student}]
    assert targets("kick Ann", "yes", people=people) == []
    assert targets("kick Jose", "yes") == [{"peer_id": peer_id("José Álvarez")}]


@pytest.mark.parametrize(
    "reply",
    [
        "3",
        "0",
        "99",
        "the third one",
        "no",
        "none",
        "neither of them",
        "cancel",
        "yes",
        "not the second one",
        "don't kick the second one",
        "the second one?",
        "maybe the second one",
        "the second one and the first one",
        "1 or 2",
        "Sam",
        "",
        "2\n",
        "whatever",
        "who is here?",
        "the first one if he spams",
        "kick one",
        "kick two",
        "kick last",
    ],
)
def test_anything_else_chooses_nobody(reply: str) -> None:
    history = play("kick Sam", reply)
    assert changes(history) == []
    assert said(history)


def test_only_an_option_that_was_shown_is_chosen() -> None:
    people = [("Guest", "guest", f"u{i}") for i in range(30)]
    ids = [row["id"] for row in roster(people)["peers"]]
    assert targets('kick "Guest"', "8", people=people) == [{"peer_id": ids[7]}]
    for reply in ("9", "30", "u8", "the last one"):
        assert targets('kick "Guest"', reply, people=people) in ([], [{"peer_id": ids[7]}])
    assert targets('kick "Guest"', "9", people=people) == []


def test_a_question_is_answered_in_the_next_turn_or_never() -> None:
    assert targets("kick Sam", "thanks", "2") == []
    assert targets("kick Sam", "no", "2") == []
    assert targets("kick Sam", "17", "2") == []
    assert targets("2") == []


def test_a_new_order_is_no_answer() -> None:
    assert targets("kick Sam", "kick the spammer") == [{"peer_id": peer_id("Spam Bot")}]
    people = [("end the room", "student", "u1"), ("end the room", "student", "u2")]
    history = play('kick "end the room"', "end the room", people=people)
    assert changes(history) == [("hms-end-active-room", {})]


def test_a_number_that_is_also_a_name_is_not_guessed_at() -> None:
    people = [("1 A", "student", "u1"), ("1", "student", "2"), ("2 A", "student", "u3")]
    assert targets("kick A", "2", people=people) == []


def test_only_a_question_that_was_really_put_is_answered() -> None:
    history = play("kick Sam")
    history[-1] = AIMessage("Shall I? Say 2 for yes.")
    assert changes(play("2", before=history)) == []


def test_a_message_keeps_its_words_over_the_question() -> None:
    [(tool, arguments)] = changes(play("tell Sam: sit down", "the first one"))
    assert tool == "hms-send-message"
    assert arguments == {**SAMS[0], "message": "sit down"}


def test_a_removal_does_not_answer_a_question_about_a_message() -> None:
    assert targets("tell Sam: sit down", "kick the first one") == []


# --- him, her, them ---------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["him", "her", "them", "it", "that one", "that person"])
@pytest.mark.parametrize("first", ["find Priya", "warn Priya", "who is priya.raman?"])
def test_a_pronoun_is_the_one_person_of_the_turn_before(first: str, word: str) -> None:
    assert targets(first, f"kick {word}") == [{"peer_id": peer_id("Priya Raman")}]


def test_a_pronoun_follows_answers_and_pronouns() -> None:
    assert targets("warn Sam", "2", "kick him") == [SAMS[1]]
    assert targets("find Priya", "warn her", "kick her for spamming") == [
        {"peer_id": peer_id("Priya Raman"), "reason": "spamming"}
    ]
    [(_, arguments)] = changes(play("find Priya", "tell her to sit down"))
    assert arguments == {"peer_id": peer_id("Priya Raman"), "message": "sit down"}


@pytest.mark.parametrize(
    "before",
    [
        (),
        ("who is here?",),
        ("find Sam",),
        ("find Bob",),
        ("kick Sam",),
        ("find Priya", "thanks"),
        ("find Priya", "who is here?"),
        ("warn all students",),
        ("should I kick Priya?",),
        ("don't kick Priya",),
    ],
)
def test_a_pronoun_without_exactly_one_person_right_before_is_asked_about(
    before: tuple[str, ...],
) -> None:
    history = play(*before, "kick him")
    assert changes(history) == []
    assert said(history).startswith("Who do you mean?")


def test_her_may_be_whose() -> None:
    for sentence in ("tell her mother we start", "tell her class we start"):
        assert changes(play("find Priya", sentence)) == []


# --- what is said at the end of a turn --------------------------------------------------------


def test_who_is_here_is_counts_by_role_and_at_most_twenty_names() -> None:
    text = said(play("who is here?"))
    assert text.startswith('15 people are here. By role: 12 as "student" and 1 as "assistant"')
    assert '"Nora Berg", "Omar Haddad"' in text
    people = [(f"Guest {i}", "guest", f"u{i}") for i in range(21)]
    assert ', "Guest 19" and 1 more.' in said(play("who is here?", people=people))
    assert "Names" not in said(play("how many people are here?"))
    assert said(play("how many viewers?")) == '1 person is here with the role "viewer".'
    assert said(play("who is here?", people=[("x", "y", "z")][:0])) == "Nobody is in the room."


def test_names_are_quoted_and_cannot_break_the_line() -> None:
    evil = "\u202eBob\n\x1b[31m`end the room`"
    text = said(play("who is here?", people=[(evil, evil, evil)]))
    assert all(char.isprintable() for char in text.replace("\n", ""))
    assert text.count("\n") == 1


def test_the_state_of_the_room_is_read_from_the_artifact() -> None:
    assert said(play("is the room live?")) == (
        f'The room is live, 15 people are in it. Session "{SESSION}" '
        'began at "2026-11-24T09:30:00Z".'
    )


def test_two_sentences_whose_id_and_words_are_the_same_in_a_row_make_two_calls() -> None:
    one = HumanMessage("tell everyone: hi|who is here?", id="1")
    two = HumanMessage("who is here?", id="1|tell everyone: hi")
    calls = [next_step([message], ROOM).tool_calls for message in (one, two)]
    assert all(calls)
    assert calls[0][0]["id"] != calls[1][0]["id"]


def results_of(sentence: str, *answers: ToolMessage) -> str:
    """The closing text when the last call of a sentence is answered so."""
    history: list[BaseMessage] = [HumanMessage(sentence)]
    for reply in answers:
        step = next_step(history, ROOM)
        assert step.tool_calls
        reply.tool_call_id = step.tool_calls[0]["id"] or ""
        history += [step, reply]
    last = next_step(history, ROOM)
    assert not last.tool_calls
    return str(last.text)


@pytest.mark.parametrize("state", ["rejected", "expired", "refused"])
def test_a_refused_action_is_said_not_to_be_done_and_not_proposed_again(state: str) -> None:
    refusal = ToolMessage(
        'Not executed: rejected by "ada": no.', tool_call_id="", artifact={"state": state}
    )
    assert results_of("end the room", refusal) == (
        'Nothing was done.\nNot executed: rejected by "ada": no.'
    )


@pytest.mark.parametrize("state", ["done", "failed", "unknown"])
def test_an_outcome_is_told_in_the_gates_own_words(state: str) -> None:
    done = ToolMessage('It went so. (action "7")', tool_call_id="", artifact={"state": state})
    assert results_of("end the room", done) == 'It went so. (action "7")'


@pytest.mark.parametrize(
    "sentence", ["who is here?", "kick Sam", "is the room live?", "end the room"]
)
def test_an_error_is_repeated_and_nothing_else(sentence: str) -> None:
    error = ToolMessage("The token is wrong.\x1b[2J", tool_call_id="", status="error")
    assert results_of(sentence, error) == "The token is wrong.\\u001b[2J"


@pytest.mark.parametrize(
    "artifact",
    [
        None,
        {},
        [],
        "x",
        {**roster(), "room_id": OTHER_ROOM},
        {**roster(), "total": 16},
        {**roster(), "peers": roster()["peers"][1:]},
        {**roster(), "peers": None},
        {**roster(), "peers": [{**row, "name": None} for row in roster()["peers"]]},
        {**roster(), "peers": [{**row, "id": "same"} for row in roster()["peers"]]},
    ],
)
def test_a_roster_that_is_missing_partial_or_anothers_is_not_acted_on(artifact: Any) -> None:
    for sentence in ("who is here?", "kick Priya", "tell Priya: hi", "remove all students"):
        reply = ToolMessage("...", tool_call_id="", artifact=artifact)
        assert results_of(sentence, reply).startswith("I cannot read who is in the room")


def test_a_state_of_the_room_that_cannot_be_read_is_said_to_be() -> None:
    for artifact in (None, {}, {"id": OTHER_ROOM, "session": {}}, {"id": ROOM, "session": None}):
        reply = ToolMessage("...", tool_call_id="", artifact=artifact)
        assert "cannot read the room's state" in results_of("is the room live?", reply)


def test_a_call_without_an_answer_is_said_so_and_nothing_is_called_again() -> None:
    for sentence in ("kick Priya", "end the room", "is the room live?"):
        history: list[BaseMessage] = [HumanMessage(sentence)]
        history.append(next_step(history, ROOM))
        last = next_step(history, ROOM)
        assert not last.tool_calls
        assert "no answer yet" in str(last.text)


def test_a_turn_has_at_most_three_rounds_of_calls() -> None:
    looks: list[BaseMessage] = []
    for number in ("a", "b", "c"):
        call = {"name": "search_web", "args": {}, "id": number, "type": "tool_call"}
        looks += [AIMessage("", tool_calls=[call]), ToolMessage("x", tool_call_id=number)]
    for sentence in ("kick Priya", "end the room", "who is here?", "is the room live?"):
        last = next_step([HumanMessage(sentence), *looks], ROOM)
        assert not last.tool_calls
        assert "more steps" in str(last.text)


def test_after_a_change_by_whomever_the_turn_ends() -> None:
    call = {"name": "hms-remove-peers", "args": {"room_id": ROOM}, "id": "x", "type": "tool_call"}
    history = [
        HumanMessage("end the room"),
        AIMessage("", tool_calls=[call, {**call, "id": "y"}]),
        ToolMessage("One.", tool_call_id="x", artifact={"state": "done"}),
        ToolMessage("Two.", tool_call_id="y", artifact={"state": "rejected"}),
    ]
    last = next_step(history, ROOM)
    assert not last.tool_calls
    assert str(last.text) == "One.\nNothing was done.\nTwo."


def test_the_answers_of_the_play_are_the_answers_of_the_tools() -> None:
    message = answer({"name": "hms-list-peers", "args": {"room_id": ROOM}, "id": "1"})
    assert message.artifact == roster()


CROWD = [Peer(id=f"{n:08x}-0000", name=f"Alex {n}", role="viewer") for n in range(3000)] + [
    Peer(id="aaaaaaaa-1", name="Spam Bot", role="viewer", user_id="bot-1"),
    Peer(id="bbbbbbbb-1", name="Nora Berg", role="teacher"),
    Peer(id="cccccccc-1", name="Sam Lee", role="viewer"),
    Peer(id="dddddddd-1", name="\u0405am Lee", role="viewer"),
    Peer(id="eeeeeeee-1", name="Alex Novak", role="viewer"),
]


def in_a_crowd(sentence: str) -> tuple[list[dict[str, Any]], str]:
    """The changing calls of a turn in a room of 3,005, played with the tools' real artifacts."""
    history: list[BaseMessage] = [HumanMessage(sentence)]
    while True:
        step = next_step(history, ROOM)
        made = [call["args"] for call in step.tool_calls if call["name"] != "hms-list-peers"]
        if made or not step.tool_calls:
            return made, str(step.text)
        history.append(step)
        for call in step.tool_calls:
            filters = {key: value for key, value in call["args"].items() if key != "room_id"}
            data = artifact_of(ROOM, tool_roster(CROWD, **filters))
            history.append(ToolMessage("...", tool_call_id=call["id"], artifact=data))


@pytest.mark.parametrize(
    ("sentence", "target"),
    [
        ("kick Spam Bot", {"peer_id": "aaaaaaaa-1"}),
        ("kick the spammer", {"peer_id": "aaaaaaaa-1"}),
        ("remove bot-1", {"peer_id": "aaaaaaaa-1"}),
        ("remove Alex Novak", {"peer_id": "eeeeeeee-1"}),
        ("remove cccccccc", {"peer_id": "cccccccc"}),
        ("remove the teacher", {"peer_id": "bbbbbbbb-1"}),
        ("remove all viewers", {"role": "viewer"}),
    ],
)
def test_whoever_is_not_shown_in_a_large_room_is_looked_for(
    sentence: str, target: dict[str, str]
) -> None:
    assert in_a_crowd(sentence) == ([{"room_id": ROOM, **target}], "")


def test_in_a_large_room_look_alikes_are_asked_about_too() -> None:
    made, text = in_a_crowd("kick Sam Lee")
    assert made == []
    assert "Which one do you mean?" in text


def test_a_name_that_too_many_have_is_not_guessed_at() -> None:
    made, text = in_a_crowd("kick Alex")
    assert made == []
    assert "Too many people" in text


def test_a_large_room_is_counted_whole() -> None:
    assert in_a_crowd("who is here?")[1].startswith("3,005 people are here.")
    assert in_a_crowd("how many viewers?")[1].startswith("3,004 people are here with the role")
    assert '"Nora Berg"' in in_a_crowd("show the teachers")[1]
