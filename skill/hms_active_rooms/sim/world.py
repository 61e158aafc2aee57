"""The state behind the simulated API: rooms, sessions, peers, and how they change.

No HTTP here and no background task. Time and ids come from outside; what takes a moment
in the real service (removals, endings, ghosts) is dated and lands when somebody looks.
Every public method takes the lock, so the server's thread and a test may share a world.
What each method refuses, it refuses with the API's own status and text.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from hms_active_rooms.sim import webhooks
from hms_active_rooms.sim.clock import Clock, IdSource, nanos_text, utc_now
from hms_active_rooms.sim.records import Delivery, Json, Peer, Role, Room, Session
from hms_active_rooms.sim.schedule import Schedule
from hms_active_rooms.sim.settings import Settings
from hms_active_rooms.sim.tracks import publish


class RefusedError(Exception):
    """The world does not do that.

    Attributes:
        status: the HTTP status the API answers with.
        message: the API's text.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message


class World:
    """One simulated account.

    Args:
        setup: fills the world, now and again at each `reset()`.
        settings: delays, switches and credentials.
        clock: the wall clock; the world's time is this plus what was advanced.
        ids: where ids come from.

    Attributes:
        lock: hold it while using a `Room`, `Session` or `Peer` that a method returned.
        deliveries: every accepted message and who got it.
        webhooks: every event since the setup, in the shapes the real service posts.
    """

    def __init__(
        self,
        setup: Callable[[World], None] | None = None,
        *,
        settings: Settings | None = None,
        clock: Clock = utc_now,
        ids: IdSource | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.ids = ids or IdSource()
        self.lock = threading.RLock()
        self.deliveries: list[Delivery] = []
        self.webhooks: list[dict[str, Json]] = []
        self._clock = clock
        self._setup = setup
        self._ahead = timedelta()
        self._rooms: dict[str, Room] = {}
        self._schedule = Schedule()
        self.reset()

    # Time

    def wall_clock(self) -> datetime:
        """The real time, untouched by `advance`: what tokens are checked against."""
        return self._clock()

    def now(self) -> datetime:
        """The world's present moment."""
        return self._clock() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let time pass. What falls due lands."""
        if seconds < 0:
            raise ValueError("time only goes forward")
        with self.lock:
            self._ahead += timedelta(seconds=seconds)
            self._land()

    def settle(self) -> None:
        """Land every removal and ending that was asked for. Ghosts stay until their time."""
        with self.lock:
            self._land()
            last = self._schedule.last_requested()
            if last is not None:
                self._ahead += max(last - self.now(), timedelta())
                self._schedule.land(last)

    def reset(self) -> None:
        """Back to the state after the setup: same rooms, same people, same ids."""
        with self.lock:
            self._rooms.clear()
            self._schedule.clear()
            self._ahead = timedelta()
            self.ids.restart()
            if self._setup is not None:
                self._setup(self)
            # What happened before anybody could watch is scenery, not an event.
            self.webhooks.clear()
            self.deliveries.clear()

    # Rooms and sessions

    def add_room(
        self,
        *,
        name: str,
        roles: tuple[Role, ...],
        room_id: str = "",
        template_id: str = "",
        enabled: bool = True,
    ) -> Room:
        """Create a room with nobody in it."""
        with self.lock:
            room = Room(
                id=room_id or self.ids.object_id(),
                name=name,
                customer_id=self.settings.account_id,
                template_id=template_id or self.ids.object_id(),
                roles={role.name: role for role in roles},
                enabled=enabled,
            )
            if room.id in self._rooms:
                raise ValueError(f"room {room.id} is there already")
            self._rooms[room.id] = room
            return room

    def rooms(self) -> list[Room]:
        """All rooms, in the order they were made."""
        with self.lock:
            self._land()
            return list(self._rooms.values())

    def room(self, room_id: str) -> Room:
        """A room of the account, whoever is in it."""
        with self.lock:
            self._land()
            room = self._rooms.get(room_id)
            if room is None:
                status = self.settings.foreign_room_status
                text = "user does not have required permission"
                raise RefusedError(status, text if status == 403 else "room not found")
            return room

    def session(self, room_id: str) -> Session:
        """The running session of a room."""
        with self.lock:
            room = self.room(room_id)
            if room.session is None:
                raise RefusedError(404, "session not active" if room.enabled else "room not active")
            return room.session

    def peer(self, room_id: str, peer_id: str) -> Peer:
        """One listed peer of a room."""
        with self.lock:
            peer = self.session(room_id).peers.get(peer_id)
            if peer is None:
                raise RefusedError(404, "peer not found")
            return peer

    def peers(self, room_id: str) -> list[Peer]:
        """Copies of who is listed in a room now, in the order they joined; nobody if idle."""
        with self.lock:
            session = self.room(room_id).session
            return [replace(peer) for peer in session.peers.values()] if session else []

    def is_active(self, room_id: str) -> bool:
        """Whether a session runs."""
        with self.lock:
            return self.room(room_id).session is not None

    def set_enabled(self, room_id: str, enabled: bool) -> None:
        """Allow or block joins. A running session goes on either way."""
        with self.lock:
            self.room(room_id).enabled = enabled

    # What people do

    def join(
        self,
        room_id: str,
        *,
        name: str,
        role: str,
        user_id: str = "",
        metadata: str = "",
        peer_id: str = "",
        kind: Literal["regular", "sip"] = "regular",
        shares_screen: bool = False,
        ago_s: float = 0.0,
    ) -> Peer:
        """Somebody joins; the first one opens a session.

        Args:
            user_id: as the app gave it; a new UUID when empty.
            peer_id: a given id instead of a new one.
            shares_screen: publishes a screen track too, if the role may.
            ago_s: joined this many seconds ago (for setting a scene).
        """
        with self.lock:
            room = self.room(room_id)
            at = self.now() - timedelta(seconds=ago_s)
            if room.session is not None and room.session.end_now is not None:
                # An end without a lock lets people in at once, into a new session.
                room.session.end_now(self.now())
            peer_id = peer_id or self.ids.uuid()
            user_id = user_id or self.ids.uuid()
            if not room.enabled:
                raise RefusedError(404, "room not active")
            listed = room.session.peers if room.session is not None else {}
            if role not in room.roles:
                failure = "role not allowed"
            elif peer_id in listed:
                failure = "duplicate peer id"
            else:
                failure = ""
            if failure:
                self.tell(
                    "peer.join.failure",
                    webhooks.join_failed(room, peer_id, name, user_id, metadata, role, failure),
                )
                raise RefusedError(400, failure)
            if is_full(room, role):
                raise RefusedError(400, "role limit reached")
            session = room.session or self._open(room, at)
            allowed = room.roles[role].publishes
            media = [medium for medium in allowed if medium != "screen" or shares_screen]
            joined_at = nanos_text(at, self.ids.extra_ns())
            peer = Peer(
                id=peer_id,
                name=name,
                user_id=user_id,
                role=role,
                metadata=metadata,
                joined=at,
                joined_at=joined_at,
                tracks=publish(media, joined_at, self.ids),
                kind=kind,
            )
            session.peers[peer.id] = peer
            self.tell("peer.join.success", webhooks.peer_joined(room, session, peer), at)
            return peer

    def leave(self, room_id: str, peer_id: str, *, abrupt: bool = False) -> None:
        """Somebody leaves by their own will, or their connection breaks.

        Args:
            abrupt: the connection breaks: a ghost stays listed until the server notices.
        """
        with self.lock:
            peer = self.peer(room_id, peer_id)
            room, session = self.room(room_id), self.session(room_id)
            if not abrupt:
                self.drop(room, session, peer, self.now(), "client request", "")
            elif not peer.ghost:
                peer.ghost = True
                self.later(
                    self.settings.ghost_s,
                    lambda at: self.drop(room, session, peer, at, "websocket closed", ""),
                    requested=False,
                )

    # For the modules beside this one: the lock is held by them

    def tell(self, kind: str, data: dict[str, Json], at: datetime | None = None) -> None:
        """Append a webhook event."""
        event = webhooks.envelope(
            self.ids.uuid(),
            self.settings.account_id,
            self.settings.app_id,
            at or self.now(),
            kind,
            data,
        )
        self.webhooks.append(event)

    def later(
        self, seconds: float, happens: Callable[[datetime], None], *, requested: bool = True
    ) -> None:
        """Let something happen in a while; see `Schedule.add`."""
        self._schedule.add(self.now() + timedelta(seconds=seconds), happens, requested=requested)

    def drop(
        self, room: Room, session: Session, peer: Peer, at: datetime, reason: str, message: str
    ) -> None:
        """Take a peer off the list; the last one closes the session. Twice is once."""
        if session.peers.pop(peer.id, None) is None:
            return
        session.left.append(peer)
        self.tell(
            "peer.leave.success", webhooks.peer_left(room, session, peer, at, reason, message), at
        )
        if not session.peers:
            self.close(room, session, at)

    def close(self, room: Room, session: Session, at: datetime) -> None:
        """Close a session, whoever is still in it. Twice is once."""
        if room.session is not session:
            return
        room.session = None
        room.past.append(session)
        session.ended_at = nanos_text(at)
        self.tell("session.close.success", webhooks.session_closed(room, session, at), at)

    def _land(self) -> None:
        self._schedule.land(self.now())

    def _open(self, room: Room, at: datetime) -> Session:
        session = Session(self.ids.object_id(), at, nanos_text(at, self.ids.extra_ns()))
        room.session = session
        self.tell("session.open.success", webhooks.session_opened(room, session), at)
        return session


def is_full(room: Room, role: str) -> bool:
    """Whether a role holds as many listed peers as its template allows."""
    limit = room.roles[role].max_peers
    if limit is None or room.session is None:
        return False
    return sum(peer.role == role for peer in room.session.peers.values()) >= limit
