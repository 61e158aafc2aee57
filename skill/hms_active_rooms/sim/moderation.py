"""What the API can do to a room: change a peer, send a message, remove, end.

Each function takes the world's lock, refuses with the API's status and text, and leaves
what is asynchronous in the real service to land a moment later.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from hms_active_rooms.sim import webhooks
from hms_active_rooms.sim.clock import nanos_text
from hms_active_rooms.sim.records import Audience, Delivery, Peer, Room, Session
from hms_active_rooms.sim.tracks import republish
from hms_active_rooms.sim.world import RefusedError, World, is_full


def update(
    world: World, room_id: str, peer_id: str, *, name: str = "", role: str = "", metadata: str = ""
) -> Peer:
    """Change what is given; an empty value means "leave it". The change is immediate.

    Raises:
        RefusedError: no such peer, role or room; the role is full.
    """
    with world.lock:
        peer = world.peer(room_id, peer_id)
        room, session = world.room(room_id), world.session(room_id)
        if role and role not in room.roles:
            raise RefusedError(400, "invalid role")
        changes_role = bool(role) and role != peer.role
        if changes_role and is_full(room, role):
            world.tell(
                "role.change.failure", webhooks.role_change_failed(room, session, peer, role)
            )
            raise RefusedError(400, "role limit reached")
        peer.name = name or peer.name
        peer.metadata = metadata or peer.metadata
        if changes_role:
            at = world.now()
            previous, peer.role = peer.role, role
            republish(peer, room.roles[role].publishes, nanos_text(at), world.ids)
            world.tell(
                "role.change.success", webhooks.role_changed(room, session, peer, previous, at)
            )
        return peer


def send(
    world: World, room_id: str, message: str, *, peer_id: str = "", role: str = "", kind: str = ""
) -> Delivery:
    """Deliver a message to a peer, else to a role, else to everyone.

    Raises:
        RefusedError: no such peer or room, or nobody is in it.
    """
    with world.lock:
        meant = _targets(world, room_id, peer_id, role)
        audience: Audience = "peer" if peer_id else "role" if role else "everyone"
        delivery = Delivery(
            seq=len(world.deliveries) + 1,
            at=nanos_text(world.now()),
            room_id=room_id,
            session_id=world.session(room_id).id,
            audience=audience,
            target=peer_id or role,
            message=message,
            type=kind,
            recipients=tuple(peer.id for peer in meant if not peer.ghost),
            missed=tuple(peer.id for peer in meant if peer.ghost),
        )
        world.deliveries.append(delivery)
        return delivery


def remove(
    world: World, room_id: str, *, peer_id: str = "", role: str = "", reason: str = ""
) -> None:
    """Accept a removal. Whom it hits now is gone a moment later.

    Raises:
        RefusedError: no such peer or room, or nobody is in it.
    """
    with world.lock:
        room, session = world.room(room_id), world.session(room_id)
        for peer in _targets(world, room_id, peer_id, role):
            world.later(
                world.settings.removal_delay_s,
                partial(_kick, world, room, session, peer, reason),
            )


def end(world: World, room_id: str, *, reason: str = "", lock: bool = False) -> None:
    """Accept the end of the session. It closes a moment later; a lock holds at once.

    Raises:
        RefusedError: no such room, or no session to end.
    """
    with world.lock:
        room = world.room(room_id)
        if room.session is None:
            world.tell("room.end.failure", webhooks.room_end_failed(room, reason, lock))
        session = world.session(room_id)
        room.enabled = room.enabled and not lock
        session.end_now = partial(_end, world, room, session, reason, lock)
        world.later(world.settings.ending_delay_s, session.end_now)


def _targets(world: World, room_id: str, peer_id: str, role: str) -> list[Peer]:
    if peer_id:
        return [world.peer(room_id, peer_id)]
    listed = world.session(room_id).peers.values()
    return [peer for peer in listed if not role or peer.role == role]


def _kick(
    world: World, room: Room, session: Session, peer: Peer, reason: str, at: datetime
) -> None:
    world.drop(room, session, peer, at, "peer kicked", reason)


def _end(world: World, room: Room, session: Session, reason: str, lock: bool, at: datetime) -> None:
    if room.session is not session:
        return
    session.end_now = None
    world.tell("room.end.success", webhooks.room_ended(room, session, reason, lock), at)
    # Dropping the last peer closes the session.
    for peer in list(session.peers.values()):
        world.drop(room, session, peer, at, "peer kicked", reason)
