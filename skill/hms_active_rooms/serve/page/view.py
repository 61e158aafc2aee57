"""What the page is told, as plain JSON values: bounded, strangers' text escaped. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from hms_active_rooms.api.models import ActiveRoom, Peer
from hms_active_rooms.gate.approval import ApprovalRequest
from hms_active_rooms.gate.records import Action, Event
from hms_active_rooms.gate.states import FINAL
from hms_active_rooms.gate.wording import outcome
from hms_active_rooms.looks import folded, skeleton
from hms_active_rooms.serve.decisions import Shown
from hms_active_rooms.tools.roster import name_matches
from hms_active_rooms.untrusted import escaped, quoted, short_ids

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
        trouble: what there is to say instead.
    """

    room_id: str
    room: ActiveRoom | None = None
    peers: tuple[Peer, ...] = ()
    shorts: dict[str, str] | None = None
    trouble: str = ""


def room_now(room: ActiveRoom, peers: Sequence[Peer]) -> RoomNow:
    """A room with its people in a lasting order."""
    ordered = tuple(sorted(peers, key=lambda p: (p.joined_at, p.id)))
    return RoomNow(room.id, room, ordered, short_ids([p.id for p in ordered]))


def room_view(now: RoomNow) -> dict[str, Any]:
    """A room: name, session, counts by role, the first rows."""
    roles = sorted(Counter(p.role for p in now.peers).items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        "room_id": now.room_id,
        "name": _short(now.room.name) if now.room else "",
        "started_at": _short(now.room.session.created_at) if now.room else "",
        "total": len(now.peers),
        "by_role": [[_short(role), count] for role, count in roles[:_MAX_ROLES]],
        "other_roles": max(len(roles) - _MAX_ROLES, 0),
        "trouble": now.trouble,
        **people_view(now, ""),
    }


def people_view(now: RoomNow, find: str) -> dict[str, Any]:
    """The first people in whose name, role, user id or id this is found, and how many there are."""
    found = [p for p in now.peers if _fits(p, find)] if find.strip() else list(now.peers)
    shorts = now.shorts or {}
    shown = found[:SHOWN_ROWS]
    looks = Counter(skeleton(p.name) for p in shown)
    return {
        "matching": len(found),
        "rows": [
            {
                "short_id": _short(shorts.get(p.id, p.id)),
                "name": _short(p.name),
                "role": _short(p.role),
                "user_id": _short(p.user_id),
                "alike": looks[skeleton(p.name)] > 1,
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
        or name_matches(peer.name, find)
    )


def question_view(action: Action, request: ApprovalRequest) -> dict[str, Any]:
    """What waits: the text exactly as every way of asking shows it, and what an answer needs."""
    return {
        "id": action.id,
        "tool": action.tool,
        "requester": _short(action.requester),
        "gate": request.gate,
        "text": request.text,
        "digest": request.digest,
        "deadline": request.deadline.isoformat(),
        "arguments": dict(request.arguments),
        "words": [word for word in ("message", "reason") if word in request.editable],
    }


def row_view(action: Action, now: datetime) -> dict[str, Any]:
    """One line of the journal."""
    return {
        "id": action.id,
        "at": action.created_at.isoformat(),
        "tool": action.tool,
        "room_id": action.room_id,
        "requester": _short(action.requester),
        "state": action.state_at(now),
        "decided_by": _short(action.decided_by),
        "decided_way": _short(action.decided_way),
        "text": outcome(action),
    }


def action_view(shown: Shown, now: datetime) -> dict[str, Any]:
    """One action: what was asked, what came of it, and everything on record about it."""
    request = shown.request
    return {
        **row_view(shown.action, now),
        "told": told(shown),
        "ended": shown.newest.state_at(now) in FINAL,
        "question": None if request is None else question_view(shown.action, request),
        "events": [_event_view(event) for event in shown.events],
    }


def told(shown: Shown) -> str:
    """Who decided, and what came of it: for somebody who still had the question before them."""
    action, newest = shown.action, shown.newest
    text = outcome(newest)
    if newest.id != action.id and newest.state == "proposed":
        text = f"Asked again as action {newest.id}: {newest.note} Nothing was executed."
    if action.state == "proposed" or action.decided_at is None:
        return text
    if action.decided_way in ("gate", "claim", "policy"):
        return text if newest.id == action.id else f"{outcome(action)} {text}"
    edited = newest.edited_from == action.id
    word = "Rejected" if action.state == "rejected" and not edited else "Approved"
    words = " with other words" if edited else ""
    who = f"{quoted(action.decided_by, 60)} ({escaped(action.decided_way[:40])})"
    return f"{word} by {who}{words} at {action.decided_at:%H:%M:%S} UTC. {text}"


def _event_view(event: Event) -> dict[str, Any]:
    reason = event.data.get("reason") or event.data.get("text") or ""
    return {
        "at": event.at.isoformat(),
        "kind": event.kind,
        "by": _short(event.by),
        "way": _short(event.way),
        "reason": _short(str(reason), _MAX_REASON_CHARS),
    }


def refusal_view(event: Event) -> dict[str, Any]:
    """One refused request."""
    return {
        "at": event.at.isoformat(),
        "by": _short(event.by),
        "way": _short(event.way),
        "what": _short(str(event.data.get("what", "")), _MAX_REASON_CHARS),
    }


def _short(text: str, most: int = _MAX_TEXT_CHARS) -> str:
    return escaped(text[:most]) + ("…" if len(text) > most else "")
