"""Decisions from other programs: the first counts, and whoever comes second is told which."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any, Literal

import pytest

from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.errors import (
    ActiveRoomsError,
    InvalidCall,
    JournalError,
    OutcomeUnknown,
    PolicyRefusal,
    ServerError,
    TimedOut,
    Unauthorized,
)
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.approval import Decided, Reject
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action, Origin, Way
from hms_active_rooms.gate.journal.tables import actions
from hms_active_rooms.serve.callers import Caller
from hms_active_rooms.serve.calls import call_tool
from hms_active_rooms.serve.decisions import (
    Verdict,
    all_ended,
    decide_and_run,
    list_actions,
    run_approved,
    show,
)
from hms_active_rooms.serve.limits import refusals_of
from serve.people import broken, kit, remove, students
from stand_in import ROOM, Clock, gate_on, peer

REMOVE = "hms-remove-peers"


async def waiting(toolkit: ActiveRoomsToolkit, state: str = "proposed", **arguments: Any) -> Action:
    """A call that a person has to decide on, or one that bob approved and nobody sent."""
    answer = await call_tool(
        toolkit, REMOVE, arguments or remove(), caller=Caller("test", "tester")
    )
    assert answer.action
    if state == "approved":
        approve = toolkit.gate.request(answer.action).approve()
        await toolkit.gate.decide(answer.action.id, approve, by="bob", way="terminal")
    return answer.action


async def say(
    toolkit: ActiveRoomsToolkit, action: Action, answer: dict[str, Any], by: str, way: Way = "page"
) -> Verdict:
    return await decide_and_run(toolkit.gate, action.id, answer, by=by, way=way)


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


async def test_of_what_failed_a_person_is_told_what_to_do() -> None:
    def refused(_: str) -> None:
        raise Unauthorized("100ms answered 401.", status=401)

    room = students()
    room.before = refused
    toolkit = kit(room)
    action = await waiting(toolkit)
    verdict = await say(toolkit, action, yes(action), "ada")
    assert verdict.action.state == "failed"
    assert verdict.text.endswith("and this machine's clock.")


async def test_a_second_decision_is_told_which_one_counted() -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)
    await say(toolkit, action, NO, "ada", "page")
    second = await say(toolkit, action, yes(action), "bob", "rest")
    assert not second.counted
    assert 'Already rejected by "ada" (page) at ' in second.text
    assert room.posts == []


@pytest.mark.parametrize("somebody_says_no", [True, False])
async def test_of_two_at_once_one_counts(somebody_says_no: bool) -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)
    verdicts = await asyncio.gather(
        say(toolkit, action, yes(action), "ada", "page"),
        say(toolkit, action, NO if somebody_says_no else yes(action), "bob", "rest"),
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
        await decide_and_run(toolkit.gate, action.id, answer, by="ada", way="page")
    assert (await toolkit.gate.get(action.id)).state == "proposed"
    assert room.posts == []


async def test_words_can_be_edited_and_run() -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit, **remove(1, reason="spam"))
    edited = {
        "type": "edit",
        "digest": action.digest,
        "edited_action": {"name": REMOVE, "args": {**action.call.arguments(), "reason": "bye"}},
    }
    verdict = await say(toolkit, action, edited, "ada")
    assert verdict.counted
    assert verdict.action.edited_from == action.id
    assert [body["reason"] for _, body in room.posts] == ["bye"]


async def test_other_words_for_what_was_approved_before_send_nothing() -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit, "approved", **remove(1, reason="spam"))
    words = {"name": REMOVE, "args": {**action.call.arguments(), "reason": "bye"}}
    edit = {"type": "edit", "digest": action.digest, "edited_action": words}
    second = await say(toolkit, action, edit, "ada")
    assert (second.counted, second.action.state, room.posts) == (False, "approved", [])
    assert 'Already approved by "bob"' in second.text
    # Neither the program that asked nor a restart sends what somebody wanted changed.
    again = await call_tool(
        toolkit, REMOVE, remove(1, reason="spam"), caller=Caller("test", "tester")
    )
    assert "approved, not sent" in again.text
    assert await run_approved(toolkit.gate) == []
    assert room.posts == []
    assert (await say(toolkit, action, yes(action), "ada")).action.state == "done"
    assert [body["reason"] for _, body in room.posts] == ["spam"]


@pytest.mark.parametrize("state", ["approved", "done"])
async def test_of_a_broken_record_nothing_is_claimed(state: str) -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)
    with toolkit.gate.journal.write() as tx:
        tx.db.execute(actions.update().values(state=state, decided_by="eve", decided_way="page"))
    with pytest.raises(OutcomeUnknown, match="Nobody can tell whether the action") as found:
        await say(toolkit, action, yes(action), "ada")
    told = str(found.value)
    assert "contradicts itself" in told
    assert f"The action {action.id} was sent" not in told
    assert "stays approved" not in told
    assert room.posts == []


async def test_a_change_since_then_is_asked_about_again() -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)
    room.peers[0] = peer(1, role="teacher")
    verdict = await say(toolkit, action, yes(action), "ada")
    assert verdict.action.state == "proposed"
    assert verdict.action.id != action.id
    assert "asked again, as action" in verdict.text
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


@pytest.mark.parametrize("stray", ["\ud800", "\x00"])
async def test_a_no_counts_whatever_characters_its_reason_holds(stray: str) -> None:
    toolkit = kit(students())
    action = await waiting(toolkit)
    no = {"type": "reject", "message": 2000 * stray}
    verdict = await say(toolkit, action, no, f"ada{stray}")
    assert (verdict.counted, verdict.action.state) == (True, "rejected")
    assert verdict.action.reason == 2000 * "\ufffd"


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


async def test_whoever_approved_is_told_of_a_no_that_came_before_it_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = students()
    toolkit = kit(room)
    gate = toolkit.gate
    action = await waiting(toolkit)
    read = room.list_peers

    async def no_just_now(room_id: str) -> Any:
        await gate.decide(action.id, Reject("no"), by="bob", way="rest")
        return await read(room_id)

    monkeypatch.setattr(room, "list_peers", no_just_now)
    verdict = await say(toolkit, action, yes(action), "ada", "page")
    assert not verdict.counted
    assert 'Already rejected by "bob" (rest) at ' in verdict.text
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


@pytest.mark.parametrize("before", ["proposed", "approved"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_yes_is_sent_though_whoever_gave_it_goes_away_as_it_is_written(
    before: str, moment: str
) -> None:
    room, loop = students(), asyncio.get_running_loop()
    saying: asyncio.Task[Verdict] | None = None

    def gone(now: Literal["before", "after"]) -> None:
        if saying is not None and now == moment:
            loop.call_soon_threadsafe(saying.cancel)

    toolkit = kit(room, Journal(":memory:", on_commit=gone))
    action = await waiting(toolkit, before)
    saying = asyncio.create_task(say(toolkit, action, yes(action), "ada"))
    with pytest.raises(asyncio.CancelledError):
        await saying
    await all_ended(20)
    saying = None
    assert (await toolkit.gate.get(action.id)).state == "done"
    assert len(room.posts) == 1


async def test_a_restart_sends_nothing_that_another_program_asked_for() -> None:
    room = students()
    toolkit = kit(room)
    gate = toolkit.gate
    row = await gate.propose(parse_call(REMOVE, remove()), Origin("graph", "m", "1", "agent"))
    await gate.decide(row.id, gate.request(row).approve(), by="ada", way="interrupt")
    assert await run_approved(gate) == []
    assert room.posts == []


async def test_a_restart_looks_for_what_became_of_what_was_left_unknown() -> None:
    room = students()
    gate = kit(room, verify_s=0).gate
    row = await gate.propose(parse_call(REMOVE, remove()), Origin("cli", "", "1", "cli:ada"))
    await gate.decide(row.id, gate.request(row).approve(), by="ada", way="page")

    def lost(_: str) -> None:
        raise TimedOut("No answer.", executed="maybe")

    room.before = lost
    assert (await gate.run(row.id)).state == "unknown"
    room.peers = [p for p in room.peers if p.id != row.shown.people[0].id]
    assert await run_approved(gate) == []
    assert (await gate.get(row.id)).state == "done"
    assert room.posts == []


@pytest.mark.parametrize("way", ["page", "rest"])
async def test_a_restart_sends_what_a_person_approved_here_whoever_asked(way: Way) -> None:
    room = students()
    gate = kit(room).gate
    row = await gate.propose(parse_call(REMOVE, remove()), Origin("cli", "", "1", "cli:ada"))
    await gate.decide(row.id, gate.request(row).approve(), by="ada", way=way)
    assert [row.state for row in await run_approved(gate)] == ["done"]
    assert len(room.posts) == 1


@pytest.mark.parametrize("state", ["proposed", "done"])
async def test_actions_of_other_rooms_are_neither_listed_nor_decided(state: str) -> None:
    journal = Journal(":memory:")
    other = gate_on(students(), journal)
    toolkit = kit(students(), journal, rooms=("7" * 24,))
    row = await other.propose(parse_call(REMOVE, remove()), Origin("t", "m", "1", "agent"))
    if state == "done":
        await other.decide(row.id, other.request(row).approve(), by="ada", way="terminal")
        await other.run(row.id)
    assert await list_actions(toolkit.gate) == []
    assert await list_actions(toolkit.gate, state="proposed") == []
    with pytest.raises(PolicyRefusal):
        await list_actions(toolkit.gate, room_id=ROOM)
    told = set()
    for action_id in (row.id, "nothing"):
        for work in (
            show,
            lambda gate, found: decide_and_run(gate, found, yes(row), by="ada", way="page"),
        ):
            with pytest.raises(InvalidCall) as refused:
                await work(toolkit.gate, action_id)
            told.add(refused.value.for_model())
    assert len(told) == 1, "whoever asks learns that there is such an action elsewhere"
    await refusals_of(journal).ended()
    rows = [(row.way, row.data["what"]) for row in journal.refused_requests()]
    assert rows == [("another_room", f"action {row.id}")] * 2
    assert (await other.get(row.id)).state == state


async def test_lists_know_what_is_too_late() -> None:
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    old = await waiting(toolkit)
    await clock.sleep(601)
    new = await waiting(toolkit, **remove(2))
    assert [a.id for a in await list_actions(toolkit.gate, state="proposed")] == [new.id]
    assert [a.id for a in await list_actions(toolkit.gate, state="expired")] == [old.id]
    assert len(await list_actions(toolkit.gate, limit=1)) == 1


async def test_a_list_is_of_the_newest_that_fit_however_many_do_not() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    toolkit = kit(students(), journal)
    first = await waiting(toolkit)
    for number in range(20):
        await clock.sleep(1)
        await propose_elsewhere(journal, number)
    listed = await list_actions(toolkit.gate, state="proposed", limit=1)
    assert [action.id for action in listed] == [first.id]


async def propose_elsewhere(journal: Journal, number: int) -> None:
    room = {"room_id": "7" * 24, "message": f"m{number}"}
    gate = kit(students(), journal, rooms=("7" * 24,)).gate
    await gate.propose(parse_call("hms-send-message", room), Origin("t", "m", "1", "agent"))


# --- what cannot be carried out decides nothing ------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"message": "x" * 5000}, {"message": ""}, {"message": 7}, {"type": 7}]
)
@pytest.mark.parametrize("way", ["page", "rest", "elicitation"])
async def test_a_wrong_edit_decides_nothing_and_says_what_is_wrong(
    way: Way, change: dict[str, Any]
) -> None:
    room = students()
    toolkit = kit(room)
    action = await sending(toolkit)
    args = {**action.call.arguments(), **change}
    edit = {
        "type": "edit",
        "digest": action.digest,
        "edited_action": {"name": action.tool, "args": args},
    }
    with pytest.raises(InvalidCall, match=f"the edit is wrong: {next(iter(change))}.*decided"):
        await say(toolkit, action, edit, "ada", way)
    assert (await toolkit.gate.get(action.id)).state == "proposed"
    assert (await say(toolkit, action, yes(action), "ada", way)).action.state == "done"
    assert [body["message"] for _, body in room.posts] == ["hi"]


async def sending(toolkit: ActiveRoomsToolkit) -> Action:
    answer = await call_tool(
        toolkit,
        "hms-send-message",
        {"room_id": ROOM, "message": "hi"},
        caller=Caller("test", "tester"),
    )
    assert answer.action
    return answer.action


async def test_what_is_asked_from_outside_is_never_approved_for_the_session() -> None:
    room = students()
    toolkit = kit(room)
    action = await sending(toolkit)
    with pytest.raises(InvalidCall, match="never for the session"):
        await say(toolkit, action, yes(action) | {"scope": "session"}, "ada")
    assert (await toolkit.gate.get(action.id)).state == "proposed"
    await say(toolkit, action, yes(action), "ada")
    await sending(toolkit)
    assert (await sending(toolkit)).state == "proposed"
    assert len(room.posts) == 1


async def test_a_program_in_our_process_can_still_have_a_yes_for_the_session() -> None:
    toolkit = kit(students())
    gate = toolkit.gate
    call = parse_call("hms-send-message", {"room_id": ROOM, "message": "hi"})
    row = await gate.propose(call, Origin("graph", "m", "1", "agent"))
    assert (await say(toolkit, row, yes(row) | {"scope": "session"}, "ada")).counted
    assert (await gate.propose(call, Origin("graph", "m", "2", "agent"))).state == "approved"


# --- what was executed, when the journal fails ---------------------------------------------------


@pytest.mark.parametrize("before", ["proposed", "approved"])
async def test_what_was_sent_is_never_called_not_executed(
    before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit, before)
    broken(monkeypatch, lambda: bool(room.posts), ["read"])
    verdict = await say(toolkit, action, yes(action), "ada")
    assert verdict.action.state == "done"
    assert "Removed" in verdict.text
    assert len(room.posts) == 1


@pytest.mark.parametrize("before", ["proposed", "approved"])
async def test_when_nobody_can_read_what_was_sent_it_may_have_been_executed(
    before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit, before)
    broken(monkeypatch, lambda: bool(room.posts))
    with pytest.raises(ActiveRoomsError) as error:
        await say(toolkit, action, yes(action), "ada")
    assert error.value.executed == "maybe"
    assert len(room.posts) == 1


async def test_what_somebody_else_sent_meanwhile_is_told_by_an_error_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = students()
    toolkit = kit(room)
    gate = toolkit.gate
    action = await waiting(toolkit)
    decide_in_gate = gate.decide

    async def decided_sent_and_then_broken(*args: Any, **more: Any) -> Decided:
        await gate.run((await decide_in_gate(*args, **more)).action)
        raise JournalError("The journal failed.")

    monkeypatch.setattr(gate, "decide", decided_sent_and_then_broken)
    with pytest.raises(JournalError, match="was sent") as error:
        await say(toolkit, action, yes(action), "ada")
    assert error.value.executed == "yes"


async def test_what_was_not_sent_is_not_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)

    number = count()
    broken(monkeypatch, lambda: next(number) > 0, ["write"])  # the decision is written, no claim
    with pytest.raises(JournalError) as error:
        await say(toolkit, action, yes(action), "ada")
    assert error.value.executed == "no"
    assert room.posts == []


async def test_whoever_approved_is_told_that_it_stands_if_the_room_could_not_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = students()
    toolkit = kit(room)
    action = await waiting(toolkit)
    with monkeypatch.context() as down:

        async def read(*_: object, **__: object) -> None:
            raise ServerError("100ms answered 503.", status=503, executed="no")

        down.setattr(room, "retrieve_active_room", read)
        with pytest.raises(ServerError, match="The action stays approved") as failed:
            await say(toolkit, action, yes(action), "ada")
    assert failed.value.executed == "no"
    assert room.posts == []
    again = await say(toolkit, action, yes(action), "ada")
    assert again.action.state == "done"


async def test_one_action_is_shown_with_its_events() -> None:
    toolkit = kit(students())
    action = await waiting(toolkit)
    shown, events, newest = await show(toolkit.gate, action.id)
    assert shown == newest == action
    assert [e.kind for e in events] == ["proposed"]
    with pytest.raises(InvalidCall):
        await show(toolkit.gate, "nothing")
