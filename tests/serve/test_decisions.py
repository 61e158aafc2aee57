"""Decisions from other programs: the first counts, and whoever comes second is told which."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.errors import InvalidCall, PolicyRefusal
from hms_active_rooms.gate.calls import parse_call
from hms_active_rooms.gate.drafts import Origin
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.records import Action
from hms_active_rooms.serve.calls import Caller, call_tool
from hms_active_rooms.serve.decisions import Verdict, decide, list_actions, run_approved, show
from serve.people import kit, remove, students
from stand_in import ROOM, Clock, StandInRoom, gate_on, peer

REMOVE = "hms-remove-peers"


async def waiting(toolkit: ActiveRoomsToolkit, **arguments: Any) -> Action:
    answer = await call_tool(
        toolkit, REMOVE, arguments or remove(), caller=Caller("test", "tester")
    )
    assert answer.action
    return answer.action


async def say(
    toolkit: ActiveRoomsToolkit, action: Action, answer: dict[str, Any], by: str, way: str = "page"
) -> Verdict:
    return await decide(toolkit.gate, action.id, answer, by=by, way=way)


def yes(action: Action) -> dict[str, Any]:
    return {"type": "approve", "digest": action.digest}


NO = {"type": "reject", "message": "leave him"}


async def test_an_approval_is_run_and_its_outcome_told() -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)
    verdict = await say(toolkit, action, yes(action), "ada")
    assert verdict.counted
    assert verdict.action.state == "done"
    assert "Removed" in verdict.text
    assert len(room.posts) == 1


async def test_a_second_decision_is_told_which_one_counted() -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)
    await say(toolkit, action, NO, "ada", "page")
    second = await say(toolkit, action, yes(action), "bob", "rest")
    assert not second.counted
    assert 'Already rejected by "ada" (page) at ' in second.text
    assert room.posts == []


async def test_of_two_at_once_one_counts() -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)
    verdicts = await asyncio.gather(
        say(toolkit, action, yes(action), "ada", "page"),
        say(toolkit, action, NO, "bob", "rest"),
        say(toolkit, action, yes(action), "eve", "page"),
    )
    assert sum(v.counted for v in verdicts) == 1
    row = await toolkit.gate.get(action.id)
    assert len(room.posts) == (0 if row.state == "rejected" else 1)
    told = [v.text for v in verdicts if not v.counted]
    assert all(f'"{row.decided_by}"' in t for t in told)


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "approve"},
        {"type": "approve", "digest": "0" * 64},
        {"type": "approve", "digest": "x", "force": True},
        {"type": "yes"},
        "approve",
        True,
        None,
    ],
)
async def test_what_is_no_answer_decides_nothing(answer: Any) -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)
    with pytest.raises(InvalidCall, match="Nothing was decided"):
        await decide(toolkit.gate, action.id, answer, by="ada", way="page")
    assert (await toolkit.gate.get(action.id)).state == "proposed"
    assert room.posts == []


async def test_words_can_be_edited_and_run() -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit, **remove(1, reason="spam"))
    edited = {
        "type": "edit",
        "digest": action.digest,
        "edited_action": {"name": REMOVE, "args": {**action.arguments, "reason": "bye"}},
    }
    verdict = await say(toolkit, action, edited, "ada")
    assert verdict.counted
    assert verdict.action.edited_from == action.id
    assert [body["reason"] for _, body in room.posts] == ["bye"]


async def test_a_change_since_then_is_asked_about_again() -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)
    room.peers[0] = peer(1, role="teacher")
    verdict = await say(toolkit, action, yes(action), "ada")
    assert verdict.action.state == "proposed"
    assert verdict.action.id != action.id
    assert "Asked again as action" in verdict.text
    assert room.posts == []


async def test_a_decision_too_late_is_told_so() -> None:
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    action = await waiting(toolkit)
    await clock.sleep(601)
    verdict = await say(toolkit, action, yes(action), "ada")
    assert not verdict.counted
    assert verdict.action.state == "expired"
    assert "not answered in time" in verdict.text


async def test_a_no_to_what_is_approved_and_not_sent_is_still_in_time() -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)
    await toolkit.gate.decide(
        action.id, toolkit.gate.request(action).approve(), by="ada", way="terminal"
    )
    verdict = await say(toolkit, action, NO, "bob")
    assert verdict.counted
    assert verdict.action.state == "rejected"
    assert room.posts == []


async def test_what_was_approved_before_a_restart_is_sent_after_it() -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)
    await toolkit.gate.decide(
        action.id, toolkit.gate.request(action).approve(), by="ada", way="page"
    )
    assert [row.state for row in await run_approved(toolkit.gate)] == ["done"]
    assert await run_approved(toolkit.gate) == []
    assert len(room.posts) == 1


async def test_a_restart_sends_nothing_that_another_program_asked_for() -> None:
    room = students()
    toolkit = kit(room)
    gate = toolkit.gate
    row = await gate.propose(parse_call(REMOVE, remove()), Origin("graph", "m", "1", "agent"))
    await gate.decide(row.id, gate.request(row).approve(), by="ada", way="interrupt")
    assert await run_approved(gate) == []
    assert room.posts == []


async def test_actions_of_other_rooms_are_neither_listed_nor_decided() -> None:
    journal = Journal(":memory:")
    other = gate_on(students(), journal)
    toolkit = kit(students(), journal, rooms=("7" * 24,))
    row = await other.propose(parse_call(REMOVE, remove()), Origin("t", "m", "1", "agent"))
    assert await list_actions(toolkit.gate) == []
    for work in (
        show(toolkit.gate, row.id),
        decide(toolkit.gate, row.id, yes(row), by="ada", way="page"),
        list_actions(toolkit.gate, room_id=ROOM),
    ):
        with pytest.raises(PolicyRefusal):
            await work
    assert (await other.get(row.id)).state == "proposed"


async def test_lists_know_what_is_too_late() -> None:
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    old = await waiting(toolkit)
    await clock.sleep(601)
    new = await waiting(toolkit, **remove(2))
    assert [a.id for a in await list_actions(toolkit.gate, state="proposed")] == [new.id]
    assert [a.id for a in await list_actions(toolkit.gate, state="expired")] == [old.id]
    assert len(await list_actions(toolkit.gate, limit=1)) == 1


async def test_one_action_is_shown_with_its_request_and_events() -> None:
    toolkit = kit(students())
    action = await waiting(toolkit)
    shown = await show(toolkit.gate, action.id.upper())
    assert shown.request
    assert shown.request.digest == action.digest
    assert '"Peer 1"' in shown.request.text
    assert [e.kind for e in shown.events] == ["proposed"]
    with pytest.raises(InvalidCall):
        await show(toolkit.gate, "nothing")


async def test_a_refusal_on_the_spot_is_shown_without_a_request() -> None:
    toolkit = kit(StandInRoom([peer(2)]))
    with pytest.raises(Exception, match="No peer"):
        await waiting(toolkit)
    (row,) = await list_actions(toolkit.gate)
    assert (await show(toolkit.gate, row.id)).request is None
