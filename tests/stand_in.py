"""A room without HTTP for the gate's own tests: deterministic, with a hook around every request.

The simulator serves the tests that cross the network; this serves races and crash
points, where the test must decide what happens between two steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hms_active_rooms.api.models import Acknowledgement, ActiveRoom, Peer, PeerDetails
from hms_active_rooms.errors import NotActive, PeerNotFound
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.actions.impact import Impact
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action, action_id
from hms_active_rooms.gate.policy import Policy

ROOM = "6" * 24
SESSION = "5" * 24

Hook = Callable[[str], None]


def nothing(_: str) -> None:
    """The hook that does nothing."""


def peer(number: int, name: str = "", role: str = "student", user_id: str = "") -> Peer:
    """Peer `number`, always with the same id."""
    return Peer(
        id=str(UUID(int=(number << 96) | (4 << 76) | (8 << 60) | number)),
        name=name or f"Peer {number}",
        user_id=user_id or f"u-{number}",
        role=role,
    )


@dataclass
class Clock:
    """Time that only moves when told."""

    now: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Move on by `seconds` at once."""
        self.now += timedelta(seconds=seconds)


@dataclass
class StandInRoom:
    """Stands in for `ActiveRoomsClient`: one room, and every state-changing request it got."""

    peers: list[Peer] = field(default_factory=list)
    session: str | None = SESSION
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    before: Hook = nothing
    after: Hook = nothing
    deadline_s: float = 5.0

    async def retrieve_active_room(self, room_id: str) -> ActiveRoom:
        if self.session is None:
            raise NotActive("The room is not active.", status=404)
        session = {"id": self.session, "peers": [p.id for p in self.peers]}
        return ActiveRoom.model_validate(
            {"id": room_id, "name": "r", "customer_id": "c", "session": session}
        )

    async def list_peers(self, room_id: str, **_: Any) -> tuple[Peer, ...]:
        if self.session is None:
            raise NotActive("The room is not active.", status=404)
        return tuple(self.peers)

    async def retrieve_peer(self, room_id: str, peer_id: str) -> PeerDetails:
        for peer in await self.list_peers(room_id):
            if peer.id == peer_id:
                return PeerDetails.model_validate({**peer.model_dump(), "tracks": {}})
        raise PeerNotFound("No such peer.", status=404)

    async def send_message(self, room_id: str, message: str, **more: Any) -> Acknowledgement:
        return self._post("send", {"message": message, **more}, lambda: None)

    async def remove_peers(
        self,
        room_id: str,
        *,
        peer_id: str | None = None,
        role: str | None = None,
        reason: str | None = None,
    ) -> Acknowledgement:
        if peer_id is not None and peer_id not in {p.id for p in self.peers}:
            raise PeerNotFound("No such peer.", status=404)

        def leave() -> None:
            self.peers = [p for p in self.peers if p.id != peer_id and p.role != role]

        return self._post("remove", {"peer_id": peer_id, "role": role, "reason": reason}, leave)

    async def end_room(
        self, room_id: str, *, reason: str | None = None, lock: bool = False
    ) -> Acknowledgement:
        if self.session is None:
            raise NotActive("The room is not active.", status=404)

        def stop() -> None:
            self.session, self.peers = None, []

        return self._post("end", {"lock": lock, "reason": reason}, stop)

    def _post(self, verb: str, body: dict[str, Any], effect: Callable[[], None]) -> Acknowledgement:
        self.before(verb)
        self.posts.append((verb, body))
        effect()
        self.after(verb)
        return Acknowledgement(message="ok")

    async def aclose(self) -> None:
        pass


def gate_on(
    room: StandInRoom,
    journal: Journal | None = None,
    clock: Clock | None = None,
    **policy: Any,
) -> Gate:
    """A gate on the stand-in room, with a journal in memory unless one is given."""
    clock = clock or Clock()
    return Gate(
        room,  # type: ignore[arg-type]
        Policy(**{"rooms": (ROOM,), **policy}),
        journal or Journal(":memory:", clock=clock),
        sleep=clock.sleep,
    )


def row(now: datetime, key: str = "k", *, room_id: str = ROOM, **fields: Any) -> Action:
    """A row as the gate makes one, about a message to the one person in the room."""
    call = parse_call("hms-send-message", {"room_id": room_id, "message": "hi"})
    bare = Action(
        id=action_id(key, 1),
        call_key=key,
        revision=1,
        thread="t",
        requester="agent",
        call=call,
        impact=None,
        digest="",
        gate="soft",
        state="proposed",
        created_at=now,
        expires_at=now + timedelta(seconds=600),
    )
    return replace(bare.bound(call, Impact("everyone", SESSION, 1)), **fields)


def insert(journal: Journal, action: Action) -> Action:
    """Put a row into a journal."""
    with journal.write() as tx:
        tx.insert(action)
    return action
