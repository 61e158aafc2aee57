"""Calls from programs: the same call is the same action until its outcome was told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.errors import (
    InvalidCall,
    JournalError,
    NotActive,
    OutcomeUnknown,
    PeerNotFound,
    PolicyRefusal,
    TimedOut,
)
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action
from hms_active_rooms.gate.journal.store import Writing
from hms_active_rooms.gate.view import outcome
from hms_active_rooms.serve import calls
from hms_active_rooms.serve.callers import Caller
from hms_active_rooms.serve.calls import Answer, call_tool, settle
from hms_active_rooms.serve.decisions import all_ended
from serve.people import broken, kit, remove, students
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
    await gate.decide(action.id, gate.request(action).approve(), by="ada", way="terminal")


async def test_a_state_change_waits_and_says_where_to_approve() -> None:
    room = students()
    answer = await call_tool(
        kit(room), REMOVE, remove(), caller=ME, page="http://127.0.0.1:9090/approvals"
    )
    assert answer.data["waiting"]
    assert answer.data["executed"] == "no"
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
    assert (done.data["state"], done.data["executed"]) == ("done", "yes")
    new = await call(toolkit, SEND, message="hi")
    assert new.data["waiting"]
    assert row(new).id != row(first).id
    assert [verb for verb, _ in room.posts] == ["send"]


@pytest.mark.parametrize("short_first", [True, False])
@pytest.mark.parametrize("tool", [REMOVE, SEND])
async def test_the_short_and_the_full_id_of_a_peer_make_the_same_call(
    tool: str, short_first: bool
) -> None:
    toolkit, full = kit(students()), peer(1).id
    ids = (full[:8], full) if short_first else (full, full[:13].upper())
    call_it = partial(call, message="hi") if tool == SEND else call
    first, second = [await call_it(toolkit, tool, peer_id=ref) for ref in ids]
    assert row(second).id == row(first).id
    await approve(toolkit.gate, first)
    done = await call_it(toolkit, tool, peer_id=ids[1])
    assert (row(done).id, done.data["state"]) == (row(first).id, "done")
    other = await call_it(toolkit, tool, peer_id=peer(2).id)
    assert row(other).id != row(first).id


async def test_calls_with_the_short_and_the_full_id_at_once_are_one_action() -> None:
    room, full = students(), peer(1).id
    toolkit = kit(room)
    answers = await asyncio.gather(
        *(call(toolkit, REMOVE, peer_id=full[:chars]) for chars in (8, 36, 12, 8, 36))
    )
    assert len({row(answer).id for answer in answers}) == 1
    await approve(toolkit.gate, answers[0])
    done = await call(toolkit, REMOVE, peer_id=full[:8])
    assert (row(done).id, done.data["state"]) == (row(answers[0]).id, "done")
    assert len(room.posts) == 1


async def test_two_peers_whose_ids_begin_alike_are_two_calls() -> None:
    twin = f"{peer(1).id[:24]}{'b' * 12}"
    toolkit = kit(StandInRoom([peer(1), peer(2).model_copy(update={"id": twin})]))
    first, second = [await call(toolkit, REMOVE, peer_id=ref) for ref in (peer(1).id, twin)]
    assert row(first).id != row(second).id


@pytest.mark.parametrize("short_first", [True, False])
async def test_a_key_never_makes_a_second_action_by_another_id_of_the_peer(
    short_first: bool,
) -> None:
    toolkit, mine, full = kit(students()), replace(ME, key="k"), peer(1).id
    first, second = (full[:8], full) if short_first else (full, full[:8])
    asked = await call(toolkit, REMOVE, caller=mine, peer_id=first)
    if short_first:
        assert row(await call(toolkit, REMOVE, caller=mine, peer_id=second)).id == row(asked).id
    else:
        with pytest.raises(InvalidCall, match="used for another call"):
            await call(toolkit, REMOVE, caller=mine, peer_id=second)
    assert await asyncio.to_thread(toolkit.gate.journal.count) == 1


async def test_a_call_is_asked_about_anew_also_when_its_earlier_same_calls_were_pruned() -> None:
    room, clock, full, ids = students(), Clock(), peer(1).id, set[str]()
    toolkit = kit(room, Journal(":memory:", clock=clock))
    for ref in (full[:8], full[:8], full, full[:8]):
        asked = await call(toolkit, SEND, message="hi", peer_id=ref)
        ids.add(row(asked).id)
        await approve(toolkit.gate, asked)
        assert (await call(toolkit, SEND, message="hi", peer_id=ref)).data["executed"] == "yes"
        clock.now += timedelta(days=7)
        toolkit.gate.journal.export(StringIO(), before=clock(), by="ada")
        toolkit.gate.journal.prune(before=clock(), by="ada")
    assert len(ids) == len(room.posts) == 4


async def test_many_turns_of_the_same_call_are_each_asked_about() -> None:
    room = students()
    toolkit = kit(room, actions_per_minute=1000)
    ids = set()
    for _ in range(11):
        answer = await call(toolkit, SEND, message="hi")
        assert answer.data["waiting"]
        ids.add(row(answer).id)
        await approve(toolkit.gate, answer)
        assert (await call(toolkit, SEND, message="hi")).data["executed"] == "yes"
    assert len(ids) == len(room.posts) == 11


async def test_an_outcome_that_was_there_before_the_call_is_told_as_one(tmp_path: Path) -> None:
    room = students()
    toolkit = kit(room, f"sqlite:///{tmp_path / 'journal.sqlite'}")
    await approve(toolkit.gate, await call(toolkit, SEND, message="hi"))
    sent = await call(toolkit, SEND, Caller("test", "tester"), message="hi")
    assert sent.text.startswith("Message sent")
    keyed = Caller("test", "tester", key="k")
    await approve(toolkit.gate, await call(toolkit, SEND, keyed, message="hi"))
    assert "not sent again" not in (await call(toolkit, SEND, keyed, message="hi")).text
    again = await call(toolkit, SEND, keyed, message="hi")
    assert again.text.startswith("This call was made before and is not sent again")
    assert again.data["text"] == again.text
    assert again.data["executed"] == "yes"


@pytest.mark.parametrize(("later_s", "asked_anew"), [(3600, False), (3601, True)])
async def test_an_outcome_nobody_was_told_answers_the_same_call_for_an_hour(
    later_s: float, asked_anew: bool
) -> None:
    room, clock = students(), Clock()
    toolkit = kit(room, Journal(":memory:", clock=clock))
    first = await call(toolkit, SEND, message="hi")
    await approve(toolkit.gate, first)
    await toolkit.gate.run(row(first).id)
    await clock.sleep(later_s)
    later = await call(toolkit, SEND, message="hi")
    assert later.data["waiting"] == asked_anew
    assert (row(later).id == row(first).id) == (not asked_anew)
    assert len(room.posts) == 1


async def test_an_outcome_is_told_even_if_that_cannot_be_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = students()
    toolkit = kit(room)
    first = await call(toolkit, SEND, message="hi")
    await approve(toolkit.gate, first)
    await toolkit.gate.run(row(first).id)

    def not_taken(*_: Any) -> Any:
        raise JournalError("The journal failed.")

    monkeypatch.setattr(Writing, "told", not_taken)
    for _ in range(2):
        answer = await call(toolkit, SEND, message="hi")
        assert answer.data["executed"] == "yes"
    with pytest.raises(PeerNotFound):
        await call(toolkit, REMOVE, peer_id=peer(4).id)
    assert len(room.posts) == 1


@pytest.mark.parametrize("failures", [1, 1000])
async def test_an_error_after_something_was_sent_says_so(
    failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = students()
    toolkit = kit(room)
    gate = toolkit.gate
    approved = await call(toolkit, REMOVE, peer_id=peer(1).id)
    await approve(gate, approved)
    stale = await gate.get(row(approved).id)
    await gate.run(stale.id)
    number = count()
    broken(monkeypatch, lambda: next(number) < failures)
    if failures == 1:
        assert (await settle(gate, stale)).state == "done"
    else:
        with pytest.raises(OutcomeUnknown):
            await settle(gate, stale)
    assert len(room.posts) == 1


# --- repetitions ------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", ["relaxed", "unattended"])
async def test_a_repetition_never_runs_unasked(allowed: str) -> None:
    room = students()
    policy: dict[str, Any] = {allowed: (SEND,)}
    toolkit = kit(room, **policy)
    assert (await call(toolkit, SEND, message="hi")).data["executed"] == "yes"
    again = await call(toolkit, SEND, message="hi")
    assert again.data["waiting"]
    assert len(room.posts) == 1
    assert (await call(toolkit, SEND, message="something else")).data["executed"] == "yes"
    await approve(toolkit.gate, again)
    assert (await call(toolkit, SEND, message="hi")).data["executed"] == "yes"
    assert len(room.posts) == 3


async def test_a_repetition_a_person_approved_is_asked_about_again_when_the_room_changed() -> None:
    room = students()
    toolkit = kit(room, relaxed=(SEND,))
    await call(toolkit, SEND, message="hi")
    again = await call(toolkit, SEND, message="hi")
    await approve(toolkit.gate, again)
    room.session = "4" * 24
    asked = await call(toolkit, SEND, message="hi")
    assert asked.data["waiting"]
    assert row(asked).id != row(again).id
    assert len(room.posts) == 1


async def test_a_new_key_makes_the_same_words_a_new_call() -> None:
    room = students()
    toolkit = kit(room, relaxed=(SEND,))
    for key in ("", "k-1", "k-2", "k-2"):
        answer = await call(toolkit, SEND, Caller("test", "tester", key=key), message="hi")
        assert answer.data["executed"] == "yes"
    assert len(room.posts) == 3


# --- how many may wait --------------------------------------------------------------------------


async def test_no_more_questions_are_asked_than_people_can_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(calls, "MAX_OPEN", 2)
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock), relaxed=(SEND,))
    first = await call(toolkit, REMOVE, peer_id=peer(1).id)
    await call(toolkit, REMOVE, peer_id=peer(2).id)
    with pytest.raises(PolicyRefusal, match="2 calls wait for a person"):
        await call(toolkit, REMOVE, peer_id=peer(3).id)
    assert "2 questions wait" in caplog.text
    assert len(toolkit.gate.journal.actions()) == 2
    assert row(await call(toolkit, REMOVE, peer_id=peer(1).id)).id == row(first).id
    assert (await call(toolkit, SEND, message="hi")).data["executed"] == "yes"  # is no question
    other = await call(toolkit, REMOVE, Caller("another", "tester"), peer_id=peer(3).id)
    assert other.data["waiting"]
    await clock.sleep(601)
    assert (await call(toolkit, REMOVE, peer_id=peer(3).id)).data["waiting"]


async def test_calls_at_once_through_two_servers_leave_no_more_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(calls, "MAX_OPEN", 3)
    servers = [kit(students(), Journal(tmp_path / "journal.sqlite")) for _ in range(2)]
    asked = (call(servers[n % 2], SEND, message=str(n)) for n in range(8))
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, PolicyRefusal) for one in told) == 5
    assert len(servers[0].gate.journal.actions(state="proposed")) == 3


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


async def test_whoever_goes_away_while_it_is_sent_gets_the_outcome_from_the_next_same_call() -> (
    None
):
    """Else a client that calls again would ask a person for a second message."""
    room = students()
    toolkit = kit(room)
    await approve(toolkit.gate, await call(toolkit, SEND, message="hi"))

    def gone(_: str) -> None:
        asking.cancel()

    room.before = gone
    asking = asyncio.create_task(call(toolkit, SEND, message="hi"))
    with pytest.raises(asyncio.CancelledError):
        await asking
    await all_ended(20)
    again = await call(toolkit, SEND, message="hi")
    assert (again.data["executed"], again.repeated) == ("yes", True)
    assert len(room.posts) == 1


async def test_a_key_of_one_caller_is_none_of_another_whose_words_are_the_same_in_a_row() -> None:
    toolkit = kit(students())
    await call(toolkit, SEND, Caller("ada|bob", "tester", key="k"), message="hi")
    other = await call(toolkit, SEND, Caller("ada", "tester", key="bob|k"), message="ho")
    assert other.data["waiting"]


async def test_a_refusal_is_on_record_and_judged_anew_the_next_time() -> None:
    room = students()
    toolkit = kit(room)
    with pytest.raises(PeerNotFound):
        await call(toolkit, REMOVE, peer_id=peer(4).id)
    (refused,) = toolkit.gate.journal.actions()
    assert refused.state == "rejected"
    room.peers.append(peer(4))
    assert (await call(toolkit, REMOVE, peer_id=peer(4).id)).data["waiting"]


async def test_an_expired_question_is_told_once_then_asked_anew() -> None:
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    first = await call(toolkit, SEND, message="hi")
    await clock.sleep(601)
    late = await call(toolkit, SEND, message="hi")
    assert late.data["state"] == "expired"
    new = await call(toolkit, SEND, message="hi")
    assert new.data["waiting"]
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
        assert (answer.data["state"], answer.data["executed"]) == ("unknown", "maybe")
    assert len(room.posts) == 1


def loses_the_answer(room: StandInRoom, loses: bool = True) -> None:
    def lost(_: str) -> None:
        if loses:
            raise TimedOut("No answer.", executed="maybe")

    room.after = lost


@pytest.mark.parametrize(("later_s", "asked_anew"), [(3600, False), (3601, True)])
async def test_an_unknown_outcome_that_was_told_answers_the_same_call_for_an_hour(
    later_s: float, asked_anew: bool
) -> None:
    room, clock = students(), Clock()
    toolkit = kit(room, Journal(":memory:", clock=clock), relaxed=(SEND,))
    loses_the_answer(room)
    first = await call(toolkit, SEND, message="hi")
    assert first.data["state"] == "unknown"
    for _ in range(3):
        await clock.sleep(later_s / 3)
        later = await call(toolkit, SEND, message="hi")
    assert later.data["waiting"] == asked_anew  # asked, although the policy lets it run unasked
    assert (row(later).id == row(first).id) == (not asked_anew)
    assert len(room.posts) == 1
    if asked_anew:
        loses_the_answer(room, False)
        await approve(toolkit.gate, later)
        assert (await call(toolkit, SEND, message="hi")).data["executed"] == "yes"
        assert (await call(toolkit, SEND, message="hi")).data["waiting"]
        assert len(room.posts) == 2


async def test_an_unknown_outcome_is_told_however_long_ago_it_was() -> None:
    room, clock = students(), Clock()
    toolkit = kit(room, Journal(":memory:", clock=clock))
    loses_the_answer(room)
    first = await call(toolkit, SEND, message="hi")
    await approve(toolkit.gate, first)
    await toolkit.gate.run(row(first).id)
    await clock.sleep(86_400)
    for _ in range(2):
        told = await call(toolkit, SEND, message="hi")
        assert (told.data["state"], told.data["executed"]) == ("unknown", "maybe")
        assert told.text.startswith("This call was made before and is not sent again")
    kinds = [event.kind for event in toolkit.gate.journal.events(row(first).id)]
    assert kinds.count("told") == 1
    assert len(room.posts) == 1


async def test_an_unknown_outcome_of_another_session_does_not_answer_a_call_in_this_one() -> None:
    room = students()
    toolkit = kit(room, relaxed=(SEND,))
    loses_the_answer(room)
    first = await call(toolkit, SEND, message="hi")
    room.session = "4" * 24
    asked = await call(toolkit, SEND, message="hi")
    assert asked.data["waiting"]
    assert row(asked).id != row(first).id
    room.session = None  # and it stays the one that is open when nothing tells the two apart
    assert row(await call(toolkit, SEND, message="hi")).id == row(asked).id
    assert len(room.posts) == 1


async def test_an_unknown_outcome_is_told_when_the_room_is_idle() -> None:
    room = students()
    toolkit = kit(room, relaxed=(SEND,))
    loses_the_answer(room)
    first = await call(toolkit, SEND, message="hi")
    room.session = None
    again = await call(toolkit, SEND, message="hi")
    assert (row(again).id, again.data["state"]) == (row(first).id, "unknown")


async def test_what_surely_failed_is_told_as_failed() -> None:
    room = students()

    def refused(_: str) -> None:
        raise TimedOut("No connection.", executed="no")

    toolkit = kit(room)
    await approve(toolkit.gate, await call(toolkit, SEND, message="hi"))
    room.before = refused
    answer = await call(toolkit, SEND, message="hi")
    assert answer.data["state"] == "failed"
    assert answer.data["executed"] == "no"


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


async def test_what_people_read_of_a_refused_call_has_no_words_for_a_model() -> None:
    toolkit = kit(students())
    with pytest.raises(PeerNotFound) as refused:
        await call_tool(toolkit, "hms-remove-peers", remove(99), caller=Caller("t", "rest"))
    [row] = toolkit.gate.journal.actions()
    assert refused.value.hint
    assert outcome(row) == f"Not executed: {refused.value}"
    with pytest.raises(PeerNotFound) as again:
        await call_tool(toolkit, "hms-remove-peers", remove(99), caller=Caller("t", "rest", "key"))
    assert again.value.for_model() == refused.value.for_model()
