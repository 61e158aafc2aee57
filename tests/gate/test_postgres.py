"""The same journal on PostgreSQL, on a server the test starts itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import plugins
from sqlalchemy.engine import CreateEnginePlugin
from sqlalchemy.exc import DBAPIError

from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.approval import Approve, Reject
from hms_active_rooms.gate.calls import parse_call
from hms_active_rooms.gate.drafts import Origin, draft
from hms_active_rooms.gate.journal import Journal
from stand_in import Clock, StandInRoom, gate_on, peer

ROOM = "6" * 24

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


def test_a_removal_runs_once_and_is_on_record(url: str) -> None:
    journal = Journal(url)

    async def go() -> None:
        room = StandInRoom([peer(1), peer(2)])
        gate = gate_on(room, journal)
        call = parse_call("hms-remove-peers", {"room_id": ROOM, "role": "student"})
        action = await gate.propose(call, Origin("t", "m", "c", "agent"))
        await gate.decide(action.id, Approve(action.digest), by="ada", way="test")
        for _ in range(2):
            assert (await gate.run(action.id)).state == "done"
        assert len(room.posts) == 2
        assert [e.kind for e in journal.events(action.id)] == [
            "proposed",
            "approved",
            "sent",
            "done",
        ]

    import asyncio

    asyncio.run(go())
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


def waits_for_the_disk(journal: Journal) -> list[object]:
    """What sessions that read and sessions that write say of it."""
    said: list[object] = []
    for session in (journal._transaction, journal._reading):
        with session() as db:
            said.append(db.exec_driver_sql("SHOW synchronous_commit").scalar())
    return said


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
    journal = Journal(url_of_off)
    assert waits_for_the_disk(journal) == ["on", "on"]
    with pytest.raises(JournalError), journal._transaction() as db:
        db.exec_driver_sql("SELECT 1 / 0")
    assert waits_for_the_disk(journal) == ["on", "on"]
    journal.close()


def test_a_server_whose_commits_cannot_wait_for_the_disk_is_refused(url_of_off: str) -> None:
    with (
        sessions_lose_settings(url_of_off) as lossy,
        pytest.raises(JournalError, match="synchronous_commit") as refused,
    ):
        Journal(lossy)
    assert "Connect to PostgreSQL itself" in refused.value.hint


def test_a_claim_has_one_winner(url: str) -> None:
    journal = Journal(url)
    now = Clock(journal.now())
    call = parse_call("hms-send-message", {"room_id": ROOM, "message": "hi"})
    row = draft(call, key="k", revision=1, thread="t", requester="a", now=now(), ttl_s=600)
    action = journal.insert(row)
    assert journal.move(action, "approved", by="t", way="t")
    action = replace(action, state="approved")
    start, won = threading.Barrier(6), []

    def claim() -> None:
        mine = Journal(url)
        start.wait()
        if mine.claim(action, per_minute=100):
            won.append(1)
        mine.close()

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    journal.close()


def test_the_time_is_read_once_nobody_else_can_move_a_row(url: str) -> None:
    early = datetime(2026, 1, 1, tzinfo=UTC)
    late = early + timedelta(seconds=600)
    other = sa.create_engine(url)

    def clock() -> datetime:
        try:
            with other.begin() as db:
                db.exec_driver_sql("LOCK TABLE hms_actions IN ROW EXCLUSIVE MODE NOWAIT")
        except sa.exc.OperationalError:
            return late
        return early

    journal = Journal(url, clock=clock)
    call = parse_call("hms-send-message", {"room_id": ROOM, "message": "hi"})
    row = draft(call, key="w", revision=1, thread="t", requester="a", now=early, ttl_s=600)
    proposed = journal.insert(row)
    assert not journal.move(proposed, "approved", by="t", way="t")
    in_time = draft(call, key="v", revision=1, thread="t", requester="a", now=early, ttl_s=601)
    assert journal.move(journal.insert(in_time), "approved", by="t", way="t")
    assert journal.claim(replace(in_time, state="approved"), per_minute=100)
    sent = journal.get(in_time.id)
    assert sent
    assert (sent.decided_at, sent.sent_at) == (late, late)
    assert journal.give_back(in_time.id, reason="429")
    journal.close()
    other.dispose()


def test_events_are_append_only(url: str) -> None:
    journal = Journal(url)
    call = parse_call("hms-send-message", {"room_id": ROOM, "message": "hi"})
    now = journal.now()
    journal.insert(draft(call, key="e", revision=1, thread="t", requester="a", now=now, ttl_s=600))
    with journal._engine.begin() as db:
        assert db.exec_driver_sql("SELECT count(*) FROM hms_events").scalar()
    with pytest.raises(DBAPIError, match="append-only"), journal._engine.begin() as db:
        db.exec_driver_sql("DELETE FROM hms_events")
    journal.close()


def test_two_questions_at_one_place_leave_the_first(url: str) -> None:
    journal = Journal(url)
    assert journal.ask(("here",), ["a"]).fresh
    assert journal.ask(("here",), ["b"]).items == ["a"]
    journal.close()


def test_a_reader_chooses_in_sql_and_cannot_write(url: str) -> None:
    journal = Journal(url)
    call = parse_call("hms-send-message", {"room_id": "8" * 24, "message": "hi"})
    now = journal.now()
    made = draft(call, key="r", revision=1, thread="r", requester="a", now=now, ttl_s=600)
    action = journal.insert(made)
    late = made.expires_at
    for state, at, fits in (
        ("proposed", now, True),
        ("proposed", late, False),
        ("expired", now, False),
        ("expired", late, True),
    ):
        found = journal.actions(state=state, at=at, rooms=["8" * 24])
        assert [a.id for a in found] == ([action.id] if fits else [])
        assert journal.count(state=state, at=at, thread="r") == len(found)
    with pytest.raises(JournalError, match="read-only"), journal._reading() as db:
        db.exec_driver_sql("DELETE FROM hms_asks")
    journal.note(action.id, "looked")
    with journal._transaction() as writing:
        writing.exec_driver_sql("UPDATE hms_actions SET note = 'not yet'")
        assert journal.get(action.id) == action
    journal.close()


async def test_a_no_with_characters_that_postgresql_refuses_is_a_no(url: str) -> None:
    journal = Journal(url)
    gate = gate_on(StandInRoom([peer(1)]), journal)
    call = parse_call("hms-send-message", {"room_id": ROOM, "message": "hi"})
    action = await gate.propose(call, Origin("t", "m", "no", "agent"))
    no = Reject("no\x00 \udcff", by="ada\x00")
    assert (await gate.decide(action.id, no, by="", way="page")).state == "rejected"
    journal.close()
