"""Calls from programs: the same call is the same action until its outcome was told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.errors import InvalidCall, NotActive, PeerNotFound, PolicyRefusal, TimedOut
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.records import Action
from hms_active_rooms.serve.answers import Answer
from hms_active_rooms.serve.calls import Caller, call_tool
from serve.people import kit, remove, students
from stand_in import ROOM, Clock, StandInRoom, peer

REMOVE, SEND = "hms-remove-peers", "hms-send-message"
ME = Caller("test", "tester")


async def call(
    toolkit: ActiveRoomsToolkit, tool: str, caller: Caller = ME, **arguments: Any
) -> Answer:
    return await call_tool(toolkit, tool, {"room_id": ROOM, **arguments}, caller=caller)


def row(answer: Answer) -> Action:
    assert answer.action is not None
    return answer.action


async def approve(gate: Gate, answer: Answer) -> None:
    action = await gate.get(row(answer).id)
    await gate.decide(action.id, gate.request(action).approve(), by="ada", way="test")


async def test_a_state_change_waits_and_says_where_to_approve() -> None:
    room = students()
    answer = await call_tool(
        kit(room), REMOVE, remove(), caller=ME, page="http://127.0.0.1:9090/approvals"
    )
    assert answer.waiting
    assert answer.executed == "no"
    assert answer.action
    assert answer.action.thread == "serve:test"
    assert answer.action.requester == "tester"
    assert "http://127.0.0.1:9090/approvals" in answer.text
    assert f"hms-active-rooms approve {answer.action.id}" in answer.text
    assert room.posts == []


async def test_the_same_call_finds_its_row_and_then_its_outcome_once() -> None:
    room = students()
    toolkit = kit(room)
    first = await call(toolkit, SEND, message="hi")
    second = await call(toolkit, SEND, message="hi")
    assert row(second).id == row(first).id
    await approve(toolkit.gate, first)
    done = await call(toolkit, SEND, message="hi")
    assert row(done).id == row(first).id
    assert (done.data["state"], done.executed) == ("done", "yes")
    new = await call(toolkit, SEND, message="hi")
    assert new.waiting
    assert row(new).id != row(first).id
    assert [verb for verb, _ in room.posts] == ["send"]


async def test_many_turns_of_the_same_call_are_each_asked_about() -> None:
    room = students()
    toolkit = kit(room, actions_per_minute=1000)
    ids = set()
    for _ in range(11):
        answer = await call(toolkit, SEND, message="hi")
        assert answer.waiting
        ids.add(row(answer).id)
        await approve(toolkit.gate, answer)
        assert (await call(toolkit, SEND, message="hi")).executed == "yes"
    assert len(ids) == len(room.posts) == 11


async def test_two_callers_have_an_action_each() -> None:
    toolkit = kit(students())
    one = await call(toolkit, SEND, message="hi")
    other = await call(toolkit, SEND, Caller("another", "tester"), message="hi")
    assert row(one).id != row(other).id


async def test_calls_at_once_are_sent_once() -> None:
    room = students()
    toolkit = kit(room)
    await approve(toolkit.gate, await call(toolkit, REMOVE, peer_id=peer(1).id))
    answers = await asyncio.gather(*(call(toolkit, REMOVE, peer_id=peer(1).id) for _ in range(5)))
    assert len(room.posts) == 1
    assert {a.data["state"] for a in answers} == {"done"}


async def test_a_key_is_one_row_for_ever() -> None:
    room = students()
    toolkit = kit(room)
    keyed = Caller("test", "tester", key="k-1")
    first = await call(toolkit, SEND, keyed, message="hi")
    await approve(toolkit.gate, first)
    for _ in range(3):
        answer = await call(toolkit, SEND, keyed, message="hi")
        assert row(answer).id == row(first).id
        assert answer.executed == "yes"
    assert len(room.posts) == 1


async def test_a_key_of_one_call_is_none_for_another() -> None:
    toolkit = kit(students())
    keyed = Caller("test", "tester", key="k-1")
    await call(toolkit, SEND, keyed, message="hi")
    with pytest.raises(InvalidCall, match="another call"):
        await call(toolkit, SEND, keyed, message="ho")


@pytest.mark.parametrize("key", ["x" * 201, "é", "a\nb"])
async def test_a_malformed_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidCall, match="key"):
        await call(kit(students()), SEND, Caller("test", "tester", key=key), message="hi")


async def test_a_refusal_is_on_record_and_judged_anew_the_next_time() -> None:
    room = students()
    toolkit = kit(room)
    with pytest.raises(PeerNotFound):
        await call(toolkit, REMOVE, peer_id=peer(4).id)
    (refused,) = toolkit.gate.journal.actions()
    assert refused.state == "rejected"
    room.peers.append(peer(4))
    assert (await call(toolkit, REMOVE, peer_id=peer(4).id)).waiting


async def test_an_expired_question_is_told_once_then_asked_anew() -> None:
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    first = await call(toolkit, SEND, message="hi")
    await clock.sleep(601)
    late = await call(toolkit, SEND, message="hi")
    assert late.data["state"] == "expired"
    new = await call(toolkit, SEND, message="hi")
    assert new.waiting
    assert row(new).id != row(first).id


async def test_an_unknown_outcome_stays_unknown_and_is_never_sent_again() -> None:
    room = students()
    toolkit = kit(room)

    def lost(_: str) -> None:
        raise TimedOut("No answer.", executed="maybe")

    room.after = lost
    await approve(toolkit.gate, await call(toolkit, SEND, message="hi"))
    for _ in range(3):
        answer = await call(toolkit, SEND, message="hi")
        assert (answer.data["state"], answer.executed) == ("unknown", "maybe")
    assert len(room.posts) == 1


async def test_what_surely_failed_is_told_as_failed() -> None:
    room = students()

    def refused(_: str) -> None:
        raise TimedOut("No connection.", executed="no")

    toolkit = kit(room)
    await approve(toolkit.gate, await call(toolkit, SEND, message="hi"))
    room.before = refused
    answer = await call(toolkit, SEND, message="hi")
    assert answer.failed
    assert answer.executed == "no"


@pytest.mark.parametrize(
    ("tool", "arguments", "complaint"),
    [
        ("hms-ban", {}, "no tool"),
        (SEND, {"message": "psst", "peerId": "x"}, "peerId"),
        (SEND, {}, "message"),
        (REMOVE, {"role": 7}, "role"),
        ("hms-list-peers", {"limit": 1000}, "limit"),
    ],
)
async def test_wrong_calls_are_refused(tool: str, arguments: Any, complaint: str) -> None:
    with pytest.raises(InvalidCall, match=complaint):
        await call(kit(students()), tool, **arguments)


async def test_another_room_is_refused_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    toolkit = kit(students())
    for tool in ("hms-list-peers", "hms-retrieve-active-room"):
        with pytest.raises(PolicyRefusal):
            await call(toolkit, tool, room_id="7" * 24)
    assert len(caplog.records) == 2
    with pytest.raises(PolicyRefusal):
        await call(toolkit, REMOVE, room_id="7" * 24, role="student")
    assert len(toolkit.gate.journal.actions()) == 1


async def test_an_idle_room_is_told() -> None:
    with pytest.raises(NotActive):
        await call(kit(StandInRoom(session=None)), "hms-list-peers")


async def test_hidden_characters_of_names_are_escaped_in_the_data() -> None:
    room = StandInRoom([peer(1, name="a\u202eb" + "c" * 300)])
    answer = await call(kit(room), "hms-list-peers")
    (shown,) = answer.data["peers"]
    assert shown["name"].startswith("a\\u202eb")
    assert len(shown["name"]) < 220
