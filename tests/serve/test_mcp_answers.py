"""An answer over MCP counts only for the question it was given for.

A client may keep an answer and give it to whatever is asked when it resumes, as LangChain's
`MCPAdapter` does; `tests/mcp_clients.py` runs that adapter itself.
"""

from __future__ import annotations

from typing import Any

import mcp_types as types
import pytest

from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.gate.journal import Journal
from serve.people import DECLINE, NO, YES, Resumed, choice, client, kit, students, text, yes_to
from stand_in import ROOM, Clock, StandInRoom, peer

END = "hms-end-active-room"
CALL: dict[str, Any] = {"room_id": ROOM}
NEXT_SESSION = "4" * 24

modes = pytest.mark.parametrize("mode", ["auto", "legacy"])


async def end_asked_again(room: StandInRoom, person: Resumed) -> types.CallToolResult:
    """A person approves ending a session of three; by then another one runs, with one."""
    await person.invoke(END, CALL)
    person.say(YES)
    room.session, room.peers = NEXT_SESSION, [peer(9)]
    return await person.invoke(END, CALL)


@modes
async def test_a_no_to_what_is_asked_again_is_not_overruled_by_the_yes_before_it(
    mode: str,
) -> None:
    room, person = students(), Resumed()
    async with client(kit(room), mode, person) as person.mcp:
        waiting = await end_asked_again(room, person)
        person.say(NO)
        told = await person.invoke(END, CALL)
    first, second = (asked.message for asked in person.shown)
    assert "3 people" in first
    assert "Asked again" in second
    assert "1 person" in second
    assert waiting.structured_content["waiting"] is True
    assert told.structured_content["state"] == "rejected"
    assert "leave him" in told.structured_content["text"]
    assert room.posts == []


@modes
async def test_a_yes_to_what_is_asked_again_counts_behind_the_yes_before_it(mode: str) -> None:
    room, person = students(), Resumed()
    async with client(kit(room), mode, person) as person.mcp:
        await end_asked_again(room, person)
        person.say(YES)
        told = await person.invoke(END, CALL)
    assert told.structured_content["state"] == "done"
    assert [verb for verb, _ in room.posts] == ["end"]


@modes
async def test_resumed_without_a_new_answer_what_is_asked_again_stays_open(mode: str) -> None:
    room, person = students(), Resumed()
    async with client(kit(room), mode, person) as person.mcp:
        await end_asked_again(room, person)
        told = await person.invoke(END, CALL)
    assert told.structured_content["waiting"] is True
    assert "it was for another question, and came too late" in person.shown[-1].message
    assert room.posts == []


async def late(
    mode: str, answer: types.ElicitResult, person: Resumed
) -> tuple[StandInRoom, ActiveRoomsToolkit, types.CallToolResult]:
    """An answer that comes 75 minutes after its question: the call is a new action by then."""
    room, clock = students(), Clock()
    toolkit = kit(room, Journal(":memory:", clock=clock))
    async with client(toolkit, mode, person) as person.mcp:
        await person.invoke(END, CALL)
        person.say(answer)
        await clock.sleep(75 * 60)
        told = await person.invoke(END, CALL)
        assert room.posts == []
        assert told.structured_content["waiting"] is True
        person.say(YES)
        told = await person.invoke(END, CALL)
    return room, toolkit, told


@modes
@pytest.mark.parametrize("answer", [YES, NO])
async def test_an_answer_that_comes_too_late_does_not_decide_the_same_call_made_anew(
    mode: str, answer: types.ElicitResult
) -> None:
    person = Resumed()
    room, toolkit, told = await late(mode, answer, person)
    assert "it was for another question, and came too late" not in person.shown[0].message
    assert "it was for another question, and came too late" in person.shown[1].message
    assert told.structured_content["state"] == "done"
    assert [verb for verb, _ in room.posts] == ["end"]
    new, old = toolkit.gate.journal.actions()
    assert (new.id, old.state) == (told.structured_content["action_id"], "expired")
    assert "bad_answer" in [event.kind for event in toolkit.gate.journal.events(new.id)]


@modes
async def test_every_choice_of_a_form_names_its_question_and_reads_well(mode: str) -> None:
    room, person = students(), Resumed()
    toolkit = kit(room)
    async with client(toolkit, mode, person) as person.mcp:
        await end_asked_again(room, person)
    newest, oldest = toolkit.gate.journal.actions()
    for row, asked in zip((oldest, newest), person.shown, strict=True):
        decision = asked.requested_schema["properties"]["decision"]
        name = row.digest[:32]
        assert decision["enum"] == [f"reject {name}", f"approve {name}"]
        assert decision["enumNames"] == ["Reject: nothing is sent", "Approve what is shown"]
        assert name[:12] in asked.message
        assert "default" not in decision


@modes
async def test_what_a_client_fills_in_for_a_field_without_an_answer_fits_the_form(
    mode: str,
) -> None:
    """fastmcp fills in the field's default, or null, and then refuses null itself."""
    room, person = students(), Resumed()
    async with client(kit(room), mode, person) as person.mcp:
        await person.invoke(END, CALL)
        form = person.shown[0].requested_schema
        content = {name: field.get("default") for name, field in form["properties"].items()}
        content["decision"] = choice(form, "approve")
        assert all(isinstance(value, str) for value in content.values())
        person.saved = [types.ElicitResult(action="accept", content=content)]
        told = await person.invoke(END, CALL)
    assert told.structured_content["state"] == "done"


@modes
async def test_a_name_that_is_nearly_the_questions_decides_nothing(mode: str) -> None:
    room, person = students(), Resumed()
    async with client(kit(room), mode, person) as person.mcp:
        await person.invoke(END, CALL)
        value = choice(person.shown[0].requested_schema, "approve")
        for wrong in (value[:-1], value.upper(), f"{value} ", value + "0"):
            content: Any = {"decision": wrong}
            person.saved = [types.ElicitResult(action="accept", content=content)]
            told = await person.invoke(END, CALL)
            assert told.structured_content["waiting"] is True
    assert room.posts == []


@modes
async def test_a_refusal_to_answer_names_no_question_and_only_ever_stops(mode: str) -> None:
    """The protocol gives a declined form no content."""
    room, person = students(), Resumed()
    async with client(kit(room), mode, person) as person.mcp:
        await end_asked_again(room, person)
        person.say(DECLINE)
        told = await person.invoke(END, CALL)
    assert told.structured_content["state"] == "rejected"
    assert room.posts == []


async def test_an_answer_behind_the_deadline_of_its_own_question_is_told_that_it_is_late() -> None:
    room, clock, person = students(), Clock(), Resumed()
    toolkit = kit(room, Journal(":memory:", clock=clock))
    async with client(toolkit, "auto", person) as mcp:
        asked = await mcp.session.call_tool(END, CALL, allow_input_required=True)
        assert isinstance(asked, types.InputRequiredResult)
        await clock.sleep(601)
        told = await mcp.call_tool(
            END, CALL, input_responses=yes_to(asked), request_state=asked.request_state
        )
    assert told.structured_content["state"] == "expired"
    assert "Too late, nothing is sent" in text(told)
    assert (person.shown, room.posts) == ([], [])
    events = toolkit.gate.journal.events(told.structured_content["action_id"])
    assert [(e.way, e.by) for e in events if e.kind == "late_answer"] == [
        ("elicitation", "client mcp")
    ]
