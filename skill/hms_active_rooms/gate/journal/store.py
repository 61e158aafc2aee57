"""The journal: opened, read, and moved from state to state, one transaction at a time.

Threat: a model, a replayed graph, a second worker, a crash or an edited checkpoint makes the
same request twice, or makes one nobody approved. Invariant: a request is sent only by the one
caller whose transaction moved its row from `approved` to `sent`. A writing transaction has the
journal to itself from its start, so what it has read stays true until it commits; every move is
in one transaction with the event that records it.

SQLAlchemy Core over SQLite (WAL, synchronous FULL: a claim is on disk before the request
leaves) or PostgreSQL, chosen by URL. Synchronous; async callers use a thread.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

import platformdirs
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from hms_active_rooms.errors import ConfigurationError, JournalError
from hms_active_rooms.gate.journal.records import (
    TRANSITIONS,
    UNSENT,
    Action,
    Event,
    Grant,
    State,
    Way,
    action_of,
    aware,
    columns_of,
    naive,
    row_of,
    unreadable,
)
from hms_active_rooms.gate.journal.tables import (
    actions,
    asks,
    create_engine,
    events,
    grants,
    is_in_memory,
    prepare,
    reader_of,
    steps,
)
from hms_active_rooms.gate.journal.workers import this_worker
from hms_active_rooms.untrusted import quoted

Clock = Callable[[], datetime]

Commit = Callable[[Literal["before", "after"]], None]
"""Called around each commit of a writing transaction; tests kill the process there."""

REQUESTS = "(requests)"
"""In place of an action's id: events about requests that were refused before any action."""

RATE_WINDOW = timedelta(minutes=1)

_WANTED: sa.BindParameter[str] = sa.bindparam("wanted")
_BY_ID = sa.select(actions).where(actions.c.id == _WANTED)
_LATEST = sa.select(actions).where(actions.c.call_key == _WANTED)
_LATEST = _LATEST.order_by(actions.c.revision.desc()).limit(1)
_KEY_OF = sa.select(actions.c.call_key).where(actions.c.id == _WANTED).scalar_subquery()
_NEWEST = sa.select(actions).where(actions.c.call_key == _KEY_OF)
_NEWEST = _NEWEST.order_by(actions.c.revision.desc()).limit(1)
_EDITED_INTO = sa.select(actions).where(actions.c.edited_from == _WANTED)
_EDITED_INTO = _EDITED_INTO.order_by(actions.c.revision.desc()).limit(1)
_SAME_CALL = sa.select(actions).where(
    *(actions.c[name] == sa.bindparam(name) for name in ("content", "thread", "requester"))
)
_SAME_CALL = _SAME_CALL.order_by(actions.c.created_at.desc(), actions.c.revision.desc()).limit(1)
_ASKED = sa.select(asks.c["items"]).where(asks.c.place == _WANTED)
_MOVE = actions.update().where(actions.c.id == _WANTED, actions.c.state == sa.bindparam("before"))

_GRANTED_ALIKE = ("tool", "room_id", "session_id", "thread", "requester", "worker")


def default_url(state_dir: Path | None = None) -> str:
    """SQLite file in the user's state directory (`XDG_STATE_HOME` on Linux)."""
    folder = state_dir or platformdirs.user_state_path("hms-active-rooms")
    return f"sqlite:///{folder / 'journal.sqlite'}"


class Reading:
    """One transaction's view of the rows and events. Nothing here moves anything.

    Attributes:
        db: the connection, for what has no method here.
    """

    def __init__(self, db: sa.Connection, clock: Clock) -> None:
        self.db = db
        self._clock = clock

    def now(self) -> datetime:
        """The journal's time, aware UTC. In a writing transaction, read with the lock held."""
        return self._clock()

    def get(self, action_id: str) -> Action | None:
        """The row with this id."""
        return self._one(_BY_ID, wanted=action_id)

    def latest(self, call_key: str) -> Action | None:
        """The newest revision of a call."""
        return self._one(_LATEST, wanted=call_key)

    def newest(self, action_id: str) -> Action | None:
        """The newest revision of the call that the row with this id is a revision of."""
        return self._one(_NEWEST, wanted=action_id)

    def edited_into(self, action_id: str) -> Action | None:
        """The row that holds the words a person edited this one into."""
        return self._one(_EDITED_INTO, wanted=action_id)

    def same_call(self, action: Action) -> Action | None:
        """The newest row of the same call, by the same requester in the same thread."""
        alike = {"content": action.content, "thread": action.thread}
        return self._one(_SAME_CALL, requester=action.requester, **alike)

    def same_calls(
        self, thread: str, content: str, is_mine: Callable[[str], bool] = lambda _: True
    ) -> tuple[Action | None, int]:
        """The newest row of this call in a thread that is the caller's, and how often anybody
        made the call there.

        Args:
            thread: the conversation.
            content: see `Action`.
            is_mine: whether what this requester asked for is the caller's.
        """
        same = (actions.c.thread == thread, actions.c.content == content)
        calls = sa.func.count(actions.c.call_key.distinct())
        who = sa.select(actions.c.requester, calls).where(*same).group_by(actions.c.requester)
        found = self.db.execute(who).all()
        mine = [requester for requester, _ in found if is_mine(requester)]
        newest = (
            sa.select(actions)
            .where(*same, actions.c.requester.in_(mine))
            .order_by(actions.c.created_at.desc(), actions.c.revision.desc())
        )
        count = sum(made for _, made in found)
        return (self._one(newest.limit(1)) if mine else None), count

    def actions(
        self,
        *,
        state: State | None = None,
        room_id: str | None = None,
        rooms: Collection[str] | None = None,
        thread: str | None = None,
        oldest_first: bool = False,
        limit: int = 50,
    ) -> list[Action]:
        """The rows that fit every filter, newest first.

        Args:
            state: rows that are in this state now; None: in any.
            room_id: rows of this room.
            rooms: rows of these rooms; None: of any.
            thread: rows of this conversation.
            oldest_first: the other order.
            limit: at most so many.
        """
        age = actions.c.created_at
        query = (
            sa.select(actions)
            .where(*self._filters(state, room_id, rooms, thread))
            .order_by(age if oldest_first else age.desc(), actions.c.id)
            .limit(limit)
        )
        now = self.now()
        return [action_of(row, now) for row in self._rows(query)]

    def count(
        self,
        *,
        state: State | None = None,
        rooms: Collection[str] | None = None,
        thread: str | None = None,
        requester: str | None = None,
    ) -> int:
        """How many rows fit every filter; see `actions`."""
        fit = self._filters(state, None, rooms, thread)
        if requester is not None:
            fit.append(actions.c.requester == requester)
        return self.db.scalar(sa.select(sa.func.count()).select_from(actions).where(*fit)) or 0

    def sent_since(self, moment: datetime, *, like: Action | None = None) -> int:
        """How many actions were sent after this moment, and not taken back as not executed.

        Args:
            moment: aware UTC.
            like: only those in the same room for the same requester.
        """
        recent = [actions.c.sent_at > naive(moment)]
        if like is not None:
            recent += [actions.c.room_id == like.room_id, actions.c.requester == like.requester]
        return self.db.scalar(sa.select(sa.func.count()).where(*recent)) or 0

    def has_rival(self, action: Action, since: datetime) -> bool:
        """Whether another destructive action of the room is being sent, or ended after `since`."""
        rival = sa.exists().where(
            actions.c.room_id == action.room_id,
            actions.c.id != action.id,
            actions.c.gate == "hard",
            sa.or_(actions.c.state == "sent", actions.c.finished_at > naive(since)),
        )
        return bool(self.db.scalar(sa.select(rival)))

    def was_approved(self, action: Action) -> bool:
        """Whether the record has the approval that the row claims: by whom and by which way."""
        return any(
            event.kind == "approved"
            and event.by == action.decided_by
            # 0.1.0 wrote "grant of ACTION".
            and event.way.split(" ")[0] == action.decided_way
            for event in self.events(action.id)
        )

    def events(self, action_id: str) -> list[Event]:
        """What happened to an action, oldest first."""
        return self._events(events.c.action_id == action_id, events.c.seq)

    def refused_requests(self, *, limit: int = 50) -> list[Event]:
        """Requests that servers refused, newest first: `by` whom, `way` why, what in `data`."""
        return self._events(events.c.action_id == REQUESTS, events.c.seq.desc(), limit)

    def steps(self, action_id: str) -> dict[str, str]:
        """Peer id to what became of its request: "sending", or a `Fate`."""
        query = sa.select(steps.c.peer_id, steps.c.state).where(steps.c.action_id == action_id)
        return {row.peer_id: row.state for row in self.db.execute(query)}

    def asked_at(self, place: str) -> list[str]:
        """What was asked at a place of a graph; empty if nothing was."""
        return list(self.db.scalar(_ASKED, {"wanted": place}) or [])

    def asked_below(self, place: str) -> list[list[str]]:
        """What was asked at all places of graphs whose names begin like this."""
        query = sa.select(asks.c["items"]).where(asks.c.place.startswith(place, autoescape=True))
        return [list(items) for items in self.db.scalars(query)]

    def find_grant(self, wanted: Grant) -> Grant | None:
        """A grant that covers a call described like one."""
        query = sa.select(grants).where(
            *(grants.c[name] == getattr(wanted, name) for name in _GRANTED_ALIKE),
            grants.c.audience == wanted.stored_audience,
            grants.c.most >= wanted.most,
            grants.c.expires_at > naive(self.now()),
        )
        row = next(iter(self._rows(query.limit(1))), None)
        if row is None:
            return None
        return replace(
            wanted,
            most=row["most"],
            granted_by=row["granted_by"],
            action_id=row["action_id"],
            expires_at=aware(row["expires_at"]),
        )

    def _one(self, query: sa.Select[Any], **given: object) -> Action | None:
        row = next(iter(self._rows(query, **given)), None)
        return None if row is None else action_of(row, self.now())

    def _rows(self, query: sa.Select[Any], **given: object) -> Sequence[sa.RowMapping]:
        try:
            return self.db.execute(query, given).mappings().all()
        except ValueError as error:  # a text that is no JSON, or no time
            raise unreadable("A row", error) from None

    def _events(
        self, which: sa.ColumnElement[bool], order: sa.ColumnElement[Any], limit: int | None = None
    ) -> list[Event]:
        rows = self._rows(sa.select(events).where(which).order_by(order).limit(limit))
        return [Event(aware(r["at"]), r["kind"], r["by"], r["way"], r["data"]) for r in rows]

    def _filters(
        self,
        state: State | None,
        room_id: str | None,
        rooms: Collection[str] | None,
        thread: str | None,
    ) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = []
        if state is not None:
            late = sa.and_(actions.c.state.in_(UNSENT), actions.c.expires_at <= naive(self.now()))
            stored = actions.c.state == state
            found.append(sa.or_(stored, late) if state == "expired" else sa.and_(stored, ~late))
        if room_id is not None:
            found.append(actions.c.room_id == room_id)
        if rooms is not None:
            found.append(actions.c.room_id.in_(sorted(rooms)))
        if thread is not None:
            found.append(actions.c.thread == thread)
        return found


class Writing(Reading):
    """A transaction that has the journal to itself."""

    def insert(self, action: Action) -> None:
        """Insert a row, with the event that says it was proposed or refused.

        Raises:
            JournalError: another call has this id.
        """
        try:
            self.db.execute(actions.insert(), row_of(action))
        except IntegrityError:
            raise JournalError("Two different calls have the same action id.") from None
        kind = "refused" if action.state == "rejected" else "proposed"
        data = {"state": action.state, "digest": action.digest, "reason": action.reason}
        self.note(action.id, kind, by=action.requester, way="call", **data)
        if action.state == "approved":
            self.note(action.id, "approved", by=action.decided_by, way=action.decided_way)

    def move(
        self,
        action: Action,
        after: State,
        *,
        by: str,
        way: str,
        kind: str = "",
        data: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Action:
        """Move a row that this transaction read to another state; the row then.

        Args:
            action: the row.
            after: the new state.
            by: who decided or did it.
            way: how; for a decision one of `Way`.
            kind: the event's kind, if it is not the new state's name.
            data: more for the event.
            changes: other fields of the action that change.

        Raises:
            JournalError: the machine has no such transition, or the row is not in that state.
        """
        if after not in TRANSITIONS[action.state]:
            raise JournalError(f"An action cannot go from {action.state} to {after}.")
        if action.state in UNSENT and after != "sent":
            if way not in get_args(Way):
                raise JournalError(f"{quoted(way)} is no way of deciding.")
            changes |= {"decided_by": by, "decided_way": way, "decided_at": self.now()}
        values = columns_of({**changes, "state": after})
        row = {"wanted": action.id, "before": action.state}
        if self.db.execute(_MOVE, {**values, **row}).rowcount != 1:
            raise JournalError(f"The action {action.id} is not {action.state} any more.")
        reason = {"reason": changes["reason"]} if "reason" in changes else {}
        self.note(action.id, kind or after, by=by, way=way, **reason, **(data or {}))
        return replace(action, state=after, **changes)

    def expire_if_late(self, action: Action) -> Action:
        """Move a row whose time is over to the state in which it is read; the row then."""
        if action.state != "expired":
            return action
        late = (actions.c.id == action.id, actions.c.state.in_(UNSENT))
        written = ("state", "reason", "decided_by", "decided_way", "decided_at")
        values = columns_of({name: getattr(action, name) for name in written})
        if self.db.execute(actions.update().where(*late).values(**values)).rowcount:
            self.note(action.id, "expired", by="gate", way="gate", reason=action.reason)
        return action

    def note(self, action_id: str, kind: str, *, by: str = "", way: str = "", **data: Any) -> None:
        """Append an event that moves nothing (asked, looked, a bad answer...)."""
        event = {"action_id": action_id, "at": naive(self.now()), "kind": kind, "by": by}
        self.db.execute(events.insert(), {**event, "way": way, "data": data})

    def renew(self, action_id: str, *, lease_s: float) -> bool:
        """Prolong this worker's lease; False: the row was taken from it, so it must not send."""
        mine = (
            actions.c.id == action_id,
            actions.c.state == "sent",
            actions.c.worker == this_worker(),
        )
        until = naive(self.now() + timedelta(seconds=lease_s))
        return (
            self.db.execute(actions.update().where(*mine).values(lease_until=until)).rowcount == 1
        )

    def start_step(self, action_id: str, peer_id: str) -> bool:
        """Record that one person's request is about to leave; False: it was started before."""
        at = (steps.c.action_id == action_id, steps.c.peer_id == peer_id)
        if self.db.scalar(sa.select(steps.c.state).where(*at)) is not None:
            return False
        self.db.execute(
            steps.insert().values(action_id=action_id, peer_id=peer_id, state="sending")
        )
        return True

    def end_step(self, action_id: str, peer_id: str, state: str) -> None:
        """Record what became of one person's request."""
        at = (steps.c.action_id == action_id, steps.c.peer_id == peer_id)
        self.db.execute(steps.update().where(*at).values(state=state))

    def ask(self, place: str, items: Sequence[str]) -> bool:
        """Record what is asked at a place of a graph; False: something was asked there before."""
        if self.db.scalar(_ASKED, {"wanted": place}) is not None:
            return False
        self.db.execute(
            asks.insert(), {"place": place, "items": list(items), "at": naive(self.now())}
        )
        return True

    def told(self, action_id: str) -> None:
        """Record that the program that asked was told how the action ended; the first time counts."""
        untold = (actions.c.id == action_id, actions.c.told_at.is_(None))
        values = {"told_at": naive(self.now())}
        if self.db.execute(actions.update().where(*untold).values(**values)).rowcount:
            self.note(action_id, "told", way="call")

    def add_grant(self, grant: Grant) -> None:
        """Remember an answer for the rest of the session."""
        values = {**grant.__dict__, "audience": grant.stored_audience}
        self.db.execute(grants.insert().values(**{**values, "expires_at": naive(grant.expires_at)}))

    def revoke_grants(self, thread: str) -> None:
        """End every "for the rest of this session" of a conversation."""
        now = naive(self.now())
        live = (grants.c.thread == thread, grants.c.expires_at > now)
        self.db.execute(grants.update().where(*live).values(expires_at=now))


class Journal:
    """An open database with the journal's tables. Safe from many threads and processes at once.

    Args:
        url: SQLAlchemy URL, or ":memory:" (gone when closed, and with the process). None: a file
            in the user's state directory, see `default_url()`.
        clock: returns the time, aware UTC.
        on_commit: called before and after each commit of a writing transaction.

    Raises:
        ConfigurationError: a URL nothing can be made of.
        JournalError: the database cannot be opened, or is of a newer version.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        clock: Clock = lambda: datetime.now(UTC),
        on_commit: Commit | None = None,
    ) -> None:
        self._clock = clock
        self._on_commit = on_commit
        try:
            self._engine = create_engine(url or default_url())
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, OSError) as error:
            detail = f" ({error.strerror})" if isinstance(error, OSError) else ""
            raise ConfigurationError(
                f"The journal cannot be opened{detail}.",
                hint='Use ":memory:", a sqlite:/// path that can be written, or a '
                "postgresql+psycopg:// URL with the extra hms-active-rooms[postgres].",
            ) from None
        self._reader = reader_of(self._engine)
        self._one_connection = is_in_memory(self._engine.url)
        # A lock of our own: a thread that waits in the pool's queue while the pool is closed
        # is never woken, and gives up after 30 s.
        self._turn = threading.Lock()
        self._gone = False
        # A journal nobody closed lets go of its file when nobody has it any more.
        weakref.finalize(self, _dispose, self._engine, self._reader)
        forget = weakref.WeakMethod(self._forget_connections)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (f := forget()) and f())
        with _our_errors(), self._open_in_turn(), self._engine.begin() as db:
            prepare(db)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._engine.url.render_as_string(hide_password=True)!r})"

    def close(self) -> None:
        """Close the connections. A later use opens new ones; a journal in memory is gone."""
        with self._in_turn():
            _dispose(self._engine, self._reader)
            self._gone = self._one_connection

    def now(self) -> datetime:
        """The journal's time, aware UTC."""
        return self._clock()

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """Reads of one moment; waits for no writer, and no writer waits for it."""
        with _our_errors(), self._open_in_turn(), self._reader.begin() as db:
            yield Reading(db, self._clock)

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """Reads and writes that are one step; nobody else writes meanwhile."""
        with _our_errors(), self._open_in_turn(), self._engine.begin() as db:
            yield Writing(db, self._clock)
            if self._on_commit is not None:
                self._on_commit("before")
        if self._on_commit is not None:
            self._on_commit("after")

    # --- one read, for those who want no more ------------------------------------------------

    def get(self, action_id: str) -> Action | None:
        """The row with this id, as it is now."""
        with self.read() as view:
            return view.get(action_id)

    def latest(self, call_key: str) -> Action | None:
        """The newest revision of a call."""
        with self.read() as view:
            return view.latest(call_key)

    def newest(self, action_id: str) -> Action | None:
        """The newest revision of a row's call."""
        with self.read() as view:
            return view.newest(action_id)

    def actions(self, **filters: Any) -> list[Action]:
        """See `Reading.actions`."""
        with self.read() as view:
            return view.actions(**filters)

    def count(self, **filters: Any) -> int:
        """See `Reading.count`."""
        with self.read() as view:
            return view.count(**filters)

    def events(self, action_id: str) -> list[Event]:
        """What happened to an action, oldest first."""
        with self.read() as view:
            return view.events(action_id)

    def refused_requests(self, *, limit: int = 50) -> list[Event]:
        """See `Reading.refused_requests`."""
        with self.read() as view:
            return view.refused_requests(limit=limit)

    def steps(self, action_id: str) -> dict[str, str]:
        """See `Reading.steps`."""
        with self.read() as view:
            return view.steps(action_id)

    def note(self, action_id: str, kind: str, *, by: str = "", way: str = "", **data: Any) -> None:
        """See `Writing.note`."""
        with self.write() as tx:
            tx.note(action_id, kind, by=by, way=way, **data)

    # --- connections -----------------------------------------------------------------------

    def _forget_connections(self) -> None:
        # SQLite connections must not cross a fork; the parent still uses its own.
        self._engine.dispose(close=False)
        self._reader.dispose(close=False)
        self._turn = threading.Lock()
        self._gone = self._one_connection

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


def _dispose(*engines: sa.Engine) -> None:
    for engine in engines:
        engine.dispose()


@contextmanager
def _our_errors() -> Iterator[None]:
    """The database's errors in our words."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or type(error).__name__)
        if cause == "database is locked":
            raise JournalError(
                "The journal is locked: something has kept it open for writing for too long.",
                hint="Nothing is sent without a record; end what keeps the journal locked.",
            ) from None
        raise JournalError(f"The journal failed: {quoted(cause, 200)}.") from None
