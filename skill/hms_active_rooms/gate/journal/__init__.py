"""The journal is a database in SQLite or PostgreSQL. It records every action, and it alone decides
what may be sent. Its methods block, so asynchronous callers need a thread."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import IO, TYPE_CHECKING, Concatenate, Literal, ParamSpec, TypeVar

from hms_active_rooms.environment import state_folder
from hms_active_rooms.errors import ConfigurationError, JournalError

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal.archive import Pruned
    from hms_active_rooms.gate.journal.engines import Database, Mode
    from hms_active_rooms.gate.journal.store import Reading, Writing

Clock = Callable[[], datetime]

Commit = Callable[[Literal["before", "after"]], None]
"""Called before and after each commit of a writing transaction. Tests kill the process there."""

Given = ParamSpec("Given")
Found = TypeVar("Found")

_LEAST_KEY_CHARS = 32


def default_url() -> str:
    """Return the URL of a SQLite file in the user's state directory (`XDG_STATE_HOME` on Linux)."""
    return file_url(state_folder() / "journal.sqlite")


def file_url(path: Path) -> str:
    """Return the SQLite URL of this file, whatever characters its name has."""
    return f"sqlite:///{str(path).replace('%', '%25').replace('?', '%3F')}"


def _one_read(
    method: Callable[[Reading], Callable[Given, Found]],
) -> Callable[Concatenate[Journal, Given], Found]:
    """Make a method of `Journal` from one of `Reading`. Each call is one transaction."""

    def read(journal: Journal, /, *given: Given.args, **named: Given.kwargs) -> Found:
        with journal.read() as view:
            return method(view)(*given, **named)

    return read


class Journal:
    """The record of all actions, in one database. Many threads and processes can use it at once.

    The methods from `get` to `rivals` are those of `Reading`, whose help describes them. Each call reads
    in a transaction of its own; `read` opens a transaction for several calls.

    Args:
        url: SQLAlchemy URL; None means `default_url()`. If the file cannot be written, or the URL
            has `?mode=ro`, the journal is opened for reading only. ":memory:" is a journal in
            memory. It is opened at the first use, and lost when it is closed or the process ends.
        clock: returns the time. A datetime without a time zone is local time.
        on_commit: called with "before" and "after" around each commit of a writing transaction.
        key: a secret of at least 32 characters. It signs each state change, so that a change by
            somebody without the key is found. None means `HMS_JOURNAL_KEY`, if it is set.
        create: create the journal if there is none. With False, a missing journal is an error.

    Raises:
        ConfigurationError: the URL is wrong, the key is too short, or there is no journal.
        JournalError: the database cannot be opened, is of a newer version, or has another key.
    """

    def __init__(
        self,
        url: str | Path | None = None,
        *,
        clock: Clock = lambda: datetime.now(UTC),
        on_commit: Commit = lambda _: None,
        key: str | None = None,
        create: bool = True,
    ) -> None:
        self._clock = clock
        self._on_commit = on_commit
        key = os.environ.get("HMS_JOURNAL_KEY", "") if key is None else key
        if not isinstance(url, (str, Path, NoneType)):
            raise ConfigurationError(f"journal has to be a Journal, URL or Path. It is {url!r}.")
        if not all((isinstance(key, str), callable(clock))):
            raise ConfigurationError("A journal's key has to be a text, and its clock a function.")
        if key and len(key.strip()) < _LEAST_KEY_CHARS:
            raise ConfigurationError(
                f"HMS_JOURNAL_KEY has {len(key.strip())} characters, but needs at least {_LEAST_KEY_CHARS}.",
                hint="Make one with: openssl rand -hex 32",
            )
        self._key = key.encode("utf-8", "surrogateescape")  # a variable may hold any bytes
        if isinstance(url, Path):  # one that a shell should have read stays as it is, to be refused
            url = file_url(url if str(url).startswith(("~", "$")) else url.absolute())
        given = (url or "").strip()
        self._url, self._create = given or default_url(), create
        if self._url.removeprefix("sqlite:///") == ":memory:":
            self._url = ":memory:"
        self._opening = threading.Lock()
        self._opened: Database | None = None
        self._closed, self._process = False, os.getpid()
        if self._url != ":memory:":
            self._open()

    def _open(self) -> Database:
        with self._opening:
            if self._url == ":memory:" and (self._closed or self._process != os.getpid()):
                raise JournalError(
                    "The journal in memory is closed, or belongs to another process.",
                    hint="Open a new one, or make a new toolkit.",
                )
            if self._opened is None:
                from hms_active_rooms.gate.journal.engines import Database

                self._opened = Database(self._url, self._key, create=self._create)
                # If nobody closes the journal, its file closes with the garbage collection.
                weakref.finalize(self, self._opened.dispose)
            return self._opened

    @property
    def place(self) -> str:
        """The journal's file or address without the password, to show it to a person."""
        return self._opened.place if self._opened else self._url

    @property
    def begun(self) -> bool:
        """Whether opening the journal created it."""
        return self._opened is not None and self._opened.begun

    @property
    def is_read_only(self) -> bool:
        return self._opened is not None and self._opened.is_read_only

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place})"

    def close(self) -> None:
        """Close the connections. A later use opens new ones; a journal in memory is lost."""
        with self._opening:
            self._closed = True
            if self._opened is not None:
                self._opened.close()

    def now(self) -> datetime:
        return self._clock().astimezone(UTC)

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """Open a transaction that reads the journal as of one moment, and does not wait for writers."""
        from hms_active_rooms.gate.journal.store import Reading

        with self._open().begin("reads") as db:
            yield Reading(db, self.now, self._key)

    @contextmanager
    def write(self, *, notes_only: bool = False) -> Iterator[Writing]:
        """Open a transaction for reading and writing. Nobody else writes meanwhile.

        Args:
            notes_only: the commit does not wait for the disk, so its events may be lost if the machine
                loses power. The transaction must not change the state of an action.
        """
        from hms_active_rooms.gate.journal.store import Writing
        from hms_active_rooms.gate.journal.tables import check_still

        mode: Mode = "notes" if notes_only else "writes"
        with self._open().begin(mode) as db:
            check_still(db, self._key)
            yield Writing(db, self.now, self._key)
            self._on_commit("before")
        self._on_commit("after")

    get = _one_read(lambda view: view.get)
    story = _one_read(lambda view: view.story)
    latest = _one_read(lambda view: view.latest)
    newest = _one_read(lambda view: view.newest)
    actions = _one_read(lambda view: view.actions)
    count = _one_read(lambda view: view.count)
    events = _one_read(lambda view: view.events)
    refused_requests = _one_read(lambda view: view.refused_requests)
    steps = _one_read(lambda view: view.steps)
    rivals = _one_read(lambda view: view.rivals)

    def note(self, action_id: str, kind: str, *, by: str = "", way: str = "", **data: str) -> None:
        """Append an event that changes no state, for example that a person was asked.

        Args:
            action_id: the action that the event is about.
            kind: what happened, in one word.
            by: who did it.
            way: how it was done.
            data: more about the event.
        """
        with self.write(notes_only=True) as tx:
            tx.note(action_id, kind, by=by, way=way, **data)

    def export(self, file: IO[str], *, before: datetime, by: str) -> int:
        """Write the actions that ended before a certain time to a file, as JSON Lines, and return their
        number. The file also has the refused requests of that time. Its last line has the SHA-256 of all
        lines above. Then the journal records which actions the file has. Only these can be pruned.

        Args:
            file: open for writing text, with `newline=""`.
            before: an aware datetime. All revisions of a call must have ended before it.
            by: who exports, for the record.
        """
        from hms_active_rooms.gate.journal import archive

        return archive.export(self, file, before, by)

    def prune(self, *, before: datetime, by: str) -> Pruned:
        """Delete actions that ended before a certain time and are in an export. An action that was sent within
        the last hour is kept. All revisions of a call are deleted together, or none. One event of each
        action stays, so that the same call is never sent again. Exported events of refused requests, and
        old stored questions, are deleted, too.

        Args:
            before: an aware datetime. All revisions of a call must have ended before it.
            by: who prunes, for the record.
        """
        from hms_active_rooms.gate.journal import archive

        return archive.prune(self, before, by)
