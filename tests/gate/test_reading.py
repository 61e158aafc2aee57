"""Reading the journal: what fits is chosen in SQL, and nobody who writes is held up."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
import sqlalchemy as sa

from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.approval import Approve
from hms_active_rooms.gate.calls import parse_call
from hms_active_rooms.gate.drafts import Origin, draft
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.records import Action, Grant
from hms_active_rooms.gate.schema import actions, asks
from hms_active_rooms.gate.states import State
from stand_in import ROOM, Clock, StandInRoom, gate_on, peer

STATES: Sequence[State] = get_args(State)
ELSEWHERE = "7" * 24


def row(clock: Clock, key: str, **columns: Any) -> Action:
    call = parse_call("hms-send-message", {"room_id": ROOM, "message": "hi"})
    made = draft(call, key=key, revision=1, thread="t", requester="agent", now=clock(), ttl_s=600)
    return replace(made, **columns)


def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'j.sqlite'}"


def read_everything(journal: Journal, action: Action) -> None:
    assert journal.get(action.id)
    assert journal.latest(action.call_key)
    assert journal.actions()
    assert journal.count() == 1
    assert journal.overdue() == []
    assert len(journal.events(action.id)) == 1
    assert journal.steps(action.id) == {}
    wanted = dict.fromkeys(Grant.__dataclass_fields__, "") | {"most": 1}
    assert journal.find_grant(Grant(**{**wanted, "expires_at": action.expires_at})) is None


# --- locks ------------------------------------------------------------------------------------


def test_reading_waits_for_no_writer(tmp_path: Path) -> None:
    journal = Journal(file(tmp_path))
    action = journal.insert(row(Clock(journal.now()), "k"))
    with journal._transaction() as db:
        db.execute(actions.update().values(note="not yet"))
        read_everything(journal, action)
        found = journal.get(action.id)
    assert found is not None
    assert found.note == ""


def test_a_writer_waits_for_nobody_who_reads(tmp_path: Path) -> None:
    journal = Journal(file(tmp_path))
    action = journal.insert(row(Clock(journal.now()), "k"))
    with journal._reading() as db:
        before = db.execute(sa.select(actions.c.state)).scalar()
        assert journal.move(action, "approved", by="ada", way="test")
        assert db.execute(sa.select(actions.c.state)).scalar() == before == "proposed"
    found = journal.get(action.id)
    assert found is not None
    assert found.state == "approved"


def test_whoever_writes_has_the_lock_from_the_start(tmp_path: Path) -> None:
    journal = Journal(file(tmp_path))
    other = sqlite3.connect(tmp_path / "j.sqlite", timeout=0, isolation_level=None)
    with (
        journal._transaction(),
        pytest.raises(sqlite3.OperationalError, match="database is locked"),
    ):
        other.execute("BEGIN IMMEDIATE")
    with journal._reading() as db:
        db.execute(sa.select(actions.c.id))
        other.execute("BEGIN IMMEDIATE")
    other.close()


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_reader_cannot_write(where: str, tmp_path: Path) -> None:
    journal = Journal(":memory:" if where == "memory" else file(tmp_path))
    action = journal.insert(row(Clock(journal.now()), "k"))
    with pytest.raises(JournalError, match="readonly"), journal._reading() as db:
        db.execute(asks.insert().values(place="here", items=[], at=action.created_at))
    assert journal.ask(("here",), ["a"]).fresh


async def test_a_removal_under_way_goes_on_whoever_reads(tmp_path: Path) -> None:
    journal, reader = Journal(file(tmp_path)), Journal(file(tmp_path))
    room = StandInRoom([peer(n) for n in range(1, 6)])
    gate = gate_on(room, journal, Clock(journal.now()))
    call = parse_call("hms-remove-peers", {"room_id": ROOM, "role": "student"})
    action = await gate.propose(call, Origin("t", "m", "c", "agent"))
    await gate.decide(action.id, Approve(action.digest), by="ada", way="test")
    with ExitStack() as open_reads:

        def look(_: str) -> None:
            db = open_reads.enter_context(reader._reading())
            db.execute(sa.select(actions))

        room.before = look
        done = await gate.run(action.id)
    assert done.state == "done"
    assert len(room.posts) == 5


def test_a_lock_that_never_ends_is_a_clear_error(tmp_path: Path) -> None:
    journal = Journal(file(tmp_path))
    with journal._transaction() as db:
        db.exec_driver_sql("PRAGMA busy_timeout=0")  # of the one connection there is
    other = sqlite3.connect(tmp_path / "j.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="kept it open for writing") as error:
        journal.note("a", "looked")
    assert error.value.executed == "no"
    other.close()


# --- what fits --------------------------------------------------------------------------------


@pytest.mark.parametrize("after_s", [0, 599, 600, 601])
def test_the_state_at_a_moment_is_the_one_the_row_tells(after_s: float) -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    for state in STATES:
        journal.insert(row(clock, state, state=state))
    now = clock() + timedelta(seconds=after_s)
    everything = journal.actions()
    assert len(everything) == len(STATES)
    for state in STATES:
        wanted = {a.id for a in everything if a.state_at(now) == state}
        assert {a.id for a in journal.actions(state=state, at=now)} == wanted
        assert journal.count(state=state, at=now) == len(wanted)
        assert [a.state for a in journal.actions(state=state)] == [state]


def test_rows_are_filtered_ordered_and_counted_before_they_are_cut_off() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    mine = journal.insert(row(clock, "mine"))
    for number in range(20):
        clock.now += timedelta(seconds=1)
        journal.insert(row(clock, f"k{number}", room_id=ELSEWHERE, thread="other"))
    assert [a.id for a in journal.actions(rooms=[ROOM], limit=1)] == [mine.id]
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


def test_what_is_overdue_is_what_nobody_moved_yet() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    late = [journal.insert(row(clock, f"k{n}")) for n in range(3)]
    journal.insert(row(clock, "elsewhere", room_id=ELSEWHERE))
    clock.now += timedelta(seconds=599)
    journal.insert(row(clock, "in time"))
    assert journal.overdue() == []
    clock.now += timedelta(seconds=1)
    journal.move(late[0], "expired", by="gate", way="gate")
    assert {a.id for a in journal.overdue(rooms=[ROOM])} == {a.id for a in late[1:]}
    assert len(journal.overdue()) == 3
    assert len(journal.overdue(limit=1)) == 1
