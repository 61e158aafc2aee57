"""The shapes of the webhook events, by the docs page "Webhook Events" (version 2.0)."""

from __future__ import annotations

from datetime import datetime

from hms_active_rooms.sim.clock import UNSET_TIME, nanos_text, seconds_text
from hms_active_rooms.sim.records import Json, Peer, Room, Session

API_SOURCE = "api"
"""`source` of a room end that was asked for through the API. Assumed: the docs show "peer" only."""


def envelope(
    event_id: str, account_id: str, app_id: str, at: datetime, kind: str, data: dict[str, Json]
) -> dict[str, Json]:
    """One event as it would be posted."""
    return {
        "version": "2.0",
        "id": event_id,
        "account_id": account_id,
        "app_id": app_id,
        "timestamp": seconds_text(at),
        "type": kind,
        "data": data,
    }


def session_opened(room: Room, session: Session) -> dict[str, Json]:
    """Data of `session.open.success`."""
    return {**_place(room, session), "session_started_at": session.created_at}


def session_closed(room: Room, session: Session, at: datetime) -> dict[str, Json]:
    """Data of `session.close.success`."""
    return {
        **_place(room, session),
        "session_duration": int((at - session.opened).total_seconds()),
        "session_started_at": session.created_at,
        "session_stopped_at": session.ended_at,
    }


def peer_joined(room: Room, session: Session, peer: Peer) -> dict[str, Json]:
    """Data of `peer.join.success`."""
    return {
        **_place(room, session),
        **_person(peer),
        "joined_at": peer.joined_at,
        "session_started_at": session.created_at,
        "type": peer.kind,
    }


def peer_left(
    room: Room, session: Session, peer: Peer, at: datetime, reason: str, message: str
) -> dict[str, Json]:
    """Data of `peer.leave.success`."""
    return {
        **peer_joined(room, session, peer),
        "left_at": nanos_text(at),
        "duration": int((at - peer.joined).total_seconds()),
        "reason": reason,
        "message": message,
    }


def join_failed(
    room: Room, peer_id: str, name: str, user_id: str, metadata: str, role: str, error: str
) -> dict[str, Json]:
    """Data of `peer.join.failure`."""
    return {
        "room_id": room.id,
        "room_name": room.name,
        "template_id": room.template_id,
        "peer_id": peer_id,
        "user_id": user_id,
        "user_name": name,
        "user_data": metadata,
        "role": role,
        "joined_at": UNSET_TIME,
        "error_message": error,
    }


def room_ended(room: Room, session: Session, reason: str, lock: bool) -> dict[str, Json]:
    """Data of `room.end.success`. An API call has no peer, so the peer fields are empty."""
    return {
        **_place(room, session),
        **_nobody(),
        "lock_room": lock,
        "reason": reason,
        "source": API_SOURCE,
        "session_started_at": session.created_at,
    }


def room_end_failed(room: Room, reason: str, lock: bool) -> dict[str, Json]:
    """Data of `room.end.failure`: there was no session to end."""
    return {
        "room_id": room.id,
        "room_name": room.name,
        "session_id": "",
        "template_id": room.template_id,
        **_nobody(),
        "lock_room": lock,
        "reason": reason,
        "source": API_SOURCE,
        "session_started_at": UNSET_TIME,
        "error_code": 404,
        "error_message": "session not found",
    }


def role_changed(
    room: Room, session: Session, peer: Peer, previous: str, at: datetime
) -> dict[str, Json]:
    """Data of `role.change.success`; through the API there is no requesting peer."""
    return {
        **_place(room, session),
        **_person(peer),
        "previous_role": previous,
        "joined_at": peer.joined_at,
        "session_started_at": session.created_at,
        "role_changed_at": nanos_text(at),
    }


def role_change_failed(room: Room, session: Session, peer: Peer, wanted: str) -> dict[str, Json]:
    """Data of `role.change.failure`: the role is full."""
    return {
        **_place(room, session),
        **_person(peer),
        "role": wanted,
        "joined_at": peer.joined_at,
        "session_started_at": session.created_at,
        "error_message": "role limit reached",
    }


def _place(room: Room, session: Session) -> dict[str, Json]:
    return {
        "room_id": room.id,
        "room_name": room.name,
        "session_id": session.id,
        "template_id": room.template_id,
    }


def _person(peer: Peer) -> dict[str, Json]:
    return {
        "peer_id": peer.id,
        "user_id": peer.user_id,
        "user_name": peer.name,
        "user_data": peer.metadata,
        "role": peer.role,
    }


def _nobody() -> dict[str, Json]:
    return {"peer_id": "", "user_id": "", "user_name": "", "role": ""}
