"""The record of every action, and the one authority on what may be sent.

Threat: a model, a replayed graph, a second worker, a crash or an edited checkpoint
makes the same request twice, or makes one nobody approved. Invariant: a request is
sent only by the one caller whose compare-and-set moved its row from `approved` to
`sent`; every move is one transaction that also appends an event.

SQLAlchemy Core over SQLite (WAL, synchronous FULL: a claim is on disk before the
request leaves) or PostgreSQL, chosen by URL. Synchronous; async callers use a thread.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import platformdirs
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from hms_active_rooms.errors import ConfigurationError, JournalError
from hms_active_rooms.gate.records import (
    Action,
    Ask,
    Event,
    Grant,
    action_from,
    action_row,
    aware,
    decided,
    naive,
)
from hms_active_rooms.gate.schema import (
    SCHEMA_VERSION,
    actions,
    asks,
    create_engine,
    events,
    grants,
    metadata,
    steps,
    versions,
)
from hms_active_rooms.gate.states import State, allowed
from hms_active_rooms.gate.workers import this_worker
from hms_active_rooms.untrusted import quoted

Clock = Callable[[], datetime]
Step = Literal["started", "before", "lost"]
RATE_WINDOW = timedelta(minutes=1)


def default_url(state_dir: Path | None = None) -> str:
    """SQLite file in the user's state directory (`XDG_STATE_HOME` on Linux)."""
    folder = state_dir or platformdirs.user_state_path("hms-active-rooms")
    return f"sqlite:///{folder / 'journal.sqlite'}"


class Journal:
    """Reads and moves the rows. Safe from many threads and many processes at once.

    Args:
        url: SQLAlchemy URL, or ":memory:" (gone with the process). None: `default_url()`.
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
        return f"Journal({self._engine.url.render_as_string(hide_password=True)!r})"

    def close(self) -> None:
        """Close the connections. A later use opens new ones."""
        self._engine.dispose()

    def _forget_connections(self) -> None:
        # SQLite connections must not cross a fork; the parent still uses its own.
        self._engine.dispose(close=False)

    def now(self) -> datetime:
        """The journal's time, aware UTC."""
        return self._clock()

    # --- reading -----------------------------------------------------------------------

    def get(self, action_id: str) -> Action | None:
        """The row with this id."""
        with self._transaction() as db:
            return action_from(
                db.execute(sa.select(actions).where(actions.c.id == action_id)).mappings().first()
            )

    def latest(self, call_key: str) -> Action | None:
        """The newest revision of a call."""
        query = (
            sa.select(actions)
            .where(actions.c.call_key == call_key)
            .order_by(actions.c.revision.desc())
            .limit(1)
        )
        with self._transaction() as db:
            return action_from(db.execute(query).mappings().first())

    def actions(
        self,
        *,
        state: State | None = None,
        room_id: str | None = None,
        thread: str | None = None,
        limit: int = 50,
    ) -> list[Action]:
        """Newest first."""
        query = sa.select(actions).order_by(actions.c.created_at.desc(), actions.c.id).limit(limit)
        for column, value in (("state", state), ("room_id", room_id), ("thread", thread)):
            if value is not None:
                query = query.where(actions.c[column] == value)
        with self._transaction() as db:
            return [a for row in db.execute(query).mappings() if (a := action_from(row))]

    def events(self, action_id: str) -> list[Event]:
        """What happened to an action, oldest first."""
        query = sa.select(events).where(events.c.action_id == action_id).order_by(events.c.seq)
        with self._transaction() as db:
            return [
                Event(aware(r["at"]), r["kind"], r["by"], r["way"], r["data"])
                for r in db.execute(query).mappings()
            ]

    def steps(self, action_id: str) -> dict[str, str]:
        """Peer id to what became of its request: sending, done, gone, failed or unknown."""
        query = sa.select(steps.c.peer_id, steps.c.state).where(steps.c.action_id == action_id)
        with self._transaction() as db:
            return {row.peer_id: row.state for row in db.execute(query)}

    # --- proposing and deciding ----------------------------------------------------------

    def insert(self, action: Action) -> Action:
        """Insert a row in its state (`proposed`, or `rejected` when refused on the spot).

        Whoever comes second gets the first one's row.
        """
        try:
            with self._transaction() as db:
                self._insert(db, action)
        except IntegrityError:
            found = self.latest(action.call_key)
            if found is None:
                raise JournalError("Two different calls have the same action id.") from None
            return found
        return action

    def move(
        self,
        action: Action,
        after: State,
        *,
        by: str,
        way: str,
        data: dict[str, Any] | None = None,
        **columns: Any,
    ) -> bool:
        """Compare-and-set from the state `action` is in; False: somebody else was first."""
        if not allowed(action.state, after):
            raise JournalError(f"An action cannot go from {action.state} to {after}.")
        with self._transaction() as db:
            return self._move(db, action, after, by, way, data or {}, columns)

    def replace(
        self, action: Action, successor: Action, *, state: State, reason: str, by: str, way: str
    ) -> bool:
        """End `action` and insert its next revision, in one transaction."""
        with self._transaction() as db:
            data = {"reason": reason, "next": successor.id}
            columns = {"reason": reason, **decided(by, way, self.now())}
            if not self._move(db, action, state, by, way, data, columns):
                return False
            self._insert(db, successor)
            return True

    def claim(self, action: Action, *, per_minute: int, lease_s: float = 60.0) -> bool | None:
        """Move an approved row to `sent`: True for exactly one caller, who holds a lease on it.

        None: the limit of actions per minute is reached, nothing moved.
        """
        if action.state != "approved":
            return False
        now = self.now()
        with self._transaction() as db:
            if self._engine.dialect.name == "postgresql":
                # Readers of the count must not pass each other.
                db.execute(sa.text("LOCK TABLE hms_actions IN SHARE ROW EXCLUSIVE MODE"))
            recent = sa.select(sa.func.count()).where(actions.c.sent_at > naive(now - RATE_WINDOW))
            if (db.scalar(recent) or 0) >= per_minute:
                return None
            return self._move(
                db,
                action,
                "sent",
                this_worker(),
                "claim",
                {},
                {
                    "sent_at": naive(now),
                    "worker": this_worker(),
                    "lease_until": naive(now + timedelta(seconds=lease_s)),
                },
                sa.and_(actions.c.expires_at > naive(now), actions.c.digest == action.digest),
            )

    def renew(self, action_id: str, *, lease_s: float) -> bool:
        """Prolong this worker's lease; False: the row was taken from it, so it must not send."""
        with self._transaction() as db:
            return self._renew(db, action_id, lease_s)

    def start_step(self, action_id: str, peer_id: str, *, lease_s: float) -> Step:
        """Claim one person's request of a removal, and prolong the lease, in one transaction.

        "lost": the row was taken from this worker, so it must not send.
        "before": this person's request was started before.
        """
        try:
            with self._transaction() as db:
                if not self._renew(db, action_id, lease_s):
                    return "lost"
                db.execute(
                    steps.insert().values(action_id=action_id, peer_id=peer_id, state="sending")
                )
        except IntegrityError:
            return "before"
        return "started"

    def end_step(self, action_id: str, peer_id: str, state: str) -> None:
        """Record what became of one person's request."""
        with self._transaction() as db:
            db.execute(
                steps.update()
                .where(steps.c.action_id == action_id, steps.c.peer_id == peer_id)
                .values(state=state)
            )

    def note(self, action_id: str, kind: str, *, by: str = "", way: str = "", **data: Any) -> None:
        """Append an event that moves nothing (asked, looked, a bad answer...)."""
        with self._transaction() as db:
            self._event(db, action_id, kind, by, way, data)

    # --- asking inside graphs ------------------------------------------------------------

    def ask(self, place: str, items: Sequence[Any]) -> Ask:
        """What was asked at this place of a graph (first caller wins)."""
        wanted = list(items)
        try:
            with self._transaction() as db:
                db.execute(asks.insert().values(place=place, items=wanted, at=naive(self.now())))
        except IntegrityError:
            with self._transaction() as db:
                found = db.scalar(sa.select(asks.c["items"]).where(asks.c.place == place))
            return Ask(list(found or []), fresh=False)
        return Ask(wanted, fresh=True)

    # --- grants --------------------------------------------------------------------------

    def add_grant(self, grant: Grant) -> None:
        """Remember an answer for the rest of the session."""
        values = {**grant.__dict__, "expires_at": naive(grant.expires_at)}
        with self._transaction() as db:
            db.execute(grants.insert().values(**values))

    def find_grant(self, wanted: Grant) -> Grant | None:
        """A grant that covers a call described like one."""
        same = ("tool", "room_id", "session_id", "thread", "requester", "worker", "audience")
        query = (
            sa.select(grants)
            .where(
                *(grants.c[name] == getattr(wanted, name) for name in same),
                grants.c.most >= wanted.most,
                grants.c.expires_at > naive(self.now()),
            )
            .limit(1)
        )
        with self._transaction() as db:
            row = db.execute(query).mappings().first()
        if row is None:
            return None
        values = {k: row[k] for k in Grant.__dataclass_fields__}
        return Grant(**{**values, "expires_at": aware(row["expires_at"])})

    def revoke_grants(self, thread: str) -> None:
        """End every "for the rest of this session" of a conversation."""
        now = naive(self.now())
        with self._transaction() as db:
            db.execute(
                grants.update()
                .where(grants.c.thread == thread, grants.c.expires_at > now)
                .values(expires_at=now)
            )

    # --- inside a transaction ------------------------------------------------------------

    def _renew(self, db: sa.Connection, action_id: str, lease_s: float) -> bool:
        mine = (
            actions.c.id == action_id,
            actions.c.state == "sent",
            actions.c.worker == this_worker(),
        )
        until = naive(self.now() + timedelta(seconds=lease_s))
        return db.execute(actions.update().where(*mine).values(lease_until=until)).rowcount == 1

    def _insert(self, db: sa.Connection, action: Action) -> None:
        db.execute(actions.insert().values(**action_row(action)))
        data = {"state": action.state, "digest": action.digest, "reason": action.reason}
        kind = "proposed" if action.state == "proposed" else "refused"
        self._event(db, action.id, kind, action.requester, "call", data)

    def _move(
        self,
        db: sa.Connection,
        action: Action,
        after: State,
        by: str,
        way: str,
        data: dict[str, Any],
        columns: dict[str, Any],
        condition: sa.ColumnElement[bool] | None = None,
    ) -> bool:
        where = [actions.c.id == action.id, actions.c.state == action.state]
        if condition is not None:
            where.append(condition)
        moved = db.execute(actions.update().where(*where).values(state=after, **columns)).rowcount
        if moved:
            self._event(db, action.id, after, by, way, data)
        return moved == 1

    def _event(
        self, db: sa.Connection, action_id: str, kind: str, by: str, way: str, data: dict[str, Any]
    ) -> None:
        db.execute(
            events.insert().values(
                action_id=action_id,
                at=naive(self.now()),
                kind=kind,
                by=by,
                way=way,
                data=data,
            )
        )

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as db:
                yield db
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or type(error).__name__)
            raise JournalError(f"The journal failed: {quoted(cause, 200)}.") from None
