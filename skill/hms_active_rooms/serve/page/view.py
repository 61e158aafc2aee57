"""What the page is told, as plain JSON values: bounded, strangers' text escaped. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from hms_active_rooms.api.models import ActiveRoom, Peer, unreadable
from hms_active_rooms.gate.journal.records import FINAL, Action, Event, by_person
from hms_active_rooms.gate.wording import describe, outcome
from hms_active_rooms.looks import folded
from hms_active_rooms.serve.decisions import Shown, told
from hms_active_rooms.tools.roster import named
from hms_active_rooms.untrusted import cut, same_looks, short_ids

SHOWN_ROWS: Final = 50
MAX_FIND_CHARS: Final = 100
_MAX_ROLES: Final = 50
_MAX_TEXT_CHARS: Final = 80
_MAX_REASON_CHARS: Final = 500


@dataclass(frozen=True)
class RoomNow:
    """A room as it was read last. `room` is None when no session runs, or it could not be read.

    Attributes:
        room_id: which.
        room: its name and session.
        peers: everybody in it, by joining time.
        shorts: full id to short id.
        unreadable: further people, about whom 100ms told nothing usable.
        trouble: what there is to say instead.
    """

    room_id: str
    room: ActiveRoom | None = None
    peers: tuple[Peer, ...] = ()
    shorts: dict[str, str] | None = None
    unreadable: int = 0
    trouble: str = ""


def room_now(room: ActiveRoom, peers: Sequence[Peer]) -> RoomNow:
    """A room with its people in a lasting order."""
    ordered = tuple(sorted(peers, key=lambda p: (p.joined_at, p.id)))
    shorts = short_ids([p.id for p in ordered])
    return RoomNow(room.id, room, ordered, shorts, len(unreadable(peers)))


def room_view(now: RoomNow) -> dict[str, Any]:
    """A room: name, session, counts by role, the first rows."""
    roles = sorted(Counter(p.role for p in now.peers).items(), key=lambda pair: (-pair[1], pair[0]))
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
    found = [p for p in now.peers if _fits(p, find)] if find.strip() else list(now.peers)
    shorts = now.shorts or {}
    shown = found[:SHOWN_ROWS]
    alike = set(chain.from_iterable(same_looks((p.id, p.name) for p in shown)))
    return {
        "matching": len(found),
        "rows": [
            {
                "short_id": cut(shorts.get(p.id, p.id), _MAX_TEXT_CHARS),
                "name": cut(p.name, _MAX_TEXT_CHARS),
                "role": cut(p.role, _MAX_TEXT_CHARS),
                "user_id": cut(p.user_id, _MAX_TEXT_CHARS),
                "alike": p.id in alike,
            }
            for p in shown
        ],
    }


def _fits(peer: Peer, find: str) -> bool:
    part = folded(find)
    return (
        peer.id.startswith(part)
        or part in folded(peer.role)
        or part in folded(peer.user_id)
        or named(find)(peer.name)
    )


def question_view(action: Action) -> dict[str, Any]:
    """What waits: the text exactly as every way of asking shows it, and what an answer needs."""
    return {
        "id": action.id,
        "tool": action.tool,
        "requester": cut(action.requester, _MAX_TEXT_CHARS),
        "gate": action.gate,
        "text": describe(action),
        "digest": action.digest,
        "deadline": action.expires_at.isoformat(),
        "arguments": action.call.arguments(),
        "words": [word for word in ("message", "reason") if word in action.call.words],
    }


def row_view(action: Action) -> dict[str, Any]:
    """One line of the journal."""
    return {
        "id": action.id,
        "at": action.created_at.isoformat(),
        "tool": action.tool,
        "room_id": action.room_id,
        "requester": cut(action.requester, _MAX_TEXT_CHARS),
        "state": action.state,
        "label": "refused" if _nobody_said_no(action) else action.state,
        "decided_by": cut(action.decided_by, _MAX_TEXT_CHARS),
        "decided_way": action.decided_way,
        "text": outcome(action),
    }


def _nobody_said_no(action: Action) -> bool:
    return action.state == "rejected" and not by_person(action.decided_way)


def action_view(shown: Shown) -> dict[str, Any]:
    """One action: what was asked, what came of it, and everything on record about it."""
    action = shown.action
    return {
        **row_view(action),
        "told": told(action, shown.newest),
        "ended": shown.newest.state in FINAL,
        "question": None if action.impact is None else question_view(action),
        "events": [_event_view(event) for event in shown.events],
    }


def _event_view(event: Event) -> dict[str, Any]:
    reason = event.data.get("reason") or event.data.get("text") or ""
    return {
        "at": event.at.isoformat(),
        "kind": event.kind,
        "by": cut(event.by, _MAX_TEXT_CHARS),
        "way": cut(event.way, _MAX_TEXT_CHARS),
        "reason": cut(str(reason), _MAX_REASON_CHARS),
    }


def refusal_view(event: Event) -> dict[str, Any]:
    """One refused request."""
    return {
        "at": event.at.isoformat(),
        "by": cut(event.by, _MAX_TEXT_CHARS),
        "way": cut(event.way, _MAX_TEXT_CHARS),
        "what": cut(str(event.data.get("what", "")), _MAX_REASON_CHARS),
    }
