"""The journal's database: opened, checked, forgotten by forked children, one transaction at a time.

SQLAlchemy Core over SQLite (WAL, synchronous FULL: a claim is on disk before the
request leaves) or PostgreSQL, chosen by URL.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import platformdirs
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from hms_active_rooms.errors import ConfigurationError, JournalError
from hms_active_rooms.gate.schema import (
    SCHEMA_VERSION,
    create_engine,
    is_in_memory,
    metadata,
    reading,
    versions,
)
from hms_active_rooms.untrusted import quoted

Clock = Callable[[], datetime]


def default_url(state_dir: Path | None = None) -> str:
    """SQLite file in the user's state directory (`XDG_STATE_HOME` on Linux)."""
    folder = state_dir or platformdirs.user_state_path("hms-active-rooms")
    return f"sqlite:///{folder / 'journal.sqlite'}"


class JournalDatabase:
    """An open database with the journal's tables. Safe from many threads and processes at once.

    Args:
        url: SQLAlchemy URL, or ":memory:" (gone when closed, and with the process). None: `default_url()`.
        clock: returns the time, aware UTC.

    Raises:
        ConfigurationError: a URL nothing can be made of.
        JournalError: the database cannot be opened, or is of a newer version.
    """

    def __init__(self, url: str | None = None, *, clock: Clock = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        try:
            self._engine = create_engine(url or default_url())
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, OSError) as error:
            detail = f" ({error.strerror})" if isinstance(error, OSError) else ""
            raise ConfigurationError(
                f"The journal cannot be opened{detail}.",
                hint='Use ":memory:", a sqlite:/// path that can be written, or a '
                "postgresql+psycopg:// URL with the extra hms-active-rooms[postgres].",
            ) from None
        self._reader = reading(self._engine)
        self._one_connection = is_in_memory(self._engine.url)
        # A lock of our own: a thread that waits in the pool's queue while the pool is closed
        # is never woken, and gives up after 30 s.
        self._turn = threading.Lock()
        self._gone = False
        # A journal nobody closed lets go of its file when nobody has it any more.
        weakref.finalize(self, self._engine.dispose)
        forget = weakref.WeakMethod(self._forget_connections)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (f := forget()) and f())
        with self._transaction() as db:
            metadata.create_all(db)
            version = db.scalar(sa.select(versions.c.version))
            if version is None:
                db.execute(versions.insert().values(version=SCHEMA_VERSION))
        if version is not None and version != SCHEMA_VERSION:
            raise JournalError(
                f"The journal has schema version {version}; this release reads {SCHEMA_VERSION}."
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._engine.url.render_as_string(hide_password=True)!r})"

    def close(self) -> None:
        """Close the connections. A later use opens new ones; a journal in memory is gone."""
        with self._in_turn():
            self._engine.dispose()
            self._gone = self._one_connection

    def _forget_connections(self) -> None:
        # SQLite connections must not cross a fork; the parent still uses its own.
        self._engine.dispose(close=False)
        self._turn = threading.Lock()
        self._gone = self._one_connection

    def now(self) -> datetime:
        """The journal's time, aware UTC."""
        return self._clock()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """Reads and writes that are one step; holds the write lock from its start."""
        with _our_errors(), self._open_in_turn(), self._engine.begin() as db:
            yield db

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """Reads of one moment; waits for no writer, and no writer waits for it."""
        with _our_errors(), self._open_in_turn(), self._reader.begin() as db:
            yield db

    def _in_turn(self) -> AbstractContextManager[object]:
        """All threads share the one connection of a memory database in turn."""
        return self._turn if self._one_connection else nullcontext()

    @contextmanager
    def _open_in_turn(self) -> Iterator[None]:
        with self._in_turn():
            if self._gone:
                raise JournalError(
                    "The journal was in memory and is closed, or of another process: "
                    "nothing can be recorded in it."
                )
            yield


@contextmanager
def _our_errors() -> Iterator[None]:
    """The database's errors in our words."""
    try:
        yield
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or type(error).__name__)
        if cause == "database is locked":
            raise JournalError(
                "The journal is locked: something has kept it open for writing for too long.",
                hint="Nothing is sent without a record; end what keeps the journal locked.",
            ) from None
        raise JournalError(f"The journal failed: {quoted(cause, 200)}.") from None
