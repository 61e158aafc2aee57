"""What the page is told beside `ActionView`, as plain JSON: bounded, strangers' text escaped. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from hms_active_rooms.api.models import ActiveRoom, Peer, unreadable
from hms_active_rooms.gate.actions.impact import by_role
from hms_active_rooms.gate.journal.records import Action, Event, by_person
from hms_active_rooms.gate.view import view
from hms_active_rooms.looks import folded
from hms_active_rooms.tools.roster import named
from hms_active_rooms.untrusted import cut, same_looks, short_ids

SHOWN_ROWS: Final = 50
_MAX_ROLES: Final = 50
_MAX_TEXT_CHARS: Final = 80
_MAX_REASON_CHARS: Final = 500


@dataclass(frozen=True)
class RoomNow:
    """A room as it was read last.

    Attributes:
        room_id: which.
        room: its name and session; None: none runs, or it could not be read.
        peers: everybody in it, by joining time.
        shorts: full id to short id.
        unreadable: further people, about whom 100ms told nothing usable.
        trouble: what there is to say instead.
    """

    room_id: str
    room: ActiveRoom | None = None
    peers: tuple[Peer, ...] = ()
    shorts: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0
    trouble: str = ""


def room_now(room: ActiveRoom, peers: Sequence[Peer]) -> RoomNow:
    """A room with its people in a lasting order."""
    ordered = tuple(sorted(peers, key=lambda p: (p.joined_at, p.id)))
    shorts = short_ids([p.id for p in ordered])
    return RoomNow(room.id, room, ordered, shorts, len(unreadable(peers)))


def room_view(now: RoomNow) -> dict[str, Any]:
    """A room: name, session, counts by role, the first rows."""
    roles = by_role(now.peers)
    return {
        "room_id": now.room_id,
        "name": cut(now.room.name, _MAX_TEXT_CHARS) if now.room else "",
        "started_at": cut(now.room.session.created_at, _MAX_TEXT_CHARS) if now.room else "",
        "total": len(now.peers),
        "unreadable": now.unreadable,
        "by_role": [[cut(role, _MAX_TEXT_CHARS), count] for role, count in roles[:_MAX_ROLES]],
        "other_roles": max(len(roles) - _MAX_ROLES, 0),
        "trouble": now.trouble,
        **people_view(now, ""),
    }


def people_view(now: RoomNow, find: str) -> dict[str, Any]:
    """The first people in whose name, role, user id or id this is found, and how many there are."""
    part, is_named = folded(find), named(find)
    found = [
        p
        for p in now.peers
        if not find.strip()
        or p.id.startswith(part)
        or part in folded(p.role)
        or part in folded(p.user_id)
        or is_named(p.name)
    ]
    shown = found[:SHOWN_ROWS]
    alike = set(chain.from_iterable(same_looks((p.id, p.name) for p in shown)))
    rows = []
    for p in shown:
        told = {"short_id": now.shorts[p.id], "name": p.name, "role": p.role, "user_id": p.user_id}
        row = {key: cut(text, _MAX_TEXT_CHARS) for key, text in told.items()}
        rows.append({**row, "alike": p.id in alike})
    return {"matching": len(found), "rows": rows}


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
