"""The promise, sentence by sentence, on the gate itself."""

from __future__ import annotations

import asyncio
import itertools
import re
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_active_rooms.api.models import ActiveRoom, Peer, PeerDetails, Peers
from hms_active_rooms.errors import (
    ActiveRoomsError,
    ApiError,
    BadResponse,
    BrokenRecord,
    ConfigurationError,
    ConnectionFailed,
    InvalidCall,
    JournalError,
    NotActive,
    NotFound,
    OutcomeUnknown,
    PeerNotFound,
    PolicyRefusal,
    ServerError,
    TimedOut,
    Unauthorized,
)
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.actions.change import StateChange
from hms_active_rooms.gate.actions.impact import Impact, Person
from hms_active_rooms.gate.approval import (
    ApprovalRequest,
    Approve,
    BadAnswerError,
    Decided,
    Edit,
    Refuse,
    Reject,
    Scope,
)
from hms_active_rooms.gate.gate import ANOTHER_ASKS, Gate
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action, Origin, State, call_key, may_be_same
from hms_active_rooms.gate.journal.store import Writing
from hms_active_rooms.gate.journal.tables import actions
from hms_active_rooms.gate.journal.workers import this_worker
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.gate.sending import give_back
from hms_active_rooms.gate.view import already, for_model, outcome, view
from stand_in import ROOM, SESSION, Clock, StandInRoom, gate_on, insert, peer, row

HERE = Origin("thread", "message", "call", "agent")


def classroom() -> StandInRoom:
    return StandInRoom([peer(1, "Anna", "teacher"), peer(2, "Ben"), peer(3, "Spam Bot")])


def remove(number: int = 3, **more: Any) -> StateChange:
    return parse_call("hms-remove-peers", {"room_id": ROOM, "peer_id": peer(number).id, **more})


def remove_role(role: str = "student") -> StateChange:
    return parse_call("hms-remove-peers", {"room_id": ROOM, "role": role})


def send(message: str = "hello", **more: Any) -> StateChange:
    return parse_call("hms-send-message", {"room_id": ROOM, "message": message, **more})


def end(**more: Any) -> StateChange:
    return parse_call("hms-end-active-room", {"room_id": ROOM, **more})


async def approved(
    gate: Gate, call: StateChange, origin: Origin = HERE, scope: Scope = "once"
) -> Action:
    action = await gate.propose(call, origin)
    answer = Approve(action.digest, scope=scope)
    decided = await gate.decide(action.id, answer, by="ada", way="callback")
    assert (decided.counted, decided.action.state) == (True, "approved")
    return decided.action


async def driven(
    gate: Gate, action: Action, ask: Any, *, shown: bool = False, **how: Any
) -> Action:
    """What becomes of one action; `ask` answers one question."""

    async def ask_one(requests: Sequence[ApprovalRequest]) -> list[object] | None:
        answer = await ask(requests[0])
        return None if answer is None else [answer]

    on_record = [action.id] if shown else []
    [ended] = await gate.drive([action], ask_one, on_record=on_record, **how)
    if isinstance(ended, Exception):
        raise ended
    return ended


async def carried_out(gate: Gate, call: StateChange, origin: Origin = HERE) -> Action:
    return await gate.run((await approved(gate, call, origin)).id)


def call_number(number: int, requester: str = "agent") -> Origin:
    return Origin("thread", "message", f"call {number}", requester)


def claimed_by(gate: Gate, action: Action, worker: str, lease_s: float = 0) -> None:
    """Another process has claimed the row, and the gate is not told what it did."""
    with gate.journal.write() as tx:
        now = tx.now()
        lease_until = now + timedelta(seconds=lease_s)
        tx.move(
            action,
            "sent",
            by=worker,
            way="claim",
            worker=worker,
            sent_at=now,
            lease_until=lease_until,
        )


def given_up(gate: Gate, action: Action) -> None:
    """Another process calls the row unknown."""
    with gate.journal.write() as tx:
        found = tx.get(action.id)
        assert found
        tx.move(found, "unknown", by="another", way="look")


def kinds(gate: Gate, action: Action) -> list[str]:
    return [event.kind for event in gate.journal.events(action.id)]


def fates(action: Action) -> list[str]:
    return [person.outcome for person in action.result.people]


def _raise(error: BaseException) -> NoReturn:
    raise error


# --- 1. What a person approved is what runs ------------------------------------------------


async def test_an_approved_removal_runs_and_is_checked() -> None:
    room = classroom()
    action = await carried_out(gate_on(room), remove(reason="spam"))
    assert action.state == "done"
    assert action.result.verified is True
    assert room.posts == [("remove", {"peer_id": peer(3).id, "role": None, "reason": "spam"})]
    assert "Spam Bot" in outcome(action)
    assert "Checked" in outcome(action)


NO_ANSWERS: list[Callable[[Action, Action], object]] = [
    lambda *_: "yes",
    lambda *_: "approve",
    lambda *_: True,
    lambda *_: 1,
    lambda *_: None,
    lambda *_: Approve,
    lambda *_: BadAnswerError("nothing that can be read"),
    lambda *_: {"type": "approve"},
    lambda *_: {"type": "approve "},
    lambda *_: Approve(""),
    lambda *_: Approve(cast(str, None)),
    lambda *_: Edit(cast(str, None), {"reason": "x"}),
    lambda one, _: Edit(one.digest, cast(Any, None)),
    lambda one, _: Edit(one.digest, cast(Any, {5: "x"})),
    lambda one, _: Approve(one.digest, by=cast(str, 5)),
    lambda *_: Reject(cast(str, 5)),
    lambda one, _: ["approve", one.digest],
    lambda one, _: {"type": "Approve", "digest": one.digest},
    lambda one, _: {"type": "approve", "digest": one.digest.upper()},
    lambda one, _: {"type": "approve", "digest": one.digest, "scope": "session"},
    lambda one, _: Approve(one.digest, scope="session"),
    lambda one, _: Approve(one.digest, scope=cast(Scope, "always")),
    lambda _, other: Approve(other.digest),
    lambda _, other: Edit(other.digest, {"reason": "x"}),
    lambda _, other: {"type": "approve", "digest": other.digest},
    lambda _, other: {"type": "reject", "digest": other.digest},
    lambda one, _: Edit(one.digest, {"peer_id": peer(2).id}),
    lambda one, _: Edit(one.digest, {"role": "teacher"}),
    lambda one, _: Edit(one.digest, {"room_id": "7" * 24}),
    lambda one, _: Edit(one.digest, {"reason": "x" * 501}),
    lambda one, _: Edit(one.digest, {"reason": 1}),
    lambda one, _: Edit(one.digest, {"reason": "lone \ud83d"}),
    lambda one, _: Edit(one.digest, {"reason": "x"}, tool="hms-end-active-room"),
    lambda one, _: Edit(one.digest, {"reason": "x"}, whole=True),
]


async def test_what_is_no_answer_to_the_question_moves_nothing_and_is_on_record() -> None:
    for no_answer in NO_ANSWERS:
        room = classroom()
        gate = gate_on(room)
        action = await gate.propose(remove(), HERE)
        other = await gate.propose(remove(), call_number(2))
        assert action.digest != other.digest
        answer = no_answer(action, other)

        decided = await gate.decide(action.id, answer, by="ada", way="page")
        assert (decided.counted, decided.action) == (False, action)
        assert decided.problem
        assert await gate.get(action.id) == action
        event = gate.journal.events(action.id)[-1]
        assert (event.kind, event.by, event.way) == ("bad_answer", "ada", "page")
        assert event.data["reason"] == decided.problem

        assert await gate.run(action.id) == action
        assert room.posts == []
        right = await gate.decide(action.id, Approve(action.digest), by="ada", way="page")
        assert right.counted


async def test_a_no_that_names_another_question_takes_nothing_back() -> None:
    gate = gate_on(classroom())
    action = await approved(gate, remove())
    other = await gate.propose(remove(2), HERE)
    no = {"type": "reject", "digest": other.digest}
    decided = await gate.decide(action.id, no, by="bob", way="page")
    assert (decided.counted, decided.action.state) == (False, "approved")
    assert "not the digest of this question" in decided.problem


@pytest.mark.parametrize(
    "change",
    [
        "arguments = json_set(arguments, '$.peer_id', '{other}')",
        "arguments = json_set(arguments, '$.reason', 'other words')",
        "tool = 'hms-end-active-room', arguments = json_object('room_id', '{room}')",
        "impact = json_set(impact, '$.total', 2)",
        "impact = json_set(impact, '$.people[0].name', 'Anna')",
        "impact = json_set(impact, '$.session_id', '{session}')",
        "impact = NULL",
        "digest = '{zeros}'",
        "call_key = 'another'",
        "revision = 7",
    ],
)
async def test_a_row_that_was_changed_by_hand_is_not_sent(change: str, tmp_path: Path) -> None:
    room = classroom()
    journal = Journal(f"sqlite:///{tmp_path / 'j.sqlite'}")
    gate = gate_on(room, journal, Clock(journal.now()))
    action = await approved(gate, remove(reason="spam"))
    names = {"other": peer(2).id, "room": ROOM, "session": "4" * 24, "zeros": "0" * 64}
    with closing(sqlite3.connect(tmp_path / "j.sqlite")) as db, db:
        db.execute(f"UPDATE hms_actions SET {change.format(**names)}")
    for wanted in (action.id, action):
        with pytest.raises(JournalError):
            await gate.run(wanted)
    assert room.posts == []
    assert "sent" not in kinds(gate, action)


async def test_newcomers_stay_and_leavers_are_skipped() -> None:
    room = StandInRoom([peer(n) for n in (1, 2, 3)])
    gate = gate_on(room)
    action = await approved(gate, remove_role())
    room.peers = [peer(1), peer(2), peer(9, "Newcomer")]
    action = await gate.run(action.id)
    assert action.state == "done"
    assert {body["peer_id"] for _, body in room.posts} == {peer(1).id, peer(2).id}
    assert [p.name for p in room.peers] == ["Newcomer"]
    assert "Newcomer" in outcome(action)


async def test_a_new_session_is_asked_about_again_and_not_ended() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, end(lock=True))
    room.session = "4" * 24
    again = await gate.run(action.id)
    assert again.state == "proposed"
    assert again.id != action.id
    assert again.revision == 2
    assert "another one is running" in gate.request(again).text
    assert room.posts == []
    for row_id in (again.id, action.id):
        old = await gate.decide(row_id, Approve(action.digest), by="ada", way="callback")
        assert not old.counted
    assert await gate.run(again.id) == again
    assert room.posts == []


async def test_an_edit_changes_words_only_and_stands_beside_the_original() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(send("kil all"), HERE)
    edit = Edit(action.digest, {"message": "hello all"})
    decided = await gate.decide(action.id, edit, by="ada", way="page")
    new = decided.action
    assert (decided.counted, new.state, new.edited_from) == (True, "approved", action.id)
    assert new.call.arguments() == {**action.call.arguments(), "message": "hello all"}
    assert (new.digest != action.digest, new.expires_at) == (True, action.expires_at)
    original = await gate.get(action.id)
    assert (original.state, original.decided_by, original.decided_way) == (
        "rejected",
        "ada",
        "page",
    )
    assert outcome(original) == f"Not executed: edited by the person into action {new.id}."
    await gate.run(new.id)
    assert [body["message"] for _, body in room.posts] == ["hello all"]


async def test_an_edit_that_changes_no_word_is_an_approval() -> None:
    gate = gate_on(classroom())
    absent = {"peer_id": "", "role": None, "type": None}  # as forms and strict models write it
    for changes in ({}, {"message": "hello"}, send("hello").arguments(), absent):
        action = await gate.propose(send("hello"), Origin("t", str(changes), "c", "agent"))
        decided = await gate.decide(action.id, Edit(action.digest, changes), by="ada", way="page")
        assert (decided.counted, decided.action.state) == (True, "approved")
        assert (decided.action.id, decided.action.edited_from) == (action.id, None)
        assert "edited" not in outcome(await gate.run(action.id))


async def test_an_edit_may_write_an_optional_argument_that_is_not_given_as_null() -> None:
    gate = gate_on(classroom())
    action = await gate.propose(parse_call("hms-end-active-room", {"room_id": ROOM}), HERE)

    async def edited(**args: object) -> Decided:
        answer = {"name": action.tool, "args": {"room_id": ROOM, "reason": "Lunch", **args}}
        whole = {"type": "edit", "digest": action.digest, "edited_action": answer}
        return await gate.decide(action.id, whole, by="ada", way="interrupt")

    wrong = await edited(lock=True)
    assert wrong.problem == 'the edit is wrong: Only reason may be edited, not "lock"'
    decided = await edited(lock=None)
    assert decided.action.call.arguments() == {
        "room_id": ROOM,
        "lock": False,
        "reason": "Lunch",
    }


async def test_a_no_after_an_edit_takes_back_the_edited_words_also_after_a_second_edit() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(send("kil all"), HERE)
    edit = Edit(action.digest, {"message": "hello all"})
    first = (await gate.decide(action.id, edit, by="ada", way="page")).action
    room.session = "4" * 24
    again = await gate.run(first.id)
    assert (again.state, again.edited_from) == ("proposed", action.id)
    edit = Edit(again.digest, {"message": "hello you"})
    second = (await gate.decide(again.id, edit, by="ada", way="page")).action

    decided = await gate.decide(action.id, Reject("stop"), by="bob", way="page")
    assert (decided.counted, decided.action.id, decided.action.state) == (
        True,
        second.id,
        "rejected",
    )
    assert (await gate.run(second.id)).decided_by == "bob"
    assert room.posts == []


@pytest.mark.parametrize("approved_again", [False, True])
async def test_a_no_to_a_question_that_was_asked_again_since_is_a_no_to_the_call(
    approved_again: bool,
) -> None:
    room = classroom()
    gate = gate_on(room)
    first = await approved(gate, end())
    room.session = "4" * 24
    again = await gate.run(first.id)
    if approved_again:
        await gate.decide(again.id, Approve(again.digest), by="ada", way="page")
    decided = await gate.decide(first.id, Reject("stop"), by="bob", way="page")
    assert (decided.counted, decided.action.id) == (True, again.id)
    assert (await gate.run(again.id)).decided_by == "bob"
    assert room.posts == []


# --- 2. At most once -------------------------------------------------------------------------


async def test_the_same_call_at_the_same_place_is_the_same_action() -> None:
    room = classroom()
    gate = gate_on(room)
    done = await carried_out(gate, send())
    again = await gate.propose(send(), HERE)
    assert again.id == done.id
    assert (await gate.run(again.id)).state == "done"
    assert len(room.posts) == 1


async def test_another_place_is_another_action() -> None:
    gate = gate_on(classroom())
    first = await gate.propose(send(), HERE)
    for origin in (
        Origin("other", "message", "call", "agent"),
        Origin("thread", "other", "call", "agent"),
        Origin("thread", "message", "other", "agent"),
    ):
        assert (await gate.propose(send(), origin)).id != first.id


async def test_many_runs_of_one_approval_send_one_request(tmp_path: Path) -> None:
    room = classroom()
    url = f"sqlite:///{tmp_path / 'j.sqlite'}"
    gates = [gate_on(room, Journal(url)) for _ in range(4)]
    action = await approved(gates[0], send())
    ends = await asyncio.gather(*(g.run(action.id) for g in gates for _ in range(5)))
    assert len(room.posts) == 1
    assert {a.state for a in ends} == {"done"}


@pytest.mark.parametrize("fault", [TimedOut, ServerError])
async def test_an_unclear_message_stays_unknown_and_is_not_sent_again(fault: type) -> None:
    room = classroom()
    gate = gate_on(room)
    room.after = lambda _: _raise(fault("No answer.", executed="maybe"))
    action = await carried_out(gate, send())
    assert action.state == "unknown"
    assert "cannot be looked up" in outcome(action)
    for _ in range(3):
        assert (await gate.run(action.id)).state == "unknown"
    assert len(room.posts) == 1


async def test_an_unclear_removal_is_looked_up() -> None:
    room = classroom()
    gate = gate_on(room)
    room.after = lambda _: _raise(TimedOut("No answer.", executed="maybe"))
    action = await carried_out(gate, remove())
    assert action.state == "done"
    assert "Whether this request removed them is not known" in outcome(action)
    assert len(room.posts) == 1


async def test_an_unclear_removal_without_effect_is_unknown_and_done_once_seen() -> None:
    room = classroom()
    gate = gate_on(room)
    room.before = lambda _: _raise(TimedOut("No answer.", executed="maybe"))
    action = await carried_out(gate, remove())
    assert action.state == "unknown"
    room.peers = room.peers[:2]
    assert (await gate.run(action.id)).state == "done"
    assert room.posts == []


async def test_a_look_that_cannot_read_the_room_keeps_what_another_look_saw_meanwhile() -> None:
    room = classroom()
    gate = gate_on(room)
    room.before = lambda _: _raise(TimedOut("No answer.", executed="maybe"))
    action = await carried_out(gate, remove())
    read = room.retrieve_active_room

    async def slow(room_id: str) -> ActiveRoom:
        room.retrieve_active_room, room.peers = read, room.peers[:2]  # type: ignore[method-assign]
        assert (await gate.run(action.id)).state == "done"
        raise TimedOut("No answer.", executed="no")

    room.retrieve_active_room = slow  # type: ignore[method-assign]
    looked = await gate.run(action.id)
    assert (looked.state, looked.result) == ("done", (await gate.get(action.id)).result)


async def test_what_was_surely_not_executed_is_failed() -> None:
    room = classroom()
    room.before = lambda _: _raise(ConnectionFailed("Refused."))
    action = await carried_out(gate_on(room), send())
    assert action.state == "failed"
    assert action.executed == "no"
    assert "Nothing was executed" in outcome(action)


async def test_an_unclear_end_is_sent_again_only_when_the_same_session_still_runs() -> None:
    room = classroom()
    gate = gate_on(room)
    failures: Iterator[bool] = iter([True, False])

    def lose(_: str) -> None:
        if next(failures):
            raise TimedOut("No answer.", executed="maybe")

    room.before = lose
    action = await carried_out(gate, end())
    assert action.state == "done"
    assert [verb for verb, _ in room.posts] == ["end"]
    assert kinds(gate, action).count("sent_again") == 1


async def test_after_a_wait_for_the_journal_the_room_is_looked_at_again_before_an_end() -> None:
    room, clock, locked = classroom(), Clock(), False

    class Locked(Journal):
        def write(self, **how: Any) -> Any:
            nonlocal locked
            if locked:
                locked, room.session = False, "4" * 24
                clock.now += timedelta(seconds=5)
            return super().write(**how)

    gate = gate_on(room, Locked(":memory:", clock=clock), clock)
    action = await approved(gate, end())
    locked = True
    again = await gate.run(action.id)
    assert (again.state, again.revision, room.posts) == ("proposed", 2, [])
    assert "another one is running" in again.note


async def test_after_a_pause_of_the_machine_the_room_is_looked_at_again_before_an_end() -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock)
    action = await approved(gate, end())

    class Sleeps(ThreadPoolExecutor):
        def submit(self, work: Any, /, *given: Any, **named: Any) -> Any:
            def then_sleep() -> Any:
                """The machine sleeps after the claim, before the request."""
                result = work(*given, **named)
                if room.session == SESSION and kinds(gate, action)[-1] == "sent":
                    clock.now += timedelta(seconds=60)
                    room.session = "4" * 24
                return result

            return super().submit(then_sleep)

    asyncio.get_running_loop().set_default_executor(Sleeps())
    again = await gate.run(action.id)
    assert (again.state, again.revision, room.posts) == ("proposed", 2, [])


async def test_an_unclear_end_is_not_sent_again_after_a_wait_for_the_journal() -> None:
    room, clock, tries = classroom(), Clock(), 0

    class Locked(Journal):
        def write(self, **how: Any) -> Any:
            """After the first request another program locks the journal for some seconds."""
            if tries == 1 and room.session == SESSION:
                clock.now += timedelta(seconds=9)
                room.session = "4" * 24
            return super().write(**how)

    def lose(_: str) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise TimedOut("No answer.", executed="maybe")

    room.before = lose
    gate = gate_on(room, Locked(":memory:", clock=clock), clock)
    action = await carried_out(gate, end())
    assert (action.state, room.posts, room.session) == ("unknown", [], "4" * 24)
    assert "sent_again" not in kinds(gate, action)


async def test_an_unclear_end_is_not_sent_again_after_a_look_that_got_no_answer() -> None:
    room, clock, requests, looks = classroom(), Clock(), 0, 0
    look = room.retrieve_active_room

    async def hangs(room_id: str) -> ActiveRoom:
        nonlocal looks
        looks += requests
        if (requests, looks) != (1, 2):
            return await look(room_id)
        clock.now += timedelta(seconds=9)
        room.session = "4" * 24
        raise TimeoutError  # as `asyncio.timeout` raises it

    def lose(_: str) -> None:
        nonlocal requests
        requests += 1
        if requests == 1:
            raise TimedOut("No answer.", executed="maybe")

    room.before, room.retrieve_active_room = lose, hangs  # type: ignore[method-assign]
    gate = gate_on(room, Journal(":memory:", clock=clock), clock, verify_s=8)
    action = await carried_out(gate, end())
    assert (action.state, room.posts, room.session) == ("unknown", [], "4" * 24)


@pytest.mark.parametrize("late", [True, False])
async def test_a_role_removal_looks_again_after_a_wait_for_the_journal(late: bool) -> None:
    """The wait begins after the first removal and lasts too long, or after the second person's read,
    and that person gets another role."""
    room, clock, locked = classroom(), Clock(), False
    read = room.retrieve_peer

    class Locked(Journal):
        def write(self, **how: Any) -> Any:
            nonlocal locked
            if locked:
                locked = False
                clock.now += timedelta(seconds=700 if late else 20)
                room.peers = room.peers if late else [peer(3, "Spam Bot", "teacher")]
            return super().write(**how)

    async def slow(room_id: str, peer_id: str) -> PeerDetails:
        nonlocal locked
        found = await read(room_id, peer_id)
        if not late and room.posts and room.peers[-1].role == "student":
            clock.now += timedelta(seconds=2)
            locked = True
        return found

    def after(_: str) -> None:
        nonlocal locked
        locked = late

    room.after, room.retrieve_peer = after, slow  # type: ignore[method-assign]
    gate = gate_on(room, Locked(":memory:", clock=clock), clock)
    action = await carried_out(gate, remove_role())
    assert fates(action) == ["removed", "failed" if late else "skipped"]
    assert len(room.posts) == 1


async def test_the_time_for_a_look_counts_the_slow_reads_too() -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock, verify_s=8)
    action = await approved(gate, remove())
    read, sent = room.retrieve_active_room, list[datetime]()

    async def slow(room_id: str) -> Any:
        clock.now += timedelta(seconds=3)
        return await read(room_id)

    def stays(_: str) -> None:
        sent.append(clock.now)
        room.peers.append(peer(3))
        room.retrieve_active_room = slow  # type: ignore[method-assign]

    room.after = stays
    ended = await gate.run(action)
    assert "not visible after 8 s" in outcome(ended)
    assert ended.finished_at
    assert ended.finished_at - sent[0] <= timedelta(seconds=8 + 3)


async def test_the_first_look_takes_its_time_and_a_later_one_ends_when_the_whole_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room, clock, late = classroom(), Clock(), 0.0
    gate = gate_on(room, Journal(":memory:", clock=clock), clock, verify_s=8)
    action = await approved(gate, remove())
    loop = asyncio.get_running_loop()
    time, read, looks = loop.time, room.retrieve_active_room, 0
    monkeypatch.setattr(loop, "time", lambda: time() + late)

    async def slow(room_id: str) -> Any:
        nonlocal late, looks
        looks, late = looks + 1, late + 3600
        await (asyncio.sleep(0) if looks == 1 else asyncio.Event().wait())
        return await read(room_id)

    def stays(_: str) -> None:
        room.peers.append(peer(3))
        room.retrieve_active_room = slow  # type: ignore[method-assign]

    room.after = stays
    assert "not visible after 8 s" in outcome(await gate.run(action))
    assert looks > 1


async def test_an_unclear_end_is_not_sent_again_into_a_new_session() -> None:
    room = classroom()
    gate = gate_on(room)

    def lose(_: str) -> None:
        room.session = "4" * 24
        raise TimedOut("No answer.", executed="maybe")

    room.after = lose
    action = await carried_out(gate, end())
    assert action.state == "done"
    assert room.session == "4" * 24
    assert len(room.posts) == 1


async def test_two_ends_approved_for_one_session_never_end_the_next() -> None:
    room, journal = classroom(), Journal(":memory:")
    gate, other = gate_on(room, journal), gate_on(room, journal)
    first = await approved(gate, end())
    second = await approved(gate, end(), call_number(2))

    def meet_again(_: str) -> None:
        room.session, room.peers = "4" * 24, [peer(8)]

    room.after = meet_again
    list_peers = room.list_peers

    async def after_the_other(room_id: str, **_: Any) -> Any:
        # The room is read; then the other end is sent, and people come back.
        found, room.list_peers = await list_peers(room_id), list_peers  # type: ignore[method-assign]
        await other.run(first.id)
        return found

    room.list_peers = after_the_other  # type: ignore[method-assign]
    asked_again = await gate.run(second.id)
    assert (asked_again.state, asked_again.revision) == ("proposed", 2)
    assert [verb for verb, _ in room.posts] == ["end"]


async def test_an_end_waits_for_the_removal_that_is_being_sent() -> None:
    room, journal = classroom(), Journal(":memory:")
    gate = gate_on(room, journal)
    removal = await approved(gate, remove())
    action = await approved(gate, end(), call_number(2))
    claimed_by(gate, removal, "another")
    assert (await gate.run(action.id)).state == "done"
    assert (await gate.get(removal.id)).state != "sent"
    assert [verb for verb, _ in room.posts] == ["end"]


async def test_a_cancelled_send_is_unknown_and_not_sent_again() -> None:
    room = classroom()
    gate = gate_on(room)
    room.after = lambda _: _raise(asyncio.CancelledError())
    action = await approved(gate, send())
    with pytest.raises(asyncio.CancelledError):
        await gate.run(action.id)
    left = await gate.run(action.id)
    assert left.state == "unknown"
    for words in ("message may have reached", "was interrupted", "cannot be looked up"):
        assert words in outcome(left)
    assert "ook at the room" not in outcome(left)
    assert kinds(gate, action)[-1] == "unknown"  # nobody looked, since no look could show it
    assert len(room.posts) == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_cancelled_role_removal_says_who_is_surely_there_and_of_whom_it_is_not_known(
    when: Literal["before", "after"],
) -> None:
    room = StandInRoom([peer(1), peer(2), peer(3)])
    gate = gate_on(room)
    action = await approved(gate, remove_role())

    def stopped(_: str) -> None:
        if len(room.posts) == {"before": 1, "after": 2}[when]:
            raise asyncio.CancelledError

    setattr(room, when, stopped)
    with pytest.raises(asyncio.CancelledError):
        await gate.run(action.id)
    left = await gate.get(action.id)
    assert (left.state, fates(left)) == ("unknown", ["removed", "unknown", "not sent"])
    assert 'Not removed: "Peer 3". Perhaps removed: "Peer 2".' in outcome(left)


@pytest.mark.parametrize("call", [remove(), remove_role(), end()])
async def test_what_is_cancelled_at_the_look_says_that_100ms_accepted_it(
    call: StateChange,
) -> None:
    room = classroom()
    gate = gate_on(room)
    action, read = await approved(gate, call), room.retrieve_active_room
    most = max(1, len(call.per_person(action.shown)))

    async def cancelled(room_id: str) -> Any:
        if len(room.posts) == most:
            raise asyncio.CancelledError
        return await read(room_id)

    room.retrieve_active_room = cancelled  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await gate.run(action.id)
    left = await gate.get(action.id)
    assert (left.state, left.executed) == ("done", "yes")
    assert fates(left) in ([], ["removed", "removed"])
    assert re.search(r"could not be read: The sending was interrupted\.( Look| \()", outcome(left))


@pytest.mark.parametrize("call", [send(), remove(), remove_role(), end()])
async def test_what_100ms_answered_is_on_record_although_python_starts_no_thread_any_more(
    call: StateChange,
) -> None:
    room, threads = classroom(), ThreadPoolExecutor()
    gate = gate_on(room)
    action = await approved(gate, call)
    # As when the main thread has ended while another one still works.
    asyncio.get_running_loop().set_default_executor(threads)
    room.after = lambda _: threads.shutdown(wait=False)
    assert (await gate.run(action)).state == "done"
    assert gate.journal.actions()[0].state == "done"


async def test_nothing_new_is_sent_when_python_starts_no_thread_any_more() -> None:
    room, threads = classroom(), ThreadPoolExecutor()
    gate = gate_on(room)
    action = await approved(gate, send())
    asyncio.get_running_loop().set_default_executor(threads)
    threads.shutdown()
    with pytest.raises(RuntimeError):
        await gate.run(action)
    assert (room.posts, gate.journal.actions()[0].state) == ([], "approved")


@pytest.mark.parametrize("call", [send(), remove(), remove_role(), end()])
async def test_what_100ms_answered_is_on_record_although_the_journal_was_locked_meanwhile(
    call: StateChange, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, journal = classroom(), Journal(":memory:")
    gate = gate_on(room, journal)
    action, write = await approved(gate, call), journal.write
    locked = iter([True, True])

    @contextmanager
    def written() -> Iterator[Writing]:
        with write() as tx:
            yield tx
            left = tx.get(action.id)
            if left and left.state in ("done", "unknown") and next(locked, False):
                raise JournalError("It is locked.")

    monkeypatch.setattr(journal, "write", written)
    with pytest.raises(OutcomeUnknown):
        await gate.run(action.id)
    left = await gate.get(action.id)
    assert (left.state, left.executed) == ("done", "yes")
    assert ("room could not be read" in outcome(left)) == call.visible


def a_gone_worker() -> str:
    with subprocess.Popen(["true"]) as gone:
        pass
    return f"{this_worker().rpartition(':')[0]}:{gone.pid}@1"


@pytest.mark.parametrize("call", [send(), remove(), remove_role(), end()])
@pytest.mark.parametrize("whose", ["its lease is over", "its process is gone"])
async def test_a_row_left_sent_by_a_dead_worker_is_looked_at_and_not_sent(
    whose: str, call: StateChange
) -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, call)
    late = whose == "its lease is over"
    claimed_by(gate, action, "elsewhere" if late else a_gone_worker(), 0 if late else 3600)
    assert "may have been executed" in outcome(await gate.get(action.id))
    settled = await gate.run(action.id)
    assert ("looked" in kinds(gate, action)) <= action.call.visible
    assert "ook at the room" not in outcome(settled)
    # Person by person, nobody's request is on record: it surely was not executed.
    each = action.shown.kind == "remove-each"
    assert (settled.state, settled.executed) == (("failed", "no") if each else ("unknown", "maybe"))
    assert each or "may have" in outcome(settled)
    assert room.posts == []


STOPS = ("before", "after")


class Stops:
    """Cancels a task while its thread is at one commit; goes on once that was delivered."""

    def __init__(self, when: str, which: int) -> None:
        self.when = when
        self.left = which
        self.task: asyncio.Task[Action] | None = None

    def __call__(self, when: Literal["before", "after"]) -> None:
        if self.task is None or when != self.when:
            return
        self.left -= 1
        if self.left == 0:
            asyncio.run_coroutine_threadsafe(self._cancel(), self.task.get_loop()).result()

    async def _cancel(self) -> None:
        assert self.task
        self.task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)  # until the task has seen it


@pytest.mark.parametrize("when", STOPS)
@pytest.mark.parametrize("call", [send(), remove(), remove_role(), end()])
async def test_a_run_that_is_cancelled_while_it_claims_gives_the_row_back(
    call: StateChange, when: str
) -> None:
    room, stops = classroom(), Stops(when, 1)
    gate = gate_on(room, Journal(":memory:", on_commit=stops))
    action = await approved(gate, call)
    stops.task = asyncio.create_task(gate.run(action.id))
    with pytest.raises(asyncio.CancelledError):
        await stops.task
    assert await gate.get(action.id) == action
    assert kinds(gate, action)[-2:] == ["sent", "returned"]
    assert room.posts == []
    assert (await gate.run(action.id)).state == "done"
    assert len(room.posts) == (2 if action.shown.kind == "remove-each" else 1)


@pytest.mark.parametrize("when", [*STOPS, "at the look"])
async def test_a_role_removal_that_is_cancelled_before_its_first_request_is_given_back(
    when: str,
) -> None:
    room, stops = classroom(), Stops(when, 2)
    gate = gate_on(room, Journal(":memory:", on_commit=stops))
    action = await approved(gate, remove_role())
    read = room.retrieve_peer

    async def cancelled(room_id: str, peer_id: str) -> Any:
        if when == "at the look":
            room.retrieve_peer = read  # type: ignore[method-assign]
            raise asyncio.CancelledError
        return await read(room_id, peer_id)

    room.retrieve_peer = cancelled  # type: ignore[method-assign]
    stops.task = asyncio.create_task(gate.run(action.id))
    with pytest.raises(asyncio.CancelledError):
        await stops.task
    assert await gate.get(action.id) == action
    assert room.posts == []
    ended = await gate.run(action.id)
    assert (ended.state, fates(ended)) == ("done", ["removed", "removed"])
    assert len(room.posts) == 2


@pytest.mark.parametrize("when", STOPS)
async def test_a_run_that_is_cancelled_while_it_gives_the_row_back_says_nothing_untrue(
    when: str,
) -> None:
    room, stops = classroom(), Stops(when, 2)
    gate = gate_on(room, Journal(":memory:", on_commit=stops))
    action = await approved(gate, send())
    room.before = lambda _: _raise(ConnectionFailed("Refused."))
    stops.task = asyncio.create_task(gate.run(action.id))
    with pytest.raises(asyncio.CancelledError):
        await stops.task
    assert await gate.get(action.id) == action
    assert kinds(gate, action)[-2:] == ["sent", "returned"]
    room.before = lambda _: None
    assert (await gate.run(action.id)).state == "done"
    assert len(room.posts) == 1


@pytest.mark.parametrize("at", [1, 2])
async def test_a_run_that_is_cancelled_again_and_again_gives_the_row_back(
    at: int, tmp_path: Path
) -> None:
    running, stopped, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    commits = 0

    def wait_before_a_commit(when: Literal["before", "after"]) -> None:
        nonlocal commits
        commits += when == "before"
        if when == "before" and commits == at:
            running.call_soon_threadsafe(stopped.set)
            assert go_on.wait(30)

    room = classroom()
    action = await approved(gate_on(room, Journal(f"sqlite:///{tmp_path / 'j'}")), send())
    journal = Journal(f"sqlite:///{tmp_path / 'j'}", on_commit=wait_before_a_commit)
    commits, gate = 0, gate_on(room, journal)
    if at == 2:
        room.before = lambda _: _raise(ConnectionFailed("Refused."))
    task = asyncio.create_task(gate.run(action.id))
    await stopped.wait()
    for _ in range(4):
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kinds(gate, action)[-2:] == ["sent", "returned"]
    assert (await gate.get(action.id)).state == "approved"


class Lost:
    """The answer to one commit is lost, though it went through."""

    def __init__(self) -> None:
        self.armed = False

    def __call__(self, when: Literal["before", "after"]) -> None:
        if self.armed and when == "after":
            self.armed = False
            raise JournalError("The connection is lost.")


@pytest.mark.parametrize("call", [send(), remove(), remove_role(), end()])
async def test_a_claim_whose_commit_was_not_answered_is_given_back_at_once(
    call: StateChange,
) -> None:
    room, lost = classroom(), Lost()
    gate = gate_on(room, Journal(":memory:", on_commit=lost))
    action = await approved(gate, call)
    lost.armed = True
    with pytest.raises(JournalError, match="connection is lost"):
        await gate.run(action.id)
    assert await gate.get(action.id) == action
    assert kinds(gate, action)[-2:] == ["sent", "returned"]
    assert room.posts == []
    assert (await gate.run(action.id)).state == "done"


@pytest.mark.parametrize("call", [end(), send()])
@pytest.mark.parametrize("took_s", [60, 3600, -60])
async def test_what_was_claimed_by_a_slow_commit_is_looked_at_again_before_it_is_sent(
    took_s: int, call: StateChange
) -> None:
    room, clock, slow = classroom(), Clock(), list[int]()

    def committed(when: str) -> None:
        if when == "after" and slow:
            clock.now += timedelta(seconds=slow.pop())
            room.session = "4" * 24

    gate = gate_on(room, Journal(":memory:", clock=clock, on_commit=committed), clock)
    action = await approved(gate, call)
    slow.append(took_s)
    asked = await gate.run(action.id)
    if took_s == 3600:
        assert (asked.state, "not used in time" in asked.reason) == ("expired", True)
    else:
        assert (asked.state, "session that was shown is over" in asked.note) == ("proposed", True)
    assert room.posts == []


async def test_whoever_failed_to_claim_takes_no_row_from_the_one_who_sends_it() -> None:
    room, fails = classroom(), Fails()
    gate = gate_on(room, Journal(":memory:", on_commit=fails))
    action = await approved(gate, send())

    def another_tries(_: str) -> None:
        fails.ok, fails.broken = 0, 1
        loop = threading.Thread(target=lambda: told.append(_tried(gate, action)))
        loop.start()
        loop.join()
        fails.broken = 0

    told: list[object] = []
    room.before = another_tries
    assert (await gate.run(action.id)).state == "done"
    assert len(told) == len(room.posts) == 1


async def test_a_claim_that_is_over_gives_nothing_back_of_the_next_one() -> None:
    clock = Clock()
    gate = gate_on(classroom(), Journal(":memory:", clock=clock), clock)
    action = await approved(gate, send())
    claimed_by(gate, action, this_worker(), 60)
    first = await gate.get(action.id)
    assert give_back(gate.journal, first, "not sent")
    clock.now += timedelta(seconds=1)
    claimed_by(gate, await gate.get(action.id), this_worker(), 60)
    assert not give_back(gate.journal, first, "late")
    assert (await gate.get(action.id)).state == "sent"


def _tried(gate: Gate, action: Action) -> object:
    try:
        return asyncio.run(gate.run(action))
    except ActiveRoomsError as error:
        return error


@pytest.mark.parametrize("left", ["sent", "unknown"])
async def test_what_a_stopped_process_left_is_looked_at_at_the_next_start_and_not_sent(
    left: str,
) -> None:
    room = classroom()
    gate = gate_on(room)
    lost, message = await approved(gate, remove()), await approved(gate, send())
    for action in (lost, message):
        claimed_by(gate, action, a_gone_worker(), 3600)
        if left == "unknown":
            given_up(gate, action)
    busy = await approved(gate, remove(2))
    claimed_by(gate, busy, "another, elsewhere", 3600)
    room.peers = room.peers[:2]
    looked = await gate.look_again()
    assert (await gate.get(lost.id)).state == "done"
    assert (await gate.get(message.id)).state == "unknown"
    assert (await gate.get(busy.id)).state == "sent"
    assert {a.id for a in looked} == ({lost.id, message.id} if left == "sent" else {lost.id})
    assert room.posts == []


async def test_who_believes_that_a_sender_is_gone_goes_on_waiting_when_it_is_not() -> None:
    clock, reads = Clock(), list[bool]()

    def now() -> datetime:
        if not reads or not reads.pop():
            return clock.now
        with journal.write() as tx:
            assert tx.renew(action.id, lease_s=90)
        return clock.now + timedelta(seconds=61)

    async def sleep(_: float) -> None:
        with journal.write() as tx:
            found = tx.get(action.id)
            assert found is not None
            tx.move(found, "done", by="another", way="answer")

    journal = Journal(":memory:", clock=now)
    gate = gate_on(classroom(), journal, clock)
    action = await approved(gate, send())
    claimed_by(gate, action, this_worker(), 60)
    reads += [True, False]  # the row is read, and then its lease seems over
    waits = Gate(classroom(), gate.policy, journal, sleep=sleep)  # type: ignore[arg-type]
    assert (await waits.run(action.id)).state == "done"


async def test_a_start_looks_only_at_rooms_the_policy_names() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, remove())
    claimed_by(gate, action, a_gone_worker())
    stricter = Gate(room, Policy(rooms=["7" * 24]), gate.journal)  # type: ignore[arg-type]
    assert await stricter.look_again() == []
    assert (await gate.get(action.id)).state == "sent"


# --- 3. Nothing state-changing runs unasked ---------------------------------------------------


@pytest.mark.parametrize("call", [send(), remove(), remove_role(), end()])
async def test_nothing_runs_without_a_decision(call: StateChange) -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(call, HERE)
    assert (await gate.run(action.id)).state == "proposed"
    assert room.posts == []


async def test_a_late_answer_a_late_no_and_a_late_run_move_and_send_nothing() -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock)
    waits, unasked = await gate.propose(send(), HERE), await gate.propose(end(), HERE)
    unused = await approved(gate, remove())
    clock.now = waits.expires_at - timedelta(microseconds=1)
    assert gate.journal.count(state="proposed") == 2
    clock.now = waits.expires_at
    assert gate.journal.count(state="expired") == 3
    late = await gate.decide(waits.id, Approve(waits.digest), by="ada", way="page")
    no = await gate.decide(unasked.id, Reject("no"), by="ada", way="page")
    ran = await gate.run(unused.id)
    for decided in (late, no):
        assert (decided.counted, decided.action.state, decided.problem) == (False, "expired", "")
        assert "not answered in time" in outcome(decided.action)
    assert ran.state == "expired"
    assert "not used in time" in outcome(ran)
    for action in (late.action, no.action):
        assert (action.decided_by, action.executed, already(action)) == ("gate", "no", "")
    assert (ran.executed, ran.ended_at) == ("no", ran.expires_at)
    assert already(ran).startswith('Already approved by "ada" (callback) at ')
    assert room.posts == []


async def test_a_clock_that_is_set_back_makes_no_approval_live_longer() -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock)
    waits, unused = await gate.propose(send(), HERE), await gate.propose(remove(), HERE)
    clock.now += timedelta(seconds=300)
    await gate.decide(unused.id, Approve(unused.digest), by="ada", way="page")
    clock.now -= timedelta(seconds=60)  # as much as the clocks of two machines may differ
    assert gate.journal.count(state="approved") == 1
    clock.now -= timedelta(microseconds=1)
    assert (gate.journal.count(state="proposed"), gate.journal.count(state="expired")) == (1, 1)
    clock.now = waits.created_at - timedelta(seconds=61)
    assert gate.journal.count(state="expired") == 2
    yes = await gate.decide(waits.id, Approve(waits.digest), by="ada", way="page")
    ran = await gate.run(unused.id)
    for action in (yes.action, ran):
        assert (action.state, action.executed, action.ended_at) == ("expired", "no", clock())
        assert "nobody knows how old it is. Ask again" in outcome(action)
    assert (yes.counted, room.posts) == (False, [])


async def test_a_rejection_stays_one_and_says_whose_it_was() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(send(), HERE)
    assert (await gate.decide(action.id, Reject("not now"), by="ada", way="page")).counted
    for answer in (Approve(action.digest), Reject("me too")):
        late = await gate.decide(action.id, answer, by="bob", way="page")
        assert (late.counted, late.action.state, late.action.decided_by) == (
            False,
            "rejected",
            "ada",
        )
    assert 'rejected by "ada": "not now"' in outcome(late.action)
    assert 'Already rejected by "ada" (page)' in already(late.action)
    assert room.posts == []


@pytest.mark.parametrize("word", ["yes", "no", "edit"])
async def test_of_two_deciders_of_one_name_at_once_one_counts(word: str, tmp_path: Path) -> None:
    journals = [Journal(f"sqlite:///{tmp_path / 'j.sqlite'}") for _ in range(6)]
    gates = [gate_on(classroom(), journal) for journal in journals]
    action = await gates[0].propose(send(), HERE)
    answers: dict[str, object] = {
        "yes": Approve(action.digest),
        "no": Reject("no"),
        "edit": Edit(action.digest, {"message": "other words"}),
    }
    start, told = threading.Barrier(len(gates)), list[Decided]()

    def decide(gate: Gate) -> None:
        start.wait()
        told.append(asyncio.run(gate.decide(action.id, answers[word], by="ada", way="page")))

    threads = [threading.Thread(target=decide, args=[gate]) for gate in gates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(decided.counted for decided in told) == 5 * [False] + [True]
    assert {decided.problem for decided in told} == {""}
    word = "approved" if word == "yes" else "rejected"
    assert kinds(gates[0], action) == ["proposed", word, *5 * ["late_answer"]]


@given(
    st.lists(
        st.sampled_from(
            ["yes", "edit", "no", "nobody answers", "a stale yes", "nonsense", "run", "late"]
        ),
        max_size=8,
    )
)
def test_the_first_yes_counts_a_no_counts_until_it_is_sent_and_nothing_else_moves_anything(
    steps: list[str],
) -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock)
    answers: dict[str, Callable[[Action], object]] = {
        "yes": lambda action: Approve(action.digest),
        "edit": lambda action: Edit(action.digest, {"message": "edited"}),
        "no": lambda _: Reject("no"),
        "nobody answers": lambda _: Reject("nobody answered"),
        "a stale yes": lambda _: Approve("0" * 64),
        "nonsense": lambda _: "yes",
    }

    async def go() -> None:
        action = await gate.propose(send("as asked"), HERE)
        state: State = "proposed"
        words = "as asked"
        for step in steps:
            if step == "late":
                clock.now = max(clock.now, action.expires_at)
                state = "expired" if state in ("proposed", "approved") else state
                continue
            if step == "run":
                state = "done" if state == "approved" else state
                assert (await gate.run((await gate.latest(action.id)).id)).state == state
                continue
            counts = {
                "yes": state == "proposed",
                "edit": state == "proposed",
                "no": state in ("proposed", "approved"),
                "nobody answers": state == "proposed",
            }.get(step, False)
            nobody = step == "nobody answers"
            decided = await gate.decide(
                action.id,
                answers[step](action),
                by="gate" if nobody else "ada",
                way="gate" if nobody else "page",
            )
            assert decided.counted == counts, (step, state)
            assert bool(decided.problem) == (step in ("a stale yes", "nonsense"))
            if counts:
                state = "rejected" if step in ("no", "nobody answers") else "approved"
                words = "edited" if step == "edit" else words
                assert decided.action.state == state
        assert (await gate.latest(action.id)).state == state
        sent = [body["message"] for _, body in room.posts]
        assert sent == ([words] if state == "done" else [])

    asyncio.run(go())


# --- the loop that asks ---------------------------------------------------------------------------


class Asked:
    """A person who gives these answers, one after the other."""

    def __init__(self, *answers: Callable[[ApprovalRequest], object]) -> None:
        self.answers = list(answers)
        self.requests: list[ApprovalRequest] = []

    async def __call__(self, request: ApprovalRequest) -> object:
        self.requests.append(request)
        return self.answers.pop(0)(request)


def yes(request: ApprovalRequest) -> object:
    return request.approve(by="ada")


async def test_who_is_asked_is_shown_a_question_once_and_it_is_sent() -> None:
    room = classroom()
    gate = gate_on(room)
    ask = Asked(yes)
    action = await driven(gate, await gate.propose(remove(), HERE), ask, by="x", way="terminal")
    assert (action.state, action.decided_by, action.decided_way) == ("done", "ada", "terminal")
    assert kinds(gate, action) == ["proposed", "asked", "approved", "sent", "done"]
    [asked] = [e for e in gate.journal.events(action.id) if e.kind == "asked"]
    assert (asked.way, asked.data["digest"]) == ("terminal", ask.requests[0].digest)
    assert "Spam Bot" in ask.requests[0].text


async def test_what_stopped_an_approved_action_is_raised_to_whoever_was_asked() -> None:
    room = classroom()
    gate = gate_on(room, actions_per_minute=1)
    await driven(gate, await gate.propose(send(), HERE), Asked(yes), by="x", way="terminal")
    action = await gate.propose(remove(), HERE)
    with pytest.raises(PolicyRefusal, match="1 actions per minute"):
        await driven(gate, action, Asked(yes), by="x", way="terminal")
    assert len(room.posts) == 1


async def test_a_question_that_was_shown_already_is_on_record_once() -> None:
    gate = gate_on(classroom())
    action = await gate.propose(remove(), HERE, shown="page")
    action = await driven(gate, action, Asked(yes), by="x", way="page", shown=True)
    assert kinds(gate, action) == ["proposed", "asked", "approved", "sent", "done"]


async def test_an_answer_that_is_none_is_told_and_asked_again() -> None:
    room = classroom()
    gate = gate_on(room)
    ask = Asked(lambda _: "yes", lambda _: Approve("0" * 64), yes)
    action = await driven(gate, await gate.propose(remove(), HERE), ask, by="x", way="terminal")
    assert action.state == "done"
    assert [bool(request.problem) for request in ask.requests] == [False, True, True]
    assert "not the digest of this question" in ask.requests[2].problem
    assert kinds(gate, action) == [
        "proposed",
        "asked",
        "bad_answer",
        "bad_answer",
        "approved",
        "sent",
        "done",
    ]


@pytest.mark.parametrize(
    ("answer", "state", "by"),
    [(None, "proposed", ""), (Refuse("nobody is here"), "rejected", "gate")],
    ids=repr,
)
async def test_where_nobody_answers_nothing_is_sent(answer: object, state: str, by: str) -> None:
    room = classroom()
    gate = gate_on(room)
    ask = Asked(lambda _: answer)
    action = await driven(gate, await gate.propose(end(), HERE), ask, by="x", way="callback")
    assert (action.state, action.decided_by, action.executed) == (state, by, "no")
    assert "Not executed" in outcome(action)
    assert room.posts == []


@pytest.mark.parametrize("answer", [Refuse("nobody is here"), "nonsense"], ids=repr)
async def test_what_another_person_approved_meanwhile_is_sent_whoever_did_not_answer(
    answer: object,
) -> None:
    room = classroom()
    gate = gate_on(room)

    async def ask(request: ApprovalRequest) -> object:
        decided = await gate.decide(request.action_id, request.approve(), by="bob", way="page")
        assert decided.counted
        return answer

    action = await driven(gate, await gate.propose(end(), HERE), ask, by="x", way="callback")
    assert (action.state, action.decided_by) == ("done", "bob")
    assert [verb for verb, _ in room.posts] == ["end"]


async def test_what_changed_since_is_asked_again_and_says_why() -> None:
    room = classroom()
    gate = gate_on(room)

    def yes_to_what_is_over(request: ApprovalRequest) -> object:
        room.session = "4" * 24
        return request.approve()

    ask = Asked(yes_to_what_is_over, yes)
    action = await driven(gate, await gate.propose(end(), HERE), ask, by="x", way="terminal")
    assert (action.state, action.revision) == ("done", 2)
    assert [bool(request.note) for request in ask.requests] == [False, True]
    assert ask.requests[1].digest != ask.requests[0].digest
    assert kinds(gate, action) == ["proposed", "asked", "approved", "sent", "done"]


async def test_whoever_answers_after_another_edited_the_words_is_told_what_was_sent() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(send(), HERE)

    async def another_is_first(request: ApprovalRequest) -> object:
        edit = Edit(request.digest, {"message": "hi"})
        edited = (await gate.decide(request.action_id, edit, by="bob", way="page")).action
        assert (await gate.run(edited)).state == "done"
        return request.approve()

    ended = await driven(gate, action, another_is_first, by="ada", way="terminal")
    assert (ended.state, ended.call.arguments()["message"]) == ("done", "hi")
    assert len(room.posts) == 1


async def test_edited_words_are_sent_without_another_question() -> None:
    room = classroom()
    gate = gate_on(room)
    ask = Asked(lambda request: request.edit(message="good day"))
    action = await driven(gate, await gate.propose(send(), HERE), ask, by="ada", way="terminal")
    assert action.state == "done"
    assert "The person edited the words." in outcome(action)
    assert [body["message"] for _, body in room.posts] == ["good day"]


async def test_whoever_shows_a_row_that_is_there_has_it_on_record_with_the_same_write() -> None:
    gate = gate_on(classroom())
    first = await gate.propose(remove(), HERE, is_new=True)
    shown = await gate.propose(remove(), HERE, shown="elicitation", is_new=True)
    assert shown == first
    [asked] = [e for e in gate.journal.events(first.id) if e.kind == "asked"]
    assert (asked.way, asked.data["digest"]) == ("elicitation", first.digest)


async def test_whoever_decides_too_late_is_told_what_the_call_came_to() -> None:
    room = classroom()
    gate = gate_on(room)
    first = await approved(gate, end())
    room.session = "4" * 24
    again = await gate.run(first.id)
    late = await gate.decide(first.id, Approve(first.digest), by="bob", way="page")
    assert (late.counted, late.action.state, late.newest) == (False, "expired", again)
    assert await gate.latest(first.id) == again
    counted = await gate.decide(again.id, Approve(again.digest), by="bob", way="page")
    assert counted.newest == counted.action


async def test_one_question_at_a_place_of_a_graph() -> None:
    room = classroom()
    gate = gate_on(room)
    first = await gate.propose(send(), HERE, shown="interrupt", place="here", is_new=True)
    second = await gate.propose(send("x"), HERE, shown="interrupt", place="here", is_new=True)
    assert (first.state, second.state, second.reason) == (
        "proposed",
        "rejected",
        ANOTHER_ASKS,
    )
    assert kinds(gate, first) == ["proposed", "asked"]
    assert kinds(gate, second) == ["proposed", "rejected"]


# --- what was allowed before -----------------------------------------------------------------------


async def test_a_room_elsewhere_is_refused_before_any_request() -> None:
    room = classroom()
    room.session = None
    gate = gate_on(room)
    other = parse_call("hms-end-active-room", {"room_id": "7" * 24})
    for _ in range(2):
        with pytest.raises(PolicyRefusal, match="does not allow room"):
            await gate.propose(other, HERE)
    with pytest.raises(PolicyRefusal):
        await gate.peers("7" * 24)


ALLOWED, SAME = send(role="student"), send("more", role="student")


@dataclass(frozen=True)
class Next:
    """A call after one that was allowed for the session, and whether it runs unasked."""

    call: StateChange
    state: str = "proposed"
    granted: StateChange = ALLOWED
    thread: str = "thread"
    requester: str = "agent"
    session: str = SESSION
    later_s: int = 0
    newcomers: int = 0
    now: Peer | None = None  # peer 2 from then on


TO_BEN = send(peer_id=peer(2).id)

NEXT = {
    "the same kind": Next(SAME, "approved"),
    "another tool": Next(remove()),
    "everyone": Next(send("more")),
    "another role": Next(send("more", role="teacher")),
    "another type": Next(send("more", role="student", type="control")),
    "another conversation": Next(SAME, thread="other thread"),
    "another requester": Next(SAME, requester="somebody else"),
    "another session": Next(SAME, session="4" * 24),
    "after its time": Next(SAME, later_s=1801),
    "before it, by a clock that was set back": Next(SAME, later_s=-1),
    "a grown audience": Next(SAME, newcomers=10),
    "one person": Next(TO_BEN, "approved", TO_BEN, now=peer(2, "Ben, away")),
    "one person, in another role": Next(TO_BEN, granted=TO_BEN, now=peer(2, "Ben", "viewer")),
    "one peer, who is another user": Next(TO_BEN, granted=TO_BEN, now=peer(2, "Ben", user_id="x")),
    **{
        f"{role} and {kind}, each for itself": Next(
            send("hi", role=role, type=kind), granted=send("hi", role=others, type=other)
        )
        for (others, other), (role, kind) in (
            (("viewer", "on stage chat"), ("viewer on stage", "chat")),
            (("viewer", 'x","chat'), ('viewer","x', "chat")),
        )
    },
}


@pytest.mark.parametrize("then", NEXT.values(), ids=NEXT)
async def test_for_the_session_covers_the_same_kind_only(then: Next) -> None:
    room, clock = classroom(), Clock()
    room.peers += [
        peer(7, role="viewer"),
        peer(8, role="viewer on stage"),
        peer(9, role='viewer","x'),
    ]
    gate = gate_on(room, Journal(":memory:", clock=clock), clock)
    await approved(gate, then.granted, scope="session")
    clock.now += timedelta(seconds=then.later_s)
    room.session = then.session
    room.peers[1] = then.now or room.peers[1]
    room.peers += [peer(n) for n in range(10, 10 + then.newcomers)]
    found = await gate.propose(then.call, Origin(then.thread, "m", "next", then.requester))
    assert found.state == then.state
    if then.state == "approved":
        assert (found.decided_by, found.decided_way) == ("ada", "grant")
        assert kinds(gate, found) == ["proposed", "approved"]


@pytest.mark.parametrize(
    ("call", "policy", "way"),
    [
        (remove(), {"unattended": {"hms-remove-peers"}}, "unattended"),
        (end(), {"unattended": {"hms-end-active-room"}}, "unattended"),
        (send(), {"unattended": {"hms-send-message"}}, "unattended"),
        (send(), {"relaxed": {"hms-send-message"}}, "relaxed"),
    ],
)
async def test_what_runs_unasked_says_so_and_is_asked_about_where_the_program_always_asks(
    call: StateChange, policy: dict[str, Any], way: str
) -> None:
    room = classroom()
    gate = gate_on(room, **policy)
    action = await gate.propose(call, HERE)
    assert (action.state, action.decided_by, action.decided_way) == ("approved", "policy", way)
    assert kinds(gate, action) == ["proposed", "approved"]
    asked = await gate.propose(call, call_number(2), always_ask=True, is_new=True)
    assert await gate.run(asked.id) == asked
    assert (asked.state, room.posts) == ("proposed", [])
    assert (await gate.run(action.id)).state == "done"
    assert already(await gate.get(action.id)) == ""


async def test_more_actions_per_minute_than_allowed_are_not_sent() -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock, actions_per_minute=2)
    actions = [await approved(gate, send(), call_number(n)) for n in range(3)]
    for action in actions[:2]:
        await gate.run(action.id)
    with pytest.raises(PolicyRefusal, match="2 actions per minute in one room"):
        await gate.run(actions[2].id)
    assert len(room.posts) == 2
    clock.now += timedelta(seconds=60)
    assert (await gate.run(actions[2].id)).state == "done"


async def test_a_commit_that_takes_no_longer_than_a_look_lasts_is_sent() -> None:
    room, clock, slow = classroom(), Clock(), list[int]()

    def committed(when: str) -> None:
        if when == "after" and slow:
            clock.now += timedelta(seconds=slow.pop())

    gate = gate_on(room, Journal(":memory:", clock=clock, on_commit=committed), clock)
    action = await approved(gate, send())
    slow.append(10)
    assert (await gate.run(action.id)).state == "done"


async def test_whether_a_policy_still_allows_an_action_can_be_asked_before_a_person_is() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await gate.propose(remove(), HERE)
    await gate.check_allowed(action)
    policy = Policy(rooms=[ROOM], protected_roles=["student"])
    stricter = Gate(room, policy, gate.journal)  # type: ignore[arg-type]
    with pytest.raises(PolicyRefusal, match="the policy protects that role"):
        await stricter.check_allowed(action)
    assert (await gate.get(action.id)).state == "proposed"


def test_half_of_a_pair_of_surrogates_is_named_as_what_it_is() -> None:
    with pytest.raises(
        InvalidCall,
        match=r"message: it has a broken character \(a lone surrogate\), which cannot be sent",
    ):
        send("\ud800")


@pytest.mark.parametrize("ahead_s", [86_400, 61, 59])
async def test_what_a_clock_far_ahead_recorded_keeps_nobody_waiting_until_then(
    ahead_s: int,
) -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock, actions_per_minute=1)
    clock.now += timedelta(seconds=ahead_s)
    await carried_out(gate, send())
    clock.now -= timedelta(seconds=ahead_s)
    action = await approved(gate, send(), call_number(2))
    if ahead_s < 60:
        with pytest.raises(PolicyRefusal, match="1 actions per minute"):
            await gate.run(action.id)
    else:
        assert (await gate.run(action.id)).state == "done"


async def test_the_limit_per_minute_is_of_one_room_and_one_requester() -> None:
    room = classroom()
    gate = gate_on(room, rooms=("*",), actions_per_minute=1)
    for origin in (HERE, call_number(2, "another")):
        await carried_out(gate, send(), origin)
    elsewhere = parse_call("hms-send-message", {"room_id": "7" * 24, "message": "hi"})
    assert (await carried_out(gate, elsewhere)).state == "done"
    with pytest.raises(PolicyRefusal):
        await carried_out(gate, send(), call_number(3))


async def test_the_journal_as_a_whole_has_a_limit_too() -> None:
    room = classroom()
    gate = gate_on(room, rooms=("*",), actions_per_minute_in_all=2)
    calls = [parse_call("hms-send-message", {"room_id": n * 24, "message": "hi"}) for n in "789"]
    for call in calls[:2]:
        await carried_out(gate, call)
    with pytest.raises(PolicyRefusal, match="2 actions per minute in all"):
        await carried_out(gate, calls[2])


@pytest.mark.slow
async def test_fifty_rooms_in_one_service_live_within_the_default_limits() -> None:
    room = classroom()
    gate = gate_on(room, rooms=("*",))
    for number in range(100):
        room_id = f"{number // 2:024x}"
        call = parse_call("hms-send-message", {"room_id": room_id, "message": f"{number}"})
        assert (await carried_out(gate, call)).state == "done"


def _unreadable(room: StandInRoom) -> None:
    async def fail(_: str) -> Any:
        raise ServerError("No.")

    room.retrieve_active_room = fail  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("why", ["too many in a minute", "the room cannot be read"])
async def test_what_was_approved_and_held_back_is_run_by_the_next_same_call_unasked(
    why: str,
) -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock, actions_per_minute=1)
    if why == "too many in a minute":
        await carried_out(gate, send("another"))
    action = await approved(gate, send(), call_number(2))
    read = room.retrieve_active_room
    if why == "the room cannot be read":
        _unreadable(room)
    with pytest.raises(ActiveRoomsError):
        await gate.run(action)
    room.retrieve_active_room = read  # type: ignore[method-assign]
    clock.now += timedelta(seconds=61)
    for _ in range(2):  # the second time the same task runs again, after a crash
        again = await gate.propose(send(), call_number(3))
        assert again.id == action.id
        assert (await gate.run(again)).state == "done"
    assert [body["message"] for _, body in room.posts][-1] == "hello"
    assert (await gate.propose(send(), call_number(4))).state == "proposed"
    assert kinds(gate, action).count("held") == 1


async def test_edited_words_that_were_held_back_are_sent_by_the_next_same_call() -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, clock=clock, actions_per_minute=1)
    await carried_out(gate, send("another"))
    asked = await gate.propose(send(), call_number(2))
    edit = Edit(asked.digest, {"message": "good morning"})
    edited = (await gate.decide(asked.id, edit, by="ada", way="page")).action
    with pytest.raises(PolicyRefusal):
        await gate.run(edited)
    await clock.sleep(61)
    again = await gate.propose(send(), call_number(3))
    assert again.id == edited.id
    assert "The person edited the words" in outcome(await gate.run(again))
    assert [body["message"] for _, body in room.posts] == ["another", "good morning"]


async def test_what_was_held_back_is_asked_about_if_somebody_wanted_other_words_since() -> None:
    gate = gate_on(classroom(), actions_per_minute=1)
    await carried_out(gate, send("another"))
    held = await approved(gate, send(), call_number(2))
    with pytest.raises(PolicyRefusal):
        await gate.run(held)
    late = await gate.decide(held.id, Edit(held.digest, {"message": "hi"}), by="bob", way="page")
    assert not late.counted
    assert (await gate.propose(send(), call_number(3))).state == "proposed"


@pytest.mark.parametrize("unasked", ["for the session", "by the policy"])
async def test_a_message_that_may_have_arrived_is_not_sent_again_unasked(unasked: str) -> None:
    room = classroom()
    gate = gate_on(room, relaxed={"hms-send-message"} if unasked == "by the policy" else ())
    if unasked == "for the session":
        await gate.run(await approved(gate, send("first"), scope="session"))

    def lost(_: str) -> NoReturn:
        raise TimedOut("No answer.", executed="maybe")

    room.after = lost
    unknown = await gate.run(await gate.propose(send(), call_number(2)))
    assert unknown.state == "unknown"
    again = await gate.propose(send(), call_number(3))
    assert again.state == "proposed"
    assert "The message may have reached the room" in gate.request(again).note
    assert (await gate.propose(send("another"), call_number(4))).state == "approved"
    # Both are approved before either is sent.
    first = await gate.propose(send("twice"), call_number(5))
    second = await gate.propose(send("twice"), call_number(6))
    assert (first.state, second.state) == ("approved", "approved")
    posted = len(room.posts)
    assert (await gate.run(first)).state == "unknown"
    asked = await gate.run(second)
    assert (asked.state, len(room.posts)) == ("proposed", posted + 1)
    text = gate.request(asked).text
    assert text.startswith("Asked only now: The same call was sent")
    yes = Approve(asked.digest)
    assert (await gate.decide(asked.id, yes, by="ada", way="page")).action.state == "approved"
    await gate.run(asked.id)
    assert len(room.posts) == posted + 2
    # Nobody knows whether these words arrived, though a call with other words was edited into them.
    draft = await gate.propose(send("twice"), call_number(7))
    edit = Edit(draft.digest, {"message": "edited"})
    edited = (await gate.decide(draft.id, edit, by="ada", way="page")).action
    assert (await gate.run(edited)).state == "unknown"
    again = await gate.propose(send("edited"), call_number(8))
    assert (again.state, again.note[:24]) == ("proposed", "The same call was sent 0")


async def test_a_room_that_never_stands_still_is_asked_about_and_not_read_for_ever() -> None:
    room = StandInRoom([peer(number) for number in range(1, 60)])
    gate = gate_on(room, max_peers=20_000, unattended={"hms-remove-peers"})
    action, read = await gate.propose(remove_role(), HERE), room.retrieve_active_room
    assert action.state == "approved"

    async def joined(room_id: str) -> ActiveRoom:
        room.peers.append(peer(100 + len(room.peers)))
        return await read(room_id)

    room.retrieve_active_room = joined  # type: ignore[method-assign]
    asked = await gate.run(action)
    assert asked.state == "proposed"
    assert gate.request(asked).text.startswith(
        "Asked only now: The room changed 20 times before this could be sent. "
        "1 more people took the role.\n"
    )
    assert room.posts == []


@pytest.mark.parametrize(
    "other",
    [
        Origin("other", "m", "c", "agent"),
        Origin("thread", "m", "c", "another"),
        Origin("serve:mcp", "m", "c", "agent"),
    ],
)
async def test_what_was_held_back_is_not_run_by_the_call_of_another_conversation(
    other: Origin,
) -> None:
    gate = gate_on(classroom(), actions_per_minute=1)
    await carried_out(gate, send("another"))
    held = await approved(gate, send(), call_number(2))
    with pytest.raises(PolicyRefusal):
        await gate.run(held)
    assert (await gate.propose(send(), other)).state == "proposed"


async def test_what_a_policy_let_run_and_held_back_is_asked_about_under_another_policy() -> None:
    room, journal = classroom(), Journal(":memory:")
    relaxed = gate_on(room, journal, relaxed={"hms-send-message"}, actions_per_minute=1)
    await relaxed.run(await relaxed.propose(send("another"), call_number(1)))
    held = await relaxed.propose(send(), call_number(2))
    with pytest.raises(PolicyRefusal):
        await relaxed.run(held)
    asked = await gate_on(room, journal).propose(send(), call_number(3))
    assert (asked.id == held.id, asked.state) == (False, "proposed")


def test_calls_may_be_about_the_same_peer_if_one_id_is_the_begin_of_the_other() -> None:
    full = remove(peer_id=peer(1).id)
    short, twin = (remove(peer_id=of) for of in (peer(1).id[:8], f"{peer(1).id[:24]}{'b' * 12}"))
    assert may_be_same(full, short)
    assert may_be_same(short, full)
    assert not may_be_same(full, twin)


@pytest.mark.parametrize(("ref", "state"), [("short", "approved"), ("twin", "proposed")])
async def test_what_was_held_back_is_run_for_the_same_person_only(ref: str, state: str) -> None:
    room, full = classroom(), peer(1).id
    twin = f"{full[:24]}{'b' * 12}"
    room.peers += [peer(9).model_copy(update={"id": twin})]
    gate = gate_on(room, actions_per_minute=1)
    await carried_out(gate, send("another"))
    held = await approved(gate, remove(peer_id=full), call_number(2))
    with pytest.raises(PolicyRefusal):
        await gate.run(held)
    again = remove(peer_id={"short": full[:13], "twin": twin}[ref])
    if ref == "short":
        room.peers.pop()
    assert (await gate.propose(again, call_number(3))).state == state


@pytest.mark.parametrize("was_held", [False, True])
async def test_a_call_with_a_short_id_is_found_also_when_nobody_has_the_id_any_more(
    was_held: bool,
) -> None:
    room, short = classroom(), remove(peer_id=peer(1).id[:8])
    gate = gate_on(room, actions_per_minute=1)
    await carried_out(gate, send("another"))
    if was_held:
        held = await approved(gate, remove(peer_id=peer(1).id), call_number(2))
        with pytest.raises(PolicyRefusal):
            await gate.run(held)
    asked = await gate.propose(short, call_number(3))
    assert asked.state == ("approved" if was_held else "proposed")
    room.peers = room.peers[1:]
    for call in (short, remove(peer_id=peer(1).id)):
        assert (await gate.propose(call, call_number(3))).id == asked.id


@pytest.mark.parametrize("earlier_release", [False, True])
async def test_a_call_with_a_short_id_that_was_pruned_is_not_sent_again_to_anybody(
    earlier_release: bool,
) -> None:
    room, clock, short = classroom(), Clock(), send(peer_id=peer(1).id[:8])
    gate = gate_on(room, Journal(":memory:", clock=clock), clock)
    if earlier_release:  # an earlier release named the action by the call as it was made
        insert(gate.journal, row(clock(), call_key(short, HERE), state="rejected"))
    else:
        await carried_out(gate, short)
        twin = f"{peer(1).id[:24]}{'b' * 12}"
        room.peers[0] = peer(9).model_copy(update={"id": twin})
    clock.now += timedelta(days=1)
    gate.journal.export(StringIO(), before=clock(), by="ada")
    assert gate.journal.prune(before=clock(), by="ada").actions == 1
    with pytest.raises(BrokenRecord, match="made before"):
        await gate.propose(short, HERE)
    assert gate.journal.count() == 0


async def test_a_program_outside_that_calls_anew_is_asked_about_also_what_was_held_back() -> None:
    gate = gate_on(classroom(), actions_per_minute=1)
    here = [Origin("serve:mcp", "turn", str(n), "mcp:client") for n in range(3)]
    await carried_out(gate, send("another"), here[0])
    held = await approved(gate, send(), here[1])
    with pytest.raises(PolicyRefusal):
        await gate.run(held)
    assert (await gate.propose(send(), here[2])).state == "proposed"


async def held_and_called_again(gate: Gate) -> tuple[Action, Origin]:
    """A message that the limit per minute held back, and where the same call was made anew."""
    await carried_out(gate, send("another"))
    held = await gate.propose(send(), call_number(2))
    if held.state == "proposed":
        held = (await gate.decide(held.id, Approve(held.digest), by="ada", way="page")).action
    with pytest.raises(PolicyRefusal):
        await gate.run(held)
    again = await gate.propose(send(), call_number(3))
    assert again.id == held.id
    return held, call_number(3)


async def test_a_call_that_ran_what_was_held_back_is_sent_once_whatever_was_called_since() -> None:
    room, clock = classroom(), Clock()
    journal = Journal(":memory:", clock=clock)
    gate = gate_on(room, journal, clock, actions_per_minute=1, relaxed={"hms-send-message"})
    await gate.run(await gate.propose(send("another"), call_number(1)))
    held = await gate.propose(send(), call_number(2))
    with pytest.raises(PolicyRefusal):
        await gate.run(held)
    for number in (3, 4):
        clock.now += timedelta(seconds=61)
        await gate.run(await gate.propose(send(), call_number(number)))
    assert len(room.posts) == 3
    clock.now += timedelta(seconds=61)
    again = await gate.run(await gate.propose(send(), call_number(3)))
    assert (again.id, again.state, len(room.posts)) == (held.id, "done", 3)


async def test_a_call_that_ran_what_was_held_back_is_found_where_it_was_made() -> None:
    gate = gate_on(classroom(), actions_per_minute=1)
    held, where = await held_and_called_again(gate)
    found = await gate.find(send(), where)
    assert found is not None
    assert found.id == held.id


async def test_a_call_that_runs_what_was_held_back_is_on_record_there() -> None:
    gate = gate_on(classroom(), actions_per_minute=1)
    held, where = await held_and_called_again(gate)
    again = [e for e in gate.journal.events(held.id) if e.kind == "called_again"]
    assert [(e.by, e.data["call_key"]) for e in again] == [("agent", call_key(send(), where))]


async def test_two_equal_calls_at_once_that_are_refused_get_one_record_and_the_same_refusal() -> (
    None
):
    gate = gate_on(classroom(), protected_roles={"teacher"})
    calls = (gate.propose(remove_role("teacher"), call_number(1)) for _ in range(3))
    told = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in told] == [PolicyRefusal] * 3
    assert len({str(one) for one in told}) == 1
    assert [one.revision for one in gate.journal.actions("rejected")] == [1]


async def test_a_refused_call_is_recorded_as_decided_by_the_policy_or_by_the_gate() -> None:
    gate = gate_on(classroom(), protected_roles={"teacher"})
    with pytest.raises(PolicyRefusal):
        await gate.propose(remove_role("teacher"), call_number(1))
    with pytest.raises(PeerNotFound):
        await gate.propose(remove_role("nobody"), call_number(2))
    refused = {row.result.error: row.decided_way for row in gate.journal.actions("rejected")}
    assert refused == {"policy_refusal": "policy", "peer_not_found": "gate"}


async def test_what_is_refused_now_does_not_run_what_was_held_back() -> None:
    room = classroom()
    gate = gate_on(room, actions_per_minute=1)
    await carried_out(gate, send("another"))
    held = await approved(gate, remove(), call_number(2))
    with pytest.raises(PolicyRefusal):
        await gate.run(held)
    gone, room.peers = room.peers, room.peers[:2]
    for peers in (room.peers, gone):
        room.peers = peers
        with pytest.raises(PeerNotFound):
            await gate.propose(remove(), call_number(3))


async def test_what_was_approved_and_never_held_back_is_no_yes_for_another_call() -> None:
    gate = gate_on(classroom())
    await approved(gate, send())
    assert (await gate.propose(send(), call_number(2))).state == "proposed"


async def test_a_repeated_call_says_when_the_same_was_sent_and_what_came_of_it() -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock)
    room.after = lambda _: _raise(TimedOut("No answer.", executed="maybe"))
    first = await carried_out(gate, send())
    clock.now += timedelta(seconds=5)
    again = await gate.propose(send(), call_number(2))
    text = gate.request(again).text
    assert "\nNote: The same call was sent 5 s ago. The outcome is unknown" in text
    assert first.id in text
    other = await gate.propose(send("other"), call_number(3))
    clock.now -= timedelta(minutes=1)  # the clock is set back
    assert "The same call was sent 0 s ago." in (await gate.propose(send(), call_number(6))).note
    clock.now += timedelta(minutes=1)
    elsewhere = await gate.propose(send(), Origin("other", "m", "c", "agent"))
    another = await gate.propose(send(), call_number(5, "another"))
    assert not another.note
    clock.now += timedelta(hours=1, seconds=-5)
    assert "sent 60 min ago." in (await gate.propose(send(), call_number(7))).note
    clock.now += timedelta(seconds=1)
    later = await gate.propose(send(), call_number(4))
    assert not any(one.note for one in (other, elsewhere, later))


async def test_a_call_that_comes_to_the_same_as_one_that_was_sent_says_so() -> None:
    room = classroom()
    gate, number = gate_on(room), itertools.count(2)
    whole = peer(3).id
    for first, then in (whole, whole[:8]), (whole[:8], whole.upper()):
        await carried_out(gate, send(f"to {first}", peer_id=first))
        same = send(f"to {first}", peer_id=then)
        note = (await gate.propose(same, call_number(next(number)))).note
        assert note.startswith("The same call was sent")
    action = await gate.propose(send("draft"), call_number(next(number)))
    fair = Edit(action.digest, {"message": "fair"})
    decided = await gate.decide(action.id, fair, by="ada", way="page")
    edited = await gate.run(decided.newest.id)
    note = (await gate.propose(send("draft"), call_number(next(number)))).note
    assert note.startswith("The same call was asked for, and sent with other words 0 s ago.")
    assert edited.id in note
    assert not (await gate.propose(send("other"), call_number(next(number)))).note


async def test_what_a_conversation_asks_is_withdrawn_on_a_word_and_nothing_else_is() -> None:
    room = classroom()
    gate = gate_on(room)
    asked, unsent = await gate.propose(send(), HERE), await approved(gate, remove())
    other = await gate.propose(send(), Origin("other", "m", "c", "agent"))
    taken = await gate.withdraw("thread", by="ada", reason="forget it")
    assert {one.id for one in taken} == {asked.id, unsent.id}
    for one in taken:
        assert (one.state, one.decided_by, one.reason) == ("rejected", "ada", "forget it")
        assert (await gate.run(one.id)).state == "rejected"
    assert (await gate.get(other.id)).state == "proposed"
    assert room.posts == []


# --- 4. Everything is on record -----------------------------------------------------------------


async def test_the_journal_tells_who_asked_what_was_shown_who_decided_and_what_came() -> None:
    gate = gate_on(classroom())
    proposed = await gate.propose(remove(), HERE)
    await driven(gate, proposed, Asked(yes), by="ada", way="terminal")
    action = await gate.get(proposed.id)
    events = gate.journal.events(action.id)
    assert [(e.kind, e.by, e.way) for e in events] == [
        ("proposed", "agent", "call"),
        ("asked", "", "terminal"),
        ("approved", "ada", "terminal"),
        ("sent", this_worker(), "claim"),
        ("done", this_worker(), "answer"),
    ]
    assert (action.requester, action.decided_by, action.decided_way) == ("agent", "ada", "terminal")
    assert [person.name for person in action.shown.people] == ["Spam Bot"]
    assert action.result.verified is True


@pytest.mark.parametrize(
    ("call", "error"),
    [(remove(9), PeerNotFound), (remove(1), PolicyRefusal), (end(), NotActive)],
)
async def test_a_refusal_is_on_record_and_the_same_when_repeated(
    call: StateChange, error: type[ActiveRoomsError]
) -> None:
    room = classroom()
    if error is NotActive:
        room.session = None
    gate = gate_on(room, protected_roles={"teacher"})
    texts = set()
    for _ in range(2):
        with pytest.raises(error) as caught:
            await gate.propose(call, HERE)
        texts.add(caught.value.for_model())
    assert len(texts) == 1
    [row] = gate.journal.actions()
    assert row.state == "rejected"
    assert room.posts == []


async def test_a_role_removal_tells_the_fate_of_each_person() -> None:
    room = StandInRoom([peer(n) for n in (1, 2, 3)])
    gate = gate_on(room)

    def gone(_: str) -> None:
        if len(room.posts) == 1:
            raise TimedOut("No answer.", executed="maybe")

    room.before = gone
    action = await carried_out(gate, remove_role())
    assert fates(action) == ["removed", "unknown", "not sent"]
    assert action.state == "unknown"
    assert len(room.posts) == 1
    room.peers = []
    looked = await gate.run(action.id)
    assert fates(looked) == ["removed", "no longer there", "not sent"]
    assert looked.executed == "maybe"


async def test_there_is_no_such_action() -> None:
    gate = gate_on(classroom())
    for asked in (gate.run("nothing"), gate.get("nothing"), gate.latest("nothing")):
        with pytest.raises(InvalidCall, match="no such action"):
            await asked
    with pytest.raises(InvalidCall, match="no such action"):
        await gate.decide("nothing", Reject("no"), by="ada", way="page")


def test_the_stand_in_session_is_what_the_tests_think() -> None:
    assert SESSION != "4" * 24


# --- what a review broke once --------------------------------------------------------------------


class Fails:
    """A journal's commits fail: the first `ok` after the start go well, then `broken` do not."""

    def __init__(self) -> None:
        self.ok = self.broken = 0

    def __call__(self, when: Literal["before", "after"]) -> None:
        if when != "before" or not self.broken:
            return
        if self.ok:
            self.ok -= 1
            return
        self.broken -= 1
        raise JournalError("The journal failed.")


@pytest.mark.slow
@pytest.mark.parametrize("call", [send(), remove(), remove_role(), end()])
async def test_whichever_commit_fails_what_was_sent_is_never_told_as_not_executed_or_sent_again(
    call: StateChange,
) -> None:
    for ok in range(8):
        for broken in [1, 100]:
            room, fails, clock = classroom(), Fails(), Clock()
            gate = gate_on(room, Journal(":memory:", clock=clock, on_commit=fails), clock)
            action = await approved(gate, call)
            lost = call.tool == "hms-end-active-room"

            def first_answer(_: str) -> None:
                nonlocal lost
                if lost:  # an end whose answer is lost is looked at, and may be sent again
                    lost = False
                    raise TimedOut("No answer.", executed="maybe")

            room.before = first_answer
            fails.ok, fails.broken = ok, broken
            told, sent = "", 0
            try:
                ended = await gate.run(action.id)
            except ActiveRoomsError as error:
                told, sent = error.for_model(), len(room.posts)
                fails.broken = 0
                ended = await gate.run(action.id)
            assert "Nothing was executed" not in told or not sent
            posts = [str(post) for post in room.posts]
            assert len(posts) == len(set(posts))
            assert ended.executed != "no" or not posts
            assert ended.state in ("done", "unknown", "failed")
            assert ended.state != "failed" or not posts or "Not removed" in ended.result.text


@pytest.mark.parametrize("at", [1, 2])
async def test_a_setting_that_fails_while_people_are_removed_does_not_hide_who_was(at: int) -> None:
    room = StandInRoom([peer(n) for n in (1, 2, 3)])
    gate = gate_on(room)
    action = await approved(gate, remove_role())

    def fail(_: str) -> None:
        if len(room.posts) == at:
            raise ConfigurationError("The token is gone.")

    room.before = fail
    with pytest.raises(OutcomeUnknown):
        await gate.run(action.id)
    assert (await gate.get(action.id)).executed == "maybe"
    ended = await gate.run(action.id)
    assert fates(ended)[:at] == at * ["removed"]
    assert len(room.posts) == at


async def test_a_full_disk_after_the_request_is_told_to_the_person_who_approved() -> None:
    room, fails = classroom(), Fails()
    gate = gate_on(room, Journal(":memory:", on_commit=fails))
    action = await approved(gate, send())

    def fill(_: str) -> None:
        fails.broken = 100

    room.after = fill
    with pytest.raises(OutcomeUnknown, match="accepted by 100ms: The journal failed") as caught:
        await gate.run(action.id)
    assert "may have been executed" in caught.value.for_person()
    assert len(room.posts) == 1


async def test_an_unexpected_error_while_sending_is_unknown_and_not_sent_again() -> None:
    room = classroom()
    gate = gate_on(room)
    room.after = lambda _: _raise(RuntimeError("bug"))
    action = await approved(gate, send())
    with pytest.raises(OutcomeUnknown):
        await gate.run(action.id)
    room.after = lambda _: None
    assert (await gate.run(action.id)).state == "unknown"
    assert len(room.posts) == 1


async def test_a_look_tells_the_condition_of_the_room_not_our_deed() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, end(lock=True))
    claimed_by(gate, action, "another")
    room.session, room.peers = None, []
    settled = await gate.run(action.id)
    assert (settled.state, settled.executed) == ("done", "maybe")
    assert "is not known" in outcome(settled)
    assert "was locked" not in outcome(settled)
    assert room.posts == []


@pytest.mark.parametrize(("said", "state"), [(NotActive, "done"), (NotFound, "unknown")])
async def test_a_later_process_takes_no_404_of_another_server_for_the_end(
    said: type[ApiError], state: State
) -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, end())
    claimed_by(gate, action, "another")

    async def another(room_id: str) -> ActiveRoom:
        raise said(f"{room_id}?", status=404)

    room.retrieve_active_room = another  # type: ignore[method-assign]
    [action] = await gate.look_again()
    assert action.state == state


@pytest.mark.parametrize("gone", [NotActive, PeerNotFound, NotFound])
async def test_a_404_for_what_was_read_a_moment_before_means_gone_whatever_its_text(
    gone: type[ApiError],
) -> None:
    for call in (remove(), end()):
        room = classroom()
        room.before = lambda _: _raise(gone("page not found", status=404))
        action = await carried_out(gate_on(room), call)
        assert (action.state, action.executed, action.result.error) == ("done", "no", gone.code)
        assert re.search("already over|nobody was left", outcome(action))
    room = classroom()
    look = room.retrieve_active_room

    async def nobody(room_id: str) -> ActiveRoom:
        return await look(room_id) if room.session else _raise(gone("room not found", status=404))

    room.retrieve_active_room = nobody  # type: ignore[method-assign]
    action = await carried_out(gate_on(room), end())
    assert (action.state, action.executed, action.result.verified) == ("done", "yes", True)
    room = classroom()
    room.before = lambda _: _raise(gone("page not found", status=404)) if room.posts else None
    action = await carried_out(gate_on(room), remove_role())
    assert (action.state, fates(action)) == ("done", ["removed", "gone"])
    action = await carried_out(gate_on(room), send(), call_number(2))
    assert (action.state, action.executed) == ("failed", "no")
    assert "room id" not in for_model(action)


async def test_an_end_that_came_too_late_does_not_say_that_the_room_is_locked() -> None:
    for lock in (True, False):
        room = classroom()
        room.before = lambda _: _raise(NotActive("session not active", status=404))
        action = await carried_out(gate_on(room), end(lock=lock))
        assert ("not known whether the room is locked" in outcome(action)) == lock


async def test_whoever_lost_the_row_sends_nothing_more() -> None:
    room = StandInRoom([peer(n) for n in (1, 2, 3)])
    gate = gate_on(room)
    action = await approved(gate, remove_role())

    def lose(_: str) -> None:
        if len(room.posts) == 1:
            given_up(gate, action)

    room.after = lose
    ended = await gate.run(action.id)
    assert len(room.posts) == 1
    assert fates(ended) == ["removed", "not sent", "not sent"]


async def test_a_late_answer_after_all_is_recorded_as_one() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, send())
    room.after = lambda _: given_up(gate, action)
    assert (await gate.run(action.id)).state == "done"
    assert gate.journal.events(action.id)[-1].way == "late answer"


async def test_a_look_and_an_answer_that_move_nothing_are_on_record_for_what_they_are() -> None:
    room = classroom()
    gate = gate_on(room)
    lost = await approved(gate, remove())
    claimed_by(gate, lost, "another")
    given_up(gate, lost)
    looked = await gate.run(lost.id)
    assert (looked.state, looked.result.executed) == ("unknown", "maybe")
    assert "looked" in kinds(gate, lost)
    assert "late_answer" not in kinds(gate, lost)

    answered = await approved(gate, send(), call_number(2))

    def ended_by_another(_: str) -> None:
        given_up(gate, answered)
        with gate.journal.write() as tx:
            found = tx.get(answered.id)
            assert found
            tx.move(found, "failed", by="another", way="look")

    room.after = ended_by_another
    assert (await gate.run(answered)).state == "failed"
    assert kinds(gate, answered)[-1] == "late_answer"


async def test_one_persons_request_that_was_begun_before_is_not_sent_again() -> None:
    room = StandInRoom([peer(1), peer(2)])
    gate = gate_on(room)
    action = await approved(gate, remove_role())
    with gate.journal.write() as tx:
        tx.step(action.id, peer(1).id, "sending")
    ended = await gate.run(action.id)
    assert (ended.state, fates(ended)) == ("unknown", ["unknown", "removed"])
    assert [body["peer_id"] for _, body in room.posts] == [peer(2).id]


async def test_somebody_whose_role_changes_while_others_are_removed_stays() -> None:
    room = StandInRoom([peer(n) for n in (1, 2, 3)])
    gate = gate_on(room, protected_roles={"teacher"})
    action = await approved(gate, remove_role())

    def promote(_: str) -> None:
        room.peers = [peer(p_, role="teacher") if p_ == 3 else peer(p_) for p_ in (2, 3)]
        room.after = lambda _: None

    room.after = promote
    ended = await gate.run(action.id)
    assert fates(ended) == ["removed", "removed", "skipped"]
    assert ended.state == "done"


@pytest.mark.parametrize("ends", ["a no to something else", "time"])
async def test_what_a_grant_approved_is_asked_about_when_the_grant_is_over(ends: str) -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock, grant_ttl_s=60)
    first = await approved(gate, send(), scope="session")
    removal = await gate.propose(remove(), Origin("thread", "m", "c2", "agent"))
    later = await gate.propose(send("x"), Origin("thread", "m", "next", "agent"))
    assert later.state == "approved"
    if ends == "time":
        clock.now += timedelta(seconds=60)  # from then on it is over
    else:
        await gate.decide(removal.id, Reject("stop"), by="ada", way="page")
        assert kinds(gate, first) == ["proposed", "approved", "revoked"]
    again = await gate.run(later.id)
    assert (again.state, again.revision) == ("proposed", 2)
    assert "no longer holds" in again.note
    assert (await gate.propose(send("y"), call_number(9))).state == "proposed"
    assert room.posts == []


async def test_the_gates_own_refusal_ends_no_grant() -> None:
    gate = gate_on(classroom())
    await approved(gate, send(), scope="session")
    removal = await gate.propose(remove(), call_number(2))
    assert (await gate.decide(removal.id, Reject("nobody"), by="gate", way="gate")).counted
    assert (await gate.propose(send("x"), call_number(3))).state == "approved"


@pytest.mark.parametrize("where", ["here", "in another process"])
async def test_what_is_allowed_for_the_session_is_allowed_in_the_process_that_heard_it(
    where: str,
) -> None:
    gate = gate_on(classroom())
    first = await gate.propose(send(), HERE)
    process = this_worker() if where == "here" else "another"
    with gate.journal.write() as tx:
        tx.move(first, "approved", by="ada", way="page", granted_in=process)
    found = await gate.propose(send("x"), call_number(2))
    assert found.state == ("approved" if where == "here" else "proposed")


async def test_a_grant_that_is_taken_back_with_its_own_yes_is_none() -> None:
    gate = gate_on(classroom())
    action = await approved(gate, send(), scope="session")
    assert (await gate.decide(action.id, Reject("no"), by="ada", way="message")).counted
    assert (await gate.propose(send("x"), call_number(3))).state == "proposed"


async def test_what_a_lax_policy_let_run_unasked_a_strict_one_does_not_send() -> None:
    room = classroom()
    journal = Journal(":memory:")
    lax = gate_on(room, journal, unattended={"hms-remove-peers"})
    action = await lax.propose(remove(), HERE)
    assert (await gate_on(room, journal).run(action.id)).state == "expired"
    assert room.posts == []


@pytest.mark.parametrize("answer", [Reject(cast(str, None)), {"type": "reject", "message": None}])
async def test_a_no_without_a_reason_is_a_no_however_that_is_said(answer: object) -> None:
    gate = gate_on(classroom())
    action = await gate.propose(end(), HERE)
    decided = await gate.decide(action.id, answer, by="ada", way="callback")
    row = decided.action
    assert (decided.counted, row.state, row.reason) == (True, "rejected", "")


UNSTORABLE = "a\x00b\udcff\ud83d"


async def test_a_no_is_a_no_whatever_characters_it_and_the_name_hold() -> None:
    gate = gate_on(classroom())
    waits, unsent = await gate.propose(end(), HERE), await approved(gate, remove())
    by_object = Reject(UNSTORABLE, by=UNSTORABLE)
    by_dict = {"type": "reject", "message": UNSTORABLE}
    told = [
        await gate.decide(waits.id, by_object, by="", way="page"),
        await gate.decide(unsent.id, by_dict, by=UNSTORABLE, way="rest"),
    ]
    for decided in told:
        row = decided.action
        assert (decided.counted, row.state, row.decided_by, row.reason) == (
            True,
            "rejected",
            *2 * ["a\ufffdb\ufffd\ufffd"],
        )


async def test_a_persons_no_is_in_time_until_the_request_is_sent() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, remove())
    kept = await gate.decide(action.id, Reject("nobody to ask"), by="gate", way="gate")
    assert (kept.counted, kept.action.state) == (False, "approved")

    turned_down = await gate.decide(action.id, Reject("wrong one"), by="bob", way="interrupt")
    assert (turned_down.counted, turned_down.action.state) == (True, "rejected")
    assert (turned_down.action.decided_by, turned_down.action.reason) == ("bob", "wrong one")
    assert (await gate.run(action.id)).state == "rejected"
    assert room.posts == []

    sent = await carried_out(gate, remove(2))
    late = await gate.decide(sent.id, Reject("too late"), by="bob", way="page")
    assert (late.counted, late.action.state) == (False, "done")
    assert 'Already approved by "ada" (callback)' in already(late.action)


async def test_what_hostile_peers_wrote_is_bounded_in_the_journal() -> None:
    people = [peer(n, "x" * 100_000, user_id="u" * 100_000 + str(n)) for n in range(50)]
    gate = gate_on(StandInRoom(people))
    action = await gate.propose(remove_role(), HERE)
    assert len(str(action.impact)) < 60_000
    assert len({person.user_id for person in action.shown.people}) == 50


@pytest.mark.parametrize("role", ["Teacher", " teacher", "TEACHER "])
async def test_a_protected_role_is_protected_however_it_is_written(role: str) -> None:
    gate = gate_on(classroom(), protected_roles={role})
    with pytest.raises(PolicyRefusal):
        await gate.propose(remove(1), HERE)


async def test_two_names_that_are_shown_alike_are_pointed_out() -> None:
    room = StandInRoom([peer(1, "A" * 70 + "x"), peer(2, "A" * 70 + "y")])
    gate = gate_on(room)
    assert "Warning" in gate.request(await gate.propose(remove(1), HERE)).text


# --- each holds a line that another check also covers today ---------------------------------------


async def test_a_removal_that_is_done_is_told_again_not_looked_for_again() -> None:
    room = classroom()
    gate = gate_on(room)
    done = await carried_out(gate, remove())
    assert (await gate.propose(remove(), HERE)).id == done.id


async def test_a_row_somebody_else_has_sent_is_not_sent_again() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, send())
    claimed_by(gate, action, "another")
    assert (await gate.run(action.id)).state == "unknown"
    assert room.posts == []


async def test_a_room_the_policy_of_the_sender_does_not_allow_is_left_alone() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, remove())
    stricter = Gate(room, Policy(rooms=("7" * 24,)), gate.journal)  # type: ignore[arg-type]
    left = await stricter.run(action.id)
    assert (left.state, left.decided_by, left.decided_way) == ("expired", "ada", "callback")
    assert kinds(gate, action)[-2:] == ["approved", "expired"]
    assert room.posts == []


async def test_a_grant_never_opens_a_hard_gate_wherever_it_came_from() -> None:
    gate = gate_on(classroom())
    first = await gate.propose(remove(), HERE)
    with gate.journal.write() as tx:
        tx.move(first, "approved", by="ada", way="page", granted_in=this_worker())
        assert [found.id for found in tx.grants(first.thread)] == [first.id]
    again = await gate.propose(remove(), Origin("thread", "m", "next", "agent"))
    assert again.state == "proposed"


def test_a_digest_covers_the_row_the_call_and_whom_it_hits() -> None:
    impact = Impact("everyone", SESSION, 3, (Person("i", "s", "n", "u", "r"),), (("r", 3),))
    one = row(Clock()()).bound(send(), impact)
    changes: dict[str, list[object]] = {
        "kind": ["role"],
        "session_id": ["4" * 24],
        "total": [4],
        "people": [(), (Person("i", "s", "m", "u", "r"),), (Person("j", "s", "n", "u", "r"),)],
        "by_role": [(("r", 2), ("s", 1))],
        "lock": [True],
        "warnings": [("Careful.",)],
        "room_name": ["another"],
        "receivers": ["AA=="],
    }
    assert set(changes) == set(Impact.__dataclass_fields__)
    others = [replace(impact, **{k: v}) for k, values in changes.items() for v in values]  # type: ignore[arg-type]
    digests = [
        one.digest,
        one.bound(send("other words"), impact).digest,
        one.bound(send(type="x"), impact).digest,
        one.bound(send(role="student"), impact).digest,
        one.bound(end(), impact).digest,
        replace(one, call_key="another").bound(send(), impact).digest,
        replace(one, revision=2).bound(send(), impact).digest,
        *(one.bound(send(), other).digest for other in others),
    ]
    assert len(digests) == len(set(digests))
    assert one.is_as_shown()
    assert not any(replace(one, impact=other).is_as_shown() for other in others)


async def test_an_unclear_end_is_not_sent_again_when_the_room_cannot_be_seen() -> None:
    room = classroom()
    gate = gate_on(room)
    action = await approved(gate, end())

    async def blind(_: str) -> Any:
        raise ServerError("No.")

    def lose(_: str) -> None:
        room.retrieve_active_room = blind  # type: ignore[method-assign, assignment]
        raise TimedOut("No answer.", executed="maybe")

    room.before = lose
    assert (await gate.run(action.id)).state == "unknown"
    assert "sent_again" not in kinds(gate, action)


async def test_an_unclear_end_is_sent_a_second_time_and_not_a_third() -> None:
    room, tries = classroom(), 0

    def lose(_: str) -> None:
        nonlocal tries
        tries += 1
        if tries < 5:
            raise TimedOut("No answer.", executed="maybe")

    room.before = lose
    assert (await carried_out(gate_on(room), end())).state == "unknown"
    assert tries == 2


@pytest.mark.parametrize("stop", [asyncio.CancelledError(), RuntimeError("bug")], ids=repr)
async def test_what_stops_a_send_is_on_record_at_once(stop: BaseException) -> None:
    room = classroom()
    gate = gate_on(room)
    room.after = lambda _: _raise(stop)
    action = await approved(gate, send())
    with pytest.raises((asyncio.CancelledError, OutcomeUnknown)):
        await gate.run(action.id)
    found = await gate.get(action.id)
    assert (found.state, found.executed) == ("unknown", "maybe")
    stopped = isinstance(stop, RuntimeError)
    assert f"was {'stopped by RuntimeError' if stopped else 'interrupted'}." in found.result.text


async def test_nobody_is_removed_under_a_row_that_was_closed() -> None:
    room = StandInRoom([peer(n) for n in (1, 2)])
    gate = gate_on(room)
    action = await approved(gate, remove_role())
    retrieve_peer, looked = room.retrieve_peer, list[str]()

    async def closed_while_the_first_is_read(room_id: str, peer_id: str) -> Any:
        looked.append(peer_id)
        if len(looked) == 1:
            given_up(gate, action)
        return await retrieve_peer(room_id, peer_id)

    room.retrieve_peer = closed_while_the_first_is_read  # type: ignore[method-assign]
    await gate.run(action.id)
    assert len(room.posts) == 1


async def test_when_all_changed_role_nothing_was_executed() -> None:
    room = StandInRoom([peer(n) for n in (1, 2)])
    gate = gate_on(room)
    action = await approved(gate, remove_role())
    list_peers = room.list_peers

    async def later(room_id: str, **_: Any) -> Any:
        found = await list_peers(room_id)
        room.peers = [peer(n, role="guest") for n in (1, 2)]
        return found

    room.list_peers = later  # type: ignore[method-assign]
    ended = await gate.run(action.id)
    assert room.posts == []
    assert (ended.state, ended.executed) == ("done", "no")


async def test_a_journal_that_fails_at_the_look_does_not_say_that_nothing_was_executed() -> None:
    fails = Fails()
    gate = gate_on(classroom(), Journal(":memory:", on_commit=fails))
    action = await approved(gate, remove())
    claimed_by(gate, action, "another")
    fails.broken = 100
    with pytest.raises(OutcomeUnknown) as caught:
        await gate.run(action.id)
    assert "Nothing was executed" not in caught.value.for_model()


async def test_a_no_that_comes_too_late_still_ends_what_was_allowed_for_the_session() -> None:
    room = classroom()
    gate = gate_on(room)
    first = await gate.propose(send("one"), HERE)
    decided = await gate.decide(
        first.id, Approve(first.digest, scope="session"), by="ada", way="callback"
    )
    await gate.run(decided.action)
    late = await gate.decide(first.id, Reject("stop"), by="ada", way="callback")
    assert not late.counted
    again = await gate.propose(send("two"), Origin("thread", "message", "another", "agent"))
    assert again.state == "proposed"
    assert len(room.posts) == 1


class CutRoster(StandInRoom):
    """A room whose list of peers has its first people only."""

    async def list_peers(self, room_id: str, **_: Any) -> tuple[Any, ...]:
        return (await super().list_peers(room_id))[:2]


async def test_a_roster_that_leaves_out_people_of_the_session_is_refused() -> None:
    room = CutRoster([peer(n) for n in range(1, 16)])
    for call in (end(), remove_role(), send()):
        with pytest.raises(BadResponse, match="leaves out 13 of 15"):
            await gate_on(room).propose(call, HERE)
    assert room.posts == []


class CutSession(StandInRoom):
    """A room whose session names its first people only, whoever is on the list of peers."""

    named = 0

    async def retrieve_active_room(self, room_id: str) -> ActiveRoom:
        room = await super().retrieve_active_room(room_id)
        some = {"peers": room.session.peers[: self.named]}
        return room.model_copy(update={"session": room.session.model_copy(update=some)})


@pytest.mark.parametrize("named", [0, 2])
async def test_a_session_that_leaves_out_people_of_the_roster_is_refused(named: int) -> None:
    room = CutSession([peer(n) for n in range(1, 16)])
    room.named = named
    for call in (end(), remove(), remove_role(), send()):
        with pytest.raises(BadResponse, match=f"session leaves out {15 - named} of 15"):
            await gate_on(room).propose(call, HERE)
    assert room.posts == []


class UnreadablePerson(StandInRoom):
    """A room of whose first person 100ms tells nothing usable."""

    async def list_peers(self, room_id: str, **_: Any) -> tuple[Any, ...]:
        first, *others = await super().list_peers(room_id)
        found = Peers(others)
        found.unreadable = (first.id,)
        return found


async def test_where_somebody_cannot_be_read_only_those_who_are_named_can_be_hit() -> None:
    room = UnreadablePerson([peer(n) for n in range(1, 4)])
    gate = gate_on(room)
    for call in (remove_role(), send()):
        with pytest.raises(BadResponse, match="no usable data about 1 person"):
            await gate.propose(call, HERE)
    assert (await gate.propose(remove(), HERE)).shown.total == 1
    assert (await gate.propose(end(), HERE)).shown.total == 3


async def test_an_audience_of_strangers_is_asked_about_however_many_they_are() -> None:
    room = StandInRoom([peer(n) for n in range(1, 51)])
    gate = gate_on(room)
    action = await approved(gate, send())
    room.peers = [peer(n) for n in range(101, 156)]
    assert (await gate.run(action.id)).state == "proposed"
    assert room.posts == []


async def test_an_approval_that_is_not_on_record_sends_nothing(tmp_path: Path) -> None:
    journal = Journal(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    room = classroom()
    gate = gate_on(room, journal, Clock(journal.now()))
    action = await gate.propose(end(lock=True), HERE)
    with journal.write() as tx:
        forged = {"state": "approved", "decided_by": "ada", "decided_way": "terminal"}
        tx.db.execute(actions.update().values(**forged))
    with pytest.raises(JournalError, match="contradicts itself"):
        await gate.run(action.id)
    assert room.posts == []


async def test_a_claim_that_is_over_records_nothing_about_the_next_one() -> None:
    room, journal = classroom(), Journal(":memory:")
    gate = gate_on(room, journal, Clock(journal.now()))
    action = await approved(gate, remove())

    def claimed_anew(_: str) -> None:
        with journal.write() as tx:
            row = tx.get(action.id)
            assert row is not None
            back = tx.move(row, "approved", by="a", way="answer", sent_at=None, worker="")
            later = tx.now() + timedelta(seconds=1)
            again: dict[str, Any] = {"sent_at": later, "worker": row.worker}
            again["lease_until"] = row.lease_until
            tx.move(back, "sent", by="b", way="claim", **again)
        raise RuntimeError("the first one stops here")

    room.before = claimed_anew
    with pytest.raises(OutcomeUnknown):
        await gate.run(action.id)
    assert (await gate.get(action.id)).state == "sent"


# --- What is stored, and rows that are broken ---------------------------------------------------


def _is_unauthorized(verb: str) -> None:
    raise Unauthorized("Refused: 401.", status=401)


async def test_the_record_holds_facts_and_only_a_model_is_told_what_a_model_does_next() -> None:
    """An error of the request, a policy that is stricter by now, and a room that changed."""
    room = classroom()
    gate = gate_on(room)
    room.before = _is_unauthorized
    failed = await carried_out(gate, send())
    room.before = lambda _: None
    strict = gate_on(room, gate.journal, protected_roles={"student"})
    refused = await strict.run(await approved(gate, remove(), call_number(2)))
    moved = await approved(gate, remove_role("teacher"), call_number(3))
    room.session, room.peers = "4" * 24, room.peers[1:]
    expired = await gate.run(moved)
    assert [one.state for one in (failed, refused, expired)] == ["failed", "expired", "expired"]
    file = StringIO()
    gate.journal.export(file, before=gate.journal.now() + timedelta(days=1), by="ada")
    for text in (file.getvalue(), *(view(one).model_dump_json() for one in (failed, refused))):
        for hint in (Unauthorized, PolicyRefusal, PeerNotFound):
            assert hint.default_hint not in text
    assert Unauthorized.default_hint in for_model(failed)
    assert "Nothing was executed." in outcome(failed)
    assert PolicyRefusal.default_hint in for_model(refused)


BREAKS = {
    "contradicts itself": {"reason": "because"},
    "cannot be read": {"gate": "ajar"},
}


def broken(gate: Gate, action: Action, how: str) -> None:
    """The row as another program left it."""
    with gate.journal.write() as tx:
        tx.db.execute(actions.update().where(actions.c.id == action.id).values(**BREAKS[how]))


@pytest.mark.parametrize("how", BREAKS)
async def test_a_broken_row_keeps_no_other_from_being_withdrawn(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate = gate_on(classroom())
    rows = [await gate.propose(send(str(n)), call_number(n)) for n in range(3)]
    broken(gate, rows[1], how)
    taken = await gate.withdraw("thread", by="ada")
    assert {one.id for one in taken} == {rows[0].id, rows[2].id}
    assert rows[1].id in caplog.text
    assert how in caplog.text


@pytest.mark.parametrize("how", BREAKS)
async def test_a_broken_row_keeps_no_other_from_being_looked_for(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    room = classroom()
    gate = gate_on(room)
    rows = [await approved(gate, remove(n), call_number(n)) for n in (1, 2, 3)]
    for one in rows:
        claimed_by(gate, one, "elsewhere")
    broken(gate, rows[1], how)
    room.peers = []
    looked = await gate.look_again()
    assert {(one.id, one.state) for one in looked} == {
        (rows[0].id, "done"),
        (rows[2].id, "done"),
    }
    assert how in caplog.text


async def test_a_row_that_breaks_while_it_is_asked_about_loses_no_other_answer() -> None:
    room = classroom()
    gate = gate_on(room)
    rows = [await gate.propose(send(str(n)), call_number(n)) for n in range(2)]

    async def ask(requests: Sequence[ApprovalRequest]) -> list[object]:
        broken(gate, rows[0], "contradicts itself")
        return [request.approve() for request in requests]

    first, second = await gate.drive(rows, ask, by="ada", way="callback")
    assert isinstance(first, BrokenRecord)
    assert isinstance(second, Action)
    assert second.state == "done"
    assert [body["message"] for _, body in room.posts] == ["1"]


async def test_a_room_that_is_read_too_slowly_again_and_again_is_said_and_not_waited_for() -> None:
    room, clock = classroom(), Clock()
    gate = gate_on(room, Journal(":memory:", clock=clock), clock)
    action = await approved(gate, send())
    read, reads = room.list_peers, 0

    async def slow(room_id: str, **more: Any) -> tuple[Peer, ...]:
        nonlocal reads
        reads += 1
        clock.now += timedelta(seconds=11)
        return await read(room_id, **more)

    room.list_peers = slow  # type: ignore[method-assign]
    with pytest.raises(TimedOut, match="10 s") as told:
        await gate.run(action)
    assert (told.value.executed, reads) == ("no", 3)
    assert (await gate.get(action.id)).state == "approved"
    assert room.posts == []
    assert kinds(gate, action)[-1] == "held"


@pytest.mark.parametrize("how", BREAKS)
async def test_a_broken_row_of_the_same_call_is_told_with_a_question_and_stops_no_new_call(
    how: str,
) -> None:
    room = classroom()
    gate = gate_on(room, relaxed={"hms-send-message"})
    first = await gate.run(await gate.propose(send(), call_number(1)))
    broken(gate, first, how)
    again = await gate.propose(send(), call_number(2))
    assert again.state == "proposed"  # nobody knows whether it was sent, so a person decides
    assert "record is broken" in gate.request(again).text
    assert len(room.posts) == 1


async def test_what_was_allowed_for_the_session_ends_when_the_conversation_is_withdrawn() -> None:
    gate = gate_on(classroom())
    await gate.run(await approved(gate, send("one"), call_number(1), scope="session"))
    assert (await gate.propose(send("two"), call_number(2))).state == "approved"
    await gate.withdraw("thread", by="ada")
    assert (await gate.propose(send("three"), call_number(3))).state == "proposed"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("wrong", [{"protected_roles": "teacher"}, {"max_peers": 10**9}])
def test_a_policy_that_pydantic_did_not_validate_makes_no_gate(wrong: dict[str, Any]) -> None:
    room, journal = StandInRoom([peer(1)]), Journal(":memory:")
    for policy in (Policy().model_construct(**wrong), Policy(rooms=[ROOM]).copy(update=wrong)):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            Gate(room, policy, journal)  # type: ignore[arg-type]
