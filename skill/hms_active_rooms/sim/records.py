"""What the simulated world is made of: rooms, roles, sessions, peers, tracks, deliveries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
"""Anything JSON can say."""

Medium = Literal["audio", "video", "screen"]
Audience = Literal["peer", "role", "everyone"]


@dataclass(frozen=True, slots=True)
class Role:
    """A role of the room's template.

    Attributes:
        name: as peers carry it.
        publishes: what a peer with this role sends; decides its tracks. "screen" means that
            it may share one, not that it does.
        max_peers: how many may hold it at once, None for no limit.
    """

    name: str
    publishes: tuple[Medium, ...] = ()
    max_peers: int | None = None


@dataclass(slots=True)
class Track:
    """One published track. Audio and camera of one peer share a stream id."""

    id: str
    stream_id: str
    type: Literal["audio", "video"]
    source: Literal["regular", "screen"]
    started_at: str
    mute: bool = False
    description: str = ""

    def wire(self) -> dict[str, Json]:
        """As `tracks` of a peer shows it."""
        return {
            "id": self.id,
            "stream_id": self.stream_id,
            "mute": self.mute,
            "type": self.type,
            "source": self.source,
            "started_at": self.started_at,
            "description": self.description,
        }


@dataclass(slots=True)
class Peer:
    """One connection of one user. The same user id may be there several times.

    Attributes:
        ghost: its connection is gone, but the server has not noticed yet.
        joined: the moment; `joined_at` is its text with nanoseconds.
    """

    id: str
    name: str
    user_id: str
    role: str
    metadata: str
    joined: datetime
    joined_at: str
    tracks: list[Track]
    kind: Literal["regular", "sip"] = "regular"
    ghost: bool = False

    def wire(self) -> dict[str, Json]:
        """As the peer list shows it: exactly six keys, no tracks."""
        return {
            "id": self.id,
            "name": self.name,
            "user_id": self.user_id,
            "metadata": self.metadata,
            "role": self.role,
            "joined_at": self.joined_at,
        }

    def wire_with_tracks(self) -> dict[str, Json]:
        """As retrieving or updating one peer shows it."""
        tracks: dict[str, Json] = {track.id: track.wire() for track in self.tracks}
        return {**self.wire(), "tracks": tracks}


@dataclass(slots=True)
class Session:
    """One run of a room, from the first join to the last leave or the end of the room.

    Attributes:
        peers: who is listed now, by peer id.
        left: who was listed earlier, in the order of leaving.
        ended_at: empty while it runs.
        end_now: set while an accepted end has not landed yet; calling it lands it.
    """

    id: str
    opened: datetime
    created_at: str
    peers: dict[str, Peer] = field(default_factory=dict)
    left: list[Peer] = field(default_factory=list)
    ended_at: str = ""
    end_now: Callable[[datetime], None] | None = None


@dataclass(slots=True)
class Room:
    """A room of the account. Enabled (may people join?) and active (is somebody in?) are
    independent."""

    id: str
    name: str
    customer_id: str
    template_id: str
    roles: dict[str, Role]
    enabled: bool = True
    session: Session | None = None
    past: list[Session] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One accepted message and who got it.

    Attributes:
        recipients: ids of the peers that received it.
        missed: ids of listed peers that could not, because their connection is gone.
        target: the peer id or role it was sent to, empty for everyone.
    """

    seq: int
    at: str
    room_id: str
    session_id: str
    audience: Audience
    target: str
    message: str
    type: str
    recipients: tuple[str, ...]
    missed: tuple[str, ...] = ()
