"""The journal's tables, and engines that keep a claim on disk before a request leaves."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import QueuePool

from hms_active_rooms.errors import JournalError
from hms_active_rooms.untrusted import quoted

SCHEMA_VERSION = 1

_READS = "hms_reads"
_FULL = 2  # what SQLite answers for synchronous=FULL
_NO_WAL = "WAL mode, which locks and shares the file, is not possible here: "

metadata = sa.MetaData()

versions = sa.Table("hms_journal", metadata, sa.Column("version", sa.Integer, primary_key=True))

actions = sa.Table(
    "hms_actions",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("call_key", sa.String(64), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("thread", sa.Text, nullable=False, index=True),
    sa.Column("requester", sa.Text, nullable=False),
    sa.Column("tool", sa.String(64), nullable=False),
    sa.Column("room_id", sa.String(64), nullable=False, index=True),
    sa.Column("arguments", sa.JSON, nullable=False),
    sa.Column("impact", sa.JSON),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("gate", sa.String(8), nullable=False),
    sa.Column("state", sa.String(12), nullable=False, index=True),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text, nullable=False),
    sa.Column("decided_way", sa.Text, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime, nullable=False, index=True),
    sa.Column("expires_at", sa.DateTime, nullable=False),
    sa.Column("decided_at", sa.DateTime),
    sa.Column("sent_at", sa.DateTime, index=True),
    sa.Column("lease_until", sa.DateTime),
    sa.Column("finished_at", sa.DateTime),
    sa.Column("result", sa.JSON, nullable=False),
    sa.Column("edited_from", sa.String(16)),
    sa.UniqueConstraint("call_key", "revision"),
)

events = sa.Table(
    "hms_events",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("action_id", sa.String(16), nullable=False, index=True),
    sa.Column("at", sa.DateTime, nullable=False),
    sa.Column("kind", sa.String(24), nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("way", sa.Text, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
)

steps = sa.Table(
    "hms_steps",
    metadata,
    sa.Column("action_id", sa.String(16), primary_key=True),
    sa.Column("peer_id", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(12), nullable=False),
)

asks = sa.Table(
    "hms_asks",
    metadata,
    sa.Column("place", sa.Text, primary_key=True),
    sa.Column("items", sa.JSON, nullable=False),
    sa.Column("at", sa.DateTime, nullable=False),
)

grants = sa.Table(
    "hms_grants",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("tool", sa.String(64), nullable=False),
    sa.Column("room_id", sa.String(64), nullable=False),
    sa.Column("session_id", sa.String(64), nullable=False),
    sa.Column("thread", sa.Text, nullable=False),
    sa.Column("requester", sa.Text, nullable=False),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("audience", sa.Text, nullable=False),
    sa.Column("most", sa.Integer, nullable=False),
    sa.Column("granted_by", sa.Text, nullable=False),
    sa.Column("action_id", sa.String(16), nullable=False),
    sa.Column("expires_at", sa.DateTime, nullable=False),
)

_APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER hms_events_no_{verb.lower()} BEFORE {verb} ON hms_events "
        "BEGIN SELECT RAISE(ABORT, 'events are append-only'); END"
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION hms_events_no_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'events are append-only'; END $$",
        "CREATE TRIGGER hms_events_no_change BEFORE UPDATE OR DELETE ON hms_events "
        "FOR EACH ROW EXECUTE FUNCTION hms_events_no_change()",
    ],
}


@sa.event.listens_for(events, "after_create")
def _protect_events(_table: sa.Table, connection: sa.Connection, **_: Any) -> None:
    for statement in _APPEND_ONLY.get(connection.dialect.name, []):
        connection.exec_driver_sql(statement)


def create_engine(url: str) -> sa.Engine:
    """An engine for a journal URL; ":memory:" for one that is gone when closed."""
    parsed = sa.make_url("sqlite://" if url == ":memory:" else url)
    if parsed.get_backend_name() != "sqlite":
        engine = sa.create_engine(parsed, pool_pre_ping=True)
        if engine.dialect.name == "postgresql":
            sa.event.listen(engine, "connect", _prepare_postgresql)
        return engine
    in_memory = is_in_memory(parsed)
    if not in_memory and parsed.database:
        _make_private(Path(parsed.database))
    engine = sa.create_engine(
        parsed,
        poolclass=QueuePool,
        # A memory database lives in its one connection; elsewhere nobody waits for one.
        pool_size=1 if in_memory else 5,
        max_overflow=0 if in_memory else -1,
        connect_args={"check_same_thread": False, "timeout": 30},
    )
    # A memory database has no other mode, and nobody to share it with.
    journal_mode = "memory" if in_memory else "wal"
    sa.event.listen(engine, "connect", lambda opened, _: _prepare_sqlite(opened, journal_mode))
    sa.event.listen(engine, "begin", _begin)
    return engine


def is_in_memory(url: sa.URL) -> bool:
    """Whether the database is gone with its connection."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def reading(engine: sa.Engine) -> sa.Engine:
    """The same engine for transactions that only read: a write in them is an error."""
    return engine.execution_options(**{_READS: True, "postgresql_readonly": True})


def _make_private(path: Path) -> None:
    """The journal holds names and messages: only its owner may read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600, exist_ok=True)


def _prepare_postgresql(connection: DBAPIConnection, _record: Any) -> None:
    """A commit waits for the disk, whatever the server, the database or the role is set to."""
    with ExitStack() as unless_kept:
        unless_kept.callback(connection.close)
        with closing(connection.cursor()) as cursor:
            cursor.execute("SET synchronous_commit TO on")
            connection.commit()  # otherwise a rollback takes the setting back
            cursor.execute("SHOW synchronous_commit")
            [answer] = cursor.fetchone() or [None]
        connection.commit()
        if answer != "on":
            raise JournalError(
                "PostgreSQL could lose a record in a crash: synchronous_commit is "
                f"{quoted(str(answer))} in the journal's session and cannot be set to on.",
                hint="Connect to PostgreSQL itself, or to a pooler that keeps a session's settings.",
            )
        unless_kept.pop_all()


def _prepare_sqlite(connection: sqlite3.Connection, journal_mode: str) -> None:
    connection.isolation_level = None  # transactions begin below, not by the driver's guess
    with ExitStack() as unless_kept:
        unless_kept.callback(connection.close)
        # SQLite takes both as wishes: what counts is what it answers.
        try:
            mode = _pragma(connection, "journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_CANTOPEN:
                raise
            raise _refused(_NO_WAL + "its files cannot be opened") from None
        if mode != journal_mode:
            raise _refused(_NO_WAL + f"the journal mode stays {quoted(str(mode))}")
        _pragma(connection, "synchronous=FULL")
        if _pragma(connection, "synchronous") != _FULL:
            raise _refused("A commit does not wait for the disk here")
        _pragma(connection, "foreign_keys=ON")
        _pragma(connection, "busy_timeout=30000")
        unless_kept.pop_all()


def _pragma(connection: sqlite3.Connection, pragma: str) -> object:
    with closing(connection.execute(f"PRAGMA {pragma}")) as cursor:
        return (cursor.fetchone() or [None])[0]


def _refused(reason: str) -> JournalError:
    return JournalError(
        f"SQLite cannot keep the journal safely, and a request could be sent twice. {reason}.",
        hint="Put the journal on a local disk, in a folder that can be written, or use PostgreSQL.",
    )


def _begin(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(_READS):
        # One snapshot: in WAL it neither waits for a writer nor keeps one waiting.
        connection.exec_driver_sql("PRAGMA query_only=ON")
        connection.exec_driver_sql("BEGIN")
        return
    connection.exec_driver_sql("PRAGMA query_only=OFF")
    # Taking the write lock at once: a read-then-write transaction can never lose its race late.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
