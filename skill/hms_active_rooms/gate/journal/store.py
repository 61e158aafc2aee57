"""The journal: opened, read, and moved from state to state, one transaction at a time.

Threat: a model, a replayed graph, a second worker, a crash or an edited checkpoint makes the
same request twice, or makes one nobody approved. Invariant: a request is sent only by the one
caller whose transaction moved its row from `approved` to `sent`. A writing transaction has the
journal to itself from its start, so what it has read stays true until it commits; every move is
in one transaction with the event that records it.

SQLAlchemy Core over SQLite or PostgreSQL, chosen by URL. Synchronous; async callers use a thread.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Literal, get_args

import platformdirs
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from hms_active_rooms.errors import BrokenRecord, ConfigurationError, JournalError
from hms_active_rooms.gate.journal import archive
from hms_active_rooms.gate.journal.engines import is_in_memory, open_engines
from hms_active_rooms.gate.journal.records import (
    CALLED_AGAIN,
    REQUESTS,
    TRANSITIONS,
    UNSENT,
    Action,
    Event,
    Grant,
    State,
    Way,
    action_id,
    action_of,
    aware,
    contradiction,
    history_fault,
    naive,
    row_of,
    seal,
    unreadable,
)
from hms_active_rooms.gate.journal.tables import (
    SCHEMA_VERSION,
    actions,
    asks,
    check,
    events,
    grants,
    prepare,
    steps,
)
from hms_active_rooms.gate.journal.workers import this_worker
from hms_active_rooms.installing import how_to_install
from hms_active_rooms.untrusted import quoted

Clock = Callable[[], datetime]

Commit = Callable[[Literal["before", "after"]], None]
"""Called around each commit of a writing transaction; tests kill the process there."""

RATE_WINDOW = timedelta(minutes=1)

_AT_ONCE = 100
"""Calls that are pruned in one transaction, so that nobody waits long to write."""

_STEP, _ANY = events.alias("step"), events.alias("any_event")
_LAST_STEP = (
    sa.select(sa.func.max(_ANY.c.seq))
    .where(_ANY.c.action_id == actions.c.id, _ANY.c.seal != "")
    .correlate(actions)
)
_ROW = sa.select(
    actions,
    *(_STEP.c[name].label(f"step_{name}") for name in ("at", "kind", "by", "way", "data", "seal")),
    sa.select(sa.func.max(_ANY.c.seq)).scalar_subquery().label("mark"),
).select_from(actions.outerjoin(_STEP, _STEP.c.seq == _LAST_STEP.scalar_subquery()))
"""Rows, each with the step that made it what it is."""

_WANTED: sa.BindParameter[str] = sa.bindparam("wanted")
_BY_ID = _ROW.where(actions.c.id == _WANTED)
_LATEST = _ROW.where(actions.c.call_key == _WANTED)
_LATEST = _LATEST.order_by(actions.c.revision.desc()).limit(1)
_KEY_OF = sa.select(actions.c.call_key).where(actions.c.id == _WANTED).scalar_subquery()
_NEWEST = _ROW.where(actions.c.call_key == _KEY_OF)
_NEWEST = _NEWEST.order_by(actions.c.revision.desc()).limit(1)
_EDITED_INTO = _ROW.where(actions.c.edited_from == _WANTED)
_EDITED_INTO = _EDITED_INTO.order_by(actions.c.revision.desc()).limit(1)
_SAME_CALL = _ROW.where(
    *(actions.c[name] == sa.bindparam(name) for name in ("content", "thread", "requester"))
)
_SAME_CALL = _SAME_CALL.order_by(actions.c.created_at.desc(), actions.c.revision.desc()).limit(1)
_SAME_SENT = _SAME_CALL.where(actions.c.sent_at.is_not(None))
_ASKED = sa.select(asks.c["items"]).where(asks.c.place == _WANTED)

_SENDINGS = ("done", "failed", "unknown", "returned")
"""Events that end the sending of an action."""

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
        """The newest revision of a call, or of the one that was held back and that it runs."""
        return self._one(_LATEST, wanted=call_key) or self._run_by(call_key)

    def _run_by(self, call_key: str) -> Action | None:
        runs = (events.c.action_id == action_id(call_key, 1), events.c.kind == CALLED_AGAIN)
        found = self._events(sa.and_(*runs), events.c.seq)
        return self.newest(found[-1].data["runs"]) if found else None

    def newest(self, action_id: str) -> Action | None:
        """The newest revision of the call that the row with this id is a revision of."""
        return self._one(_NEWEST, wanted=action_id)

    def revisions(self, call_key: str) -> list[Action]:
        """Every revision of a call, the first one first."""
        return self._actions(
            _ROW.where(actions.c.call_key == call_key).order_by(actions.c.revision)
        )

    def edited_into(self, action_id: str) -> Action | None:
        """The row that holds the words a person edited this one into."""
        return self._one(_EDITED_INTO, wanted=action_id)

    def same_call(self, action: Action, *, sent: bool = False) -> Action | None:
        """The newest row of the same call, by the same requester in the same thread.

        Args:
            action: holds the call.
            sent: only rows that were sent count.
        """
        alike = {"content": action.content, "thread": action.thread}
        query = _SAME_SENT if sent else _SAME_CALL
        return self._one(query, requester=action.requester, **alike)

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
        newest = _ROW.where(*same, actions.c.requester.in_(mine)).order_by(
            actions.c.created_at.desc(), actions.c.revision.desc()
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
        within: Collection[str] | None = None,
        oldest_first: bool = False,
        limit: int = 50,
    ) -> list[Action]:
        """The rows that fit every filter, newest first.

        Args:
            state: rows that are in this state now; None: in any.
            room_id: rows of this room.
            rooms: rows of these rooms; None: of any.
            thread: rows of this conversation.
            within: rows of these conversations; a name that ends in ":" stands for all that go
                on with one more word. None: of any.
            oldest_first: the other order.
            limit: at most so many.
        """
        age = actions.c.created_at
        query = (
            _ROW.where(*self._filters(state, room_id, rooms, thread, within))
            .order_by(age if oldest_first else age.desc(), actions.c.id)
            .limit(limit)
        )
        return self._actions(query)

    def ids(self, *states: State, **filters: Any) -> list[str]:
        """The ids of the rows in one of these states that fit the filters of `actions`, the newest
        first: for whoever reads each row for itself, so that a broken one hides no other."""
        none = {"room_id": None, "rooms": None, "thread": None, "within": None} | filters
        fit = sa.or_(*(sa.and_(*self._filters(state, **none)) for state in states))
        query = sa.select(actions.c.id).where(fit).order_by(actions.c.created_at.desc())
        return list(self.db.scalars(query))

    def count(
        self,
        *,
        state: State | None = None,
        rooms: Collection[str] | None = None,
        thread: str | None = None,
        within: Collection[str] | None = None,
        requester: str | None = None,
    ) -> int:
        """How many rows fit every filter; see `actions`."""
        fit = self._filters(state, None, rooms, thread, within)
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

    def has_rival(self, action: Action) -> bool:
        """Whether another destructive action of the room is being sent, or was when `action` was
        read. By the order of the record: the clocks of several machines may differ."""
        ended = sa.exists().where(
            _ANY.c.action_id == actions.c.id, _ANY.c.seq > action.mark, _ANY.c.kind.in_(_SENDINGS)
        )
        rival = sa.exists().where(
            actions.c.room_id == action.room_id,
            actions.c.id != action.id,
            actions.c.gate == "hard",
            sa.or_(actions.c.state == "sent", ended),
        )
        return bool(self.db.scalar(sa.select(rival)))

    def history_fault(self, action: Action) -> str:
        """Why the events of a row do not lead to it; "" if they do."""
        return action.contradiction or history_fault(action, self.events(action.id))

    def events(self, action_id: str) -> list[Event]:
        """What happened to an action, oldest first."""
        return self._events(events.c.action_id == action_id, events.c.seq)

    def refused_requests(self, *, limit: int = 50) -> list[Event]:
        """Requests that servers refused, newest first: `by` whom, `way` why, what in `data`."""
        refused = sa.and_(events.c.action_id == REQUESTS, events.c.kind == "refused")
        return self._events(refused, events.c.seq.desc(), limit)

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
        return next(iter(self._actions(query, **given)), None)

    def _actions(self, query: sa.Select[Any], **given: object) -> list[Action]:
        now, found = self.now(), []
        for row in self._rows(query, **given):
            step = {name: row[f"step_{name}"] for name in ("at", "kind", "by", "way", "data")}
            wrong = contradiction(row, step, row["step_seal"])
            found.append(action_of(row, now, wrong))
        return found

    def _rows(self, query: sa.Select[Any], **given: object) -> list[dict[str, Any]]:
        try:
            found = self.db.execute(query, given)
            names = tuple(found.keys())
            return [dict(zip(names, row, strict=True)) for row in found]
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
        within: Collection[str] | None,
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
        if within is not None:
            found.append(sa.or_(sa.false(), *map(_is_within, within)))
        return found


def _is_within(name: str) -> sa.ColumnElement[bool]:
    if not name.endswith(":"):
        return actions.c.thread == name
    begin = re.sub("([/_%])", r"/\1", name)
    one, more = (actions.c.thread.like(begin + rest, escape="/") for rest in ("%", "%:%"))
    return sa.and_(one, ~more)


class Writing(Reading):
    """A transaction that has the journal to itself."""

    def insert(self, action: Action) -> Action:
        """Insert a row, with the event that says it was proposed or refused; the row then.

        Raises:
            JournalError: another call has this id.
            BrokenRecord: there was an action with this id, and its row was deleted.
        """
        row = row_of(action)
        try:
            self.db.execute(actions.insert(), row)
        except IntegrityError:
            raise JournalError("Two different calls have the same action id.") from None
        if self.db.scalar(sa.select(sa.exists().where(events.c.action_id == action.id))):
            raise BrokenRecord(
                f"The action {action.id} was made before, and its row is deleted.",
                hint="Nothing is sent. If it was archived, its export tells what came of it.",
            )
        kind = "refused" if action.state == "rejected" else "proposed"
        data = {"state": action.state, "digest": action.digest, "reason": action.reason}
        mark = self._add(action.id, kind, action.requester, "call", data, row)
        if action.state == "approved":
            mark = self._add(action.id, "approved", action.decided_by, action.decided_way, {}, row)
        return replace(action, mark=mark)

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
            BrokenRecord: the row is not what its events say.
        """
        action.check()
        if after not in TRANSITIONS[action.state]:
            raise JournalError(f"An action cannot go from {action.state} to {after}.")
        if action.state in UNSENT and after != "sent":
            if way not in get_args(Way):
                raise JournalError(f"{quoted(way)} is no way of deciding.")
            changes |= {"decided_by": by, "decided_way": way, "decided_at": self.now()}
        moved = replace(action, state=after, **changes)
        columns = row_of(moved)
        values = {name: columns[name] for name in (*changes, "state")}
        if not self._update(values, actions.c.id == action.id, actions.c.state == action.state):
            raise JournalError(f"The action {action.id} is not {action.state} any more.")
        reason = {"reason": changes["reason"]} if "reason" in changes else {}
        told = {**reason, **(data or {})}
        return replace(moved, mark=self._add(action.id, kind or after, by, way, told, columns))

    def expire_if_late(self, action: Action) -> Action:
        """Move a row whose time is over to the state in which it is read; the row then."""
        if action.state != "expired":
            return action
        action.check()
        columns = row_of(action)
        written = ("state", "reason", "decided_by", "decided_way", "decided_at")
        values = {name: columns[name] for name in written}
        if self._update(values, actions.c.id == action.id, actions.c.state.in_(UNSENT)):
            told = {"reason": action.reason}
            self._add(action.id, "expired", "gate", "gate", told, columns)
        return action

    def note(self, action_id: str, kind: str, *, by: str = "", way: str = "", **data: Any) -> None:
        """Append an event that moves nothing (asked, looked, a bad answer...)."""
        self._add(action_id, kind, by, way, data)

    def _add(
        self,
        action_id: str,
        kind: str,
        by: str,
        way: str,
        data: dict[str, Any],
        columns: dict[str, Any] | None = None,
    ) -> int:
        """Append an event, sealed to the row that it made if it is a step; its number."""
        event = {"at": naive(self.now()), "kind": kind, "by": by, "way": way, "data": data}
        sealed = seal(columns, event) if columns else ""
        added = self.db.execute(events.insert(), {**event, "action_id": action_id, "seal": sealed})
        return int(added.inserted_primary_key[0]) if added.inserted_primary_key else 0

    def _update(self, values: dict[str, Any], *where: sa.ColumnElement[bool]) -> bool:
        return self.db.execute(actions.update().where(*where).values(**values)).rowcount == 1

    def renew(self, action_id: str, *, lease_s: float) -> bool:
        """Prolong this worker's lease; False: the row was taken from it, so it must not send."""
        mine = (
            actions.c.id == action_id,
            actions.c.state == "sent",
            actions.c.worker == this_worker(),
        )
        until = naive(self.now() + timedelta(seconds=lease_s))
        return self._update({"lease_until": until}, *mine)

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
        if self._update({"told_at": naive(self.now())}, *untold):
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
            in the user's state directory, see `default_url()`. A file that cannot be written, or
            `?mode=ro`, is opened for reading only.
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
        url = url or default_url()
        try:
            self._engine, self._reader = open_engines(url)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else ""
            hint = (
                "Name a sqlite:/// path that can be written, or a "
                f"postgresql+psycopg:// URL, which wants an extra: {how_to_install('postgres')}."
            )
            if ":" not in url and "@" not in url:
                path = quoted(f"sqlite:///{Path(url).absolute()}", 300)
                hint = f"A file is named by its URL: {path}."
            raise ConfigurationError(
                f"The journal {_place(url)} cannot be opened{f': {why}' if why else ''}.",
                hint=hint,
            ) from None
        self._place = _place(url)
        self._one_connection = is_in_memory(self._reader.url)
        # A lock of our own: a thread that waits in the pool's queue while the pool is closed
        # is never woken, and gives up after 30 s.
        self._turn = threading.Lock()
        self._gone = False
        # A journal nobody closed lets go of its file when nobody has it any more.
        weakref.finalize(self, _dispose, self._engine, self._reader)
        forget = weakref.WeakMethod(self._forget_connections)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: (f := forget()) and f())
        if self._engine is None:
            with self._begin(self._reader) as db:
                if check(db) != SCHEMA_VERSION:
                    raise JournalError(
                        "It is of an earlier release, or empty, and cannot be written.",
                        hint="Copy it to where it can be written, and open that.",
                    )
        else:
            with self._begin(self._engine) as db:
                prepare(db)

    @property
    def place(self) -> str:
        """Its file or address, for a person to read; never a password."""
        return self._place

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place})"

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
        with self._begin(self._reader) as db:
            yield Reading(db, self._clock)

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """Reads and writes that are one step; nobody else writes meanwhile."""
        if self._engine is None:
            raise JournalError(
                f"The journal {self._place} can only be read: nothing can be recorded in it.",
                hint="Nothing is sent without a record; use a journal that can be written.",
            )
        with self._begin(self._engine) as db:
            yield Writing(db, self._clock)
            if self._on_commit is not None:
                self._on_commit("before")
        if self._on_commit is not None:
            self._on_commit("after")

    def export(self, file: IO[str], *, before: datetime, by: str) -> int:
        """Write every action that ended before a moment to a file, whole, as JSON Lines.

        The last line has the SHA-256 of all lines above it. What was exported is recorded once
        the file is on disk, and only that can be pruned.

        Args:
            file: open for writing text.
            before: aware; every revision of a call has to have ended before it.
            by: who exports, for the record.

        Returns:
            How many actions.
        """
        with self.read() as view:
            found = archive.write(view, file, before)
        with self.write() as tx:
            archive.exported(tx, found, before, by)
        return found.actions

    def prune(self, *, before: datetime, by: str) -> archive.Pruned:
        """Delete what ended before a moment, was exported, and did not change since. One event
        stays of each action, so that the same call is never sent again.

        Args:
            before: aware; see `export`.
            by: who prunes, for the record.
        """
        with self.read() as view:
            calls = archive.ended(view, before)
        gone = left = 0
        for first in range(0, len(calls), _AT_ONCE):
            with self.write() as tx:
                done = archive.prune(tx, calls[first : first + _AT_ONCE], by)
            gone, left = gone + done.actions, left + done.left
        with self.write() as tx:
            archive.prune_rest(tx, before, by)
        return archive.Pruned(gone, left)

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
        _dispose(self._engine, self._reader, close=False)
        self._turn = threading.Lock()
        self._gone = self._one_connection

    def _in_turn(self) -> AbstractContextManager[object]:
        """All threads share the one connection of a memory database in turn."""
        return self._turn if self._one_connection else nullcontext()

    @contextmanager
    def _begin(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        """A transaction, and the database's errors in our words."""
        with self._in_turn():
            if self._gone:
                raise JournalError(
                    "The journal was in memory and is closed, or of another process: "
                    "nothing can be recorded in it."
                )
            try:
                with engine.begin() as db:
                    yield db
            except SQLAlchemyError as error:
                raise self._error(error) from None
            except JournalError as error:
                if self._place not in str(error):
                    error.args = (f"{error} (journal {self._place})",)
                raise

    def _error(self, error: SQLAlchemyError) -> JournalError:
        cause = str(getattr(error, "orig", None) or type(error).__name__)
        hint = next((hint for text, hint in _REPAIR.items() if text in cause), None)
        if cause == "database is locked":
            cause = "it is locked: something has kept it open for writing for too long"
        return JournalError(f"The journal {self._place} failed: {quoted(cause, 200)}.", hint=hint)


_RECOVER = (
    "Restore it from a copy, or save what can be read: sqlite3 JOURNAL .recover | sqlite3 NEW. "
    "Move the file away to start an empty one; then nothing is remembered."
)
_REPAIR = {
    "database is locked": "Nothing is sent without a record; end what keeps the journal locked.",
    "malformed": _RECOVER,
    "not a database": _RECOVER,
}


def _place(url: str) -> str:
    """Where a journal is, without a password."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        return url if url == ":memory:" else "of this URL"  # it may hold a password
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return quoted(parsed.database, 300)
    return quoted(parsed.render_as_string(hide_password=True), 300)


def _dispose(*engines: sa.Engine | None, close: bool = True) -> None:
    for engine in engines:
        if engine is not None:
            engine.dispose(close=close)
