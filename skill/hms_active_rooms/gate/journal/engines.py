"""The databases of a journal: SQLite (WAL, synchronous FULL) and PostgreSQL.

The record that a request is sent must be on disk before the request leaves. Otherwise, after a
crash, the request could be sent twice. A database that cannot guarantee this is refused at opening.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG
from tempfile import NamedTemporaryFile
from typing import Any, Final, Literal
from urllib.parse import quote, unquote
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from hms_active_rooms.errors import ConfigurationError, JournalError
from hms_active_rooms.gate.journal import file_url
from hms_active_rooms.gate.journal.tables import SCHEMA_VERSION, check, is_bound, prepare
from hms_active_rooms.installing import how_to_install
from hms_active_rooms.untrusted import quoted

Mode = Literal["reads", "writes", "notes"]
"""What a transaction may do. `reads`: change nothing. `writes`: change anything; its commit waits for
the disk. `notes`: add events that change no state; its commit does not wait."""

_SETTINGS: dict[Mode, dict[str, str]] = {
    "reads": {"query_only": "ON"},
    "writes": {"query_only": "OFF", "synchronous": "FULL"},
    "notes": {"query_only": "OFF", "synchronous": "NORMAL"},
}
"""SQLite's settings for each mode. After a change of `query_only`, SQLite compiles all statements anew.
So readers and writers have different connections."""

_FULL = 2  # what SQLite answers for synchronous=FULL
_LONGEST_WAIT_S: Final = 10  # for a lock or a server; a call waits twice at most
_SHARED_BYTES: Final = 32_768  # the size of SQLite's shared memory, a file beside the journal
_NO_WAL = "WAL mode, which lets programs share the file, does not work here: "


MOUNTS = Path("/proc/self/mounts")  # where Linux lists what is mounted

_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "beegfs"}
    | {"ncpfs", "davfs", "sshfs", "s3fs", "rclone", "gcsfuse", "ceph-fuse", "juicefs", "goofys"}
    | {"ocfs2", "gfs2", "gpfs", "orangefs", "mfs", "blobfuse2", "mountpoint-s3", "afpfs"}
    # File systems that a machine shares with the virtual machines on it.
    | {"vboxsf", "vmhgfs", "vmhgfs-fuse", "prl_fs", "drvfs", "osxfs", "grpcfuse", "fakeowner"}
)
"""File systems that another machine can write to. SQLite's WAL mode does not notice that."""

_RECOVER = (
    "Restore it from a copy, or save what can be read: sqlite3 JOURNAL .recover | sqlite3 NEW. "
    "Move the file away to start an empty journal, which remembers nothing."
)
_UNSENT = "Nothing is sent without a record. "
_LOCKED = "Try again, or stop the program that locks the journal."
_ENDED = "Try again. The server stopped, or ended the session, as idle_in_transaction_session_timeout does."
_WRONG_URL = "Correct the parameter in the journal's URL."
_REPAIR = {
    "bad value for": _WRONG_URL,
    "bad: invalid": _WRONG_URL,
    "invalid connection option": _WRONG_URL,
    "malformed": _RECOVER,
    "not a database": _RECOVER,
    "is locked": _LOCKED,
    "lock timeout": _LOCKED,
    "is full": "Make room on the journal's disk.",
    "disk i/o": "Check that the journal's disk has room. A copy of the file and its -wal on another disk can be read.",
    "unable to open": "Name a file that this user may read and write, and check that this program does not have too many files open.",
    "readonly": "Let this user read and write the journal, and the files beside it.",
    "permission denied": "Let this database user read, write and create the journal's tables.",
    "read-only transaction": "Use the primary server, not a copy that can only be read. On the primary, turn default_transaction_read_only off for this user and database.",
    "schema has been selected": "Create the schema that search_path names.",
    "resolve host": "Check that the URL names the server.",
    "statement pooling": "Set PgBouncer's pool_mode to transaction.",
    **dict.fromkeys(("connection is lost", "terminating connection"), _ENDED),
    "connection": "Check that the server runs, has the database, and accepts the user that the URL names.",
    "timeout": "Stop the program that locks the journal, or raise the timeout.",
    "canceling": "Try again. The database's administrator, or the server itself, stopped the statement.",
}
"""Hints for the user, by a part of the database's error message in lower case."""

# Arguments of psycopg that a URL cannot set, since their values are not texts.
_NOT_BY_URL: Final = {"autocommit", "row_factory", "cursor_factory", "context"}

# The parameters that a SQLite URL may have. SQLAlchemy silently drops all others.
_SQLITE_HAS: Final = {"timeout", "mode", "uri"}

_UNEXPANDED: Final = re.compile(r"~|\$\w|\$\{|%\w+%")
_FORMS: Final = (
    "HMS_JOURNAL, --journal or journal= takes sqlite:///FILE or postgresql+psycopg://HOST/NAME."
)
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")


class Database:
    """The open database of a `Journal`. Many threads can use it. `key` is b"" for a journal without a key."""

    def __init__(self, url: str, key: bytes, *, create: bool) -> None:
        self.place, self._key, self._in_memory = _place(url), key, url == ":memory:"
        try:
            self._modes = self._engines(url, create)
            self.is_read_only = "writes" not in self._modes
        except (sa.exc.ArgumentError, ImportError, OSError, ValueError, RuntimeError) as error:
            why = error.strerror if isinstance(error, OSError) else ""
            hint = f"{_FORMS} PostgreSQL needs more packages: {how_to_install('postgres')}."
            drive = _DRIVE.match(url)
            if why:
                hint = "Name a file that can be written, as sqlite:///FILE."
            elif drive or not set(":@=") & set(url):  # a URL with these may hold a password
                path = Path(url)
                with contextlib.suppress(RuntimeError):  # no such user
                    path = path.expanduser()
                told = quoted(file_url(path if drive else path.absolute()), 300)
                hint = f"This address is a path. Write it as a URL: {told}."
            raise ConfigurationError(
                f"The journal {self.place} cannot be opened{f': {why}' if why else ''}.", hint=hint
            ) from None
        self._driver_error = self._modes["reads"].dialect.loaded_dbapi.Error
        # All threads share the one connection of a memory database. They take turns by our lock, since
        # the pool, when it is closed, never wakes a thread that waits in its queue.
        self._turn: contextlib.AbstractContextManager[object]
        self._turn = threading.Lock() if self._in_memory else contextlib.nullcontext()
        self.begun = False
        _opened.add(self)
        with contextlib.ExitStack() as unless_opened:
            unless_opened.callback(self.dispose)
            self._prepare(create)
            unless_opened.pop_all()

    def _engines(self, url: str, create: bool) -> dict[Mode, sa.Engine]:
        parsed = sa.make_url("sqlite:///:memory:" if self._in_memory else url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_dialect().is_async:
            raise _unusable("its driver must not be asynchronous")
        if "?" in url and not parsed.query:
            raise _unusable('the "?" and all after it would be ignored')
        # Only `host` may be given several times: the servers to try.
        if not all(
            isinstance(value, str) or name == "host" for name, value in parsed.query.items()
        ):
            raise _unusable("a parameter is given twice")
        reads: sa.Engine
        if parsed.get_backend_name() == "postgresql":
            writes = _postgresql(parsed)
            reads = writes.execution_options(
                postgresql_readonly=True, isolation_level="REPEATABLE READ"
            )
        elif parsed.get_backend_name() != "sqlite":
            raise _unusable(f"a journal must be in SQLite or in PostgreSQL, not at {self.place}")
        elif not parsed.database:
            # SQLite would keep such a journal in memory, and nobody would notice.
            raise _unusable("it has no path, so it names no file")
        elif self._in_memory:
            reads = writes = _sqlite(parsed, "memory")
        else:
            name = parsed.database
            path = _path(parsed, name)
            if _UNEXPANDED.match(name):
                raise _unusable("only shells read ~ and variables")
            read_only = parsed.query.get("mode") == "ro"
            if (read_only or not create) and not path.exists():
                raise self._missing()
            read_only = read_only or (path.exists() and not os.access(path, os.W_OK))
            # A command that only reads works on a full disk, too.
            read_only = read_only or not (create or _takes_files(path.parent))
            _refuse_foreign(path, os.R_OK)
            for beside in ("journal", "wal", "shm"):
                _refuse_foreign(Path(f"{path}-{beside}"), os.R_OK | (0 if read_only else os.W_OK))
            if read_only:
                reads = _sqlite(_reading(parsed, path, read_only), None)

                def anew(dialect: sa.Dialect, _: object, args: list[Any], __: object) -> None:
                    # Since the last transaction, the disk may have got room, or somebody may write.
                    args[:] = dialect.create_connect_args(_reading(parsed, path, read_only))[0]

                sa.event.listen(reads, "do_connect", anew)
                return {"reads": reads.execution_options(hms_mode="reads")}
            files = _Files(path)
            reads = _sqlite(_reading(parsed, path, read_only), None, files)
            writes = _sqlite(parsed, "wal", files)
            _make_private(path)
        of_mode: dict[Mode, sa.Engine] = {"reads": reads, "writes": writes, "notes": writes}
        return {mode: one.execution_options(hms_mode=mode) for mode, one in of_mode.items()}

    def _prepare(self, create: bool) -> None:
        is_ready = False
        if not create or self.is_read_only:
            with self.begin("reads") as db:
                found = check(db, self._key)
                is_ready = found == SCHEMA_VERSION and (not self._key or is_bound(db))
            if found is None:
                raise self._missing()
            if self.is_read_only and found != SCHEMA_VERSION:
                raise JournalError(
                    f"The journal {self.place} was made by an earlier release, and can only be read. So it cannot be migrated.",
                    hint="Copy the journal to a place where you may write, and open the copy.",
                )
        if not self.is_read_only and not is_ready:
            with self.begin("writes") as db:
                self.begun = prepare(db, self._key) and not self._in_memory

    def _missing(self) -> ConfigurationError:
        return ConfigurationError(
            f"There is no journal at {self.place}.",
            hint="The first call that changes a room creates it. If your journal is somewhere else, "
            "name it by --journal or HMS_JOURNAL.",
        )

    def close(self) -> None:
        """Close the unused connections. A database in memory is lost."""
        with self._turn:
            self.dispose()

    def dispose(self, *, kept: bool = False) -> None:
        """Close the unused connections. With `kept`, a database in memory keeps its connection."""
        for engine in () if kept and self._in_memory else self._modes.values():
            engine.dispose()

    @contextlib.contextmanager
    def begin(self, mode: Mode) -> Iterator[sa.Connection]:
        """Begin a transaction: "reads", "writes", or "notes", which adds events but changes no action.
        Raises JournalError in place of the database's own errors."""
        if mode not in self._modes:
            raise JournalError(
                f"The journal {self.place} can only be read, so nothing can be recorded in it.",
                hint=_UNSENT + "Make the journal writable, and check that its disk has room.",
            )
        with _without_fork(), self._turn:
            try:
                with self._modes[mode].begin() as db:
                    yield db
            except (SQLAlchemyError, self._driver_error, UnicodeError, OverflowError) as error:
                raise self._error(error, mode) from None
            except JournalError as error:
                if self.place not in str(error):
                    error.args = (f"{error} (journal {self.place})",)
                raise

    def _error(self, error: Exception, mode: Mode) -> JournalError:
        cause = str(getattr(error, "orig", None) or error) or type(error).__name__
        hint = next((hint for text, hint in _REPAIR.items() if text in cause.lower()), None)
        if hint == _LOCKED:
            cause = "it is locked: something has kept it open for writing for too long"
        what = hint and f"{_UNSENT * (mode != 'reads')}{hint}"
        failed = JournalError(f"The journal {self.place} failed: {quoted(cause, 200)}.", hint=what)
        failed.retry_after_s = _LONGEST_WAIT_S if hint == _LOCKED else None
        return failed


# SQLite counts the locks of its process. A forked child inherits the count, but not the locks. So a
# fork waits until no transaction runs, and closes the database's files first.

_opened = WeakSet[Database]()
_busy: list[int] = []  # the threads that are in a transaction
_forking: list[int] = []  # the threads that wait for those in order to fork
_calm = threading.Condition()


@contextlib.contextmanager
def _without_fork() -> Iterator[None]:
    thread = threading.get_ident()
    with _calm:
        _calm.wait_for(lambda: not _forking or thread in (*_busy, *_forking))
        _busy.append(thread)
    try:
        yield
    finally:
        with _calm:
            _busy.remove(thread)
            _calm.notify_all()


def _before_fork() -> None:
    thread = threading.get_ident()
    _calm.acquire()
    _forking.append(thread)
    _calm.wait_for(lambda: not {*_busy} - {thread}, timeout=_LONGEST_WAIT_S)
    for database in [*_opened]:
        database.dispose(kept=True)


def _after_fork(in_child: bool) -> None:
    thread = threading.get_ident()
    _forking[:] = [] if in_child else [one for one in _forking if one != thread]
    if in_child:
        _busy[:] = [one for one in _busy if one == thread]
    _calm.notify_all()
    _calm.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(False),
        after_in_child=lambda: _after_fork(True),
    )


def _unusable(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"The journal's URL cannot be used: {why}.",
        hint=_FORMS,
    )


def _place(url: str) -> str:
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return url if url == ":memory:" else "at the given address"  # it may hold a password
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        name = parsed.database
        with contextlib.suppress(FileNotFoundError):  # the current folder may be gone
            name = name if name.startswith("file:") else str(Path(name).absolute())
        return quoted(name, 300)
    place = {name: parsed.query[name] for name in ("host", "port") if name in parsed.query}
    return quoted(parsed.set(query=place).render_as_string(hide_password=True), 300)


# --- PostgreSQL ---------------------------------------------------------------------------------


def _postgresql(url: sa.URL) -> sa.Engine:
    # PgBouncer, which lends a session for one transaction, has no prepared statements.
    text = url.query.get("prepare_threshold", "none")
    if text != "none" and not (isinstance(text, str) and text.isdigit()):
        raise ConfigurationError("prepare_threshold of the journal must be a number, or none.")
    if foreign := sorted(_NOT_BY_URL & url.query.keys()):
        raise ConfigurationError(f"The URL of the journal cannot set {foreign[0]}.")
    wait = {} if "connect_timeout" in url.query else {"connect_timeout": _LONGEST_WAIT_S}
    options: dict[str, str | int | None] = {**wait}
    if url.get_driver_name() == "psycopg":
        options["client_encoding"] = "utf8"  # names can hold any character
        options["prepare_threshold"] = None if text == "none" else int(text)
    engine = sa.create_engine(
        url.difference_update_query(["prepare_threshold"]),
        pool_pre_ping=True,
        connect_args=options,
        # A transaction that waited for the lock must see what was written meanwhile, whatever the
        # default of the server, the database or the role is.
        isolation_level="READ COMMITTED",
    )
    sa.event.listen(engine, "begin", _begin_postgresql)
    return engine


def _begin_postgresql(connection: sa.Connection) -> None:
    mode = connection.get_execution_options()["hms_mode"]
    if mode == "reads":  # a table may be locked, as by VACUUM FULL
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LONGEST_WAIT_S}s'")
        return
    # One writer at a time, as with SQLite: what a transaction has read stays true until its end. A
    # commit waits for the disk, whatever the default is. Each transaction sets this, since a pooler
    # does not keep a session's settings.
    waits = "off" if mode == "notes" else "on"
    [*_, fsync, encoding, unlogged, table] = connection.exec_driver_sql(
        "SELECT set_config('lock_timeout', %s, true), set_config('synchronous_commit', %s, true), "
        "pg_advisory_xact_lock(x'686d73'::int), current_setting('fsync'), "  # "hms" in ASCII
        "current_setting('server_encoding'), EXISTS (SELECT FROM pg_class WHERE relpersistence = 'u' "
        "AND oid IN (to_regclass('hms_actions'), to_regclass('hms_events'), to_regclass('hms_asks'))), "
        # This tells a journal from a copy of it in another database, or on another server.
        "current_database() || '/' || to_regclass('hms_actions')::oid",
        (f"{_LONGEST_WAIT_S}s", waits),
    ).one()
    connection.info["table"] = table
    if fsync != "on" or unlogged:
        why = "a table is UNLOGGED" if unlogged else f"its setting fsync is {quoted(str(fsync))}"
        raise JournalError(
            f"PostgreSQL could lose a record in a crash, and a request could be sent twice: {why}.",
            hint="Set fsync to on and the tables to LOGGED, or use another server.",
        )
    if encoding not in ("UTF8", "SQL_ASCII"):
        raise JournalError(
            f"The database's encoding, {quoted(str(encoding))}, lacks some characters, so a "
            "name or a reason could not be recorded.",
            hint="Make a database with the encoding UTF8 for the journal.",
        )


# --- SQLite -------------------------------------------------------------------------------------


class _Files:
    """Notices if somebody replaces the files of an open journal. Other programs use the new files."""

    def __init__(self, path: Path) -> None:
        real = path.resolve()
        self._paths = (path.absolute(), Path(f"{real}-wal"), Path(f"{real}-shm"))
        self._journal = list[tuple[int, int]]()

    def _there(self) -> list[tuple[int, int]]:
        try:
            found = [path.stat() for path in self._paths]
        except OSError:
            return []
        return [(of.st_dev, of.st_ino) for of in found if found[0].st_size]

    def opened(self, _: object, record: sa.pool.ConnectionPoolEntry) -> None:
        record.info["files"] = found = self._there()
        self._journal = self._journal or found[:1]

    def check(self, connection: sa.Connection) -> None:
        found = self._there()
        if found != connection.info["files"] or found[:1] != self._journal:
            raise JournalError(
                "The journal's file was moved, replaced or emptied while this program had it open.",
                hint=_UNSENT + "Put the files back, or start this program again with the new ones.",
            )


def _sqlite(url: sa.URL, journal_mode: str | None, files: _Files | None = None) -> sa.Engine:
    """An engine for this journal mode. If the mode is None, its connections only read and, without
    `files`, each is for one transaction."""
    wait = {} if "timeout" in url.query else {"timeout": _LONGEST_WAIT_S}
    pool: dict[str, Any] = {"poolclass": QueuePool, "max_overflow": -1}  # as many as needed
    if journal_mode == "memory":  # such a database is one connection
        pool |= {"pool_size": 1, "max_overflow": 0}
    elif journal_mode is None and files is None:
        pool = {"poolclass": NullPool}
    engine = sa.create_engine(
        url,
        **pool,
        connect_args={"check_same_thread": False, **wait},
        paramstyle="named",
    )
    sa.event.listen(engine, "connect", lambda opened, _: _prepare_sqlite(opened, journal_mode))
    sa.event.listen(engine, "begin", _begin_sqlite)
    if files is not None:
        sa.event.listen(engine, "connect", files.opened)
        sa.event.listen(engine, "begin", files.check)
    return engine


def _begin_sqlite(connection: sa.Connection) -> None:
    opened = connection.connection.driver_connection
    assert isinstance(opened, sqlite3.Connection)
    mode: Mode = connection.get_execution_options()["hms_mode"]
    for pragma, value in _SETTINGS[mode].items():
        if connection.info.get(pragma) != value:
            opened.execute(f"PRAGMA {pragma}={value}")
            connection.info[pragma] = value
    # A writing transaction takes the lock at once. Otherwise it could fail later, if another one wrote
    # after its first read. In WAL mode, readers and writers do not wait for each other.
    opened.execute("BEGIN" if mode == "reads" else "BEGIN IMMEDIATE")


def _prepare_sqlite(connection: sqlite3.Connection, journal_mode: str | None) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins transactions, not the driver
    # One invalid text must not make the other rows unreadable.
    connection.text_factory = lambda raw: raw.decode(errors="replace")
    with contextlib.ExitStack() as unless_kept:
        unless_kept.callback(connection.close)
        if journal_mode is not None:
            _keep_safely(connection, journal_mode)
        _pragma(connection, "user_version")  # a read makes SQLite create all its files
        unless_kept.pop_all()


def _keep_safely(connection: sqlite3.Connection, journal_mode: str) -> None:
    # SQLite may ignore both settings, so its answers are checked.
    try:
        mode = _pragma(connection, "journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_CANTOPEN:
            raise
        raise _refused(_NO_WAL + "the files of this mode cannot be opened") from None
    # A database in memory stays in the mode "memory"; no other process can open it.
    if mode != journal_mode:
        raise _refused(_NO_WAL + f"the journal mode stays {quoted(str(mode))}")
    _pragma(connection, "synchronous=FULL")
    if _pragma(connection, "synchronous") != _FULL:
        raise _refused("A commit does not wait for the disk here")


def _pragma(connection: sqlite3.Connection, pragma: str) -> object:
    with contextlib.closing(connection.execute(f"PRAGMA {pragma}")) as cursor:
        return (cursor.fetchone() or [None])[0]


def _refused(reason: str) -> JournalError:
    return JournalError(
        f"SQLite cannot keep the journal safely, and a request could be sent twice. {reason}.",
        hint="Put the journal on a local disk, in a folder that can be written, or use PostgreSQL.",
    )


def _path(url: sa.URL, name: str) -> Path:
    """The file that a URL names. Raises ConfigurationError if SQLAlchemy would ignore a part of it."""
    if not name.startswith("file:"):
        known = not url.query.keys() - _SQLITE_HAS and url.query.get("mode", "ro") == "ro"
    elif known := "uri" in url.query and not set("?#") & set(name) and name != "file::memory:":
        name = unquote(re.sub("^//(localhost)?(?=/)", "", name.removeprefix("file:")))
    if not known or url.query.get("mode") == "memory":
        raise _unusable("a part of it would be ignored; for a file it can set mode=ro and timeout")
    # SQLite takes a number that is too large for one below 0, and then does not wait at all.
    if not re.fullmatch(r"\d{1,5}(\.\d+)?", str(url.query.get("timeout", "0"))):
        raise _unusable("timeout must be a number of seconds below 100,000")
    return Path(name)


def _reading(url: sa.URL, path: Path, read_only: bool) -> sa.URL:
    query, log = dict(url.query) | {"mode": "ro", "uri": "true"}, Path(f"{path}-wal")
    logged = log.exists() and log.stat().st_size
    if read_only and not logged and not _takes_files(path.parent):
        query["immutable"] = "1"  # SQLite cannot make its files, so nobody can write
    return url.set(database=f"file:{quote(os.fsencode(path.absolute()))}", query=query)


def _takes_files(folder: Path) -> bool:
    """Whether SQLite can make its files here: the folder can be written, and its disk has room."""
    with contextlib.suppress(OSError), NamedTemporaryFile(dir=folder, buffering=0) as file:
        return file.write(bytes(_SHARED_BYTES)) == _SHARED_BYTES
    return False


def _refuse_foreign(file: Path, needs: int) -> None:
    # Another process that closes the journal may delete a file beside it meanwhile.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if not S_ISREG(file.stat().st_mode):  # SQLite would wait for ever for a named pipe
            raise ConfigurationError(
                f"{quoted(str(file), 300)} is not a regular file but a folder, pipe, device or socket.",
                hint="Set HMS_JOURNAL or --journal to a file. The file need not exist yet.",
            )
        if os.access(file, needs):
            return
        try:
            owner = file.owner()
        except (KeyError, NotImplementedError):
            owner = "somebody else"
        raise JournalError(
            f"The file {quoted(str(file), 300)} belongs to {quoted(owner)}, and this user may not "
            f"{'read' if needs == os.R_OK else 'read and write'} it.",
            hint="Run this as that user. Or that user ends the programs that have the "
            "journal open, and lets both of you read and write it.",
        )


def _make_private(path: Path) -> None:
    """Make a private file. Raises JournalError if processes cannot lock and share a file there."""
    name, folder, mounts = quoted(str(path), 300), path.parent, _mounts()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Every process of this machine sees SQLite's shared memory, but no other machine does.
    parts = folder.resolve().parts
    kind = next((mounts[parts[:n]] for n in range(len(parts), 0, -1) if parts[:n] in mounts), "")
    kind = "smbfs" if parts[0].startswith("\\\\") else kind  # Windows' \\SERVER\SHARE
    if kind.removeprefix("fuse.") in _NETWORK:
        raise _refused(f"The folder of {name} is on a network file system ({kind})")
    path.touch(mode=0o600, exist_ok=True)
    # SQLite's lock files are beside the journal, with names made from its name.
    if path.stat().st_nlink > 1:
        raise _refused(
            f"The file {name} has a second name (a hard link) with locks of its own. Delete one of the two"
        )
    if path.resolve().parts in mounts:
        raise _refused(f"The file {name} is mounted without its folder, where SQLite's locks are")
    if not _locks(folder):
        raise _refused(f"The folder of {name} does not lock files")


def _mounts() -> dict[tuple[str, ...], str]:
    """The kind of file system at each mount point, by the parts of its path."""
    try:
        mounts = [line.split(" ") for line in MOUNTS.read_text("utf-8").splitlines()]
    except OSError:
        return {}  # not Linux
    return {Path(mount[1].encode().decode("unicode_escape")).parts: mount[2] for mount in mounts}


def _locks(folder: Path) -> bool:
    """Whether the file system of this folder locks files: a second lock of a file must fail."""
    if sys.platform != "linux":
        return True
    import fcntl
    import struct

    whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    # Not the journal's own file: closing that here would drop the locks that SQLite holds on it.
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
