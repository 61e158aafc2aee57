"""The state behind the simulated API: rooms, sessions and peers, and how they change.

Some changes take a moment: a removal, an end, and the end of a peer whose connection broke. Such a
change is scheduled, and happens at the first read of the state after that moment. Every public method
takes the lock, so the server's thread and a test can use the same world.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from hms_active_rooms.sim.records import (
    MAX_S,
    UNSET_TIME,
    Delivery,
    IdSource,
    Json,
    PathId,
    Peer,
    PeerKind,
    Roles,
    Room,
    RoomId,
    Seconds,
    Session,
    nanos_text,
    seconds_text,
)
from hms_active_rooms.sim.settings import Settings


class RefusedError(Exception):
    """The API answers a request with an error of this `status` and `message`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status, self.message = status, message


class World:
    """One simulated account. `setup` makes its rooms and people, now and at each `reset()`. `clock` tells
    its time."""

    def __init__(
        self,
        setup: Callable[[World], None],
        *,
        settings: Settings | None = None,
        clock: Callable[[], datetime] | None = None,
        ids: IdSource | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.ids = ids or IdSource()
        # Hold it while you use a `Room`, `Session` or `Peer`.
        self.lock = threading.RLock()
        self.deliveries: list[Delivery] = []  # the accepted messages, and who got them
        self.webhooks: list[dict[str, Json]] = []  # the events since the setup, as they are posted
        self.clock = clock or partial(datetime.now, UTC)  # also decides whether a token is valid
        self._setup = setup
        self._ahead = timedelta()
        self._rooms: dict[str, Room] = {}
        # Scheduled changes: when, a running number, what happens, and `requested` (see `later`).
        self._due: list[tuple[datetime, int, Callable[[datetime], None], bool]] = []
        self._order = itertools.count()
        self.reset()

    def now(self) -> datetime:
        return self.clock() + self._ahead

    def advance(self, advance_s: Seconds) -> None:
        """Set the world's time forward. What is due by then happens. Raises ValueError for a negative
        number, and RefusedError beyond thirty years."""
        if advance_s < 0:
            raise ValueError("advance_s must not be negative")
        with self.lock:
            ahead = self._ahead.total_seconds() + advance_s
            if ahead > MAX_S:
                raise RefusedError(400, "thirty years ahead is the limit; reset the simulator")
            self._ahead = timedelta(seconds=ahead)
            self._land()

    def settle(self) -> None:
        """Set the time forward until every accepted removal, and every accepted end, has happened."""
        with self.lock:
            self._land()
            asked_for = [at for at, _, _, requested in self._due if requested]
            if asked_for:
                self._ahead += max(max(asked_for) - self.now(), timedelta())
                self._land()

    def reset(self) -> None:
        """Go back to the state after the setup, with the same ids."""
        with self.lock:
            self._rooms.clear()
            self._due.clear()
            self._ahead = timedelta()
            self.ids.restart()
            self._setup(self)
            # Without the events of the setup.
            self.webhooks.clear()
            self.deliveries.clear()

    def add_room(self, *, name: str, id: RoomId = "", roles: Roles) -> Room:
        """Add a room. If `id` is "", the room gets a new id. Raises RefusedError if the id is in use."""
        with self.lock:
            made_at = nanos_text(self.now())
            room = Room(
                id=id or self.ids.object_id(),
                name=name,
                customer_id=self.settings.account_id,
                template_id=self.ids.object_id(),
                roles={role.name: role for role in roles},
                created_at=made_at,
                updated_at=made_at,
            )
            if room.id in self._rooms:
                raise RefusedError(409, f"room {room.id} exists already")
            self._rooms[room.id] = room
            return room

    def rooms(self) -> list[Room]:
        with self.lock:
            self._land()
            return list(self._rooms.values())

    def room(self, room_id: str) -> Room:
        with self.lock:
            self._land()
            room = self._rooms.get(room_id)
            if room is None:
                status = self.settings.foreign_room_status
                text = "user does not have required permission"
                raise RefusedError(status, text if status == 403 else "room not found")
            return room

    def session(self, room_id: str) -> Session:
        room = self.room(room_id)
        if (session := room.session) is None:
            raise RefusedError(404, "session not active" if room.enabled else "room not active")
        return session

    def peer(self, room_id: str, peer_id: str) -> Peer:
        if (peer := self.session(room_id).peers.get(peer_id)) is None:
            raise RefusedError(404, "peer not found")
        return peer

    def peers(self, room_id: str) -> list[Peer]:
        """Copies of the peers in a room, in the order they joined. Empty if the room has no session."""
        with self.lock:
            session = self.room(room_id).session
            return [replace(peer) for peer in session.peers.values()] if session else []

    def set_enabled(self, room_id: str, enabled: bool) -> None:
        """Enable or disable a room. Nobody can join a disabled room; its session continues."""
        room = self.room(room_id)
        room.enabled, room.updated_at = enabled, nanos_text(self.now())

    def join(
        self,
        room_id: str,
        *,
        name: str,
        role: str,
        user_id: str = "",
        metadata: str = "",
        peer_id: PathId = "",
        kind: PeerKind = "regular",
        shares_screen: bool = False,
        ago_s: Seconds = 0.0,
    ) -> Peer:
        """Let somebody join, now or `ago_s` seconds ago. An empty `peer_id` or `user_id` becomes a new one.
        Raises RefusedError if the room, the role or the peer id cannot be used."""
        with self.lock:
            room = self.room(room_id)
            at = self.now() - timedelta(seconds=ago_s)
            if room.session is not None and room.session.ending is not None:
                # After an end people can join at once, in a new session.
                room.session.ending(self.now())
            peer = Peer(
                id=peer_id or self.ids.uuid(),
                name=name,
                user_id=user_id or self.ids.uuid(),
                role=role,
                metadata=metadata,
                joined=at,
                kind=kind,
            )
            if not room.enabled:
                raise RefusedError(404, "room not active")
            unknown = role not in room.roles
            if unknown or (room.session is not None and peer.id in room.session.peers):
                failure = "role not allowed" if unknown else "duplicate peer id"
                self.tell("peer.join.failure", room, None, peer, type=kind, error_message=failure)
                raise RefusedError(400, failure)
            if room.is_full(role):
                raise RefusedError(400, "role limit reached")
            session = room.session or self._open(room, at)
            peer.joined_at = nanos_text(at, self.ids.extra_ns())
            peer.publish(room.roles[role], peer.joined_at, self.ids, shares_screen=shares_screen)
            session.peers[peer.id] = peer
            self.tell("peer.join.success", room, session, peer, at, type=kind)
            return peer

    def leave(self, room_id: str, peer_id: str, *, abrupt: bool = False) -> None:
        """Let somebody leave. If `abrupt`, they stay listed for `Settings.ghost_s` seconds."""
        with self.lock:
            room = self.room(room_id)
            sessions = [*room.past_sessions, *([room.session] if room.session else [])]
            left = [peer for session in sessions for peer in session.left if peer.id == peer_id]
            is_listed = room.session is not None and peer_id in room.session.peers
            for gone in [] if is_listed else left[:1]:
                never: dict[str, Json] = {"left_at": UNSET_TIME, "duration": 0, "type": gone.kind}
                failed = "Peer not joined"
                self.tell("peer.leave.failure", room, None, gone, **never, error_message=failed)
            peer = self.peer(room_id, peer_id)
            drop = partial(self.drop, room, self.session(room_id), peer)
            if not abrupt:
                drop("client request", "", self.now())
            elif not peer.ghost:
                peer.ghost = True
                closed = partial(drop, "websocket closed", "")
                self.later(self.settings.ghost_s, closed, requested=False)

    # The methods below are for `operations`, which holds the lock.

    def tell(
        self,
        kind: str,
        room: Room,
        session: Session | None,
        peer: Peer | None = None,
        at: datetime | None = None,
        /,
        **more: Json,
    ) -> None:
        """Append a webhook event.

        Args:
            kind: its type, such as "peer.join.success".
            room: the room.
            session: the session.
            peer: the peer.
            at: its time, by default now.
            more: fields that only this type has.
        """
        data: dict[str, Json] = {"room_id": room.id, "room_name": room.name}
        data["template_id"] = room.template_id
        if session is not None:
            data |= {"session_id": session.id, "session_started_at": session.created_at}
        if peer is not None:
            data |= {"peer_id": peer.id, "user_id": peer.user_id, "user_name": peer.name}
            data |= {"user_data": peer.metadata, "role": peer.role, "joined_at": peer.joined_at}
        event: dict[str, Json] = {"version": "2.0", "id": self.ids.uuid()}
        event |= {"account_id": self.settings.account_id, "app_id": self.settings.app_id}
        event |= {"timestamp": seconds_text(at or self.now()), "type": kind}
        self.webhooks.append({**event, "data": {**data, **more}})

    def later(
        self, seconds: float, happens: Callable[[datetime], None], *, requested: bool = True
    ) -> None:
        """Call `happens(moment)` when `seconds` have passed. `settle` waits for this only if `requested`."""
        at = self.now() + timedelta(seconds=seconds)
        heapq.heappush(self._due, (at, next(self._order), happens, requested))

    def drop(
        self, room: Room, session: Session, peer: Peer, reason: str, message: str, at: datetime
    ) -> None:
        """Take a peer off the list at the time `at`. With the last peer the session closes. `reason` and
        `message` are for the webhook event."""
        if session.peers.pop(peer.id, None) is None:
            return
        session.left.append(peer)
        lasted = int((at - peer.joined).total_seconds())
        left: dict[str, Json] = {"type": peer.kind, "left_at": nanos_text(at), "duration": lasted}
        left |= {"reason": reason, "message": message}
        self.tell("peer.leave.success", room, session, peer, at, **left)
        if session.peers:
            return
        room.session = None
        room.past_sessions.append(session)
        session.ended_at = stopped = nanos_text(at)
        lasted = int((at - session.opened).total_seconds())
        ended: dict[str, Json] = {"session_duration": lasted, "session_stopped_at": stopped}
        self.tell("session.close.success", room, session, None, at, **ended)

    def _open(self, room: Room, at: datetime) -> Session:
        session = Session(self.ids.object_id(), at, nanos_text(at, self.ids.extra_ns()))
        room.session = session
        self.tell("session.open.success", room, session, None, at)
        return session

    def _land(self) -> None:
        while self._due and self._due[0][0] <= self.now():
            at, _, happens, _ = heapq.heappop(self._due)
            happens(at)
