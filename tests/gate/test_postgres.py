"""The same journal on PostgreSQL, on a server the test starts itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import plugins
from sqlalchemy.engine import CreateEnginePlugin
from sqlalchemy.exc import DBAPIError

from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.approval import Approve, Reject
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Origin, action_id
from hms_active_rooms.gate.journal.store import Writing
from old_journal import (
    WRITTEN,
    assert_reads_right_and_goes_on,
    assert_tables_are_those_of_this_release,
    statements,
)
from stand_in import ROOM, Clock, StandInRoom, gate_on, insert, peer, row

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("initdb"), reason="PostgreSQL's initdb is not installed"),
]


def as_nobody_special(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return command
    return ["su", "postgres", "-s", "/bin/sh", "-c", " ".join(command)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A PostgreSQL server on a socket in a folder of its own, which its user can reach."""
    home = Path(tempfile.mkdtemp(prefix="hms-pg-"))
    if os.geteuid() == 0:
        shutil.chown(home, "postgres")

    def run(*command: str) -> None:
        subprocess.run(as_nobody_special([*command]), check=True, capture_output=True)

    data = str(home / "data")
    run("initdb", "-D", data, "-A", "trust", "-U", "journal")
    options = f"\"-c listen_addresses='' -c unix_socket_directories={home}\""
    if os.geteuid() != 0:
        options = options.strip('"')
    run("pg_ctl", "-D", data, "-w", "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://journal@/postgres?host={home}"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(home)


async def test_a_removal_runs_once_and_is_on_record(url: str) -> None:
    journal, room = Journal(url), StandInRoom([peer(1), peer(2)])
    gate = gate_on(room, journal)
    call = parse_call("hms-remove-peers", {"room_id": ROOM, "role": "student"})
    action = await gate.propose(call, Origin("t", "m", "c", "agent"))
    assert (await gate.decide(action.id, Approve(action.digest), by="ada", way="page")).counted
    for _ in range(2):
        assert (await gate.run(action.id)).state == "done"
    assert len(room.posts) == 2
    kinds = [e.kind for e in journal.events(action.id)]
    assert kinds == ["proposed", "approved", "sent", "done"]
    journal.close()


async def test_a_journal_of_0_1_0_reads_right_and_goes_on(url: str) -> None:
    admin = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as db:
        db.exec_driver_sql("CREATE DATABASE old")
    old = url.replace("/postgres?", "/old?")
    engine = sa.create_engine(old, poolclass=sa.NullPool)
    with engine.begin() as db:
        for statement in statements("postgresql"):
            db.exec_driver_sql(statement)
    Journal(old).close()
    assert_tables_are_those_of_this_release(old)
    journal = Journal(old, clock=Clock(WRITTEN))
    await assert_reads_right_and_goes_on(journal)
    journal.close()


@contextmanager
def sessions_lose_settings(url: str) -> Iterator[str]:
    """The same database behind something that swallows every SET, as a pooler can."""

    class Deaf(psycopg.Cursor[Any]):
        def execute(self, query: Any, *more: Any, **options: Any) -> Self:
            return super().execute("SELECT" if "SET" in str(query) else query, *more, **options)

    class Pooler(CreateEnginePlugin):
        def update_url(self, url: sa.URL) -> sa.URL:
            return url

        def engine_created(self, engine: sa.Engine) -> None:
            sa.event.listen(engine, "connect", self.connected)

        def connected(self, connection: psycopg.Connection, _record: object) -> None:
            connection.cursor_factory = Deaf

    plugins.impls["pooler"] = lambda: Pooler
    try:
        yield url + "&plugin=pooler"
    finally:
        del plugins.impls["pooler"]


@contextmanager
def watched(url: str) -> Iterator[tuple[str, list[object]]]:
    """The same database, and what each transaction's session says of waiting for the disk."""
    said: list[object] = []

    class Watch(CreateEnginePlugin):
        def update_url(self, url: sa.URL) -> sa.URL:
            return url

        def engine_created(self, engine: sa.Engine) -> None:
            sa.event.listen(engine, "begin", self.begun)

        def begun(self, db: sa.Connection) -> None:
            said.append(db.exec_driver_sql("SHOW synchronous_commit").scalar())

    plugins.impls["watch"] = lambda: Watch
    try:
        yield url + "&plugin=watch", said
    finally:
        del plugins.impls["watch"]


@pytest.fixture(params=["DATABASE postgres", "ROLE journal"])
def url_of_off(url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A commit does not wait for the disk, unless a session wants it."""
    admin = sa.create_engine(url, poolclass=sa.NullPool)
    with admin.begin() as db:
        db.exec_driver_sql(f"ALTER {request.param} SET synchronous_commit = off")
    with admin.begin() as db:
        assert db.exec_driver_sql("SHOW synchronous_commit").scalar() == "off"
    yield url
    with admin.begin() as db:
        db.exec_driver_sql(f"ALTER {request.param} RESET synchronous_commit")


def test_a_commit_waits_for_the_disk_whatever_the_server_is_set_to(url_of_off: str) -> None:
    with watched(url_of_off) as (watching, said):
        journal = Journal(watching)
        action = insert(journal, row(journal.now(), str(uuid4())))
        assert journal.get(action.id) == action
        with pytest.raises(JournalError):  # a rollback does not take the setting back
            insert(journal, action)
        journal.note(action.id, "looked")
        assert journal.get(action.id) == action
        journal.close()
    assert said == 6 * ["on"]


def test_a_server_whose_commits_cannot_wait_for_the_disk_is_refused(url_of_off: str) -> None:
    with (
        sessions_lose_settings(url_of_off) as lossy,
        pytest.raises(JournalError, match="synchronous_commit") as refused,
    ):
        Journal(lossy)
    assert "Connect to PostgreSQL itself" in refused.value.hint


def test_a_claim_has_one_winner(url: str) -> None:
    journal, room = Journal(url), StandInRoom([peer(1)])
    action = insert(journal, row(journal.now(), "claimed", state="approved", decided_way="page"))
    start = threading.Barrier(6)

    def run() -> None:
        mine = Journal(url)
        start.wait()
        asyncio.run(gate_on(room, mine).run(action.id))
        mine.close()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(room.posts) == 1
    assert [e.kind for e in journal.events(action.id)].count("sent") == 1
    journal.close()


async def test_the_time_is_read_once_nobody_else_can_move_a_row(url: str) -> None:
    early = datetime(2026, 1, 1, tzinfo=UTC)
    late = early + timedelta(seconds=600)
    other = sa.create_engine(url, poolclass=sa.NullPool)

    def clock() -> datetime:
        with other.begin() as db:
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            return late if db.exec_driver_sql(locks).scalar() else early

    journal = Journal(url, clock=clock)
    gate = gate_on(StandInRoom([peer(1)]), journal)
    waits = insert(journal, row(early, "w"))
    in_time = insert(journal, row(early, "v", expires_at=late + timedelta(seconds=1)))
    decided = await gate.decide(waits.id, Approve(waits.digest), by="ada", way="page")
    assert (decided.counted, decided.action.state) == (False, "expired")
    decided = await gate.decide(in_time.id, Approve(in_time.digest), by="ada", way="page")
    assert (decided.counted, decided.action.decided_at) == (True, late)
    journal.close()


def test_events_are_append_only(url: str) -> None:
    journal = Journal(url)
    insert(journal, row(journal.now(), "e"))
    other = sa.create_engine(url, poolclass=sa.NullPool)
    for sql in ("DELETE FROM hms_events", "UPDATE hms_events SET kind = 'done'"):
        with pytest.raises(DBAPIError, match="append-only"), other.begin() as db:
            db.exec_driver_sql(sql)
    journal.close()


def test_two_questions_at_one_place_leave_the_first(url: str) -> None:
    journal = Journal(url)
    with journal.write() as tx:
        assert tx.ask("here", ["a"])
    with journal.write() as tx:
        assert not tx.ask("here", ["b"])
        assert tx.asked_at("here") == ["a"]
    journal.close()


def test_a_reader_chooses_in_sql_waits_for_no_writer_and_cannot_write(url: str) -> None:
    clock = Clock()
    journal = Journal(url, clock=clock)
    elsewhere = "8" * 24
    action = insert(journal, row(clock(), "r", room_id=elsewhere, thread="r"))
    for passed_s, fits in ((0, "proposed"), (600, "expired")):
        clock.now = action.created_at + timedelta(seconds=passed_s)
        for state in ("proposed", "expired"):
            found = journal.actions(state=state, rooms=[elsewhere])
            assert [a.id for a in found] == ([action_id("r", 1)] if state == fits else [])
            assert journal.count(state=state, thread="r") == len(found)
    clock.now = action.created_at
    with pytest.raises(JournalError, match="read-only"), journal.read() as view:
        Writing.ask(view, "nowhere", ["a"])  # type: ignore[arg-type]
    with journal.write() as tx:
        tx.move(action, "approved", by="ada", way="page")
        assert journal.get(action.id) == action
    journal.close()


async def test_a_row_that_cannot_be_read_is_a_clear_error(url: str) -> None:
    journal = Journal(url)
    action = insert(journal, row(journal.now(), "x", state="approved", decided_way="page"))
    other = sa.create_engine(url, poolclass=sa.NullPool)
    room = StandInRoom([peer(1)])
    for change in ("state = 'settled'", "arguments = '[]'", "impact = '3'", "result = '[]'"):
        with other.begin() as db:
            db.exec_driver_sql(f"UPDATE hms_actions SET {change} WHERE id = '{action.id}'")
        with pytest.raises(JournalError, match="cannot be read"):
            await gate_on(room, journal).run(action)
    assert room.posts == []
    journal.close()


async def test_a_no_with_characters_that_postgresql_refuses_is_a_no(url: str) -> None:
    journal = Journal(url)
    gate = gate_on(StandInRoom([peer(1)]), journal)
    call = parse_call("hms-send-message", {"room_id": ROOM, "message": "hi"})
    action = await gate.propose(call, Origin("t", "m", "no", "agent"))
    no = Reject("no\x00 \udcff", by="ada\x00")
    decided = await gate.decide(action.id, no, by="", way="page")
    assert (decided.counted, decided.action.state) == (True, "rejected")
    assert (await gate.decide(action.id, {"type": "\x00"}, by="\x00", way="page")).problem
    journal.close()
