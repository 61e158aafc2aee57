"""Reading the journal: what fits is chosen in SQL, and nobody who writes is held up."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.approval import Approve
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action, Origin, State, action_id
from hms_active_rooms.gate.journal.store import Reading, Writing
from stand_in import ROOM, Clock, StandInRoom, gate_on, insert, peer, row

STATES: Sequence[State] = get_args(State)
ELSEWHERE = "7" * 24


def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'j.sqlite'}"


def read_everything(view: Reading, action: Action) -> None:
    assert view.get(action.id) == action == view.latest(action.call_key)
    assert view.actions() == [action]
    assert view.count() == 1
    assert view.same_calls(action.thread, action.content)[0] == action
    assert view.sent_lately(action) == (0, 0)
    assert not view.has_rival(action)
    assert len(view.events(action.id)) == 1
    assert view.refused_requests() == []
    assert view.steps(action.id) == {}
    assert view.asked_at("here") == []
    assert view.grants(action.thread) == []


# --- locks ------------------------------------------------------------------------------------


def test_reading_waits_for_no_writer_and_sees_nothing_half_done(tmp_path: Path) -> None:
    journal = Journal(file(tmp_path))
    action = insert(journal, row(journal.now()))
    with journal.write() as tx:
        tx.move(action, "approved", by="ada", way="page")
        tx.ask("here", ["a"])
        with journal.read() as view:
            read_everything(view, action)


def test_a_writer_waits_for_nobody_who_reads_and_they_see_one_moment(tmp_path: Path) -> None:
    journal = Journal(file(tmp_path))
    action = insert(journal, row(journal.now()))
    with journal.read() as view:
        assert view.get(action.id) == action
        with journal.write() as tx:
            approved = tx.move(action, "approved", by="ada", way="page")
        read_everything(view, action)
    found = journal.get(action.id)
    assert found
    assert found.state == approved.state == "approved"


def test_whoever_writes_has_the_lock_from_the_start(tmp_path: Path) -> None:
    journal = Journal(file(tmp_path))
    with closing(sqlite3.connect(tmp_path / "j.sqlite", timeout=0, isolation_level=None)) as other:
        with (
            journal.write(),
            pytest.raises(sqlite3.OperationalError, match="database is locked"),
        ):
            other.execute("BEGIN IMMEDIATE")
        with journal.read() as view:
            assert view.actions() == []
            other.execute("BEGIN IMMEDIATE")


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_reader_cannot_write(where: str, tmp_path: Path) -> None:
    journal = Journal(":memory:" if where == "memory" else file(tmp_path))
    with pytest.raises(JournalError, match="readonly"), journal.read() as view:
        Writing(view.db, journal.now, b"").ask("here", ["a"])
    with journal.write() as tx:
        assert tx.ask("here", ["b"])


async def test_a_removal_under_way_goes_on_whoever_reads(tmp_path: Path) -> None:
    journal, reader = Journal(file(tmp_path)), Journal(file(tmp_path))
    room = StandInRoom([peer(n) for n in range(1, 6)])
    gate = gate_on(room, journal, Clock(journal.now()))
    call = parse_call("hms-remove-peers", {"room_id": ROOM, "role": "student"})
    action = await gate.propose(call, Origin("t", "m", "c", "agent"))
    await gate.decide(action.id, Approve(action.digest), by="ada", way="page")
    with ExitStack() as open_reads:

        def look(_: str) -> None:
            assert open_reads.enter_context(reader.read()).actions()

        room.before = look
        done = await gate.run(action.id)
    assert done.state == "done"
    assert len(room.posts) == 5


# --- what fits --------------------------------------------------------------------------------


@pytest.mark.parametrize("after_s", [0, 599, 600, 601])
def test_rows_are_found_and_counted_by_the_state_they_are_in_now(after_s: float) -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    for state in STATES:
        insert(journal, row(clock(), state, state=state))
    clock.now += timedelta(seconds=after_s)
    everything = journal.actions()
    assert {a.id for a in everything} == {action_id(state, 1) for state in STATES}
    late = {"proposed", "approved", "expired"} if after_s >= 600 else {"expired"}
    for state in STATES:
        stored = late if state == "expired" else {state} - late
        wanted = {action_id(key, 1) for key in stored}
        assert {a.id for a in everything if a.state == state} == wanted
        assert {a.id for a in journal.actions(state=state)} == wanted
        assert journal.count(state=state) == len(wanted)


def test_rows_are_filtered_ordered_and_counted_before_they_are_cut_off() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    mine = insert(journal, row(clock(), "mine"))
    for number in range(20):
        clock.now += timedelta(seconds=1)
        insert(journal, row(clock(), f"k{number}", room_id=ELSEWHERE, thread="other"))
    assert [a.id for a in journal.actions(rooms=[ROOM], limit=1)] == [mine.id]
    assert [a.id for a in journal.actions(room_id=ROOM, limit=1)] == [mine.id]
    assert [a.id for a in journal.actions(thread="t", limit=1)] == [mine.id]
    assert [a.id for a in journal.actions(oldest_first=True, limit=1)] == [mine.id]
    newest = journal.actions(limit=3)
    assert [a.created_at for a in newest] == sorted((a.created_at for a in newest), reverse=True)
    assert mine.id not in {a.id for a in newest}
    assert journal.actions(rooms=[]) == []
    assert (journal.count(), journal.count(rooms=[ROOM]), journal.count(thread="other")) == (
        21,
        1,
        20,
    )


def test_the_same_call_is_found_in_its_thread_wherever_it_was_made() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    insert(journal, row(clock(), "first", content="c"))
    clock.now += timedelta(seconds=1)
    newest = insert(journal, row(clock(), "second", content="c"))
    insert(journal, row(clock(), "another call", content="d"))
    insert(journal, row(clock(), "another thread", content="c", thread="other"))
    with journal.read() as view:
        assert view.same_calls("t", "c") == (newest, [newest.requester], 2)
        assert view.same_calls("t", "x") == (None, [], 0)


def test_an_outcome_is_told_the_first_time_once() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    action = insert(journal, row(clock(), state="done"))
    first = clock()
    for _ in range(2):
        with journal.write() as tx:
            tx.told(action.id)
        clock.now += timedelta(seconds=9)
    found = journal.get(action.id)
    assert found
    assert found.told_at == first
    assert [e.kind for e in journal.events(action.id)].count("told") == 1


def test_rows_of_conversations_are_found_by_their_whole_name_or_by_its_first_part() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    threads = ("a", "a:1", "a:1:2", "b:1", "a_:1", "ab:1")
    for thread in threads:
        insert(journal, row(clock(), thread, thread=thread))

    def found(*within: str) -> set[str]:
        return {action.thread for action in journal.actions(within=within)}

    assert found() == set()
    assert found("a", "b") == {"a"}
    assert found("a:") == {"a:1"}
    assert found("a_:") == {"a_:1"}
    assert found("a", "ab:") == {"a", "ab:1"}
