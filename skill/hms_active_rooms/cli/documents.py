"""Journal rows as JSON values and as lines for a person. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from hms_active_rooms.cli.screen import bare
from hms_active_rooms.gate.wording import outcome
from hms_active_rooms.serve.answers import MAX_PEOPLE, bounded
from hms_active_rooms.untrusted import quoted

LISTED_PEOPLE = 3
"""Of each action in a list."""

if TYPE_CHECKING:
    from hms_active_rooms.gate.records import Action, Event


def action_document(action: Action, people: int = MAX_PEOPLE) -> dict[str, Any]:
    """An action with its outcome in words, and at most so many of the people it hits.

    Times are ISO 8601, UTC.
    """
    impact = None if action.impact is None else bounded(action.impact, people)
    result = bounded(action.result, people)
    return {**action_record(action), "impact": impact, "result": result}


def action_record(action: Action) -> dict[str, Any]:
    """The same with everybody it hits, each text as it is on record: not for a model."""
    row = {name: _plain(value) for name, value in action.__dict__.items() if name != "call_key"}
    return {**row, "outcome": outcome(action)}


def event_document(event: Event) -> dict[str, Any]:
    """One event of an action."""
    return {name: _plain(value) for name, value in event.__dict__.items()}


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def at(moment: datetime) -> str:
    """A moment in the person's own time zone, to the second."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def time_left(action_deadline: datetime, now: datetime) -> str:
    """How long an answer is still taken, for a person who has to decide."""
    left_s = (action_deadline - now).total_seconds()
    if left_s <= 0:
        return "too late to answer"
    if left_s < 90:
        return f"{left_s:.0f} s left"
    return f"{left_s / 60:.0f} min left" if left_s < 5400 else f"{left_s / 3600:.0f} h left"


def action_cells(action: Action, now: datetime) -> tuple[str, ...]:
    """One line of a list of actions."""
    state = action.state_at(now)
    left = f" ({time_left(action.expires_at, now)})" if state == "proposed" else ""
    return (
        action.id,
        state + left,
        action.tool.removeprefix("hms-"),
        action.room_id,
        bare(action.requester, 30),
        at(action.created_at),
    )


ACTION_HEADS = ("ACTION", "STATE", "WHAT", "ROOM", "ASKED BY", "WHEN")


def event_line(event: Event) -> str:
    """One event in one line."""
    by = f" by {bare(event.by, 60)}" if event.by else ""
    way = f" ({bare(event.way, 60)})" if event.way else ""
    shown = {k: v for k, v in event.data.items() if v not in ("", None) and k != "digest"}
    data = ", ".join(f"{k} {quoted(str(v), 200)}" for k, v in shown.items())
    return f"{at(event.at)}  {event.kind}{by}{way}" + (f": {data}" if data else "")
