"""Reads and writes the journal inside one transaction.

Threat: a model, a replayed graph, a second worker, a crash or an edited checkpoint repeats a
request, or makes one that nobody approved. Invariant: only the caller whose transaction moved an
action from `approved` to `sent` sends its request. Only one transaction writes at a time, so what it
has read stays true until it commits. A state change and its event are written together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypedDict, Unpack, get_args

import sqlalchemy as sa

from hms_active_rooms.errors import BrokenRecord, JournalError
from hms_active_rooms.gate.journal import Clock, records
from hms_active_rooms.gate.journal.records import Action, Event, State, Way, action_id
from hms_active_rooms.gate.journal.tables import actions, asks, events
from hms_active_rooms.gate.journal.workers import this_worker
from hms_active_rooms.untrusted import quoted

Row = dict[str, Any]

# --- statements that are kept ---------------------------------------------------------------------

_MOST_TWINS: Final = 20  # how many actions with the same `Action.content` are read
_SAID: Final = ("at", "kind", "by", "way", "data", "seal")
_STEP, _ANY = events.alias("step"), events.alias("any_event")
_LAST_STEP = (
    sa.select(sa.func.max(_ANY.c.seq))
    .where(_ANY.c.action_id == actions.c.id, _ANY.c.seal != "")
    .correlate(actions)
)
_ROW = sa.select(
    actions,
    *(_STEP.c[name].label(f"step_{name}") for name in _SAID),
    sa.select(sa.func.max(_ANY.c.seq)).scalar_subquery().label("mark"),
).select_from(actions.outerjoin(_STEP, _STEP.c.seq == _LAST_STEP.scalar_subquery()))
"""Selects actions, each with its last state change (`step_...`) and its `mark`."""


def _given(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(f"given_{name}", required=False)


def _newest(*which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    age = actions.c.created_at.desc(), actions.c.revision.desc()
    return _ROW.where(*which).order_by(*age).limit(1)


_BY_ID = _ROW.where(actions.c.id == _given("id"))
_OF_CALL = actions.c.call_key == _given("key")
_LATEST = _ROW.where(_OF_CALL).order_by(actions.c.revision.desc()).limit(1)
_GRANTS = _ROW.where(actions.c.thread == _given("thread"), actions.c.granted_in != "")
_ALIKE = [actions.c[name] == _given(name) for name in ("content", "thread", "requester")]
_SAME_CALL = _newest(*_ALIKE)
_SAME_SENT = _ROW.where(
    actions.c.sent_at >= _given("since"),
    # With the index of `thread`, SQLite would read every action of a long thread.
    actions.c.thread + "" == _given("thread"),
    # An edit keeps the content of the call that it changed.
    sa.or_(actions.c.content == _given("content"), actions.c.edited_from.is_not(None)),
).order_by(actions.c.sent_at.desc())
_OF_ROOM = [actions.c[name] == _given(name) for name in ("room_id", "requester")]
_SENT_LATELY = sa.select(
    sa.func.count(sa.case((sa.and_(*_OF_ROOM), 1))).label("alike"), sa.func.count().label("whole")
).where(actions.c.sent_at > _given("since"), actions.c.sent_at < _given("until"))
_ENDED_SINCE = (
    sa.select(_ANY.c.seq)
    .join(actions, _ANY.c.action_id == actions.c.id)
    .where(actions.c.room_id == _given("room_id"), actions.c.id != _given("id"))
    .where(actions.c.gate == "hard", _ANY.c.seq > _given("mark"))
    .where(sa.or_(*(_ANY.c.kind == kind for kind in ("done", "failed", "unknown", "returned"))))
    .limit(1)
)
_EVENTS = sa.select(events).where(events.c.action_id == _given("id")).order_by(events.c.seq)
_ASKED = sa.select(asks.c["items"]).where(asks.c.place == _given("place"))
_ADD_ASKED = asks.insert()
_STEPS = sa.select(actions.c.steps).where(actions.c.id == _given("id"))
_SET_STEPS = actions.update().where(actions.c.id == _given("id"))
_SET_TOLD = actions.update().where(actions.c.id == _given("id"), actions.c.told_at.is_(None))
_MOVE = actions.update().where(
    actions.c.id == _given("id"),
    sa.or_(actions.c.state == _given("state"), actions.c.state == _given("or_state")),
)
_ADD = {"sqlite": events.insert(), "postgresql": events.insert().returning(events.c.seq)}
_ADD_ROW = actions.insert()


def _ids(items: object) -> list[str]:
    return list(map(str, items)) if items and isinstance(items, list) else ["unreadable"]


@dataclass(frozen=True)
class _Compiled:
    """A statement that SQLAlchemy compiles once. The driver runs it, which is far quicker."""

    text: str
    fixed: Row  # values that are part of the statement, as the driver takes them
    bound: Mapping[str, Callable[[Any], Any]]  # by parameter: turns our value into the driver's
    names: tuple[str, ...]  # its columns
    read: Mapping[str, Callable[[Any], Any]]  # by column: turns the driver's value into ours


_compiled: dict[tuple[sa.ClauseElement, str, tuple[str, ...]], _Compiled] = {}


def _compile(
    statement: sa.ClauseElement, dialect: sa.Dialect, columns: tuple[str, ...]
) -> _Compiled:
    # All engines of one kind of database share a compiled statement, by the dialect's name.
    if known := _compiled.get((statement, dialect.name, columns)):
        return known
    made: Any = statement.compile(dialect=dialect, column_keys=list(columns) or None)
    kinds = {name: bind.type.dialect_impl(dialect) for name, bind in made.binds.items()}
    converts = {name: kind.bind_processor(dialect) for name, kind in kinds.items()}
    bound = {name: convert for name, convert in converts.items() if convert}
    fixed = {
        name: bound[name](value) if name in bound else value
        for name, value in made.params.items()
        if not made.binds[name].required
    }
    found = statement.selected_columns if isinstance(statement, sa.Select) else ()
    read = {
        column.name: convert
        for column in found
        if (convert := column.type.dialect_impl(dialect).result_processor(dialect, None))
    }
    names = tuple(column.name for column in found)
    compiled = _Compiled(made.string, fixed, bound, names, read)
    return _compiled.setdefault((statement, dialect.name, columns), compiled)


def _text(value: object) -> object:
    """Decode bytes. SQLite keeps bytes in a text column if a program has written bytes there."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


class Which(TypedDict, total=False):
    """A filter of actions. All its conditions have to be true; None is no condition."""

    id: str
    state: State | None  # the state now, see `Action`
    room_id: str | None
    rooms: Collection[str] | None
    thread: str | None
    within: Collection[str] | None  # threads; "a:" means each "a:X" where X has no ":"
    requester: str | None


class Reading:
    """A transaction for reading, from `Journal.read`. `db` is its connection, for queries of your own."""

    def __init__(self, db: sa.Connection, clock: Clock, key: bytes) -> None:
        self.db = db
        self._clock = clock
        self._key = key

    def now(self) -> datetime:
        return self._clock()

    def get(self, action_id: str) -> Action | None:
        """Return the action with this id, or None."""
        return self._one(_BY_ID, id=action_id)

    def story(self, action_id: str) -> tuple[Action | None, list[Event]]:
        """Return the action with this id and its events, oldest first. If the action contradicts its
        events, its `contradiction` says so."""
        row, told = self.get(action_id), self.events(action_id)
        if row is not None and not row.contradiction:
            row = replace(row, contradiction=records.history_fault(row, told))
        return row, told

    def latest(self, call_key: str) -> Action | None:
        """Return the newest revision of the call with this key, or None. A call that only repeated another
        one has the revisions of that one."""
        if (row := self._one(_LATEST, key=call_key)) is not None:
            return row
        told = self.events(action_id(call_key, 1))
        runs = [event.data.get("runs") for event in told if event.kind == records.CALLED_AGAIN]
        return self.newest(str(runs[-1])) if runs else None

    def newest(self, action_id: str) -> Action | None:
        """Return the newest revision of the action with this id, or None."""
        row = self.get(action_id)
        return row and (self.latest(row.call_key) or row)

    def revisions(self, call_key: str) -> list[tuple[Action, dict[str, Any]]]:
        """Return every revision of a call, oldest first, each with its row as stored."""
        query = _ROW.where(actions.c.call_key == call_key).order_by(actions.c.revision)
        names, now = actions.c.keys(), self.now()
        return [(self._action(r, now), {n: r[n] for n in names}) for r in self.found(query)]

    def same_call(self, action: Action) -> Action | None:
        """Return the newest action with the call, requester and thread of `action`, or None."""
        alike = {"content": action.content, "thread": action.thread}
        return self._one(_SAME_CALL, requester=action.requester, **alike)

    def same_sent(self, action: Action, requesters: Collection[str]) -> Action | None:
        """Return the last action of these requesters that has the call and thread of `action` and was sent
        within the last hour; else None."""
        given = {"thread": action.thread, "content": action.content}
        found = self._rows(_SAME_SENT, since=self.now() - records.SENT_BEFORE, **given)
        for row in found:
            if row["requester"] in requesters:
                sent = self._action(row, self.now())
                if action.content in (sent.content, records.content_of(sent.call)):
                    return sent
        return None

    def same_calls(
        self,
        thread: str,
        content: str,
        is_mine: Callable[[str], bool] = lambda _: True,
        is_same: Callable[[Action], bool] = lambda _: True,
    ) -> tuple[Action | None, list[str], int]:
        """Find the actions of a thread that have the digest `content`. Return the newest one that fits, its
        possible requesters, and the number of different calls.

        Args:
            thread: the conversation.
            content: a digest of the call.
            is_mine: accepts a requester.
            is_same: accepts an action. Only the newest actions are tried.
        """
        same: tuple[sa.ColumnElement[bool], ...]
        same = (actions.c.thread == thread, actions.c.content == content)
        calls = sa.func.count(actions.c.call_key.distinct()).label("calls")
        who = sa.select(actions.c.requester, calls).where(*same).group_by(actions.c.requester)
        found = self.found(who)
        mine = [each["requester"] for each in found if is_mine(each["requester"])]
        newest = _newest(*same, actions.c.requester.in_(mine)).limit(_MOST_TWINS)
        rows = self._actions(self.found(newest)) if mine else []
        row = next(filter(is_same, rows), None)
        return row, mine, sum(each["calls"] for each in found)

    def actions(
        self,
        *states: State,
        oldest_first: bool = False,
        limit: int | None = 50,
        offset: int = 0,
        **which: Unpack[Which],
    ) -> list[Action]:
        """Return the actions that match.

        Args:
            states: only actions that are in one of these states now.
            oldest_first: begin with the oldest, not with the newest.
            limit: the most actions; None for all.
            offset: how many are skipped.
            which: more conditions, such as `room_id=`.
        """
        age = actions.c.created_at
        query = _ROW.where(*self._filters(which, *states))
        query = query.order_by(age if oldest_first else age.desc(), actions.c.id)
        return self._actions(self.found(query.limit(limit).offset(offset)))

    def waiting(self, *, limit: int, rooms: Collection[str] | None) -> tuple[list[Action], int]:
        """Return the oldest actions that wait for a person, and the number of those that `limit` leaves
        out. `rooms` None means all rooms."""
        which: Which = {"state": "proposed", "rooms": rooms}
        found, read, ends = list[Action](), 0, False
        while not ends:
            page = self.actions(oldest_first=True, limit=limit, offset=read, **which)
            found += [action for action in page if action.waiting]
            read += len(page)
            ends = len(page) < limit or len(found) >= limit
        return found[:limit], self.count(**which) - read + len(found[limit:])

    def count(self, **which: Unpack[Which]) -> int:
        """Return the number of actions that match the filters `which`."""
        query = sa.select(sa.func.count()).select_from(actions).where(*self._filters(which))
        return self.db.scalar(query) or 0

    def sent_lately(self, like: Action) -> tuple[int, int]:
        """Return two numbers of actions sent in the last minute: those with the requester and room of
        `like`, and all."""
        since, until = self.now() - records.RATE_WINDOW, self.now() + records.RATE_WINDOW
        given = {"since": since, "until": until, "room_id": like.room_id}
        [found] = self._rows(_SENT_LATELY, requester=like.requester, **given)
        return found["alike"], found["whole"]

    def rivals(self, action: Action) -> list[Action]:
        """Return other destructive actions that are being sent to the room of `action`. Broken records are
        left out."""
        sent = self.actions(state="sent", room_id=action.room_id, limit=1000)
        # An action with a broken record never ends, so nobody waits for it.
        return [o for o in sent if o.id != action.id and o.gate == "hard" and not o.contradiction]

    def has_rival(self, action: Action) -> bool:
        """Return whether another destructive action is being sent to the room of `action`, or was since
        `action` was read."""
        # The order of the events decides, not their times, since clocks may differ.
        given = {"room_id": action.room_id, "id": action.id, "mark": action.mark}
        return bool(self.rivals(action) or self._rows(_ENDED_SINCE, **given))

    def events(self, action_id: str) -> list[Event]:
        """Return the events of an action, oldest first."""
        return [_event(row) for row in self._rows(_EVENTS, id=action_id)]

    def refused_requests(self, *, limit: int = 50) -> list[Event]:
        """Return events of requests that servers refused, newest first. An event's `way` is the reason."""
        refused = (events.c.action_id == records.REQUESTS, events.c.kind == "refused")
        query = sa.select(events).where(*refused).order_by(events.c.seq.desc()).limit(limit)
        return [_event(row) for row in self.found(query)]

    def steps(self, action_id: str) -> dict[str, str]:
        """Return what became of each person in a removal by role, by peer id: "removed", for example, or
        "sending" if the end is not known."""
        [known] = [row["steps"] for row in self._rows(_STEPS, id=action_id)] or [None]
        return {peer: str(of) for peer, of in known.items()} if isinstance(known, dict) else {}

    def asked_at(self, place: str) -> list[str]:
        """Return the items that `Writing.ask` stored under the key `place`, or []."""
        return [id_ for found in self._rows(_ASKED, place=place) for id_ in _ids(found["items"])]

    def asked_below(self, place: str) -> list[list[str]]:
        """Return the items that `Writing.ask` stored under each key that begins with `place`."""
        query = sa.select(asks.c["items"]).where(asks.c.place.startswith(place, autoescape=True))
        return [_ids(items) for items in self.db.scalars(query)]

    def grants(self, thread: str) -> list[Action]:
        """Return the actions of a conversation whose approval also covers further messages. Some approvals
        may be too old by now."""
        rows = self._actions(self._rows(_GRANTS, thread=thread))
        return [r for r in rows if not r.contradiction and r.state not in ("rejected", "expired")]

    def _execute(
        self, statement: sa.ClauseElement, columns: Row | None = None, **given: object
    ) -> Any:
        """Run a statement with values for `columns` and parameters `given`. Returns the driver's cursor."""
        compiled = _compile(statement, self.db.dialect, tuple(columns or ()))
        values = {f"given_{name}": value for name, value in given.items()} | (columns or {})
        for name in compiled.bound.keys() & values.keys():
            values[name] = compiled.bound[name](values[name])
        cursor = self.db.connection.cursor()
        cursor.execute(compiled.text, compiled.fixed | values)
        return cursor

    def _rows(self, query: sa.ClauseElement, **given: Any) -> list[Row]:
        compiled = _compile(query, self.db.dialect, ())
        found = []
        for values in self._execute(query, **given).fetchall():
            row = dict(zip(compiled.names, map(_text, values), strict=True))
            for name, convert in compiled.read.items():
                row[name] = convert(row[name])
            found.append(row)
        return found

    def found(self, query: sa.Select[Any]) -> list[Row]:
        """Run a query, and return its rows. The compiled query is not kept, so this suits queries that
        differ each time."""
        found = self.db.execute(query)
        names = tuple(found.keys())
        return [dict(zip(names, map(_text, row), strict=True)) for row in found]

    def _one(self, query: sa.Select[Any], **given: object) -> Action | None:
        return next(iter(self._actions(self._rows(query, **given))), None)

    def _actions(self, rows: Iterable[Row]) -> list[Action]:
        now = self.now()
        return [self._action(row, now) for row in rows]

    def _action(self, row: dict[str, Any], now: datetime) -> Action:
        step = {name: row[f"step_{name}"] for name in _SAID}
        return records.action_of(
            row, now, records.contradiction(self._key, row, step, step["seal"])
        )

    def _filters(self, which: Which, *states: State) -> list[sa.ColumnElement[bool]]:
        found = [
            actions.c[name] == value
            for name in ("id", "room_id", "thread", "requester")
            if (value := which.get(name)) is not None
        ]
        if (state := which.get("state")) is not None:
            states = (state,)
        if states:
            now = self.now()
            step = sa.func.coalesce(actions.c.decided_at, actions.c.created_at)
            unsure = sa.or_(actions.c.expires_at <= now, step > now + records.CLOCKS_DIFFER)
            late = sa.and_(actions.c.state.in_(records.UNSENT), unsure)
            stored = sa.and_(actions.c.state.in_(states), ~late)
            found.append(sa.or_(stored, late) if "expired" in states else stored)
        if (rooms := which.get("rooms")) is not None:
            found.append(actions.c.room_id.in_(sorted(rooms)))
        if (within := which.get("within")) is not None:
            found.append(sa.or_(sa.false(), *map(_is_within, within)))
        return found


def _event(row: dict[str, Any]) -> Event:
    data = row["data"] if isinstance(row["data"], dict) else {"unreadable": str(row["data"])}
    return Event(row["at"], row["kind"], row["by"], row["way"], data)


def _is_within(name: str) -> sa.ColumnElement[bool]:
    if not name.endswith(":"):
        return actions.c.thread == name
    rest = sa.func.substr(actions.c.thread, len(name) + 1)
    return sa.and_(actions.c.thread.startswith(name, autoescape=True), ~rest.contains(":"))


class Writing(Reading):
    """A transaction that may write, from `Journal.write`. Nobody else writes to the journal meanwhile."""

    @property
    def _file(self) -> int | str | None:
        """The inode number of the journal's file, or PostgreSQL's database and table; None in memory."""
        files = self.db.info.get("files")
        return files[0][1] if files else self.db.info.get("table")

    def is_copy(self, history: Sequence[Event]) -> bool:
        """Return whether an action with these events was approved in another file or database, of which
        this journal is a copy."""
        files = [event.data.get("file") for event in history if event.kind == "approved"]
        return files[-1:] not in ([], [None], [self._file])

    def insert(self, action: Action) -> Action:
        """Insert a new action and its first event, and return the action. Raises JournalError if its id is
        in use, and BrokenRecord if an action with this id was deleted."""
        row = records.row_of(action)
        if self.get(action.id) is not None:
            raise JournalError("Two different calls have the same action id.")
        self.refuse_deleted(action.id)
        self._execute(_ADD_ROW, row)
        kind = "refused" if action.state == "rejected" else "proposed"
        data = {"state": action.state, "digest": action.digest, "reason": action.reason}
        mark = self._add(action.id, kind, action.requester, "call", data, row)
        if action.state == "approved":
            mark = self._add(action.id, "approved", action.decided_by, action.decided_way, {}, row)
        return replace(action, mark=mark)

    def refuse_deleted(self, action_id: str) -> None:
        """Raise BrokenRecord if there are events with this action id. Call this only if no action has the
        id."""
        if self.events(action_id):
            raise BrokenRecord(
                f"The action {action_id} was made before, and its row has been deleted.",
                hint="Nothing is sent. If the action was archived, the export has its outcome.",
            )

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
        """Move an action to the state `after`, and return it.

        Args:
            action: as this transaction read it.
            by: who decided or did this.
            way: how this came about; for a decision one of `Way`.
            kind: the event's kind, if it is not the new state's name.
            data: more data for the event.
            changes: other fields of the action that change.

        Raises:
            JournalError: there is no such transition, or the stored state has changed.
            BrokenRecord: the record of the action is broken.
        """
        action.check()
        if after not in records.TRANSITIONS[action.state]:
            raise JournalError(f"An action cannot go from {action.state} to {after}.")
        if action.state in records.UNSENT and after != "sent":
            if way not in get_args(Way):
                raise JournalError(f"{quoted(way)} is not a known way of deciding.")
            if (action.state, after) == ("approved", "expired"):
                changes["finished_at"] = self.now()  # who approved it stays on record
            else:
                changes |= {"decided_by": by, "decided_way": way, "decided_at": self.now()}
        moved = replace(action, state=after, **changes)
        said = {"reason": changes["reason"]} if "reason" in changes else {}
        said |= data or {}
        mark = self._step(moved, changes, [action.state], kind or after, by, way, said)
        if mark is None:
            raise JournalError(f"The action {action.id} is not {action.state} any more.")
        return replace(moved, mark=mark)

    def expire_if_late(self, action: Action) -> Action:
        """If `action` is `expired`, record that, unless it is recorded already. Returns `action`."""
        if action.state == "expired":
            action.check()
            columns = ("reason", "decided_by", "decided_way", "decided_at", "finished_at")
            said = {"reason": action.reason}
            self._step(action, columns, records.UNSENT, "expired", "gate", "gate", said)
        return action

    def note(self, action_id: str, kind: str, *, by: str = "", way: str = "", **data: Any) -> None:
        """Append an event that changes no state, as `Journal.note` does."""
        self._add(action_id, kind, by, way, data)

    def _step(
        self,
        moved: Action,
        changed: Collection[str],
        before: Sequence[State],
        kind: str,
        by: str,
        way: str,
        said: dict[str, Any],
    ) -> int | None:
        """Return the event's number. None: the stored state is not in `before`, so nothing was written."""
        columns = records.row_of(moved)
        values = {name: columns[name] for name in (*changed, "state")}
        given = {"id": moved.id, "state": before[0], "or_state": before[-1]}
        if self._execute(_MOVE, values, **given).rowcount != 1:
            return None
        return self._add(moved.id, kind, by, way, said, columns)

    def _add(
        self,
        action_id: str,
        kind: str,
        by: str,
        way: str,
        data: dict[str, Any],
        columns: dict[str, Any] | None = None,
    ) -> int:
        """Return the event's number. `columns` is the new row, if the action's state changes."""
        if kind == "approved":
            data = {**data, "file": self._file}
        event = {"at": self.now(), "kind": kind, "by": by, "way": way, "data": data}
        bound = records.seal(self._key, columns, event) if columns else ""
        add = _ADD[self.db.dialect.name]
        added = self._execute(add, {**event, "action_id": action_id, "seal": bound})
        if added.rowcount != 1:  # a trigger that is not ours dropped it
            raise BrokenRecord("The journal dropped a record instead of keeping it.")
        return int(added.fetchone()[0] if add is not _ADD["sqlite"] else added.lastrowid)

    def renew(self, action_id: str, *, lease_s: float) -> bool:
        """Keep the right to send until `lease_s` seconds from now. False: it was lost, so send nothing."""
        mine = (actions.c.id == action_id, actions.c.state == "sent")
        prolong = actions.update().where(*mine, actions.c.worker == this_worker())
        until = self.now() + timedelta(seconds=lease_s)
        return self.db.execute(prolong.values(lease_until=until)).rowcount == 1

    def step(self, action_id: str, peer_id: str, state: str) -> bool:
        """Record how far the removal of one person is. Return False if the state is "sending", and a
        request for this person was begun before: then nothing may be sent."""
        steps = self.steps(action_id)
        if state == "sending" and steps.get(peer_id, "not sent") != "not sent":
            return False
        self._execute(_SET_STEPS, {"steps": {**steps, peer_id: state}}, id=action_id)
        return True

    def ask(self, place: str, items: Sequence[str]) -> bool:
        """Store `items`, such as open questions, under the key `place`. Return False if the key is in
        use."""
        if self._rows(_ASKED, place=place):
            return False
        self._execute(_ADD_ASKED, {"place": place, "items": list(items), "at": self.now()})
        return True

    def told(self, action_id: str) -> datetime:
        """Record, once, that the requester was told how the action ended. Returns the time now."""
        now = self.now()
        if self._execute(_SET_TOLD, {"told_at": now}, id=action_id).rowcount == 1:
            self.note(action_id, "told", way="call")
        return now

    def revoke_grants(self, thread: str, *, by: str, way: str) -> None:
        """End all approvals "for the session" in a conversation. An `Action` read before does not show it."""
        for row in self.grants(thread):
            own = replace(row, granted_in="")
            self._step(own, ["granted_in"], [row.state], "revoked", by, way, {})
