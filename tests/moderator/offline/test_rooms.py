"""Which room a sentence is about: the model's own, the one it names, or the system message's."""

from __future__ import annotations

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from evals.sentences import ROOM, calls, peer_id, play, said
from hms_active_rooms.moderator.offline import CAPABILITIES_TEXT, next_step

OTHER_ROOM = "a" * 24
SECOND_SAM = {"peer_id": peer_id("Sam Patel")}


def room_of(sentence: str, *, room_id: str | None = None, system: str = "") -> str | None:
    """The room of the first call, if there is one."""
    before = [SystemMessage(system)] if system else []
    step = next_step([*before, HumanMessage(sentence)], room_id)
    rooms: list[str] = [call["args"]["room_id"] for call in step.tool_calls]
    return rooms[0] if rooms else None


@pytest.mark.parametrize(
    "sentence",
    [
        f"who is in room {ROOM}?",
        f"who is in {ROOM}",
        f"in room {ROOM}, who is here?",
        f"end room {ROOM}",
        f"end the room {ROOM.upper()} and lock it",
        f"is room {ROOM} live?",
        f"kick Priya from room {ROOM}",
        f"in room {ROOM}: tell everyone we start",
        f"tell everyone in room {ROOM}: we start",
    ],
)
def test_a_room_may_be_named_in_the_sentence(sentence: str) -> None:
    assert room_of(sentence) == ROOM
    assert room_of(sentence, room_id=ROOM) == ROOM
    assert room_of(sentence, room_id=OTHER_ROOM) is None


def test_the_room_of_the_system_message_counts_when_nothing_else_names_one() -> None:
    prompt = f"You moderate.\nRoom: {ROOM}\n"
    assert room_of("who is here?", system=prompt) == ROOM
    assert room_of("who is here?", system=prompt, room_id=OTHER_ROOM) == OTHER_ROOM
    assert room_of(f"who is in room {OTHER_ROOM}", system=prompt) == OTHER_ROOM
    assert room_of("who is here?", system=f"Room: {ROOM}\nRoom: {OTHER_ROOM}") is None
    assert room_of("who is here?", system=f"The room: {ROOM}") is None


def test_without_a_room_it_asks_which() -> None:
    for sentence in ("who is here?", "end the room", "tell everyone: hi", "kick Priya"):
        history = play(sentence, room_id=None)
        assert calls(history) == []
        assert said(history).startswith("Which room?")
    assert said(play("help", room_id=None)) == CAPABILITIES_TEXT


def test_two_rooms_in_one_sentence_are_one_too_many() -> None:
    assert room_of(f"in room {ROOM} kick Priya from room {OTHER_ROOM}") is None


def test_an_id_in_a_message_is_part_of_the_message() -> None:
    for sentence in (
        f"tell everyone the code is in {OTHER_ROOM}",
        f"tell everyone: in {OTHER_ROOM}",
    ):
        [call] = next_step([HumanMessage(sentence)], ROOM).tool_calls
        assert OTHER_ROOM in call["args"]["message"]
        assert call["args"]["room_id"] == ROOM


def test_a_question_and_a_pronoun_stay_in_the_room_they_were_about() -> None:
    asked = play(f"kick Sam from room {ROOM}", room_id=None)
    step = next_step([*asked, HumanMessage("2")], None)
    assert step.tool_calls[0]["args"] == {"room_id": ROOM, **SECOND_SAM}
    found = play(f"in room {ROOM} find Priya", room_id=None)
    assert (
        next_step([*found, HumanMessage("kick her")], None).tool_calls[0]["args"]["room_id"] == ROOM
    )
    later = next_step([*found, HumanMessage(f"kick her from room {OTHER_ROOM}")], None)
    assert not later.tool_calls
