"""The journal's rows as frozen values, and how they are stored. Times are aware UTC outside, naive inside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from hms_active_rooms.gate.states import State

_TIMES = ("created_at", "expires_at", "decided_at", "sent_at", "lease_until", "finished_at")


@dataclass(frozen=True)
class Action:
    """One row: a call at one revision. Times are aware UTC; `arguments` and `impact` plain JSON."""

    id: str
    call_key: str
    revision: int
    thread: str
    requester: str
    tool: str
    room_id: str
    arguments: dict[str, Any]
    impact: dict[str, Any] | None
    digest: str
    gate: str
    state: State
    note: str
    reason: str
    decided_by: str
    decided_way: str
    worker: str
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    sent_at: datetime | None
    lease_until: datetime | None
    finished_at: datetime | None
    result: dict[str, Any]
    edited_from: str | None

    def state_at(self, now: datetime) -> State:
        """The state; `expired` as soon as its time is over, though no row was moved yet."""
        if self.state in ("proposed", "approved") and now >= self.expires_at:
            return "expired"
        return self.state


@dataclass(frozen=True)
class Event:
    """One thing that happened to an action. Never changed, never deleted."""

    at: datetime
    kind: str
    by: str
    way: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Grant:
    """ "For the rest of this session": what the next calls must match to run unasked.

    Attributes:
        tool, room_id, session_id: the same tool in the same session.
        thread, requester, worker: the same conversation, in the same process.
        audience: kind and target of the call and its words' type as a canonical JSON list,
            e.g. `["role","student","chat"]`: roles and types may hold any characters.
        most: the most people a covered call may reach.
        granted_by, action_id: who said so, about what.
        expires_at: aware UTC.
    """

    tool: str
    room_id: str
    session_id: str
    thread: str
    requester: str
    worker: str
    audience: str
    most: int
    granted_by: str
    action_id: str
    expires_at: datetime


@dataclass(frozen=True)
class Ask:
    """What was asked at one place of a graph. `fresh`: recorded just now, so no answer can be its."""

    items: list[Any]
    fresh: bool


def decided(by: str, way: str, at: datetime) -> dict[str, Any]:
    """Columns that record who decided, by which way and when."""
    return {"decided_by": by, "decided_way": way, "decided_at": naive(at)}


def naive(moment: datetime) -> datetime:
    """UTC without zone, as stored."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def aware(moment: datetime) -> datetime:
    """UTC with zone, as used."""
    return moment.replace(tzinfo=UTC)


def action_row(action: Action) -> dict[str, Any]:
    """The columns of an action."""
    row = dict(action.__dict__)
    return {**row, **{name: naive(row[name]) for name in _TIMES if row[name]}}


def action_from(row: sa.RowMapping | None) -> Action | None:
    """The action a row holds."""
    if row is None:
        return None
    values = {name: row[name] for name in Action.__dataclass_fields__}
    return Action(**{**values, **{name: aware(values[name]) for name in _TIMES if values[name]}})
