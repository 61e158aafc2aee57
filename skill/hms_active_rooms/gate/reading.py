"""Reading the journal: filters, order and limit in SQL, holding up nobody who writes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from hms_active_rooms.gate.database import JournalDatabase
from hms_active_rooms.gate.digest import canonical
from hms_active_rooms.gate.records import Action, Event, action_from, aware, naive
from hms_active_rooms.gate.schema import actions, asks, events, steps
from hms_active_rooms.gate.states import State

REQUESTS = "(requests)"
"""In place of an action's id: events about requests that were refused before any action."""

_EXPIRE: tuple[State, ...] = ("proposed", "approved")


class JournalReader(JournalDatabase):
    """What the rows and events say. Nothing here moves anything."""

    def get(self, action_id: str) -> Action | None:
        """The row with this id."""
        with self._reading() as db:
            row = db.execute(sa.select(actions).where(actions.c.id == action_id)).mappings().first()
        return action_from(row)

    def latest(self, call_key: str) -> Action | None:
        """The newest revision of a call."""
        query = (
            sa.select(actions)
            .where(actions.c.call_key == call_key)
            .order_by(actions.c.revision.desc())
            .limit(1)
        )
        with self._reading() as db:
            row = db.execute(query).mappings().first()
        return action_from(row)

    def asked_at(self, place: tuple[str, ...]) -> list[Any]:
        """What was asked at a place of a graph; empty if nothing was."""
        query = sa.select(asks.c["items"]).where(asks.c.place == canonical(list(place)))
        with self._reading() as db:
            return list(db.scalar(query) or [])

    def actions(
        self,
        *,
        state: State | None = None,
        at: datetime | None = None,
        room_id: str | None = None,
        rooms: Collection[str] | None = None,
        thread: str | None = None,
        oldest_first: bool = False,
        limit: int = 50,
    ) -> list[Action]:
        """The rows that fit every filter, newest first.

        Args:
            state: rows in this state; None: in any.
            at: the state is the one at this moment (`Action.state_at`), not the stored one.
            room_id: rows of this room.
            rooms: rows of these rooms; None: of any.
            thread: rows of this conversation.
            oldest_first: the other order.
            limit: at most so many.
        """
        age = actions.c.created_at
        query = (
            sa.select(actions)
            .where(*_filters(state, at, room_id, rooms, thread))
            .order_by(age if oldest_first else age.desc(), actions.c.id)
            .limit(limit)
        )
        return self._found(query)

    def count(
        self,
        *,
        state: State | None = None,
        at: datetime | None = None,
        rooms: Collection[str] | None = None,
        thread: str | None = None,
    ) -> int:
        """How many rows fit every filter; see `actions`."""
        fit = _filters(state, at, None, rooms, thread)
        query = sa.select(sa.func.count()).select_from(actions).where(*fit)
        with self._reading() as db:
            return db.scalar(query) or 0

    def overdue(self, *, rooms: Collection[str] | None = None, limit: int = 50) -> list[Action]:
        """Questions whose time is over and which nobody has moved yet, oldest first."""
        query = (
            sa.select(actions)
            .where(*_filters("proposed", None, None, rooms, None))
            .where(actions.c.expires_at <= naive(self.now()))
            .order_by(actions.c.created_at, actions.c.id)
            .limit(limit)
        )
        return self._found(query)

    def events(self, action_id: str) -> list[Event]:
        """What happened to an action, oldest first."""
        query = sa.select(events).where(events.c.action_id == action_id).order_by(events.c.seq)
        return self._events(query)

    def refused_requests(self, *, limit: int = 50) -> list[Event]:
        """Requests that servers refused, newest first: `by` whom, `way` why, what in `data`."""
        query = (
            sa.select(events)
            .where(events.c.action_id == REQUESTS)
            .order_by(events.c.seq.desc())
            .limit(limit)
        )
        return self._events(query)

    def steps(self, action_id: str) -> dict[str, str]:
        """Peer id to what became of its request: sending, done, gone, failed or unknown."""
        query = sa.select(steps.c.peer_id, steps.c.state).where(steps.c.action_id == action_id)
        with self._reading() as db:
            return {row.peer_id: row.state for row in db.execute(query)}

    def _events(self, query: sa.Select[tuple[object, ...]]) -> list[Event]:
        with self._reading() as db:
            rows = db.execute(query).mappings().all()
        return [Event(aware(r["at"]), r["kind"], r["by"], r["way"], r["data"]) for r in rows]

    def _found(self, query: sa.Select[tuple[object, ...]]) -> list[Action]:
        with self._reading() as db:
            rows = db.execute(query).mappings().all()
        return [action for row in rows if (action := action_from(row))]


def _filters(
    state: State | None,
    at: datetime | None,
    room_id: str | None,
    rooms: Collection[str] | None,
    thread: str | None,
) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if state is not None:
        found.append(actions.c.state == state if at is None else _is_at(state, at))
    if room_id is not None:
        found.append(actions.c.room_id == room_id)
    if rooms is not None:
        found.append(actions.c.room_id.in_(sorted(rooms)))
    if thread is not None:
        found.append(actions.c.thread == thread)
    return found


def _is_at(state: State, at: datetime) -> sa.ColumnElement[bool]:
    """`Action.state_at` in SQL: `expired` as soon as its time is over, moved or not."""
    over = actions.c.expires_at <= naive(at)
    if state == "expired":
        late = sa.and_(actions.c.state.in_(_EXPIRE), over)
        return sa.or_(actions.c.state == state, late)
    stored = actions.c.state == state
    return sa.and_(stored, ~over) if state in _EXPIRE else stored
