"""The MCP server, in memory, in both eras of the protocol."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
import yaml
from mcp import Client
from mcp.server.request_state import AESGCMRequestStateCodec, InvalidRequestState
from mcp.shared.exceptions import MCPError

import hms_active_rooms
from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.capability import capability
from hms_active_rooms.cli.serving import Where
from hms_active_rooms.errors import JournalError, ServerError, TimedOut
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.tables import actions, asks
from hms_active_rooms.serve.calls import DATA, input_schema
from hms_active_rooms.serve.decisions import all_ended
from hms_active_rooms.serve.limits import MOST_A_MINUTE, refusals_of
from hms_active_rooms.serve.mcp import NAME, URI, build_server, serve_stdio
from hms_active_rooms.tokens import token_bound
from hms_active_rooms.tools.roster import PeersTable
from serve.people import (
    CANCEL,
    DECLINE,
    NO,
    YES,
    Person,
    client,
    kit,
    remove,
    students,
    text,
    yes_to,
)
from stand_in import ROOM, SESSION, Clock, StandInRoom, peer

SCHEMAS = Path(__file__).parent.parent / "tools" / "schemas"
REMOVE = "hms-remove-peers"

modes = pytest.mark.parametrize("mode", ["auto", "legacy"])


# --- the five tools ---------------------------------------------------------------------------


def test_name_and_port_are_the_contracts() -> None:
    file = Path(hms_active_rooms.__file__).with_name("capability.yaml")
    exposed = yaml.safe_load(file.read_text())["capability"]["exposes"][0]
    assert (exposed["namespace"], exposed["port"]) == (NAME, Where().port)
    assert list(DATA) == [tool.name for tool in capability().tools]


@pytest.mark.parametrize("tool", [t.name for t in capability().tools])
def test_input_schemas_are_the_langchain_ones(tool: str) -> None:
    langchain = json.loads((SCHEMAS / f"{tool}.json").read_text())["function"]["parameters"]
    assert input_schema(tool) == langchain
    assert input_schema(tool)["additionalProperties"] is False


@modes
async def test_the_tools_carry_title_hints_and_output_schema(mode: str) -> None:
    async with client(kit(students()), mode) as mcp:
        tools = (await mcp.list_tools()).tools
    assert [t.name for t in tools] == [t.name for t in capability().tools]
    for tool, contract in zip(tools, capability().tools, strict=True):
        assert tool.title
        assert tool.annotations
        assert tool.annotations.read_only_hint is contract.hints.read_only
        assert tool.annotations.destructive_hint is contract.hints.destructive
        assert tool.annotations.idempotent_hint is contract.hints.idempotent
        assert tool.annotations.open_world_hint is True
        assert tool.output_schema
        assert tool.output_schema["type"] == "object"


@modes
async def test_a_reader_answers_in_words_and_in_data(mode: str) -> None:
    async with client(kit(students()), mode) as mcp:
        people = await mcp.call_tool("hms-list-peers", {"room_id": ROOM, "role": "student"})
        room = await mcp.call_tool("hms-retrieve-active-room", {"room_id": ROOM})
    assert '"Peer 1"' in text(people)
    assert [row[1] for row in people.structured_content["peers"]] == ["Peer 1", "Peer 2", "Peer 3"]
    assert room.structured_content["session_id"] == SESSION


async def test_the_data_of_a_huge_room_is_bounded() -> None:
    room = StandInRoom([peer(n, name="N" * 10_000, role=f"r{n}") for n in range(1, 300)])
    async with client(kit(room), "auto") as mcp:
        people = await mcp.call_tool("hms-list-peers", {"room_id": ROOM, "limit": 100})
    assert people.structured_content["total"] == 299
    assert len(json.dumps(people.structured_content)) < 10_000


@modes
async def test_text_and_data_of_a_roster_together_cost_at_most_1500_tokens(mode: str) -> None:
    """Some clients show a model both."""
    names = ("Priya Raman", "Omar Haddad", "Zoë Fischer", "Liam O'Connor")
    room = StandInRoom([peer(n, name=f"{names[n % 4]} {n}") for n in range(1, 301)])
    seen: list[str] = []
    async with client(kit(room), mode) as mcp:
        while len(seen) < 300:
            asked = {"room_id": ROOM, "offset": len(seen)}
            people = await mcp.call_tool("hms-list-peers", asked)
            data = people.structured_content
            PeersTable.model_validate(data)
            assert len(data["peers"]) >= 18
            whole = text(people) + json.dumps(data, ensure_ascii=False, separators=(",", ":"))
            assert token_bound(whole) <= 1500
            for row in data["peers"]:
                line = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
                assert line in text(people)  # whoever is shown one of them misses nobody
            seen += [row[0] for row in data["peers"]]
            assert data["left_out"] == 300 - len(seen)
    assert len(set(seen)) == 300


# --- approving ----------------------------------------------------------------------------------


@modes
async def test_an_approved_removal_is_sent_once(mode: str) -> None:
    room, person = students(), Person([YES])
    toolkit = kit(room)
    async with client(toolkit, mode, person) as mcp:
        result = await mcp.call_tool(REMOVE, remove())
    assert [verb for verb, _ in room.posts] == ["remove"]
    assert not result.is_error
    assert result.structured_content["state"] == "done"
    assert result.structured_content["decided_way"] == "elicitation"
    assert len(person.questions) == 1
    assert '"Peer 1"' in person.questions[0]
    assert result.structured_content["action_id"] in person.questions[0]
    row = toolkit.gate.journal.get(result.structured_content["action_id"])
    assert row is not None
    assert row.digest[:12] in person.questions[0]
    assert all("default" not in form["properties"]["decision"] for form in person.forms)


@modes
@pytest.mark.parametrize("answer", [NO, DECLINE])
async def test_a_no_sends_nothing(mode: str, answer: types.ElicitResult) -> None:
    room = students()
    async with client(kit(room), mode, Person([answer])) as mcp:
        result = await mcp.call_tool(REMOVE, remove())
    assert room.posts == []
    assert result.structured_content["state"] == "rejected"
    assert result.structured_content["executed"] == "no"
    assert "Not executed" in text(result)


@modes
async def test_a_closed_question_leaves_the_action_waiting(mode: str) -> None:
    room, person = students(), Person([CANCEL])
    async with client(kit(room), mode, person) as mcp:
        result = await mcp.call_tool(REMOVE, remove())
    assert room.posts == []
    assert result.structured_content["waiting"] is True
    assert len(person.questions) == 1


@modes
@pytest.mark.parametrize(
    "content",
    [
        {"decision": "yes"},
        {"decision": True},
        {},
        {"decision": "approve"},
        {"decision": "reject"},
        {"decision": "approve this", "more": "x"},
    ],
)
async def test_only_exactly_what_the_form_offers_decides(
    mode: str, content: dict[str, Any]
) -> None:
    room = students()
    person = Person([types.ElicitResult(action="accept", content=content), CANCEL])
    toolkit = kit(room)
    async with client(toolkit, mode, person) as mcp:
        result = await mcp.call_tool(REMOVE, remove())
    assert room.posts == []
    assert result.structured_content["waiting"] is True
    events = toolkit.gate.journal.events(result.structured_content["action_id"])
    assert [e.kind for e in events].count("bad_answer") == 1
    assert len(person.questions) == 2


@modes
async def test_bad_answers_are_not_asked_about_for_ever(mode: str) -> None:
    room = students()
    person = Person([types.ElicitResult(action="accept", content={"decision": "maybe"})])
    async with client(kit(room), mode, person) as mcp:
        result = await mcp.call_tool(REMOVE, remove())
    assert room.posts == []
    assert result.structured_content["waiting"] is True
    assert len(person.questions) == 5


@modes
async def test_a_client_that_cannot_ask_is_told_where_to_approve(mode: str) -> None:
    room = students()
    toolkit = kit(room)
    async with client(toolkit, mode) as mcp:
        result = await mcp.call_tool(REMOVE, remove())
        action = result.structured_content["action_id"]
        assert room.posts == []
        assert result.structured_content["waiting"] is True
        assert f"hms-active-rooms approve {action}" in text(result)
        again = await mcp.call_tool(REMOVE, remove())
        assert again.structured_content["action_id"] == action
        row = toolkit.gate.journal.get(action)
        assert row is not None
        await toolkit.gate.decide(
            action, toolkit.gate.request(row).approve(), by="ada", way="terminal"
        )
        done = await mcp.call_tool(REMOVE, remove())
        assert done.structured_content["state"] == "done"
        assert done.structured_content["action_id"] == action
    assert [verb for verb, _ in room.posts] == ["remove"]


async def test_a_question_is_taken_back_when_somebody_decides_elsewhere() -> None:
    """The handshake era holds the call open while it asks."""
    room = students()
    toolkit = kit(room)
    asked = []

    async def never(_: Any, params: Any) -> types.ElicitResult:
        (row,) = toolkit.gate.journal.actions()
        asked.append(row.id)
        await toolkit.gate.decide(
            row.id, toolkit.gate.request(row).reject("no"), by="ada", way="terminal"
        )
        await asyncio.Event().wait()
        raise AssertionError

    async with client(toolkit, "legacy", never) as mcp:  # type: ignore[arg-type]
        result = await mcp.call_tool(REMOVE, remove())
    assert result.structured_content["state"] == "rejected"
    assert result.structured_content["decided_by"] == "ada"
    assert room.posts == []


@pytest.mark.parametrize("error", [JournalError("It is locked."), RuntimeError("no thread")])
async def test_a_look_at_the_journal_that_fails_does_not_take_the_question_back(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, person, looked = students(), Person([YES]), asyncio.Event()
    toolkit = kit(room)
    real = toolkit.gate.get

    async def fails_while_asked(action_id: str) -> Any:
        if looked.is_set():
            return await real(action_id)
        looked.set()
        raise error

    async def slow(context: Any, params: Any) -> types.ElicitResult:
        monkeypatch.setattr(toolkit.gate, "get", fails_while_asked)
        await looked.wait()
        return await person(context, params)

    async with client(toolkit, "legacy", slow) as mcp:  # type: ignore[arg-type]
        result = await mcp.call_tool(REMOVE, remove())
    assert result.structured_content["state"] == "done"
    assert len(room.posts) == 1


async def test_a_question_is_taken_back_when_its_time_is_over() -> None:
    room, clock = students(), Clock()

    async def never(_: Any, __: Any) -> types.ElicitResult:
        await clock.sleep(601)
        await asyncio.Event().wait()
        raise AssertionError

    toolkit = kit(room, Journal(":memory:", clock=clock))
    async with client(toolkit, "legacy", never) as mcp:  # type: ignore[arg-type]
        result = await mcp.call_tool(REMOVE, remove())
    assert result.structured_content["state"] == "expired"
    assert room.posts == []


async def test_a_client_whose_form_fails_leaves_the_action_waiting() -> None:
    room = students()

    async def broken(_: Any, __: Any) -> types.ErrorData:
        return types.ErrorData(code=types.INTERNAL_ERROR, message="no form")

    toolkit = kit(room)
    async with client(toolkit, "legacy", broken) as mcp:  # type: ignore[arg-type]
        result = await mcp.call_tool(REMOVE, remove())
    assert result.structured_content["waiting"] is True
    assert room.posts == []
    events = toolkit.gate.journal.events(result.structured_content["action_id"])
    assert [event.kind for event in events] == ["proposed", "asked", "no_answer"]


@modes
async def test_what_changed_between_question_and_answer_is_asked_about_again(mode: str) -> None:
    room = students()

    def role_changes() -> None:
        if not person.questions:
            room.peers[0] = peer(1, role="teacher")

    person = Person([YES, YES], before=role_changes)
    async with client(kit(room), mode, person) as mcp:
        result = await mcp.call_tool(REMOVE, remove())
    assert len(person.questions) == 2
    assert "Asked again" in person.questions[1]
    assert 'role "teacher"' in person.questions[1]
    assert result.structured_content["state"] == "done"
    assert [verb for verb, _ in room.posts] == ["remove"]


@modes
async def test_the_same_call_again_is_asked_about_again(mode: str) -> None:
    room, person = students(), Person([YES, DECLINE])
    said = {"room_id": ROOM, "message": "five minutes"}
    async with client(kit(room), mode, person) as mcp:
        await mcp.call_tool("hms-send-message", said)
        second = await mcp.call_tool("hms-send-message", said)
    assert len(person.questions) == 2
    assert second.structured_content["state"] == "rejected"
    assert [verb for verb, _ in room.posts] == ["send"]


# --- who answered ---------------------------------------------------------------------------------

MARK = "~[0-9a-f]{6}"  # the name was another


@modes
@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("claude-desktop", "claude-desktop"),
        ("ada (page)", "ada_page_" + MARK),
        ('" by "ada', "_by_ada" + MARK),
        ("\x1b[31mAda\u202e\n", "_31mAda_" + MARK),
        ("Аda", "_da" + MARK),
        ("", "unnamed"),
        ("x" * 100_000, "x" * 40 + MARK),
    ],
)
async def test_the_record_says_that_a_client_answered_and_no_name_looks_like_more(
    mode: str, name: str, word: str
) -> None:
    room = students()
    toolkit = kit(room)
    info = types.Implementation(name=name, version="1")
    asking = Client(
        build_server(toolkit),
        mode=mode,
        elicitation_callback=Person([YES]),
        client_info=info,
    )
    async with asking as mcp:
        told = (await mcp.call_tool(REMOVE, remove())).structured_content
    assert re.fullmatch(f"client {word}", told["decided_by"])
    assert told["decided_way"] == "elicitation"
    row = await toolkit.gate.get(told["action_id"])
    assert row.requester.partition("#")[0] == f"mcp:{told['decided_by'].removeprefix('client ')}"


@modes
async def test_without_elicitation_nobody_is_asked_through_the_client(mode: str) -> None:
    room, person = students(), Person([YES])
    asking = Client(
        build_server(kit(room), elicit=False),
        mode=mode,
        elicitation_callback=person,
    )
    async with asking as mcp:
        result = await mcp.call_tool(REMOVE, remove())
    assert result.structured_content["waiting"] is True
    assert "hms-active-rooms approve" in text(result)
    assert (room.posts, person.questions) == ([], [])


async def test_without_elicitation_an_answer_that_comes_anyway_is_none() -> None:
    """Even to a question that was asked where it was on, with a state both servers know."""
    room = students()
    toolkit = kit(room)
    async with Client(build_server(toolkit), elicitation_callback=Person([YES])) as mcp:
        asked = await first_round(mcp)
    server = build_server(toolkit, elicit=False)
    async with Client(server, elicitation_callback=Person([YES])) as mcp:
        answers = yes_to(asked)
        result = await mcp.call_tool(
            REMOVE, remove(), input_responses=answers, request_state=asked.request_state
        )
    assert result.structured_content["waiting"] is True
    assert room.posts == []


@modes
async def test_a_question_says_where_else_it_can_be_decided(mode: str) -> None:
    here, elsewhere = Person([CANCEL]), Person([CANCEL])
    page = "http://127.0.0.1:9090/approvals"
    async with client(kit(students()), mode, here) as mcp:
        await mcp.call_tool(REMOVE, remove())
    asking = Client(
        build_server(kit(students()), page=page),
        mode=mode,
        elicitation_callback=elsewhere,
    )
    async with asking as mcp:
        told = (await mcp.call_tool(REMOVE, remove())).structured_content
    assert "can also decide" not in here.questions[0]
    also = f"You can also decide on the page {page}, or in a terminal: hms-active-rooms approve"
    assert f"{also} {told['action_id']}." in elsewhere.questions[0]


# --- replayed and forged rounds --------------------------------------------------------------------


async def first_round(mcp: Any, **arguments: Any) -> types.InputRequiredResult:
    asked = await mcp.session.call_tool(REMOVE, remove(**arguments), allow_input_required=True)
    assert isinstance(asked, types.InputRequiredResult)
    return asked


async def test_an_accepted_round_sent_again_tells_the_outcome_and_sends_nothing() -> None:
    room, person = students(), Person([YES])
    async with client(kit(room), "auto", person) as mcp:
        asked = await first_round(mcp)
        answers = yes_to(asked)
        results = [
            await mcp.call_tool(
                REMOVE, remove(), input_responses=answers, request_state=asked.request_state
            )
            for _ in range(3)
        ]
    assert [verb for verb, _ in room.posts] == ["remove"]
    assert len({r.structured_content["action_id"] for r in results}) == 1
    assert person.questions == []


async def test_an_answer_without_the_question_is_none() -> None:
    room, person = students(), Person([CANCEL])
    async with client(kit(room), "auto", person) as mcp:
        answers = yes_to(await first_round(mcp))
        result = await mcp.call_tool(REMOVE, remove(), input_responses=answers)
    assert room.posts == []
    assert result.structured_content["waiting"] is True
    assert len(person.questions) == 1


async def test_a_forged_state_is_refused() -> None:
    room = students()
    toolkit = kit(room)
    async with client(toolkit, "auto", Person([CANCEL])) as mcp:
        answers = yes_to(await first_round(mcp))
        (row,) = toolkit.gate.journal.actions()
        forged = json.dumps({"action": row.id, "digest": row.digest, "count": 1})
        with pytest.raises(MCPError, match="requestState"):
            await mcp.call_tool(REMOVE, remove(), input_responses=answers, request_state=forged)
    assert room.posts == []


@pytest.mark.parametrize("stored", [["zz"], [], {}, "a", ["0" * 64] * 2])
async def test_a_changed_key_is_replaced_by_a_new_one_that_all_servers_use(stored: object) -> None:
    room = students()
    toolkit = kit(room)
    build_server(toolkit)
    with toolkit.gate.journal.write() as tx:
        tx.db.execute(asks.update().values(items=stored))
    async with client(toolkit, "auto", Person([CANCEL])) as mcp:
        asked = await first_round(mcp)
    for known in "zz", "unreadable", "0" * 64:
        codec = AESGCMRequestStateCodec([hashlib.sha256(known.encode()).digest()])
        with pytest.raises(InvalidRequestState):
            codec.unseal(str(asked.request_state))
    async with client(toolkit, "auto", Person([CANCEL])) as mcp:
        state: Any = {"input_responses": yes_to(asked), "request_state": asked.request_state}
        done = await mcp.call_tool(REMOVE, remove(), **state)
    assert done.structured_content["state"] == "done"


@modes
async def test_nobody_is_asked_about_an_action_whose_record_is_broken(mode: str) -> None:
    room, person = students(), Person([CANCEL])
    toolkit = kit(room)
    async with client(toolkit, mode, person) as mcp:
        await mcp.call_tool(REMOVE, remove(reason="spam"))
        with toolkit.gate.journal.write() as tx:
            tx.db.execute(actions.update().values(arguments=remove(reason="forged")))
        person.answers = [YES]
        told = await mcp.call_tool(REMOVE, remove(reason="spam"))
    assert len(person.questions) == 1
    assert "contradicts itself" in text(told)
    assert "A person decides" not in text(told)
    assert room.posts == []


async def test_the_state_of_one_call_answers_no_other() -> None:
    room = students()
    async with client(kit(room), "auto", Person([CANCEL])) as mcp:
        asked = await first_round(mcp)
        answers = yes_to(asked)
        with pytest.raises(MCPError, match="requestState"):
            await mcp.call_tool(
                REMOVE, remove(2), input_responses=answers, request_state=asked.request_state
            )
    assert room.posts == []


async def test_an_old_answer_does_not_approve_what_is_asked_by_then() -> None:
    room = students()
    toolkit = kit(room)
    person = Person([CANCEL])
    async with client(toolkit, "auto", person) as mcp:
        asked = await first_round(mcp)
        (row,) = toolkit.gate.journal.actions()
        # Approved elsewhere, but the person has another role by now: asked again.
        await toolkit.gate.decide(
            row.id, toolkit.gate.request(row).approve(), by="ada", way="terminal"
        )
        room.peers[0] = peer(1, role="teacher")
        assert (await toolkit.gate.run(row.id)).state == "proposed"
        answers = yes_to(asked)
        result = await mcp.call_tool(
            REMOVE, remove(), input_responses=answers, request_state=asked.request_state
        )
    assert room.posts == []
    assert result.structured_content["waiting"] is True
    assert "it was for another question, and came too late" in person.questions[-1]


# --- errors ----------------------------------------------------------------------------------------


@modes
async def test_an_unknown_field_is_refused(mode: str) -> None:
    room, person = students(), Person([YES])
    async with client(kit(room), mode, person) as mcp:
        result = await mcp.call_tool(
            "hms-send-message", {"room_id": ROOM, "message": "psst", "peerId": peer(1).id}
        )
    assert result.is_error
    assert "peerId: there is no such argument" in text(result)
    assert "Nothing was executed" in text(result)
    assert (room.posts, person.questions) == ([], [])


@modes
async def test_an_unknown_tool_is_a_protocol_error(mode: str) -> None:
    async with client(kit(students()), mode) as mcp:
        with pytest.raises(MCPError, match="no tool"):
            await mcp.call_tool("hms-ban", {"room_id": ROOM})


@modes
async def test_another_room_is_refused_and_nothing_is_read(mode: str) -> None:
    room = students()
    reads: list[str] = []
    real = room.list_peers

    async def counted(room_id: str, **more: Any) -> Any:
        reads.append(room_id)
        return await real(room_id, **more)

    room.list_peers = counted  # type: ignore[method-assign]
    async with client(kit(room), mode, Person([YES])) as mcp:
        for tool, arguments in (
            ("hms-list-peers", {"room_id": "7" * 24}),
            (REMOVE, {"room_id": "7" * 24, "role": "student"}),
        ):
            result = await mcp.call_tool(tool, arguments)
            assert result.is_error
            assert "policy does not allow room" in text(result)
    assert (reads, room.posts) == ([], [])


@modes
async def test_a_fault_before_executing_says_that_nothing_was_executed(mode: str) -> None:
    room = students()

    def broken(_: str) -> None:
        raise ServerError("100ms answered 500.", status=500, executed="no")

    room.before = broken
    async with client(kit(room), mode, Person([YES])) as mcp:
        result = await mcp.call_tool(REMOVE, remove())
    assert result.is_error
    assert "Nothing was executed" in text(result)


@modes
async def test_a_lost_answer_says_that_it_may_have_been_executed(mode: str) -> None:
    room = students()

    def lost(_: str) -> None:
        raise TimedOut("No answer from 100ms.", executed="maybe")

    room.after = lost
    async with client(kit(room), mode, Person([YES])) as mcp:
        result = await mcp.call_tool("hms-send-message", {"room_id": ROOM, "message": "hi"})
        assert result.structured_content["state"] == "unknown"
        assert result.structured_content["executed"] == "maybe"
        assert "may have reached the room" in text(result)
        again = await mcp.call_tool("hms-send-message", {"room_id": ROOM, "message": "hi"})
    assert again.structured_content["action_id"] == result.structured_content["action_id"]
    assert [verb for verb, _ in room.posts] == ["send"]


@modes
async def test_an_hour_after_a_lost_answer_the_same_call_is_asked_about_again(mode: str) -> None:
    room, clock, person = students(), Clock(), Person([YES, NO])

    def lost(_: str) -> None:
        raise TimedOut("No answer from 100ms.", executed="maybe")

    room.after = lost
    said = {"room_id": ROOM, "message": "We end in 5 minutes."}
    async with client(kit(room, Journal(":memory:", clock=clock)), mode, person) as mcp:
        states = []
        for _ in range(3):
            result = await mcp.call_tool("hms-send-message", said)
            states.append((result.structured_content["state"], len(person.questions)))
            await clock.sleep(1801)
    assert states == [("unknown", 1), ("unknown", 1), ("rejected", 2)]
    assert len(room.posts) == 1


def failing(error: Exception) -> StandInRoom:
    """A room that answers each read with this error."""

    class Failing(StandInRoom):
        async def retrieve_active_room(self, room_id: str) -> Any:
            raise error

    return Failing(students().peers)


@modes
async def test_a_bug_does_not_tell_the_client_its_text(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(kit(failing(RuntimeError("secret-in-a-bug"))), mode) as mcp:
        with pytest.raises(MCPError) as caught:
            await mcp.call_tool("hms-retrieve-active-room", {"room_id": ROOM})
    assert "secret-in-a-bug" not in str(caught.value)
    assert "failed hms-retrieve-active-room: RuntimeError at test_mcp.py:" in caplog.text
    assert "Traceback" not in caplog.text
    assert "secret-in-a-bug" not in caplog.text


@modes
async def test_a_fault_that_is_not_the_clients_is_in_the_servers_log(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    down = ServerError("100ms answered 503.", status=503, executed="no")
    async with client(kit(failing(down)), mode) as mcp:
        told = await mcp.call_tool("hms-retrieve-active-room", {"room_id": ROOM})
        await mcp.call_tool("hms-retrieve-active-room", {"room_id": "x"})
    assert told.is_error
    logged = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert logged == ["failed hms-retrieve-active-room: 100ms answered 503."]


# --- the rest ----------------------------------------------------------------------------------------


@modes
async def test_a_role_removal_reports_progress_while_it_runs(mode: str) -> None:
    room = students()
    seen: list[tuple[float, float | None]] = []
    told = asyncio.Event()
    real = room.remove_peers

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))
        told.set()

    async def slow(room_id: str, **more: Any) -> Any:
        if len(room.posts) == 2:
            await asyncio.wait_for(told.wait(), 20)
        return await real(room_id, **more)

    room.remove_peers = slow  # type: ignore[method-assign]
    async with client(kit(room), mode, Person([YES])) as mcp:
        result = await mcp.call_tool(
            REMOVE, {"room_id": ROOM, "role": "student"}, progress_callback=progress
        )
    assert result.structured_content["state"] == "done"
    assert len(room.posts) == 3
    assert seen[0][0] in (1, 2)
    assert seen[-1] == (3, 3)


@modes
async def test_a_progress_report_that_fails_does_not_hide_what_was_done(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = students()
    toolkit = kit(room)

    def locked(_: str) -> dict[str, str]:
        raise JournalError("The database is locked.")

    async with client(toolkit, mode, Person([YES])) as mcp:
        monkeypatch.setattr(toolkit.gate.journal, "steps", locked)
        result = await mcp.call_tool(REMOVE, {"room_id": ROOM, "role": "student"})
    assert not result.is_error
    assert result.structured_content["executed"] == "yes"
    assert len(room.posts) == 3


async def given_up(call: asyncio.Task[Any]) -> None:
    """The client goes away while its call is answered."""
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def sent_once_all_the_same(toolkit: ActiveRoomsToolkit, room: StandInRoom) -> None:
    await all_ended(20)
    (row,) = toolkit.gate.journal.actions()
    assert row.state == "done"
    assert [verb for verb, _ in room.posts] == ["remove"]


@modes
async def test_a_client_that_goes_away_does_not_stop_what_was_approved(mode: str) -> None:
    room = students()
    toolkit = kit(room)
    started, go = asyncio.Event(), asyncio.Event()
    real = room.remove_peers

    async def slow(room_id: str, **more: Any) -> Any:
        started.set()
        await go.wait()
        return await real(room_id, **more)

    room.remove_peers = slow  # type: ignore[method-assign]
    async with client(toolkit, mode, Person([YES])) as mcp:
        call = asyncio.create_task(mcp.call_tool(REMOVE, remove()))
        await asyncio.wait_for(started.wait(), 20)
        await given_up(call)
        await mcp.list_tools()  # the server has read that the call is given up
        go.set()
        await sent_once_all_the_same(toolkit, room)
        told = await mcp.call_tool(REMOVE, remove())  # else a person would be asked again
    assert "made before" in text(told)
    assert len(room.posts) == 1


@modes
async def test_an_outcome_is_recorded_as_told_only_to_a_client_that_waits_for_it(mode: str) -> None:
    toolkit = kit(students())
    async with client(toolkit, mode, Person([YES])) as mcp:
        told = await mcp.call_tool(REMOVE, remove())
    events = toolkit.gate.journal.events(told.structured_content["action_id"])
    assert [event.kind for event in events][-2:] == ["done", "told"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_yes_is_sent_though_the_client_goes_away_as_it_is_written(mode: str) -> None:
    room, loop = students(), asyncio.get_running_loop()
    answered, writing, go = threading.Event(), asyncio.Event(), threading.Event()

    def held(now: str) -> None:
        if now == "before" and answered.is_set():
            loop.call_soon_threadsafe(writing.set)
            assert go.wait(20)

    toolkit = kit(room, Journal(":memory:", on_commit=held))
    async with client(toolkit, mode, Person([YES], before=answered.set)) as mcp:
        call = asyncio.create_task(mcp.call_tool(REMOVE, remove()))
        await asyncio.wait_for(writing.wait(), 20)
        await given_up(call)
    go.set()
    await sent_once_all_the_same(toolkit, room)


async def over_stdio(toolkit: ActiveRoomsToolkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server over a standard input that ends at once."""
    null = os.open(os.devnull, os.O_RDWR)
    with os.fdopen(null) as ended, os.fdopen(os.dup(null), "w") as unread:
        monkeypatch.setattr(sys, "stdin", ended)
        monkeypatch.setattr(sys, "stdout", unread)
        await serve_stdio(build_server(toolkit), toolkit.gate)


async def test_over_stdio_too_what_was_approved_before_a_restart_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = students()
    toolkit = kit(room)
    async with client(toolkit, "auto") as mcp:
        asked = (await mcp.call_tool(REMOVE, remove())).structured_content
    row = await toolkit.gate.get(asked["action_id"])
    yes = toolkit.gate.request(row).approve()
    await toolkit.gate.decide(row.id, yes, by="client x", way="elicitation")
    await over_stdio(toolkit, monkeypatch)
    # At once: when the server has ended, so has what it sent.
    assert [action.state for action in toolkit.gate.journal.actions()] == ["done"]
    assert len(room.posts) == 1


async def test_at_the_end_of_stdio_what_was_refused_is_on_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toolkit = kit(students())
    refusals = refusals_of(toolkit.gate.journal)
    for _ in range(MOST_A_MINUTE + 3):
        refusals.add("policy_refusal", "a reader", "mcp:x")
    await over_stdio(toolkit, monkeypatch)
    assert toolkit.gate.journal.refused_requests()[0].data["what"] == "3 more requests"


@modes
async def test_the_skills_files_can_be_read(mode: str) -> None:
    files = {"SKILL.md": "# Skill", "references/examples/callback.py": "print()"}
    async with Client(build_server(kit(students()), guides=files), mode=mode) as mcp:
        found = (await mcp.list_resources()).resources
        assert (await mcp.list_resource_templates()).resource_templates == []
        parts = [(await mcp.read_resource(one.uri)).contents[0] for one in found]
        for wrong in ("../../etc/passwd", "references/../SKILL.md", "references", ""):
            with pytest.raises(MCPError, match="no such resource"):
                await mcp.read_resource(URI + wrong)
    kinds = ["text/markdown", "text/x-python"]
    assert [one.mime_type for one in found] == [part.mime_type for part in parts] == kinds
    assert [part.text for part in parts if isinstance(part, types.TextResourceContents)] == [
        *files.values()
    ]
