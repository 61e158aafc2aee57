"""The record of every action, and the one authority on what may be sent.

Threat: a model, a replayed graph, a second worker, a crash or an edited checkpoint
makes the same request twice, or makes one nobody approved. Invariant: a request is
sent only by the one caller whose compare-and-set moved its row from `approved` to
`sent`; every move is one transaction that also appends an event. The time that decides
or is recorded is read inside it, once nobody else can write.

Synchronous; async callers use a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.digest import canonical
from hms_active_rooms.gate.reading import JournalReader
from hms_active_rooms.gate.records import (
    Action,
    Ask,
    Grant,
    action_row,
    aware,
    decided,
    naive,
)
from hms_active_rooms.gate.schema import actions, asks, events, grants, steps
from hms_active_rooms.gate.states import State, allowed
from hms_active_rooms.gate.workers import this_worker

Step = Literal["started", "before", "lost"]
RATE_WINDOW = timedelta(minutes=1)
LOOK_LASTS = timedelta(seconds=10)
"""How old what was read of a room may be when a request for it is claimed."""


class Journal(JournalReader):
    """Reads and moves the rows; see `JournalDatabase` for how it is opened."""

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
        """Compare-and-set from the state `action` is in, with who decided or when it ended.

        False: somebody else was first, or it is too late to approve it.
        """
        if not allowed(action.state, after):
            raise JournalError(f"An action cannot go from {action.state} to {after}.")
        with self._deciding() as (db, now):
            in_time = actions.c.expires_at > naive(now) if after == "approved" else None
            if after in ("approved", "rejected", "expired"):
                columns |= decided(by, way, now)
            elif after in ("done", "failed", "unknown"):
                columns |= {"finished_at": naive(now)}
            return self._move(db, action, after, by, way, data or {}, columns, in_time)

    def replace(
        self, action: Action, successor: Action, *, state: State, reason: str, by: str, way: str
    ) -> bool:
        """End `action` and insert its next revision, in one transaction."""
        with self._deciding() as (db, now):
            data = {"reason": reason, "next": successor.id}
            columns = {"reason": reason, **decided(by, way, now)}
            if not self._move(db, action, state, by, way, data, columns):
                return False
            self._insert(db, successor)
            return True

    def claim(
        self,
        action: Action,
        *,
        per_minute: int,
        lease_s: float = 60.0,
        alone_since: datetime | None = None,
        looked_at: datetime | None = None,
    ) -> bool | None:
        """Move an approved row to `sent`: True for exactly one caller, who holds a lease on it.

        None: the limit of actions per minute is reached, nothing moved.

        Args:
            alone_since: False too if another destructive action of this room is being sent,
                or ended after this moment: what was read of the room then may be over.
            looked_at: when the reading of the room began. False too if that is more than
                `LOOK_LASTS` ago: something waited since then, so it has to be read again.
        """
        if action.state != "approved":
            return False
        with self._deciding() as (db, now):
            if looked_at is not None and now - looked_at > LOOK_LASTS:
                return False
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
                sa.and_(
                    actions.c.expires_at > naive(now),
                    actions.c.digest == action.digest,
                    sa.true() if alone_since is None else ~_rival(action, alone_since),
                ),
            )

    def give_back(self, action_id: str, *, reason: str) -> bool:
        """Approved again, as if it had not been claimed: the request surely was not executed.

        False: the row was taken from this worker.
        """
        with self._transaction() as db:
            columns = {"state": "approved", "sent_at": None, "lease_until": None, "worker": ""}
            where = _held_here(action_id)
            if db.execute(actions.update().where(*where).values(columns)).rowcount != 1:
                return False
            self._event(db, action_id, "returned", this_worker(), "answer", {"reason": reason})
            return True

    def renew(self, action_id: str, *, lease_s: float, in_time: bool = False) -> bool:
        """Prolong this worker's lease; False: the row was taken from it, so it must not send.

        Args:
            action_id: the row.
            lease_s: for so long from now.
            in_time: False too if the deadline is over.
        """
        with self._deciding() as (db, now):
            more = (actions.c.expires_at > naive(now),) if in_time else ()
            return self._renew(db, action_id, lease_s, *more)

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

    def ask(self, place: tuple[str, ...], items: Sequence[Any]) -> Ask:
        """What was asked at this place of a graph (first caller wins).

        The place is stored as a JSON list: its parts come from callers and hold any characters.
        """
        wanted = list(items)
        values = {"place": canonical(list(place)), "items": wanted, "at": naive(self.now())}
        try:
            with self._transaction() as db:
                db.execute(asks.insert().values(**values))
        except IntegrityError:
            return Ask(self.asked_at(place), fresh=False)
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
        with self._reading() as db:
            row = db.execute(query).mappings().first()
        if row is None:
            return None
        values = {k: row[k] for k in Grant.__dataclass_fields__}
        return Grant(**{**values, "expires_at": aware(row["expires_at"])})

    def revoke_grants(self, thread: str) -> None:
        """End every "for the rest of this session" of a conversation."""
        with self._transaction() as db:
            now = naive(self.now())
            db.execute(
                grants.update()
                .where(grants.c.thread == thread, grants.c.expires_at > now)
                .values(expires_at=now)
            )

    # --- inside a transaction ------------------------------------------------------------

    @contextmanager
    def _deciding(self) -> Iterator[tuple[sa.Connection, datetime]]:
        """A transaction in which no row moves but by it, and the time when that began."""
        with self._transaction() as db:
            if self._engine.dialect.name == "postgresql":
                # SQLite's transaction holds the write lock already.
                db.execute(sa.text("LOCK TABLE hms_actions IN SHARE ROW EXCLUSIVE MODE"))
            yield db, self.now()

    def _renew(
        self, db: sa.Connection, action_id: str, lease_s: float, *more: sa.ColumnElement[bool]
    ) -> bool:
        until = naive(self.now() + timedelta(seconds=lease_s))
        where = (*_held_here(action_id), *more)
        return db.execute(actions.update().where(*where).values(lease_until=until)).rowcount == 1

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


def _held_here(action_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    """This worker is sending it, as far as the row says."""
    return (
        actions.c.id == action_id,
        actions.c.state == "sent",
        actions.c.worker == this_worker(),
    )


def _rival(action: Action, since: datetime) -> sa.Exists:
    """Another destructive action of the room that is being sent, or ended after `since`."""
    other = actions.alias()
    return sa.exists().where(
        other.c.room_id == action.room_id,
        other.c.id != action.id,
        other.c.gate == "hard",
        sa.or_(other.c.state == "sent", other.c.finished_at > naive(since)),
    )
