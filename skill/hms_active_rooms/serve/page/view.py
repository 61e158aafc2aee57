"""What the page is told beside `ActionView`, as plain JSON: bounded, strangers' text escaped. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from hms_active_rooms.api.models import ActiveRoom, Peer
from hms_active_rooms.gate.journal.records import Action, Event, by_person
from hms_active_rooms.gate.view import view
from hms_active_rooms.tools.roster import Roster, select
from hms_active_rooms.untrusted import cut, same_looks

SHOWN_ROWS: Final = 50
_MAX_ROLES: Final = 50
_MAX_TEXT_CHARS: Final = 80
_MAX_REASON_CHARS: Final = 500


@dataclass(frozen=True)
class RoomNow:
    """A room as it was read last.

    Attributes:
        room: its name and session; None: none runs, or it could not be read.
        trouble: what there is to say instead.
    """

    room_id: str
    room: ActiveRoom | None = None
    peers: Sequence[Peer] = ()
    trouble: str = ""


def room_view(now: RoomNow) -> dict[str, Any]:
    """A room: name, session, counts by role, the first rows."""
    seen = select(now.peers, limit=SHOWN_ROWS)
    return {
        "room_id": now.room_id,
        "name": cut(now.room.name, _MAX_TEXT_CHARS) if now.room else "",
        "started_at": cut(now.room.session.created_at, _MAX_TEXT_CHARS) if now.room else "",
        "total": seen.total,
        "unreadable": seen.unreadable,
        "by_role": [[cut(role, _MAX_TEXT_CHARS), n] for role, n in seen.by_role[:_MAX_ROLES]],
        "other_roles": max(len(seen.by_role) - _MAX_ROLES, 0),
        "trouble": now.trouble,
        **_rows(seen),
    }


def people_view(now: RoomNow, find: str) -> dict[str, Any]:
    """The first people in whose name, role, user id or id this is found, and how many there are."""
    return _rows(select(now.peers, find=find if find.strip() else None, limit=SHOWN_ROWS))


def _rows(seen: Roster) -> dict[str, Any]:
    alike = set(chain.from_iterable(same_looks((r.short_id, r.peer.name) for r in seen.rows)))
    rows = []
    for short_id, p, *_ in seen.rows:
        told = {"short_id": short_id, "name": p.name, "role": p.role, "user_id": p.user_id}
        row = {key: cut(text, _MAX_TEXT_CHARS) for key, text in told.items()}
        rows.append({**row, "alike": short_id in alike})
    return {"matching": seen.matching, "rows": rows}


def action_view(action: Action) -> dict[str, Any]:
    """An action as everywhere, without the list of people, which its question names; and as what
    the journal labels it: "refused" if nobody said no."""
    refused = action.state == "rejected" and not by_person(action.decided_way)
    told = view(action, people=0).model_dump(mode="json")
    return {**told, "label": "refused" if refused else action.state}


def event_view(event: Event) -> dict[str, Any]:
    """One thing that happened to an action, or one refused request."""
    told = {"kind": event.kind, "by": event.by, "way": event.way}
    text = next(filter(None, map(event.data.get, ("reason", "text", "what"))), "")
    return {
        "at": event.at.isoformat(),
        **{key: cut(value, _MAX_TEXT_CHARS) for key, value in told.items()},
        "text": cut(str(text), _MAX_REASON_CHARS),
    }
