"""The journal's tables, how an older journal becomes one of this release, and the engines that
keep a claim on disk before a request leaves."""

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

SCHEMA_VERSION = 2

_READS = "hms_reads"
_FULL = 2  # what SQLite answers for synchronous=FULL
_NO_WAL = "WAL mode, which locks and shares the file, is not possible here: "

_ONE_WRITER = 0x686D73
"""Key of PostgreSQL's advisory lock: "hms" in ASCII."""

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
    sa.Column("impact", sa.JSON(none_as_null=True)),
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
    sa.Column("content", sa.String(64), nullable=False, server_default="", index=True),
    sa.Column("told_at", sa.DateTime),
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
    sa.Column("state", sa.String(16), nullable=False),
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


_TO_VERSION = {
    2: [
        "ALTER TABLE hms_actions ADD COLUMN content VARCHAR(64) NOT NULL DEFAULT ''",
        "ALTER TABLE hms_actions ADD COLUMN told_at TIMESTAMP",
        "CREATE INDEX ix_hms_actions_content ON hms_actions (content)",
        "UPDATE hms_actions SET decided_way = 'grant' WHERE decided_way LIKE 'grant of %'",
        "DELETE FROM hms_grants",  # their audiences were one text; they last half an hour
    ],
}
"""What makes a journal of the version before one of this version."""

_ALSO_ON = {
    # SQLite enforces no lengths, and cannot change them.
    ("postgresql", 2): ["ALTER TABLE hms_steps ALTER COLUMN state TYPE VARCHAR(16)"],
}


def prepare(db: sa.Connection) -> None:
    """Create the tables, or bring those of an earlier release up to this one.

    Raises:
        JournalError: the journal is of a newer release.
    """
    found = None
    if sa.inspect(db).has_table(versions.name):
        found = db.scalar(sa.select(versions.c.version))
    if found is None:
        metadata.create_all(db)
        db.execute(versions.insert().values(version=SCHEMA_VERSION))
        return
    if found > SCHEMA_VERSION:
        raise JournalError(
            f"The journal has schema version {found}; this release reads {SCHEMA_VERSION}.",
            hint="Use the newer release of hms-active-rooms that wrote it, or another journal.",
        )
    for version in range(found + 1, SCHEMA_VERSION + 1):
        for statement in _TO_VERSION[version] + _ALSO_ON.get((db.dialect.name, version), []):
            db.execute(sa.text(statement))
    if found < SCHEMA_VERSION:
        db.execute(versions.update().values(version=SCHEMA_VERSION))


def create_engine(url: str) -> sa.Engine:
    """An engine for a journal URL; ":memory:" for one that is gone when closed."""
    parsed = sa.make_url("sqlite://" if url == ":memory:" else url)
    if parsed.get_backend_name() != "sqlite":
        engine = sa.create_engine(parsed, pool_pre_ping=True)
        if engine.dialect.name == "postgresql":
            sa.event.listen(engine, "connect", _prepare_postgresql)
            sa.event.listen(engine, "begin", _begin_postgresql)
        return engine
    if not is_in_memory(parsed) and parsed.database:
        _make_private(Path(parsed.database))
    return _sqlite(parsed, read_only=False)


def reader_of(engine: sa.Engine) -> sa.Engine:
    """An engine on the same database for transactions that only read: a write in them is an
    error. In SQLite's WAL mode such a transaction neither waits for a writer nor keeps one
    waiting."""
    if engine.dialect.name == "sqlite" and not is_in_memory(engine.url):
        return _sqlite(engine.url, read_only=True)
    return engine.execution_options(**{_READS: True, "postgresql_readonly": True})


def _sqlite(url: sa.URL, *, read_only: bool) -> sa.Engine:
    in_memory = is_in_memory(url)
    engine = sa.create_engine(
        url,
        poolclass=QueuePool,
        # A memory database lives in its one connection; elsewhere nobody waits for one.
        pool_size=1 if in_memory else 5,
        max_overflow=0 if in_memory else -1,
        connect_args={"check_same_thread": False, "timeout": 30},
    )
    # A memory database has no other mode, and nobody to share it with.
    journal_mode = "memory" if in_memory else "wal"
    sa.event.listen(
        engine, "connect", lambda opened, _: _prepare_sqlite(opened, journal_mode, read_only)
    )
    if in_memory:
        sa.event.listen(engine, "begin", _begin_in_memory)
    else:
        # Taking the write lock at once: a read-then-write transaction never loses its race late.
        begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def is_in_memory(url: sa.URL) -> bool:
    """Whether the database is gone with its connection."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


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


def _prepare_sqlite(connection: sqlite3.Connection, journal_mode: str, read_only: bool) -> None:
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
        if read_only:
            _pragma(connection, "query_only=ON")
        unless_kept.pop_all()


def _pragma(connection: sqlite3.Connection, pragma: str) -> object:
    with closing(connection.execute(f"PRAGMA {pragma}")) as cursor:
        return (cursor.fetchone() or [None])[0]


def _refused(reason: str) -> JournalError:
    return JournalError(
        f"SQLite cannot keep the journal safely, and a request could be sent twice. {reason}.",
        hint="Put the journal on a local disk, in a folder that can be written, or use PostgreSQL.",
    )


def _begin_in_memory(connection: sa.Connection) -> None:
    # Readers and writers share the one connection.
    reads = bool(connection.get_execution_options().get(_READS))
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if reads else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _begin_postgresql(connection: sa.Connection) -> None:
    # One writer at a time, as with SQLite: what a transaction has read stays true until its end.
    if not connection.get_execution_options().get(_READS):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ONE_WRITER})")
