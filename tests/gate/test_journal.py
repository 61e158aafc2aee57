"""The journal: the machine's steps only, on disk before a request leaves, append-only."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO
from pathlib import Path
from typing import Any, get_args

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from hms_active_rooms.errors import BrokenRecord, ConfigurationError, JournalError
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.approval import Approve, Reject
from hms_active_rooms.gate.journal import Journal, default_url, engines
from hms_active_rooms.gate.journal.archive import Pruned
from hms_active_rooms.gate.journal.records import (
    FINAL,
    REQUESTS,
    TRANSITIONS,
    Action,
    Origin,
    State,
    action_id,
    seal,
)
from hms_active_rooms.gate.journal.tables import actions, events
from hms_active_rooms.gate.journal.workers import this_worker
from hms_active_rooms.gate.view import already, view
from stand_in import ROOM, SESSION, Clock, StandInRoom, gate_on, insert, peer, row

STATES: Sequence[State] = get_args(State)

PATHS: dict[State, list[State]] = {
    "proposed": [],
    "approved": ["approved"],
    "sent": ["approved", "sent"],
    "done": ["approved", "sent", "done"],
    "failed": ["approved", "sent", "failed"],
    "unknown": ["approved", "sent", "unknown"],
    "rejected": ["rejected"],
    "expired": ["expired"],
}


def at(journal: Journal, state: State, now: datetime) -> Action:
    """A row brought to this state by the machine's own steps."""
    action = insert(journal, row(now))
    with journal.write() as tx:
        for step in PATHS[state]:
            action = tx.move(action, step, by="t", way="page")
    return action


def move(journal: Journal, action: Action, after: State, **more: Any) -> Action:
    with journal.write() as tx:
        return tx.move(action, after, by="x", way="page", **more)


# --- the machine ------------------------------------------------------------------------------


def test_only_the_machines_steps_are_taken() -> None:
    for after in STATES:
        for before in STATES:
            clock = Clock()
            journal = Journal(":memory:", clock=clock)
            action = at(journal, before, clock())
            allowed = after in TRANSITIONS[before]
            if allowed:
                assert move(journal, action, after).state == after
            else:
                with pytest.raises(JournalError, match=f"from {before} to {after}"):
                    move(journal, action, after)
            now = journal.get(action.id)
            assert now is not None
            assert now.state == (after if allowed else before)


def test_nothing_is_sent_but_what_was_approved() -> None:
    assert [s for s in STATES if "sent" in TRANSITIONS[s]] == ["approved"]
    assert {"done", "failed", "rejected", "expired"} == FINAL


@given(st.lists(st.sampled_from(STATES), max_size=12))
def test_whatever_is_tried_each_step_is_taken_once_and_recorded(tries: list[State]) -> None:
    journal = Journal(":memory:", clock=Clock())
    action = at(journal, "proposed", journal.now())
    taken = ["proposed"]
    for after in tries:
        stale = action
        try:
            action = move(journal, action, after)
        except JournalError:
            continue
        taken.append(after)
        with pytest.raises(JournalError, match=r"is not \w+ any more"):
            move(journal, stale, after)
    assert [e.kind for e in journal.events(action.id)] == taken


def test_a_step_that_fails_leaves_nothing_of_itself() -> None:
    journal = Journal(":memory:", clock=Clock())
    action = at(journal, "proposed", journal.now())

    def approve_and_finish() -> None:
        with journal.write() as tx:
            approved = tx.move(action, "approved", by="ada", way="page")
            tx.move(approved, "done", by="ada", way="page")

    with pytest.raises(JournalError, match="from approved to done"):
        approve_and_finish()
    assert journal.get(action.id) == action
    assert [e.kind for e in journal.events(action.id)] == ["proposed"]


@pytest.mark.parametrize("after", ["approved", "rejected", "expired"])
def test_a_decision_names_one_of_the_ways_there_are(after: State) -> None:
    journal = Journal(":memory:", clock=Clock())
    action = at(journal, "proposed", journal.now())
    with pytest.raises(JournalError, match="not a known way of deciding"), journal.write() as tx:
        tx.move(action, after, by="x", way="telepathy")
    assert journal.get(action.id) == action


@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=-7))])
def test_a_clock_may_tell_the_time_in_any_zone(zone: timezone | None) -> None:
    journal = Journal(":memory:", clock=lambda: datetime.now(zone))
    action = insert(journal, row(journal.now()))
    read = journal.get(action.id)
    assert read is not None
    assert (read.state, read.contradiction) == ("proposed", "")


def test_two_calls_with_one_id_are_a_clear_error() -> None:
    journal = Journal(":memory:", clock=Clock())
    at(journal, "proposed", journal.now())
    with pytest.raises(JournalError, match="same action id"):
        at(journal, "proposed", journal.now())


@given(
    st.sampled_from(["proposed", "approved"]),
    st.timedeltas(timedelta(0), timedelta(seconds=1200)),
)
def test_late_means_expired_and_reads_the_same_before_and_after_somebody_writes_it(
    state: State, passed: timedelta
) -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    action = at(journal, state, clock())
    clock.now += passed
    late = clock() >= action.expires_at
    read = journal.get(action.id)
    assert read
    assert read.state == ("expired" if late else state)
    with journal.write() as tx:
        written = tx.expire_if_late(read)
    assert written == journal.get(action.id) == read
    assert [e.kind for e in journal.events(action.id)].count("expired") == late
    if late:
        decided = ("gate", "gate") if state == "proposed" else ("t", "page")
        assert (read.decided_by, read.decided_way) == decided
        assert read.ended_at == action.expires_at


# --- one winner -------------------------------------------------------------------------------


@pytest.mark.parametrize("journals", ["one journal", "a journal each"])
def test_a_claim_has_one_winner_among_threads(journals: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'j.sqlite'}"
    shared = Journal(url)
    action = at(shared, "approved", shared.now())
    start, room = threading.Barrier(8), StandInRoom([peer(1)])

    def run() -> None:
        journal = shared if journals == "one journal" else Journal(url)
        start.wait()
        asyncio.run(gate_on(room, journal).run(action.id))
        if journal is not shared:
            journal.close()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(room.posts) == 1
    assert [e.kind for e in shared.events(action.id)].count("sent") == 1


RUNNER = """
import asyncio, sys
from hms_active_rooms.gate.journal import Journal
from stand_in import StandInRoom, gate_on, peer
room = StandInRoom([peer(1)])
gate = gate_on(room, Journal(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(asyncio.run(gate.run(sys.argv[2])).state, len(room.posts), flush=True)
"""


@pytest.mark.slow
def test_a_claim_has_one_winner_among_processes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'j.sqlite'}"
    journal = Journal(url)
    action = at(journal, "approved", journal.now())
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", RUNNER, url, action.id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    answers = [worker.communicate(timeout=60)[0].split() for worker in workers]
    assert sorted(posts for _, posts in answers) == ["0", "0", "1"]
    kinds = [e.kind for e in journal.events(action.id)]
    assert kinds.count("sent") == 1


# --- the time is read with the lock held --------------------------------------------------------


@dataclass
class WaitedForTheLock:
    """A clock for a journal that waits for the database's lock: late as soon as it holds it."""

    file: Path
    early: datetime
    late: datetime

    def __call__(self) -> datetime:
        with closing(sqlite3.connect(self.file, timeout=0, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                self.early = self.late
        return self.early


def waited(tmp_path: Path, state: State, wait_s: float) -> tuple[Journal, Action, datetime]:
    """A journal whose next transaction waits so long, a row, and the time at which it goes on."""
    file, clock = tmp_path / "j.sqlite", Clock()
    journal = Journal(f"sqlite:///{file}", clock=clock)
    action = at(journal, state, clock.now)
    journal.close()
    late = clock.now + timedelta(seconds=wait_s)
    waiting = WaitedForTheLock(file, clock.now, late)
    return Journal(f"sqlite:///{file}", clock=waiting), action, late


async def test_a_claim_that_waited_past_the_deadline_sends_nothing(tmp_path: Path) -> None:
    journal, action, _ = waited(tmp_path, "approved", 600)
    room = StandInRoom([peer(1)])
    assert (await gate_on(room, journal).run(action)).state == "expired"
    assert room.posts == []


async def test_an_approval_that_waited_past_the_deadline_is_none(tmp_path: Path) -> None:
    journal, action, _ = waited(tmp_path, "proposed", 600)
    gate = gate_on(StandInRoom([peer(1)]), journal)
    decided = await gate.decide(action.id, Approve(action.digest), by="ada", way="page")
    assert (decided.counted, decided.action.state) == (False, "expired")
    assert [e.kind for e in journal.events(action.id)] == ["proposed", "expired", "late_answer"]


async def test_what_is_recorded_of_a_request_is_the_time_after_the_wait(tmp_path: Path) -> None:
    journal, action, late = waited(tmp_path, "approved", 8)
    room = StandInRoom([peer(1)])
    leases: list[datetime | None] = []

    def look(_: str) -> None:
        found = journal.get(action.id)
        assert found
        leases.append(found.lease_until)

    room.before = look
    done = await gate_on(room, journal).run(action.id)
    assert (done.sent_at, done.finished_at) == (late, late)
    [lease_until] = leases
    assert lease_until
    assert lease_until > late + timedelta(seconds=room.deadline_s)


@pytest.mark.parametrize("after", ["approved", "rejected", "expired"])
def test_a_decision_is_recorded_at_the_time_after_the_wait(tmp_path: Path, after: State) -> None:
    journal, action, late = waited(tmp_path, "proposed", 8)
    move(journal, action, after)
    found = journal.get(action.id)
    assert found
    assert (found.decided_at, found.decided_by, found.decided_way) == (late, "x", "page")
    assert journal.events(action.id)[-1].at == late


@pytest.mark.parametrize("wait_s", [20, -20], ids=["late", "the clock was set back"])
async def test_a_look_that_is_too_old_after_the_wait_claims_nothing(
    tmp_path: Path, wait_s: float
) -> None:
    journal, action, _ = waited(tmp_path, "approved", wait_s)
    room = StandInRoom([peer(1)])
    looked = room.retrieve_active_room

    async def another_session_at_the_second_look(room_id: str) -> Any:
        found = await looked(room_id)
        room.session = "4" * 24
        return found

    room.retrieve_active_room = another_session_at_the_second_look  # type: ignore[method-assign]
    again = await gate_on(room, journal).run(action.id)
    assert room.session != SESSION
    assert (again.state, again.revision) == ("proposed", 2)
    assert room.posts == []


# --- clocks of several machines differ ----------------------------------------------------------


@pytest.mark.parametrize("ahead_s", [-20, 20])
async def test_a_clock_that_is_wrong_on_another_machine_keeps_no_end_waiting(
    ahead_s: float, tmp_path: Path
) -> None:
    url, clock = f"sqlite:///{tmp_path / 'j.sqlite'}", Clock()
    here = Journal(url, clock=clock)
    there = Journal(url, clock=Clock(clock.now + timedelta(seconds=ahead_s)))
    room = StandInRoom([peer(1), peer(2)])
    removal = parse_call("hms-remove-peers", {"room_id": ROOM, "peer_id": peer(1).id})
    end = parse_call("hms-end-active-room", {"room_id": ROOM})
    theirs, ours = gate_on(room, there), gate_on(room, here, clock)
    removed = await theirs.propose(removal, Origin("t", "m", "1", "agent"))
    ending = await ours.propose(end, Origin("t", "m", "2", "agent"))
    yes = (await ours.decide(ending.id, Approve(ending.digest), by="ada", way="page")).action
    await theirs.decide(removed.id, Approve(removed.digest), by="ada", way="page")
    assert (await theirs.run(removed.id)).state == "done"
    reads: list[str] = []
    looked = room.retrieve_active_room

    async def counted(room_id: str) -> Any:
        reads.append(room_id)
        return await looked(room_id)

    room.retrieve_active_room = counted  # type: ignore[method-assign]
    assert (await ours.run(yes)).state == "done"
    # One that was there before the removal ended, one after it, and the look at the end.
    assert len(reads) <= 3


async def test_a_sender_with_a_clock_a_day_ahead_that_died_keeps_nobody_waiting_for_a_day(
    tmp_path: Path,
) -> None:
    url, clock = f"sqlite:///{tmp_path / 'j.sqlite'}", Clock()
    ahead = Clock(clock.now + timedelta(days=1))
    there, here = Journal(url, clock=ahead), Journal(url, clock=clock)
    sent = insert(there, row(ahead(), state="approved", gate="hard"))
    lease = ahead() + timedelta(seconds=30)
    move(there, sent, "sent", sent_at=ahead(), worker="elsewhere", lease_until=lease)
    begun, gate = clock(), gate_on(StandInRoom([peer(1)]), here, clock)
    assert (await gate.run(sent.id)).state == "unknown"
    assert clock() - begun < timedelta(minutes=1)


# --- steps and questions ------------------------------------------------------------------------


def test_what_became_of_each_persons_request_is_kept_with_the_row() -> None:
    journal = Journal(":memory:", clock=Clock())
    action = at(journal, "sent", journal.now())
    assert journal.steps(action.id) == {}
    with journal.write() as tx:
        assert tx.step(action.id, "p", "sending")
        assert not tx.step(action.id, "p", "sending")
        assert tx.step(action.id, "another", "sending")
        assert tx.step(action.id, "p", "removed")
    assert journal.steps(action.id) == {"p": "removed", "another": "sending"}
    assert journal.get(action.id) == action


def test_the_first_question_at_a_place_stays_and_two_places_share_none() -> None:
    journal = Journal(":memory:")
    places = ["here", "there", 'here"', '["here"]', "HERE", " here"]
    with journal.write() as tx:
        for place in places:
            assert tx.ask(place, ["key", place, ""])
            assert not tx.ask(place, ["another", "", ""])
    with journal.read() as view:
        for place in places:
            assert view.asked_at(place) == ["key", place, ""]
        assert view.asked_at("nowhere") == []


# --- the file -----------------------------------------------------------------------------------


REPLACE = (
    "INTO hms_events SELECT seq, action_id, at, 'done', \"by\", way, data, seal FROM hms_events"
)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM hms_events",
        "UPDATE hms_events SET kind='done'",
        f"INSERT OR REPLACE {REPLACE}",
        f"REPLACE {REPLACE}",
        "DELETE FROM hms_events WHERE kind = 'pruned'",
    ],
)
def test_events_are_append_only(tmp_path: Path, sql: str) -> None:
    file = tmp_path / "j.sqlite"
    journal = Journal(f"sqlite:///{file}")
    insert(journal, row(journal.now()))
    journal.note("another", "pruned")
    with (
        closing(sqlite3.connect(file)) as db,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        db.execute(sql)


def test_a_state_whose_event_a_trigger_drops_is_not_stored(tmp_path: Path) -> None:
    journal = Journal(file := tmp_path / "j.sqlite")
    action = insert(journal, row(journal.now()))
    with closing(sqlite3.connect(file)) as db:
        db.execute(
            "CREATE TRIGGER foreign_one BEFORE INSERT ON hms_events BEGIN SELECT RAISE(IGNORE); END"
        )
    with pytest.raises(BrokenRecord, match="dropped a record"), journal.write() as tx:
        tx.move(action, "approved", by="ada", way="page")
    assert journal.get(action.id) == action


def test_the_file_can_be_shared_and_is_private(tmp_path: Path) -> None:
    file = tmp_path / "state" / "j.sqlite"
    Journal(f"sqlite:///{file}").close()
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("place", ["file", ":memory:"])
def test_a_journal_in_a_file_says_whether_there_was_none_before(tmp_path: Path, place: str) -> None:
    url = place if place == ":memory:" else f"sqlite:///{tmp_path / 'j.sqlite'}"
    begun = []
    for _ in range(2):
        journal = Journal(url)
        assert journal.actions() == []
        begun.append(journal.begun)
        journal.close()
    assert begun == [place == "file", False]


def test_a_journal_in_memory_that_nobody_used_has_not_begun() -> None:
    assert Journal(":memory:").begun is False


@pytest.mark.parametrize("there_before", [False, True])
@pytest.mark.parametrize("without", ["vfs=unix-none", "vfs=unix-dotfile", "nolock=1"])
def test_where_sqlite_cannot_lock_and_share_a_file_it_is_refused_when_it_is_opened(
    without: str, there_before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if there_before:
        Journal("sqlite:///j.sqlite").close()
    with pytest.raises(JournalError, match="WAL") as refused:
        Journal(f"sqlite:///file:j.sqlite?{without}&uri=true")
    assert "local disk" in refused.value.hint
    assert "PostgreSQL" in refused.value.hint


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "vboxsf", "fuse.vmhgfs-fuse"])
def test_a_folder_on_a_network_file_system_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a share" / "below"
    folder.mkdir(parents=True)
    mounts = tmp_path / "mounts"
    share = str(folder.parent).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {share} {kind} rw 0 0\n")
    monkeypatch.setattr(engines, "MOUNTS", mounts)
    with pytest.raises(JournalError, match="network file system") as refused:
        Journal(f"sqlite:///{folder / 'j.sqlite'}")
    assert "local disk" in refused.value.hint
    assert list(folder.iterdir()) == []
    Journal(f"sqlite:///{tmp_path / 'j.sqlite'}").close()


@pytest.mark.parametrize("how", ["hard link", "mounted without its folder"])
def test_a_file_that_others_reach_without_its_locks_is_refused(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "j.sqlite"
    Journal(file).close()
    if how == "hard link":
        (tmp_path / "another.sqlite").hardlink_to(file)
    else:
        mounts = tmp_path / "mounts"
        mounts.write_text(f"/dev/sda / ext4 rw 0 0\n/dev/sda {file} ext4 rw 0 0\n")
        monkeypatch.setattr(engines, "MOUNTS", mounts)
    with pytest.raises(JournalError, match=how) as refused:
        Journal(file)
    assert "PostgreSQL" in refused.value.hint
    with closing(Journal(f"sqlite:///{file}?mode=ro")) as journal:
        assert journal.actions() == []


@pytest.mark.parametrize("answer", [None, errno.ENOLCK])
@pytest.mark.skipif(sys.platform != "linux", reason="Linux's locks of open files")
def test_a_folder_that_shares_memory_and_does_not_lock_is_refused(
    answer: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def no_lock(*_: object) -> bytes:
        if answer is not None:
            raise OSError(answer, "No locks available")
        return b""

    Journal(f"sqlite:///{tmp_path / 'before.sqlite'}").close()
    monkeypatch.setattr(fcntl, "fcntl", no_lock)
    with pytest.raises(JournalError, match="does not lock") as refused:
        Journal(f"sqlite:///{tmp_path / 'j.sqlite'}")
    assert "PostgreSQL" in refused.value.hint
    assert not list(tmp_path.glob(".hms-lock*"))


def writes_without_waiting(connection: sqlite3.Connection, _record: object) -> None:
    """SQLite that does not wait for the disk, whatever it is told later."""

    def ignored(verb: int, name: str | None, value: str | None, *_: object) -> int:
        is_it = verb == sqlite3.SQLITE_PRAGMA and name == "synchronous" and value is not None
        return sqlite3.SQLITE_IGNORE if is_it else sqlite3.SQLITE_OK

    connection.execute("PRAGMA synchronous=OFF").close()
    connection.set_authorizer(ignored)


def test_where_sqlite_does_not_wait_for_the_disk_it_is_refused_when_it_is_opened(
    tmp_path: Path,
) -> None:
    sa.event.listen(sa.Engine, "connect", writes_without_waiting)
    try:
        with pytest.raises(JournalError, match="wait for the disk"):
            Journal(f"sqlite:///{tmp_path / 'j.sqlite'}")
    finally:
        sa.event.remove(sa.Engine, "connect", writes_without_waiting)


def test_a_locked_journal_with_a_key_is_looked_at(tmp_path: Path) -> None:
    url, key = f"sqlite:///{tmp_path / 'j.sqlite'}", "k" * 32
    journal = Journal(url, key=key)
    action = at(journal, "proposed", journal.now())
    journal.close()
    with closing(sqlite3.connect(tmp_path / "j.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert Journal(f"{url}?timeout=0", key=key, create=False).get(action.id) == action


@pytest.mark.slow
def test_a_lock_that_never_ends_is_a_clear_error_after_the_timeout_of_the_url(
    tmp_path: Path,
) -> None:
    journal = Journal(f"sqlite:///{tmp_path / 'j.sqlite'}?timeout=0")
    with closing(sqlite3.connect(tmp_path / "j.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="kept it open for writing") as error:
            journal.note("a", "looked")
        with pytest.raises(JournalError, match="kept it open for writing"):
            Journal(tmp_path / "j.sqlite")  # waits for ten seconds
    assert (error.value.executed, error.value.retry_after_s) == ("no", 10)


@pytest.fixture(params=["?mode=ro", "unwritable"])
def copy(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Action]:
    """The URL of a journal that can only be read, and what is in it."""
    url = f"sqlite:///{tmp_path / 'a journal?.sqlite'}".replace("?", "%3F")
    journal = Journal(url)
    action = at(journal, "approved", journal.now())
    journal.close()
    if request.param == "unwritable":
        monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
        return url, action
    return f"{url}?mode=ro", action


async def test_a_copy_that_can_only_be_read_is_looked_at_and_says_so_when_written(
    copy: tuple[str, Action],
) -> None:
    url, action = copy
    journal, room = Journal(url), StandInRoom([peer(1)])
    assert (journal.is_read_only, Journal(":memory:").is_read_only) == (True, False)
    assert journal.get(action.id) == action
    assert [e.kind for e in journal.events(action.id)] == ["proposed", "approved"]
    with pytest.raises(JournalError, match=r"a journal\?.sqlite.* can only be read"):
        journal.note(action.id, "looked")
    with pytest.raises(JournalError, match="can only be read"):
        await gate_on(room, journal).run(action)
    assert room.posts == []
    journal.close()


def test_a_journal_opened_on_a_full_disk_shows_what_is_decided_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "j.sqlite"
    with closing(Journal(file)) as first:
        action = at(first, "proposed", first.now())
    with monkeypatch.context() as full:
        full.setattr(engines, "NamedTemporaryFile", no_room)
        looking = Journal(file, create=False)
        assert (looking.is_read_only, looking.get(action.id)) == (True, action)
    with closing(Journal(file)) as writer, writer.write() as tx:
        tx.move(action, "rejected", by="ada", way="terminal")
    again = looking.get(action.id)
    assert again is not None
    assert again.state == "rejected"
    looking.close()


def test_a_file_that_another_process_deletes_meanwhile_is_no_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wal = tmp_path / "j.sqlite-wal"
    wal.touch()

    def looked_at(path: object, mode: int) -> bool:
        if str(path) == str(wal):
            wal.unlink(missing_ok=True)
            return False
        return True

    monkeypatch.setattr(os, "access", looked_at)
    with closing(Journal(f"sqlite:///{tmp_path}/j.sqlite")) as journal:
        assert journal.count() == 0


@pytest.mark.parametrize("which", ["", "-wal", "-shm"])
def test_a_file_of_another_user_is_named_with_whose_it_is(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "j.sqlite"
    with closing(Journal(f"sqlite:///{file}")) as journal:
        journal.note("x", "seen")
        monkeypatch.setattr(os, "access", lambda path, _: str(path) != f"{file}{which}")
        with pytest.raises(JournalError, match=f"j.sqlite{which}") as told:
            Journal(f"sqlite:///{file}")
    assert f'belongs to "{file.owner()}"' in str(told.value)
    assert f"may not read {'and write ' * bool(which)}it" in str(told.value)
    assert "Run this as that user" in told.value.hint


def test_a_copy_of_an_earlier_release_is_brought_up_to_date_where_it_can_be_written(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'j.sqlite'}"
    Journal(url).close()
    with closing(sqlite3.connect(tmp_path / "j.sqlite")) as db, db:
        db.execute("UPDATE hms_journal SET version = 2")
    with pytest.raises(JournalError, match="earlier release") as refused:
        Journal(f"{url}?mode=ro")
    assert "Copy the journal" in refused.value.hint


# --- the record is checked against itself -------------------------------------------------------

FORGED = {
    "decided_by": "decided_by = 'somebody else'",
    "decided_way": "decided_way = 'terminal'",
    "state": "state = 'approved', decided_by = 'ada', decided_way = 'page'",
    "tool": "tool = 'hms-remove-peers', arguments = json_object('room_id', room_id, 'role', 'x')",
    "words": "arguments = json_set(arguments, '$.message', 'bye')",
    "impact": "impact = json_set(impact, '$.total', 9)",
    "digest": "digest = ''",
    "requester": "requester = 'ada'",
    "result": "result = json_object('text', 'All is well.')",
    "time": "expires_at = '2099-01-01 00:00:00.000000'",
    "reason": "reason = 'because'",
    "content": "content = 'another'",
}


@pytest.mark.parametrize("state", ["proposed", "approved", "done", "rejected"])
@pytest.mark.parametrize("forgery", FORGED)
async def test_a_forged_row_is_shown_as_one_and_nothing_is_done_for_it(
    state: State, forgery: str, tmp_path: Path
) -> None:
    file = tmp_path / "j.sqlite"
    journal = Journal(f"sqlite:///{file}")
    action = at(journal, state, journal.now())
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(f"UPDATE hms_actions SET {FORGED[forgery]}")
    found = journal.get(action.id)
    assert found
    assert f'"{journal.events(action.id)[-1].kind}" by ' in found.contradiction
    assert [a.contradiction for a in journal.actions()] == [found.contradiction]
    assert found.executed == "maybe"
    assert "contradicts itself" in view(found).text
    assert (view(found).waiting, view(found).decided_by, already(found)) == (False, "", "")
    room = StandInRoom([peer(1)])
    gate = gate_on(room, journal)
    with pytest.raises(BrokenRecord, match="contradicts itself"):
        await gate.run(found.id)
    for answer in (Approve(found.digest), Reject()):
        with pytest.raises(BrokenRecord, match="contradicts itself"):
            await gate.decide(found.id, answer, by="ada", way="page")
    assert room.posts == []
    assert journal.get(action.id) == found
    assert [e.kind for e in journal.events(action.id)] == ["proposed", *PATHS[state]]


@pytest.mark.parametrize("gone", ["seq > 0", "kind = 'approved'", "kind = 'proposed'"])
async def test_a_row_whose_events_were_deleted_is_not_sent(gone: str, tmp_path: Path) -> None:
    file = tmp_path / "j.sqlite"
    journal = Journal(f"sqlite:///{file}")
    action = at(journal, "approved", journal.now())
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("DROP TRIGGER hms_events_no_delete")
        db.execute(f"DELETE FROM hms_events WHERE {gone}")
    room = StandInRoom([peer(1)])
    with pytest.raises(BrokenRecord, match="contradicts itself"):
        await gate_on(room, journal).run(action.id)
    assert room.posts == []


@pytest.mark.parametrize(
    "forgery",
    [
        *(
            f"UPDATE hms_events SET \"by\" = 'eve' WHERE kind = '{kind}'"
            for kind in ("proposed", "approved")
        ),
        *(f"DELETE FROM hms_events WHERE kind = '{kind}'" for kind in ("proposed", "approved")),
        "UPDATE hms_actions SET worker = 'eve'",
    ],
)
def test_the_story_of_an_action_whose_earlier_events_were_forged_says_so(
    forgery: str, tmp_path: Path
) -> None:
    file = tmp_path / "j.sqlite"
    journal = Journal(f"sqlite:///{file}")
    action = at(journal, "done", journal.now())
    told, events = journal.story(action.id)
    assert told
    assert told.contradiction == ""
    assert [e.kind for e in events] == ["proposed", *PATHS["done"]]
    with closing(sqlite3.connect(file)) as db, db:
        triggers = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute(forgery)
    told, _ = journal.story(action.id)
    assert told
    assert "contradicts itself" in told.contradiction


@pytest.mark.parametrize("state", ["proposed", "approved"])
def test_the_story_of_an_action_that_is_too_late_contradicts_nothing(
    state: State, tmp_path: Path
) -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    action = at(journal, state, journal.now())
    clock.now += timedelta(days=1)
    for _ in range(2):
        told, _ = journal.story(action.id)
        assert told
        assert (told.state, told.contradiction) == ("expired", "")
        with journal.write() as tx:
            tx.expire_if_late(told)


APPROVED = f"""UPDATE hms_actions SET state='approved', decided_by='ada', decided_way='page';
INSERT INTO hms_events (action_id, at, kind, "by", way, data)
VALUES ('{action_id("k", 1)}', '2026-01-01 12:00:00.000000', 'approved', 'ada', 'page', '{{}}');"""
"""What 0.1.0 wrote for a yes."""


async def test_an_approval_that_only_the_events_claim_is_none(tmp_path: Path) -> None:
    file = tmp_path / "j.sqlite"
    journal = Journal(f"sqlite:///{file}")
    action = at(journal, "proposed", journal.now())
    with closing(sqlite3.connect(file)) as db:
        db.executescript(f"DROP TRIGGER hms_events_no_seal; {APPROVED}")
    room = StandInRoom([peer(1)])
    with pytest.raises(BrokenRecord):
        await gate_on(room, journal).run(action.id)
    assert room.posts == []


def test_the_id_of_a_deleted_row_is_never_used_again(tmp_path: Path) -> None:
    file = tmp_path / "j.sqlite"
    journal = Journal(f"sqlite:///{file}")
    action = at(journal, "done", journal.now())
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("DELETE FROM hms_actions")
    with pytest.raises(BrokenRecord, match="made before"):
        insert(journal, row(journal.now()))
    assert journal.get(action.id) is None


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE hms_events",
        "DROP TABLE hms_events; DROP TABLE hms_journal",
        "DROP TABLE hms_journal",
        "DELETE FROM hms_journal",
        "DROP TABLE hms_asks",
        "DROP TRIGGER hms_events_no_replace",
        "DROP TRIGGER hms_events_no_delete",
    ],
)
def test_a_journal_that_is_not_whole_is_refused_and_left_as_it_is(sql: str, tmp_path: Path) -> None:
    file = tmp_path / "j.sqlite"
    Journal(f"sqlite:///{file}").close()
    with closing(sqlite3.connect(file)) as db:
        db.executescript(sql)
        before = list(db.iterdump())
        with pytest.raises(BrokenRecord, match="not whole") as refused:
            Journal(f"sqlite:///{file}")
        assert str(file) in str(refused.value)
        assert list(db.iterdump()) == before


# --- the key of the record ----------------------------------------------------------------------

KEY, ANOTHER = "k" * 32, "a" * 32


def resealed(file: Path, key: str, *, with_key: str = "") -> None:
    """Approve every row by hand, as somebody does who can write the file and knows our code."""
    with closing(sqlite3.connect(file)) as db:
        db.executescript(f"DROP TRIGGER hms_events_no_seal; {APPROVED}")
        db.row_factory = sqlite3.Row
        [columns] = db.execute("SELECT * FROM hms_actions")
        [event] = db.execute("SELECT * FROM hms_events WHERE kind = 'approved'")
        stored = {**columns, "result": {}, "decided_at": None}
        for name in ("arguments", "impact"):
            stored[name] = json.loads(columns[name])
        for name in ("created_at", "expires_at"):
            stored[name] = datetime.fromisoformat(columns[name]).replace(tzinfo=UTC)
        at = datetime.fromisoformat(event["at"]).replace(tzinfo=UTC)
        said = {**event, "at": at, "data": {}}
        bound = seal(with_key.encode(), stored, said)
        db.execute("DROP TRIGGER hms_events_no_update")
        db.execute("UPDATE hms_events SET seal = ? WHERE seq = ?", [bound, event["seq"]])
        db.commit()


@pytest.mark.parametrize("change", ["tool", "words", "impact", "digest"])
async def test_a_yes_does_not_hold_for_a_call_that_was_changed_and_sealed_anew(
    change: str, tmp_path: Path
) -> None:
    file, clock = tmp_path / "j.sqlite", Clock()
    journal = Journal(f"sqlite:///{file}", clock=clock)
    action = insert(journal, row(clock()))
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(f"UPDATE hms_actions SET {FORGED[change]}")
    resealed(file, "")
    room = StandInRoom([peer(1)])
    with pytest.raises(BrokenRecord, match="not what was approved"):
        await gate_on(room, journal, clock).run(action.id)
    assert room.posts == []


@pytest.mark.parametrize("key", ["", KEY])
async def test_with_a_key_nobody_forges_a_yes_by_writing_to_the_database(
    key: str, tmp_path: Path
) -> None:
    file = tmp_path / "j.sqlite"
    clock = Clock()
    journal = Journal(f"sqlite:///{file}", clock=clock, key=key)
    action = insert(journal, row(clock()))
    resealed(file, key)
    room = StandInRoom([peer(1)])
    gate = gate_on(room, journal, clock)
    if not key:  # what the key is for
        assert (await gate.run(action.id)).state == "done"
        return
    [found] = journal.actions()
    assert "somebody who does not have the key" in view(found).text
    with pytest.raises(BrokenRecord):
        await gate.run(action.id)
    assert room.posts == []


async def test_with_a_key_nobody_forges_what_is_allowed_for_the_session(tmp_path: Path) -> None:
    file, clock = tmp_path / "j.sqlite", Clock()
    journal = Journal(f"sqlite:///{file}", clock=clock, key=KEY)
    gate = gate_on(StandInRoom([peer(1)]), journal, clock)
    call = parse_call("hms-send-message", {"room_id": ROOM, "message": "hi"})
    once = await gate.propose(call, Origin("t", "m", "c", "agent"))
    await gate.decide(once.id, Approve(once.digest), by="ada", way="page")
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE hms_actions SET granted_in = ?", [this_worker()])
    assert (await gate.propose(call, Origin("t", "m", "d", "agent"))).state == "proposed"


def test_a_journal_that_was_begun_with_a_key_is_not_opened_without_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'j.sqlite'}"
    Journal(url).close()  # before there was a key
    Journal(url, key=KEY).close()
    for key, words in (("", "signed with a key"), (ANOTHER, "signed with another key")):
        for opened in (url, f"{url}?mode=ro"):
            with pytest.raises(JournalError, match=words) as refused:
                Journal(opened, key=key)
            assert "HMS_JOURNAL_KEY" in refused.value.hint
            assert ANOTHER not in f"{refused.value}{refused.value.hint}"
    assert Journal(url, key=KEY).actions() == []


def test_a_key_may_have_any_bytes(tmp_path: Path) -> None:
    url, key = f"sqlite:///{tmp_path / 'j.sqlite'}", b"\xff" * 32
    Journal(url, key=os.fsdecode(key)).close()
    with pytest.raises(JournalError, match="another key"):
        Journal(url, key=KEY)
    assert Journal(url, key=os.fsdecode(key)).actions() == []


def made_newer(url: str) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db, db:
        db.execute("UPDATE hms_journal SET version = 99")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda url: Journal(url, key=KEY).close(), "signed with a key"),
        (made_newer, "schema version 99"),
    ],
    ids=["begun with a key", "of a newer release"],
)
async def test_a_journal_that_another_program_changed_is_written_no_more(
    tmp_path: Path, changed: Callable[[str], object], words: str
) -> None:
    url, room = f"sqlite:///{tmp_path / 'j.sqlite'}", StandInRoom([peer(1)])
    gate = gate_on(room, Journal(url, key=""))
    action = at(gate.journal, "approved", gate.journal.now())
    changed(url)
    with pytest.raises(JournalError, match=words):
        await gate.run(action)
    assert room.posts == []


def test_a_disk_without_room_is_named_as_one(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    journal = Journal(f"sqlite:///{tmp_path / 'j.sqlite'}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, ((tmp_path / "j.sqlite-wal").stat().st_size, before[1])
    )
    try:
        with pytest.raises(JournalError) as refused:
            at(journal, "approved", journal.now())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "disk has room" in refused.value.hint
    assert at(journal, "approved", journal.now()).state == "approved"


@pytest.mark.parametrize("mode", ["", "?mode=ro"])
@pytest.mark.parametrize("room", [0, 1024])
def test_on_a_disk_without_room_a_journal_can_be_read(room: int, mode: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    url = f"sqlite:///{tmp_path / 'j.sqlite'}"
    with closing(Journal(url)) as journal:
        action = at(journal, "approved", journal.now())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with closing(Journal(url + mode, create=False)) as journal:
            assert journal.get(action.id) == action
            with pytest.raises(JournalError, match="can only be read"):
                journal.note(action.id, "looked")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_only_reads_does_not_speak_of_sending(tmp_path: Path) -> None:
    (file := tmp_path / "j.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(JournalError) as told:
        Journal(file, create=False)
    assert told.value.hint.startswith("Restore it")


def test_rows_from_before_the_key_are_named_and_not_acted_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'j.sqlite'}"
    first = Journal(url)
    action = at(first, "approved", first.now())
    journal = Journal(url, key=KEY)
    [found] = journal.actions()
    assert "was made before the journal had a key" in found.contradiction
    with pytest.raises(BrokenRecord):
        move(journal, found, "sent")
    # A process that runs without the key does not read as true what it cannot check.
    after = insert(journal, row(journal.now(), "after"))
    assert first.get(action.id) == action
    assert (read := first.get(after.id)) is not None
    assert "another program changed it" in read.contradiction


def test_the_key_is_read_from_the_environment_and_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMS_JOURNAL_KEY", "short")
    with pytest.raises(ConfigurationError, match="5 characters") as refused:
        Journal(":memory:")
    assert "short" not in f"{refused.value}{refused.value.hint}".replace("too short", "")
    with pytest.raises(ConfigurationError, match="0 characters"):
        Journal(":memory:", key=" " * 40)
    monkeypatch.setenv("HMS_JOURNAL_KEY", KEY)
    url = f"sqlite:///{tmp_path / 'j.sqlite'}"
    assert KEY not in repr(Journal(url))
    monkeypatch.delenv("HMS_JOURNAL_KEY")
    with pytest.raises(JournalError, match="signed with a key"):
        Journal(url)


# --- where there is none ------------------------------------------------------------------------


@pytest.mark.parametrize("there", ["nothing", "an empty file", "another database"])
def test_whoever_only_looks_is_told_that_there_is_no_journal_and_makes_none(
    there: str, tmp_path: Path
) -> None:
    file = tmp_path / "folder" / "j.sqlite"
    if there != "nothing":
        file.parent.mkdir()
        with closing(sqlite3.connect(file)) as db:
            db.execute("VACUUM" if there == "an empty file" else "CREATE TABLE theirs (x)")
    before = file.read_bytes() if file.exists() else None
    for url in (f"sqlite:///{file}", f"sqlite:///{file}?mode=ro"):
        with pytest.raises(ConfigurationError, match="There is no journal at") as refused:
            Journal(url, create=False)
        assert str(file) in str(refused.value)
        assert "--journal or HMS_JOURNAL" in refused.value.hint
    assert before == (file.read_bytes() if file.exists() else None)
    assert there != "nothing" or not file.parent.exists()


UNOPENED = """
import sys
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal import Journal
journal = Journal(":memory:")
journal.close()
print("sqlalchemy" in sys.modules)
"""


@pytest.mark.slow
def test_one_in_memory_that_nobody_uses_costs_no_import_of_a_database() -> None:
    command = [sys.executable, "-c", UNOPENED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    "forged",
    ["reason = ''", "arguments = '{'", "arguments = replace(hex(zeroblob(9999)), '00', '[')"]
    + [f"{column} = CAST(x'ff' AS TEXT)" for column in ("reason", "arguments", "sent_at")],
)
async def test_a_broken_row_that_says_it_is_being_sent_keeps_nobody_waiting(
    forged: str, tmp_path: Path
) -> None:
    file = tmp_path / "j.sqlite"
    clock = Clock()
    journal = Journal(f"sqlite:///{file}", clock=clock)
    insert(journal, row(clock(), gate="hard"))
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(f"UPDATE hms_actions SET state = 'sent', {forged}")
    room = StandInRoom([peer(1)])
    gate = gate_on(room, journal, clock)
    call = parse_call("hms-end-active-room", {"room_id": ROOM})
    end = await gate.propose(call, Origin("t", "m", "c", "agent"))
    decided = await gate.decide(end.id, Approve(end.digest), by="ada", way="page")
    assert (await gate.run(decided.action)).state == "done"


@pytest.mark.parametrize(
    ("limit", "shown", "left_out"),
    [(1, [2], 2), (2, [2, 3], 1), (3, [2, 3, 4], 0), (9, [2, 3, 4], 0)],
)
def test_broken_rows_take_no_places_among_those_that_wait(
    limit: int, shown: list[int], left_out: int
) -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    made = [insert(journal, row(clock() + timedelta(seconds=n), f"k{n}")) for n in range(5)]
    insert(journal, row(clock(), "other", room_id="64f0c1a5500de00000000009"))
    insert(journal, row(clock(), "decided", state="rejected"))
    with journal.write() as tx:
        broken = [action.id for action in made[:2]]
        tx.db.execute(actions.update().where(actions.c.id.in_(broken)).values(note="x"))
    with journal.read() as reading:
        waiting, more = reading.waiting(limit=limit, rooms=[ROOM])
    assert ([action.id for action in waiting], more) == ([made[n].id for n in shown], left_out)


# --- archiving ----------------------------------------------------------------------------------


def test_what_ended_is_exported_whole_and_only_then_pruned() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    keys: list[State] = ["done", "rejected", "unknown", "sent", "approved", "proposed"]
    for state in keys:
        action = insert(journal, row(clock(), state))
        with journal.write() as tx:
            for step in PATHS[state]:
                action = tx.move(action, step, by="t", way="page")
            tx.step(action.id, "p", "sending")
    journal.note(REQUESTS, "refused", by="x", way="token")
    with journal.write() as tx:
        tx.ask("then", ["a"])
    clock.now += timedelta(seconds=2400)
    with journal.write() as tx:
        tx.ask("now", ["a"])
    young = insert(journal, row(clock(), "young", state="rejected"))
    before, file = clock(), StringIO()

    assert journal.prune(before=before, by="ada").actions == 0  # nothing was exported
    assert journal.export(file, before=before, by="ada") == 5
    *lines, end = file.getvalue().splitlines(keepends=True)
    told = json.loads(end)["end"]
    assert told["actions"] == 5
    assert told["sha256"] == hashlib.sha256("".join(lines).encode()).hexdigest()
    records = [json.loads(line) for line in lines]
    assert [r["event"]["kind"] for r in records if "event" in r] == ["refused"]
    rows = {r["action"]["call_key"]: r for r in records if "action" in r}
    assert set(rows) == set(keys) - {"sent"}
    assert rows["done"]["steps"] == {"p": "sending"}
    assert [e["kind"] for e in rows["done"]["events"]] == ["proposed", "approved", "sent", "done"]
    assert set(rows["done"]["action"]) >= {"arguments", "impact", "digest", "result"}

    with journal.write() as tx:
        tx.told(action_id("rejected", 1))  # changed since it was exported
    done = journal.prune(before=before, by="ada")
    assert (done.actions, done.left) == (4, 1)
    assert {a.call_key for a in journal.actions()} == {"sent", "rejected", "young"}
    assert journal.get(young.id) == young
    assert [e.kind for e in journal.events(action_id("done", 1))] == ["pruned"]
    assert [(e.kind, e.by) for e in journal.events("(prunes)")] == [("pruned", "ada")] * 2
    assert journal.refused_requests() == []
    with journal.read() as now:
        assert now.steps(action_id("done", 1)) == {}
        assert (now.asked_at("then"), now.asked_at("now")) == ([], ["a"])
    with pytest.raises(BrokenRecord, match="made before"):  # at most once, also now
        insert(journal, row(clock(), "done"))

    for _ in range(2):  # exported twice is exported
        assert journal.export(StringIO(), before=before, by="ada") == 1
    assert journal.prune(before=before, by="ada").actions == 1
    assert journal.export(StringIO(), before=before, by="ada") == 0


def test_a_call_is_exported_with_all_its_revisions_or_not_at_all() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    insert(journal, row(clock(), state="expired"))
    later = replace(row(clock()), id="another", revision=2, state="sent")
    insert(journal, later)
    clock.now += timedelta(seconds=1200)
    assert journal.export(StringIO(), before=clock(), by="ada") == 0


def test_a_row_that_cannot_be_read_or_contradicts_itself_is_exported_and_not_pruned() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    of_another = at(journal, "rejected", clock())
    for key in ("unreadable", "forged", "whole"):
        insert(journal, row(clock(), key, state="rejected"))
    clock.now += timedelta(seconds=9)
    with journal.write() as tx:
        tx.db.exec_driver_sql("DROP TRIGGER hms_events_no_update")
        forged = events.update().where(events.c.action_id == of_another.id)
        tx.db.execute(forged.where(events.c.kind == "proposed").values(by="eve"))
        for key, change in (("unreadable", {"gate": "ajar"}), ("forged", {"reason": "because"})):
            tx.db.execute(actions.update().where(actions.c.call_key == key).values(**change))
    file = StringIO()
    assert journal.export(file, before=clock(), by="ada") == 4
    told = [json.loads(line) for line in file.getvalue().splitlines()[:-1]]
    wrong = {record["action"]["call_key"]: record["contradiction"] for record in told}
    assert wrong["whole"] == ""
    assert "cannot be read" in wrong["unreadable"]
    assert "another program changed it" in wrong["forged"]
    assert "contradicts itself" in wrong[of_another.call_key]
    assert journal.prune(before=clock(), by="ada") == Pruned(actions=1, left=3, broken=3)
    assert {a.call_key for a in journal.actions()} == {"unreadable", "forged", of_another.call_key}


def test_an_export_is_on_disk_before_it_counts(tmp_path: Path) -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    insert(journal, row(clock(), state="rejected"))
    clock.now += timedelta(seconds=9)
    file = (tmp_path / "full").open("w")
    file.close()
    with pytest.raises(ValueError, match="closed"):
        journal.export(file, before=clock(), by="ada")
    assert journal.prune(before=clock(), by="ada").actions == 0


@pytest.mark.parametrize("state", STATES)
def test_every_row_survives_the_process_as_it_was(tmp_path: Path, state: State) -> None:
    url = f"sqlite:///{tmp_path / 'j.sqlite'}"
    first = Journal(url)
    action = at(first, state, first.now())
    before = first.get(action.id)
    first.close()
    again = Journal(url)
    assert again.get(action.id) == before == again.latest(action.call_key)
    assert before
    assert before == replace(action, **{t: getattr(before, t) for t in ("decided_at",)})


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state", "settled"),
        ("gate", "ajar"),
        ("tool", "hms-open-room"),
        ("arguments", "{"),
        ("arguments", "[]"),
        ("arguments", '{"room_id": "x"}'),
        ("impact", "{"),
        ("impact", "3"),
        ("impact", '{"kind": "everyone"}'),
        ("result", "{"),
        ("result", "[]"),
        ("result", '{"people": 1}'),
        ("created_at", "yesterday"),
        ("expires_at", "soon"),
        ("expires_at", 5),
        ("revision", "first"),
        ("requester", b"\xff"),
        ("room_id", b"\xff"),
    ],
)
async def test_a_row_that_cannot_be_read_is_shown_as_one_and_nothing_is_done_for_it(
    column: str, value: object, tmp_path: Path
) -> None:
    file = tmp_path / "j.sqlite"
    journal = Journal(f"sqlite:///{file}")
    action = at(journal, "approved", journal.now())
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(f"UPDATE hms_actions SET {column} = ?", [value])
    whole = insert(journal, row(journal.now(), "whole"))
    room = StandInRoom([peer(1)])
    gate = gate_on(room, journal)
    for found in (await gate.get(action.id), await gate.latest(action.id)):
        assert view(found).text.startswith(f"The record of the action {action.id} c")
        assert (view(found).executed, view(found).waiting) == ("maybe", False)
    assert {a.id: bool(a.contradiction) for a in journal.actions()} == {
        action.id: True,
        whole.id: False,
    }
    for reading in (
        gate.run(action.id),
        gate.decide(action.id, Approve(action.digest), by="ada", way="page"),
        gate.decide(action.id, Reject(), by="ada", way="page"),
    ):
        with pytest.raises(JournalError) as error:
            await reading
        assert action.id in str(error.value)
        assert isinstance(error.value, BrokenRecord)
        assert "Nothing is sent" in error.value.hint
    assert room.posts == []


def test_the_default_is_a_file_in_the_users_state_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_state_path", lambda name: tmp_path / name)
    file = tmp_path / "hms-active-rooms" / "journal.sqlite"
    assert default_url() == f"sqlite:///{file}"
    for blank in (None, "", " \n"):  # an empty variable is an unset one
        with closing(Journal(blank)) as journal:
            assert journal.place == f'"{file}"'


FORKS = """
import os, sys, threading
from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.journal import Journal
url, mode = sys.argv[1:]
journal = Journal(url)
begun, forking, parent_done = threading.Event(), threading.Event(), threading.Event()
os.register_at_fork(before=forking.set)

def work():
    with journal.write() if mode == "write" else journal.read() as tx:
        tx.count()
        begun.set()
        forking.wait()

def work_on():
    while not parent_done.is_set():
        journal.note("y", "seen")
        begun.set()

def fork():
    if (child := os.fork()) == 0:
        try:
            if any("j.sqlite" in os.path.realpath(file.path) for file in os.scandir("/proc/self/fd")):
                print("The child holds a file open.", flush=True)
            journal.note("x", "seen")
            Journal(url).close()
        except JournalError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)

busy = {"idle": [], "busy": [work_on] * 4}.get(mode, [work])
workers = [threading.Thread(target=one) for one in busy]
for worker in workers:
    worker.start()
if busy:
    begun.wait()
if mode == "busy":  # two fork at once
    workers.append(threading.Thread(target=fork))
    workers[-1].start()
fork()
parent_done.set()
for worker in workers:
    worker.join()
print(len(journal.events("x")))
"""


def told_by_forks(url: str, mode: str) -> list[str]:
    command = [sys.executable, "-c", FORKS, url, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=25)
    return done.stdout.splitlines()


@pytest.mark.slow
def test_one_in_memory_stays_with_its_process_and_a_forked_child_is_told() -> None:
    told, parent = told_by_forks(":memory:", "idle")
    assert "or belongs to another process" in told
    assert parent == "0"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["idle", "write", "read", "busy"])
def test_a_fork_during_another_threads_transaction_leaves_a_child_that_can_write(
    mode: str, tmp_path: Path
) -> None:
    written = "2" if mode == "busy" else "1"
    assert told_by_forks(f"sqlite:///{tmp_path / 'j.sqlite'}", mode) == [written]


@pytest.mark.timeout(25)  # who waits in the pool in vain gives up after 30 s
def test_closing_one_in_memory_keeps_nobody_waiting_and_says_that_it_is_gone() -> None:
    for place in range(50):
        journal = Journal(":memory:")
        if place % 2:
            journal.actions()  # opens it
        start = threading.Barrier(7)

        def read(journal: Journal = journal, start: threading.Barrier = start) -> None:
            start.wait()
            with suppress(JournalError):
                while True:
                    journal.actions()

        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        start.wait()
        journal.close()
        for thread in threads:
            thread.join()
        with pytest.raises(JournalError, match="in memory is closed") as refused:
            journal.actions()
        assert "Repair" not in refused.value.hint
        journal.close()  # once more is nothing


@pytest.mark.parametrize(
    "url",
    ["not a url", "nosuchdb://x", "postgresql+nosuchdriver://x/y"]
    # In memory, and nobody would see it.
    + ["sqlite://", "sqlite:///", "sqlite+pysqlite:///"]
    + ["sqlite:///j.sqlite?timeout=soon", "sqlite:///j%00.sqlite", "sqlite:///~/j.sqlite"]
    + [f"sqlite:///{home}/j.sqlite" for home in ("$HOME", "${HOME}", "%APPDATA%")]
    # What SQLAlchemy or SQLite would ignore, so that the journal would be another file.
    + ["sqlite:///what?.sqlite", "sqlite:///j.sqlite?nolock=1", "sqlite:///j.sqlite?cache=shared"]
    + ["sqlite:///file:j.sqlite", "sqlite:///file:j%23.sqlite?uri=true"]
    + ["sqlite:///j.sqlite?mode=rw", "sqlite:///j.sqlite?mode=RO", "sqlite:///j.sqlite?mode=memory"]
    + ["sqlite:///j.sqlite?mode=rw&uri=true", "sqlite:///j.sqlite?mode=ro&mode=rw"]
    + ["sqlite:///file:j?mode=memory&uri=true", "sqlite:///file::memory:?uri=true"]
    # SQLite would not wait at all.
    + [f"sqlite:///j.sqlite?timeout={wrong}" for wrong in ("nan", "inf", "-1", "1e10", "9999999")]
    + ["sqlite:///j.sqlite?timeout=1&timeout=2", "postgresql://x/y?sslmode=a&sslmode=b"]
    + ["postgresql://x:port/y", "postgresql://x:1,y:2/z", "postgresql+psycopg_async://x/y"]
    + [f"postgresql://x/y?{name}=x" for name in ("row_factory", "autocommit", "context")]
    + [f"postgresql+psycopg://x/y?prepare_threshold={n}" for n in ("soon", "²", "9" * 5000)]
    + [Path("~/j.sqlite"), Path("$HOME/j.sqlite")],
)
def test_a_url_nothing_can_be_made_of_is_a_clear_error_and_makes_no_file(
    url: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="journal"):
        Journal(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [{"url": b"sqlite:///j.sqlite"}, {"url": 5}, {"key": b"x" * 40}, {"key": 5}, {"clock": 5}],
)
def test_a_setting_of_another_type_is_a_clear_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="journal"):
        Journal(**{"url": ":memory:", **wrong})


def test_the_url_for_a_path_in_the_home_folder_is_told_with_that_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigurationError) as told:
        Journal("~/j.sqlite")
    assert f"sqlite:///{tmp_path}/j.sqlite" in told.value.hint


def test_a_journal_in_the_current_folder_is_told_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(Journal("sqlite:///j.sqlite")) as journal:
        assert journal.place == f'"{tmp_path / "j.sqlite"}"'


@pytest.mark.parametrize("name", ["100%", "a%20b", "why?", "a#b", "a b", "ü", "a;b&c=d"])
def test_a_folder_may_have_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / name))
    Journal().close()
    file = tmp_path / name / "hms-active-rooms" / "journal.sqlite"
    assert file.stat().st_size
    if "=" not in name:  # which may be a password's
        with pytest.raises(ConfigurationError) as told:
            Journal(str(file))
        url = told.value.hint.partition("URL: ")[2].rstrip(".")
        Journal(json.loads(url), create=False).close()


def test_a_path_of_bytes_that_are_no_text_is_one_path_for_all(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/caf\udcff.sqlite"
    Journal(url).close()
    Journal(url, create=False).close()
    with closing(Journal(f"{url}?mode=ro")) as journal:
        assert journal.actions() == []


def test_white_space_around_a_url_makes_no_other_journal(tmp_path: Path) -> None:
    Journal(f" sqlite:///{tmp_path}/j.sqlite\n").close()
    assert (tmp_path / "j.sqlite").exists()


def test_a_file_named_as_a_uri_is_as_private_as_any(tmp_path: Path) -> None:
    for number, host in enumerate(("", "//", "//localhost")):
        Journal(f"sqlite:///file:{host}{tmp_path}/{number}.sqlite?uri=true").close()
        assert stat.S_IMODE((tmp_path / f"{number}.sqlite").stat().st_mode) == 0o600
    Journal(f"sqlite:///file:{tmp_path}/a%2520b%252523.sqlite?uri=true").close()
    assert stat.S_IMODE((tmp_path / "a b%23.sqlite").stat().st_mode) == 0o600


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="journal"):
        Journal(f"sqlite:///{tmp_path / 'file' / 'j.sqlite'}")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    with pytest.raises(ConfigurationError, match="round"):
        Journal(tmp_path / "round")


@pytest.mark.parametrize("damage", [b"not a database" * 100, None], ids=["no database", "damaged"])
def test_a_damaged_file_is_named_and_the_error_says_how_to_save_it(
    damage: bytes | None, tmp_path: Path
) -> None:
    file = tmp_path / "j.sqlite"
    Journal(f"sqlite:///{file}").close()
    whole = file.read_bytes()
    file.write_bytes(damage or whole[:1000] + b"x" * (len(whole) - 1000))
    with pytest.raises(JournalError) as error:
        Journal(f"sqlite:///{file}")
    assert str(file) in str(error.value)
    assert ".recover" in error.value.hint


def test_no_error_shows_a_password_or_suggests_a_journal_that_forgets() -> None:
    for url in (
        "postgresql+nosuchdriver://me:secret@host/db",
        "mysql://me:secret@host/db",
        "me:secret",
    ):
        with pytest.raises(ConfigurationError) as error:
            Journal(url)
        assert "secret" not in str(error.value)
        assert ":memory:" not in error.value.hint
    with pytest.raises(ConfigurationError) as error:
        Journal("host=127.0.0.1 password=secret")
    assert "secret" not in f"{error.value} {error.value.hint}"
    for who, more in (("me:secret", ""), ("me", "?password=secret"), ("", "?sslpassword=secret")):
        with pytest.raises(JournalError, match=r"me:\*\*\*@|127.0.0.1:1/db") as failed:
            Journal(f"postgresql+psycopg://{who}@127.0.0.1:1/db{more}")
        assert "secret" not in str(failed.value)


def test_a_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "j.sqlite"
    Journal(f"sqlite:///{file}").close()
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE hms_journal SET version = 99")
    with pytest.raises(JournalError, match="99") as refused:
        Journal(f"sqlite:///{file}")
    assert "newer release" in refused.value.hint
    assert str(file) in str(refused.value)


def test_a_closed_journal_holds_none_of_its_files_open(tmp_path: Path) -> None:
    journal = Journal(f"sqlite:///{tmp_path / 'j.sqlite'}")
    insert(journal, row(datetime(2026, 11, 1)))
    log = tmp_path / "j.sqlite-wal"
    assert log.exists()
    journal.close()
    assert not log.exists()  # SQLite deletes it with the last connection


def taken_away(file: Path, real: Path, how: str) -> None:
    match how:
        case "renamed":
            real.rename(f"{real}-old")
        case "deleted":
            real.unlink()
        case "copied over":
            (copy := Path(f"{real}-copy")).write_bytes(real.read_bytes())
            copy.replace(real)
        case "emptied":
            real.write_bytes(b"")
        case "folder":
            real.parent.rename(f"{real.parent}-old")
        case "link":
            file.unlink()
            Journal(f"sqlite:///{file}").close()
        case "log copied":
            (copy := Path(f"{real}-copy")).write_bytes((wal := Path(f"{real}-wal")).read_bytes())
            copy.replace(wal)
        case _:
            Path(f"{real}-{how}").unlink()


@pytest.mark.parametrize(
    "how",
    [
        *("renamed", "deleted", "copied over", "emptied", "folder"),
        "link",
        "wal",
        "shm",
        "log copied",
    ],
)
async def test_a_file_that_is_not_where_it_was_opened_is_told_and_nothing_is_sent(
    how: str, tmp_path: Path
) -> None:
    (folder := tmp_path / "state").mkdir()
    (file := folder / "j.sqlite").symlink_to(real := folder / "real.sqlite")
    journal, room = Journal(f"sqlite:///{file}"), StandInRoom([peer(1)])
    gate, action = gate_on(room, journal), at(journal, "approved", journal.now())
    taken_away(file, real, how)
    with pytest.raises(JournalError, match="was moved, replaced or emptied") as told:
        await gate.run(action)
    assert str(file) in str(told.value)
    assert "Nothing is sent" in told.value.hint
    assert room.posts == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_new_connection_does_not_take_another_file_for_the_journal(tmp_path: Path) -> None:
    file = tmp_path / "j.sqlite"
    journal, room = Journal(f"sqlite:///{file}"), StandInRoom([peer(1)])
    gate, action = gate_on(room, journal), at(journal, "approved", journal.now())
    Journal(f"sqlite:///{tmp_path / 'other.sqlite'}").close()
    for end in ("-wal", "-shm"):
        Path(f"{file}{end}").unlink()
    (tmp_path / "other.sqlite").replace(file)
    if (child := os.fork()) == 0:  # which closes the unused connections first
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(JournalError, match="was moved, replaced or emptied"):
        asyncio.run(gate.run(action))
    with pytest.raises(JournalError, match="was moved, replaced or emptied"):
        journal.note(action.id, "seen")
    assert room.posts == []


async def test_a_file_that_is_put_back_serves_again(tmp_path: Path) -> None:
    file = tmp_path / "j.sqlite"
    journal, room = Journal(f"sqlite:///{file}"), StandInRoom([peer(1)])
    gate, action = gate_on(room, journal), at(journal, "approved", journal.now())
    file.rename(away := tmp_path / "away")
    with pytest.raises(JournalError, match="was moved"):
        await gate.run(action)
    away.replace(file)
    await gate.run(action)
    assert len(room.posts) == 1


@pytest.mark.parametrize("way", ["terminal", "relaxed"])
async def test_with_a_copy_what_was_approved_before_is_asked_about_again(
    way: str, tmp_path: Path
) -> None:
    file, copy = tmp_path / "j.sqlite", tmp_path / "copy.sqlite"
    journal, room = Journal(file), StandInRoom([peer(1)])
    action = insert(journal, row(journal.now()))
    with journal.write() as tx:
        tx.move(action, "approved", by="ada", way=way)
    with closing(sqlite3.connect(file)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
    unasked = {"hms-send-message"}
    assert (await gate_on(room, journal, relaxed=unasked).run(action.id)).state == "done"
    gate = gate_on(room, Journal(copy), relaxed=unasked)
    asked = await gate.run(action.id)
    assert (asked.state, len(room.posts)) == ("proposed", 1)
    assert "copied or moved" in asked.note
    await gate.decide(asked.id, gate.request(asked).approve(), by="ada", way="terminal")
    gate.journal.close()
    assert (await gate_on(room, Journal(copy)).run(asked.id)).state == "done"
    assert len(room.posts) == 2


def test_a_journal_says_where_it_is_as_a_person_would_look_for_it(tmp_path: Path) -> None:
    file = tmp_path / "j.sqlite"
    with closing(Journal(f"sqlite:///{file}")) as journal:
        assert str(file) in repr(journal)
        assert "sqlite:///" not in repr(journal)
    assert repr(Journal(":memory:")) == "Journal(:memory:)"


def test_a_question_ends_at_its_deadline_and_what_was_sent_when_its_outcome_came() -> None:
    asked = row(datetime(2026, 11, 1, tzinfo=UTC))
    late = replace(asked, finished_at=asked.expires_at + timedelta(seconds=5))
    assert replace(late, state="expired").ended_at == asked.expires_at
    assert replace(late, state="done").ended_at == late.finished_at


def test_with_a_key_a_row_that_was_changed_is_not_told_as_one_from_before_the_key(
    tmp_path: Path,
) -> None:
    file = tmp_path / "j.sqlite"
    journal = Journal(f"sqlite:///{file}", key=KEY)
    insert(journal, row(journal.now()))
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("UPDATE hms_actions SET requester = 'somebody else'")
    [found] = journal.actions()
    assert "another program changed it" in found.contradiction


@pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs in folders")
@pytest.mark.parametrize("name", ["journal", "journal-journal", "journal-wal", "journal-shm"])
def test_a_path_that_is_no_regular_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigurationError, match="is not a regular file"):
        Journal(tmp_path / "journal")


@pytest.mark.parametrize("place", ["folder", "/dev/null"])
def test_a_folder_or_a_device_is_no_journal(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    for create in (True, False):
        with pytest.raises(ConfigurationError, match="is not a regular file"):
            Journal(tmp_path / place, create=create)
