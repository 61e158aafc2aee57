"""The engines that keep a claim on disk before a request leaves: SQLite (WAL, synchronous FULL)
and PostgreSQL. What a store cannot guarantee is found out when it is opened, and refused."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from hms_active_rooms.errors import ConfigurationError, JournalError
from hms_active_rooms.untrusted import quoted

_READS = "hms_reads"
_FULL = 2  # what SQLite answers for synchronous=FULL
_NO_WAL = "WAL mode, which locks and shares the file, is not possible here: "

_ONE_WRITER = 0x686D73
"""Key of PostgreSQL's advisory lock: "hms" in ASCII."""

MOUNTS = Path("/proc/self/mounts")
"""Where Linux lists what is mounted."""

_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "beegfs"}
    | {"ncpfs", "davfs", "sshfs", "s3fs", "rclone", "gcsfuse"}
)
"""File systems on which another machine can write, which SQLite's WAL mode cannot see."""


def open_engines(url: str) -> tuple[sa.Engine | None, sa.Engine]:
    """For writing and for reading; no first one for a database that can only be read.

    A write in the second one is an error. In SQLite's WAL mode it neither waits for a writer nor
    keeps one waiting.

    Args:
        url: a SQLAlchemy URL; ":memory:" for a journal that is gone when closed.
    """
    parsed = sa.make_url("sqlite://" if url == ":memory:" else url)
    if parsed.get_backend_name() == "postgresql":
        engine = _postgresql(parsed)
    elif parsed.get_backend_name() != "sqlite":
        raise sa.exc.ArgumentError("a journal is in SQLite or in PostgreSQL")
    elif is_in_memory(parsed):
        engine = _sqlite(parsed, "in memory")
    elif (copy := _copy(parsed)) is not None:
        return None, _sqlite(copy, "a copy")
    else:
        if parsed.database and not parsed.database.startswith("file:"):
            _make_private(Path(parsed.database))
        return _sqlite(parsed, "writes"), _sqlite(parsed, "reads")
    reads: dict[str, Any] = {_READS: True}
    if engine.dialect.name == "postgresql":
        reads |= {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
    return engine, engine.execution_options(**reads)


def is_in_memory(url: sa.URL) -> bool:
    """Whether the database is gone with its connection."""
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


# --- PostgreSQL ---------------------------------------------------------------------------------


def _postgresql(url: sa.URL) -> sa.Engine:
    # A pooler that lends a session for one transaction (PgBouncer) has no prepared statements.
    text = url.query.get("prepare_threshold", "none")
    if text != "none" and not (isinstance(text, str) and text.isdigit()):
        raise ConfigurationError("prepare_threshold of the journal is a number, or none.")
    known = url.get_driver_name() == "psycopg"
    options = {"prepare_threshold": None if text == "none" else int(text)} if known else {}
    engine = sa.create_engine(
        url.difference_update_query(["prepare_threshold"]),
        pool_pre_ping=True,
        connect_args=options,
        # Whoever waited for the lock must see what was written meanwhile, whatever the server,
        # the database or the role is set to.
        isolation_level="READ COMMITTED",
    )
    sa.event.listen(engine, "begin", _begin_postgresql)
    return engine


def _begin_postgresql(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(_READS):
        return
    # One writer at a time, as with SQLite: what a transaction has read stays true until its end.
    # A commit waits for the disk, whatever the server, the database or the role is set to; said
    # in each transaction, since a pooler does not keep what a session was told.
    [_, _, fsync] = connection.exec_driver_sql(
        f"SELECT pg_advisory_xact_lock({_ONE_WRITER}), "
        "set_config('synchronous_commit', 'on', true), current_setting('fsync')"
    ).one()
    if fsync != "on":
        raise JournalError(
            "PostgreSQL could lose a record in a crash, and a request could be sent twice: its "
            f"setting fsync is {quoted(str(fsync))}.",
            hint="Set fsync to on, or use another server.",
        )


# --- SQLite -------------------------------------------------------------------------------------


def _sqlite(url: sa.URL, use: str) -> sa.Engine:
    in_memory = use == "in memory"
    engine = sa.create_engine(
        url,
        poolclass=QueuePool,
        # A memory database lives in its one connection; elsewhere nobody waits for one.
        pool_size=1 if in_memory else 5,
        max_overflow=0 if in_memory else -1,
        connect_args={"check_same_thread": False, "timeout": 30},
    )
    sa.event.listen(engine, "connect", lambda opened, _: _prepare_sqlite(opened, use))
    if in_memory:
        sa.event.listen(engine, "begin", _begin_in_memory)
    else:
        # Taking the write lock at once: a read-then-write transaction never loses its race late.
        begin = "BEGIN IMMEDIATE" if use == "writes" else "BEGIN"
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _begin_in_memory(connection: sa.Connection) -> None:
    # Readers and writers share the one connection.
    reads = bool(connection.get_execution_options().get(_READS))
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if reads else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _prepare_sqlite(connection: sqlite3.Connection, use: str) -> None:
    connection.isolation_level = None  # transactions begin above, not by the driver's guess
    with ExitStack() as unless_kept:
        unless_kept.callback(connection.close)
        _pragma(connection, "busy_timeout=30000")
        if use in ("writes", "reads", "in memory"):
            _keep_safely(connection, "memory" if use == "in memory" else "wal")
        if use in ("reads", "a copy"):
            _pragma(connection, "query_only=ON")
        unless_kept.pop_all()


def _keep_safely(connection: sqlite3.Connection, journal_mode: str) -> None:
    # SQLite takes both as wishes: what counts is what it answers.
    try:
        mode = _pragma(connection, "journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_CANTOPEN:
            raise
        raise _refused(_NO_WAL + "its files cannot be opened") from None
    # A memory database has no other mode, and nobody to share it with.
    if mode != journal_mode:
        raise _refused(_NO_WAL + f"the journal mode stays {quoted(str(mode))}")
    _pragma(connection, "synchronous=FULL")
    if _pragma(connection, "synchronous") != _FULL:
        raise _refused("A commit does not wait for the disk here")


def _pragma(connection: sqlite3.Connection, pragma: str) -> object:
    with closing(connection.execute(f"PRAGMA {pragma}")) as cursor:
        return (cursor.fetchone() or [None])[0]


def _refused(reason: str) -> JournalError:
    return JournalError(
        f"SQLite cannot keep the journal safely, and a request could be sent twice. {reason}.",
        hint="Put the journal on a local disk, in a folder that can be written, or use PostgreSQL.",
    )


def _copy(url: sa.URL) -> sa.URL | None:
    """The URL of a database that can only be read; None: it can be written."""
    given = url.database or ""
    path = Path(given.removeprefix("file:"))
    asked = url.query.get("mode") == "ro"
    if not asked and (not path.exists() or os.access(path, os.W_OK)):
        return None
    query = dict(url.query) | {"mode": "ro", "uri": "true"}
    log = Path(f"{path}-wal")
    if not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size):
        query["immutable"] = "1"  # nobody writes here, and SQLite cannot make its files
    name = given if given.startswith("file:") else f"file:{quote(str(path.absolute()))}"
    return url.set(database=name, query=query)


def _make_private(path: Path) -> None:
    """The journal holds names and messages: only its owner may read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    refuse_network(path.parent)
    path.touch(mode=0o600, exist_ok=True)
    _refuse_without_locks(path.parent)


def refuse_network(folder: Path) -> None:
    """Raises JournalError for a folder that another machine can write to.

    Its files look shared to every process of this machine, and to none of another one.
    """
    try:
        mounts = [line.split(" ") for line in MOUNTS.read_text("utf-8").splitlines()]
    except OSError:
        return  # not Linux
    parts = folder.resolve().parts
    kinds = {Path(mount[1].encode().decode("unicode_escape")).parts: mount[2] for mount in mounts}
    of = [kinds[parts[:n]] for n in range(len(parts), 0, -1) if parts[:n] in kinds]
    kind = of[0].removeprefix("fuse.") if of else ""
    if kind in _NETWORK:
        raise _refused(
            f"The folder {quoted(str(folder), 300)} is on a network file system ({kind})"
        )


def _refuse_without_locks(folder: Path) -> None:
    if not _locks(folder):
        raise _refused(f"The folder {quoted(str(folder), 300)} does not lock files")


def _locks(folder: Path) -> bool:
    """Two open files of this process stand for two processes: the second must not get the lock."""
    if sys.platform != "linux":
        return True
    import fcntl
    import struct

    whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    # Never the journal itself: closing it here would drop the locks that SQLite holds on it.
    with (
        NamedTemporaryFile(dir=folder, prefix=".hms-lock-") as one,
        Path(one.name).open("wb") as other,
    ):
        for file in (one, other):
            try:
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, whole)
            except OSError as error:
                return error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP)
    return False
