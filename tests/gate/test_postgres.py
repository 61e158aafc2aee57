"""The same journal on PostgreSQL, on a server the test starts itself."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from hms_active_rooms.errors import BrokenRecord, ConfigurationError, JournalError
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
from postgresql_server import as_nobody_special, new_database, running_postgresql
from stand_in import ROOM, Clock, StandInRoom, gate_on, insert, peer, row

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("initdb"), reason="PostgreSQL's initdb is not installed"),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server of this module's own."""
    with running_postgresql() as url:
        yield url


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
    room.peers = [peer(1)]
    for peer_id in (peer(1).id, peer(1).id[:8]):
        said = {"room_id": ROOM, "message": "hi", "peer_id": peer_id}
        asked = await gate.propose(
            parse_call("hms-send-message", said), Origin("t", "m", peer_id, "agent")
        )
        await gate.decide(asked.id, Approve(asked.digest), by="ada", way="page")
        await gate.run(asked.id)
    assert asked.note.startswith("The same call was sent")
    journal.close()


@pytest.mark.parametrize("key", ["", "k" * 32])
def test_a_role_that_may_only_read_sees_what_is_on_record(url: str, key: str) -> None:
    place, role = new_database(url), f"auditor{len(key)}"
    journal = Journal(place, key=key)
    action = insert(journal, row(journal.now()))
    admin = sa.create_engine(place, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as db:
        db.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
        db.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    theirs = Journal(place.replace("journal@", f"{role}@"), key=key, create=False)
    assert theirs.get(action.id) == action
    with pytest.raises(JournalError, match="permission denied"):
        theirs.note(action.id, "looked")
    for each in (journal, theirs):
        each.close()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_url_may_leave_out_the_driver(url: str, scheme: str) -> None:
    Journal(url.replace("postgresql+psycopg", scheme)).close()


@pytest.mark.parametrize(
    ("encoding", "more"), [("SQL_ASCII", ""), ("UTF8", "&client_encoding=latin1"), ("LATIN1", "")]
)
def test_a_database_keeps_every_character_or_is_refused(url: str, encoding: str, more: str) -> None:
    admin = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    name, locale = f"of_{encoding.lower()}", "LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    with admin.connect() as db:
        db.exec_driver_sql(f"CREATE DATABASE {name} ENCODING '{encoding}' {locale}")
    of_encoding = url.replace("/postgres?", f"/{name}?") + more
    if encoding == "LATIN1":
        with pytest.raises(JournalError, match="LATIN1") as refused:
            Journal(of_encoding)
        assert "UTF8" in refused.value.hint
        return
    journal = Journal(of_encoding)
    with journal.write() as tx:
        tx.ask("日本 \U0001f600", ["é"])
        assert tx.asked_at("日本 \U0001f600") == ["é"]
    journal.close()


@pytest.mark.parametrize(
    ("role", "more", "todo"),
    [
        ("weak", "", "Let this database user"),
        ("nobody", "", "accepts the user"),
        ("journal", "&port=1", "the server runs"),
        ("journal", "&connect_timeout=soon", "in the journal's URL"),
        ("journal", "&sslmode=perhaps", "in the journal's URL"),
        (
            "journal",
            "&options=-cdefault_transaction_read_only%3Don",
            "not a copy that can only be read",
        ),
        ("journal", "&options=-csearch_path%3Dnowhere", "Create the schema"),
        ("journal", "&options=-cstatement_timeout%3D1", "raise the timeout"),
    ],
)
def test_what_to_do_about_a_server_that_refuses_is_said(
    url: str, role: str, more: str, todo: str
) -> None:
    admin = sa.create_engine(url, poolclass=sa.NullPool)
    with admin.begin() as db:
        db.exec_driver_sql("DROP ROLE IF EXISTS weak")
        db.exec_driver_sql("CREATE ROLE weak LOGIN")
    with pytest.raises(JournalError) as refused:
        Journal(new_database(url).replace("journal@", f"{role}@") + more)
    assert todo in refused.value.hint
    assert "Nothing is sent" in refused.value.hint


def test_after_a_transaction_that_the_server_stops_a_person_is_told_to_try_again(url: str) -> None:
    journal = Journal(url)
    with pytest.raises(JournalError) as refused, journal.write() as tx:
        tx.db.exec_driver_sql("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(60)")
    assert "Try again" in refused.value.hint
    with pytest.raises(JournalError) as refused, journal.write() as tx:
        tx.db.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    assert "Try again" in refused.value.hint
    assert "ended the session" in refused.value.hint
    journal.close()


@pytest.mark.parametrize(
    ("lock", "use"),
    [
        (
            "SELECT pg_advisory_xact_lock(x'686d73'::int)",
            lambda journal: journal.note("a", "looked"),
        ),
        ("LOCK TABLE hms_actions", lambda journal: journal.get("a")),
    ],
)
def test_a_journal_that_stays_locked_is_told_after_ten_seconds(
    url: str, lock: str, use: Callable[[Journal], object]
) -> None:
    journal, other = Journal(url), sa.create_engine(url, poolclass=sa.NullPool)
    with other.begin() as db:
        db.exec_driver_sql(lock)
        with pytest.raises(JournalError, match="it is locked") as refused:
            use(journal)
    assert refused.value.retry_after_s == 10
    journal.close()


def test_a_server_that_does_not_answer_is_not_told_as_a_lock() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/db?connect_timeout=2"
        with pytest.raises(JournalError, match="timeout") as refused:
            Journal(place)
    assert "the server runs" in refused.value.hint


async def test_a_journal_of_0_1_0_reads_right_and_goes_on(url: str) -> None:
    old = new_database(url)
    engine = sa.create_engine(old, poolclass=sa.NullPool)
    with engine.begin() as db:
        for statement in statements("postgresql"):
            db.exec_driver_sql(statement)
    Journal(old).close()
    assert_tables_are_those_of_this_release(old)
    journal = Journal(old, clock=Clock(WRITTEN))
    await assert_reads_right_and_goes_on(journal)
    journal.close()


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
    for _ in range(2):
        with journal.write() as tx:
            assert tx.db.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    journal.close()


@pytest.fixture
def url_of_snapshots(url: str) -> Iterator[str]:
    """A transaction goes on seeing what there was when it began, unless a session wants it."""
    admin = sa.create_engine(url, poolclass=sa.NullPool)
    setting = "ALTER ROLE journal {} default_transaction_isolation"
    with admin.begin() as db:
        db.exec_driver_sql(setting.format("SET") + " = 'repeatable read'")
    yield url
    with admin.begin() as db:
        db.exec_driver_sql(setting.format("RESET"))


def test_whoever_waited_to_write_sees_what_was_written_meanwhile_whatever_the_server_is_set_to(
    url_of_snapshots: str,
) -> None:
    journal, other = Journal(url_of_snapshots), Journal(url_of_snapshots)
    watching = sa.create_engine(url_of_snapshots, poolclass=sa.NullPool)
    seen: list[list[str]] = []

    def write_too() -> None:
        with other.write() as tx:
            seen.append(tx.asked_at("a place of snapshots"))

    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    thread = threading.Thread(target=write_too)
    with journal.write() as tx:
        thread.start()
        while True:
            with watching.begin() as db:
                if db.exec_driver_sql(waiting).scalar():
                    break
        tx.ask("a place of snapshots", ["a"])
    thread.join()
    assert seen == [["a"]]
    journal.close()
    other.close()


def test_a_server_that_could_lose_a_record_is_refused(url: str) -> None:
    admin = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")

    def set_to(value: str) -> None:
        with admin.connect() as db:
            db.exec_driver_sql(f"ALTER SYSTEM SET fsync = {value}")
            db.exec_driver_sql("SELECT pg_reload_conf()")
        while True:  # the server takes it a moment later
            with admin.connect() as db:
                if db.exec_driver_sql("SHOW fsync").scalar() == value:
                    return

    set_to("off")
    try:
        with pytest.raises(JournalError, match="fsync") as refused:
            Journal(url)
        assert "Set fsync to on" in refused.value.hint
    finally:
        set_to("on")
    Journal(url).close()


@pytest.mark.parametrize("table", ["hms_actions", "hms_events", "hms_asks"])
def test_a_table_that_a_crash_would_empty_is_refused(url: str, table: str) -> None:
    place = new_database(url)
    Journal(place).close()
    admin = sa.create_engine(place, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as db:
        db.exec_driver_sql(f"ALTER TABLE {table} SET UNLOGGED")
        with pytest.raises(JournalError, match="a table is UNLOGGED"):
            Journal(place)
        db.exec_driver_sql(f"ALTER TABLE {table} SET LOGGED")
    Journal(place).close()


async def test_with_a_copy_what_was_approved_before_is_asked_about_again(url: str) -> None:
    place, room = new_database(url), StandInRoom([peer(1)])
    journal = Journal(place)
    action = insert(journal, row(journal.now()))
    with journal.write() as tx:
        tx.move(action, "approved", by="ada", way="terminal")
    journal.close()
    admin = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    name = sa.make_url(place).database
    with admin.connect() as db:
        db.exec_driver_sql(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
    asked = await gate_on(room, Journal(place.replace(f"{name}", f"{name}_copy"))).run(action.id)
    assert (asked.state, room.posts) == ("proposed", [])
    assert "copied or moved" in asked.note
    assert (await gate_on(room, Journal(place)).run(action.id)).state == "done"


def test_a_trigger_that_does_not_fire_is_missing(url: str) -> None:
    place = new_database(url)
    Journal(place).close()
    admin = sa.create_engine(place, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as db:
        db.exec_driver_sql("ALTER TABLE hms_events ENABLE REPLICA TRIGGER hms_events_no_change")
    with pytest.raises(BrokenRecord, match="hms_events_no_change"):
        Journal(place)


def test_a_record_that_a_trigger_drops_is_a_clear_error(url: str) -> None:
    place = new_database(url)
    journal = Journal(place)
    admin = sa.create_engine(place, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as db:
        db.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION hms_events_no_change() RETURNS trigger LANGUAGE plpgsql "
            "AS $$ BEGIN RETURN NULL; END $$"
        )
    with pytest.raises(BrokenRecord, match="dropped a record"):
        journal.note("someid", "looked")
    journal.close()


# --- behind PgBouncer, which lends a session of the server for one transaction only ---------------


@pytest.fixture(scope="module")
def pooled(url: str) -> Iterator[str]:
    """The same database through PgBouncer with two sessions."""
    command = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if command is None:
        pytest.fail("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    home = Path(url.partition("host=")[2])
    settings = f"""[databases]
postgres = host={home} user=journal
by_statement = host={home} dbname=postgres user=journal pool_mode=statement
[pgbouncer]
listen_addr =
listen_port = 6543
unix_socket_dir = {home}
auth_type = any
pool_mode = transaction
default_pool_size = 2
logfile = {home}/pgbouncer.log
"""
    (home / "pgbouncer.ini").write_text(settings)
    (home / "pgbouncer.ini").chmod(0o644)
    run = ["exec", command, str(home / "pgbouncer.ini")]
    pooler = subprocess.Popen(
        as_nobody_special(run) if os.geteuid() == 0 else run[1:],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    through = f"{url}&port=6543"
    try:
        for _ in range(200):
            with suppress(DBAPIError):
                sa.create_engine(through, poolclass=sa.NullPool).connect().close()
                break
            pooler.poll()
            assert pooler.returncode is None, (home / "pgbouncer.log").read_text()
        yield through
    finally:
        pooler.terminate()
        pooler.wait(30)


@pytest.mark.slow
def test_a_pooler_without_transactions_is_refused_with_the_setting_to_change(pooled: str) -> None:
    with pytest.raises(JournalError) as refused:
        Journal(pooled.replace("/postgres?", "/by_statement?"))
    assert "pool_mode to transaction" in refused.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", "&prepare_threshold=none"])
def test_behind_a_pooler_that_lends_sessions_every_approved_message_is_sent_once(
    pooled: str, more: str
) -> None:
    clock = Clock(datetime(2021, 1, 1, tzinfo=UTC))
    journal = Journal(pooled + more, clock=clock)
    room = StandInRoom([peer(1)])
    keys = [f"pooled{more}{n}" for n in range(30)]
    for key in keys:
        insert(journal, row(journal.now(), key, state="approved", decided_way="page"))
    states: list[str] = []

    def run(mine: Journal) -> None:
        gate = gate_on(room, mine, actions_per_minute=10_000)
        states.extend(asyncio.run(gate.run(action_id(key, 1))).state for key in keys)

    journals = [Journal(pooled + more, clock=clock) for _ in range(4)]
    threads = [threading.Thread(target=run, args=(mine,)) for mine in journals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == 4 * len(keys) * ["done"]
    assert len(room.posts) == len(keys)
    for each in (journal, *journals):
        each.close()


def test_behind_a_pooler_a_commit_waits_for_the_disk(pooled: str, url_of_off: str) -> None:
    journal = Journal(pooled)
    with journal.write() as tx:
        assert tx.db.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    journal.close()


def test_prepared_statements_can_be_asked_for(url: str) -> None:
    journal = Journal(f"{url}&prepare_threshold=0")
    with journal.read() as view:
        assert view.actions(limit=1) is not None
        prepared = "SELECT count(*) FROM pg_prepared_statements"
        assert view.db.exec_driver_sql(prepared).scalar()
    journal.close()
    with pytest.raises(ConfigurationError, match="prepare_threshold"):
        Journal(f"{url}&prepare_threshold=often")


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
    for sql in (
        "DELETE FROM hms_events",
        "UPDATE hms_events SET kind = 'done'",
        "TRUNCATE hms_events",
        "INSERT INTO hms_events SELECT * FROM hms_events ON CONFLICT (seq) DO UPDATE SET kind = ''",
    ):
        with pytest.raises(DBAPIError, match="append-only"), other.begin() as db:
            db.exec_driver_sql(sql)
    journal.close()


def test_all_reads_of_one_view_are_of_one_moment(url: str) -> None:
    journal = Journal(url)
    with journal.read() as view:
        assert view.asked_at("a place of one moment") == []
        with journal.write() as tx:
            tx.ask("a place of one moment", ["a"])
        assert view.asked_at("a place of one moment") == []
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
        Writing(view.db, journal.now, b"").ask("nowhere", ["a"])
    with journal.write() as tx:
        tx.move(action, "approved", by="ada", way="page")
        assert journal.get(action.id) == action
    journal.close()


def test_what_ended_is_exported_and_pruned_and_its_id_is_not_used_again(url: str) -> None:
    clock = Clock(datetime(2020, 1, 1, tzinfo=UTC))
    journal = Journal(url, clock=clock)
    action = insert(journal, row(clock(), "old", state="rejected"))
    clock.now += timedelta(days=1)
    file = StringIO()
    assert journal.prune(before=clock(), by="ada").actions == 0
    assert journal.export(file, before=clock(), by="ada") == 1
    assert journal.prune(before=clock(), by="ada").actions == 1
    assert [e.kind for e in journal.events(action.id)] == ["pruned"]
    other = sa.create_engine(url, poolclass=sa.NullPool)
    with pytest.raises(DBAPIError, match="append-only"), other.begin() as db:
        db.exec_driver_sql("DELETE FROM hms_events WHERE kind = 'pruned'")
    with pytest.raises(BrokenRecord, match="made before"):
        insert(journal, action)
    journal.close()


def test_a_forged_row_is_shown_as_one_and_a_journal_that_is_not_whole_is_refused(url: str) -> None:
    journal = Journal(url)
    action = insert(journal, row(journal.now(), "forged", state="approved", decided_way="page"))
    other = sa.create_engine(url, poolclass=sa.NullPool)
    with other.begin() as db:
        db.exec_driver_sql(f"UPDATE hms_actions SET decided_by = 'x' WHERE id = '{action.id}'")
    found = journal.get(action.id)
    assert found
    assert "contradicts itself" in found.contradiction
    for change in ("DISABLE", "ENABLE"):
        with other.begin() as db:
            db.exec_driver_sql(f"ALTER TABLE hms_events {change} TRIGGER hms_events_no_change")
        if change == "DISABLE":
            with pytest.raises(BrokenRecord, match="not whole"):
                Journal(url)
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


async def test_a_call_in_a_graph_may_have_a_long_id(url: str) -> None:
    journal, room = Journal(url), StandInRoom([peer(1)])
    gate = gate_on(room, journal, relaxed={"hms-send-message"})
    call = parse_call("hms-send-message", {"room_id": ROOM, "message": "hi"})
    call_id = "call_1__thought__" + os.urandom(8000).hex()  # LiteLLM's ids hold what Gemini thought
    for step, state in (("first", "approved"), ("replayed", "proposed")):
        origin = Origin("long", step, call_id, "agent")
        assert (await gate.propose(call, origin, once=call_id)).state == state
    journal.close()


def test_whoever_only_looks_makes_no_journal(url: str) -> None:
    url = new_database(url)
    with pytest.raises(ConfigurationError, match="There is no journal at"):
        Journal(url, create=False)
    assert sa.inspect(sa.create_engine(url, poolclass=sa.NullPool)).get_table_names() == []
    Journal(url).close()
    Journal(url, create=False).close()


def test_a_key_holds_and_steps_without_a_seal_are_refused(url: str) -> None:
    url = new_database(url)
    journal = Journal(url, key="k" * 32)
    action = insert(journal, row(journal.now()))
    with pytest.raises(JournalError, match="signed with a key"):
        Journal(url)
    with pytest.raises(JournalError, match="newer release"), journal.write() as tx:
        tx.note(action.id, "approved", by="ada", way="page")
    assert [event.kind for event in journal.events(action.id)] == ["proposed"]
    journal.close()
