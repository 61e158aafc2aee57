"""The records of a simulated account: rooms, sessions, peers, tracks, messages, ids, times."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, TypeAlias

import pydantic
from pydantic import AfterValidator, Field

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
Medium = Literal["audio", "video", "screen"]
PeerKind = Literal["regular", "sip"]
MAX_S: Final = 1e9  # thirty years, so no date overflows
Seconds = Annotated[float, Field(ge=0.0, le=MAX_S, allow_inf_nan=False)]
PathId = Annotated[str, Field(pattern=r"^[^/\s]*$")]  # an id that fits in a path of the API
RoomId = Annotated[str, Field(pattern=r"^([0-9a-f]{24})?$")]  # as 100ms makes them, or ""
UNSET_TIME: Final = "0001-01-01T00:00:00Z"  # as Go writes it


def seconds_text(moment: datetime) -> str:
    """The moment in RFC 3339 with whole seconds, as in webhook events."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def nanos_text(moment: datetime, extra_ns: int = 0) -> str:
    """The moment plus `extra_ns` nanoseconds, in RFC 3339, without zeros at the end."""
    fraction = f".{moment.microsecond * 1000 + extra_ns:09d}".rstrip("0").rstrip(".")
    return seconds_text(moment).replace("Z", f"{fraction}Z")


class IdSource:
    """Makes ids that look real. The same seed makes the same ids."""

    def __init__(self, seed: str = "sim") -> None:
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - ids of a simulation, no secrets

    def object_id(self) -> str:
        """A new id of 24 lower-case hex digits, like those of MongoDB."""
        return f"{self._random.getrandbits(96):024x}"

    def uuid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def uuid_for(self, label: str) -> str:
        """A UUID that depends only on label and seed."""
        return IdSource(f"{self._seed}/{label}").uuid()

    def extra_ns(self) -> int:
        """A random number from 0 to 999: nanoseconds, which a datetime does not have."""
        return self._random.randrange(1000)

    def restart(self) -> None:
        self._random.seed(self._seed)


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class Role:
    """A role of a room.

    Args:
        publishes: the media for which its peers have a track.
        max_peers: the most peers that can have it.
    """

    name: str
    publishes: tuple[Medium, ...] = ()
    max_peers: Annotated[int, Field(ge=1)] | None = None


def _differ(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    if len({role.name for role in roles}) < len(roles):
        raise ValueError("two roles have the same name")
    return roles


Roles = Annotated[tuple[Role, ...], Field(min_length=1), AfterValidator(_differ)]


@dataclass(slots=True)
class Track:
    """Audio or video that a peer publishes."""

    id: str
    stream_id: str
    mute: bool
    type: Literal["audio", "video"]
    source: Literal["regular", "screen"]
    started_at: str
    description: str = ""

    @property
    def medium(self) -> Medium:
        return "screen" if self.source == "screen" else self.type


_LISTED: Final = ("id", "name", "user_id", "metadata", "role", "joined_at")


@dataclass(slots=True)
class Peer:
    """One connection of a user. If `ghost`, the connection is broken, but the peer is still listed."""

    id: str
    name: str
    user_id: str
    role: str
    metadata: str
    joined: datetime
    joined_at: str = UNSET_TIME
    tracks: list[Track] = field(default_factory=list)
    kind: PeerKind = "regular"
    ghost: bool = False

    def wire(self) -> dict[str, Json]:
        """The peer as the API lists it: without tracks."""
        return {key: getattr(self, key) for key in _LISTED}

    def wire_with_tracks(self) -> dict[str, Json]:
        return {**self.wire(), "tracks": {track.id: asdict(track) for track in self.tracks}}

    def publish(self, role: Role, at: str, ids: IdSource, *, shares_screen: bool = False) -> None:
        """Stop the tracks that the role forbids, and start those that the peer lacks. A screen is started
        only with `shares_screen`."""
        running = {track.medium: track for track in self.tracks}
        screen = shares_screen or "screen" in running
        media = [medium for medium in role.publishes if medium != "screen" or screen]
        shared = [running[m].stream_id for m in media if m != "screen" and m in running]
        stream_id = shared[0] if shared else ids.uuid() if media else ""
        self.tracks = [
            running.get(medium)
            or Track(
                id=ids.uuid(),
                stream_id=ids.uuid() if medium == "screen" else stream_id,
                mute=False,
                type="audio" if medium == "audio" else "video",
                source="screen" if medium == "screen" else "regular",
                started_at=at,
            )
            for medium in media
        ]


@dataclass(slots=True)
class Session:
    """One run of a room, from the first join until everybody has left.

    Args:
        peers: those who are listed now.
        left: those who were listed before.
        ended_at: "" while the session runs.
        ending: set if an end was accepted.
    """

    id: str
    opened: datetime
    created_at: str
    peers: dict[str, Peer] = field(default_factory=dict)  # listed now, by peer id
    left: list[Peer] = field(default_factory=list)  # listed before, in order of leaving
    ended_at: str = ""  # "" while it runs
    ending: Callable[[datetime], None] | None = None


@dataclass(slots=True)
class Room:
    """A room. People can join while it is `enabled`. Without people it has no `session`."""

    id: str
    name: str
    customer_id: str
    template_id: str
    roles: dict[str, Role]
    enabled: bool = True
    created_at: str = UNSET_TIME
    updated_at: str = UNSET_TIME
    session: Session | None = None
    past_sessions: list[Session] = field(default_factory=list)

    def is_full(self, role: str) -> bool:
        limit, listed = self.roles[role].max_peers, self.session.peers if self.session else {}
        return limit is not None and sum(p.role == role for p in listed.values()) >= limit


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that the API accepted.

    Args:
        target: a peer id or a role; "" for everyone.
        recipients: the ids of peers who got it.
        missed: the ids of peers without a connection, who did not get it.
    """

    seq: int
    at: str
    room_id: str
    session_id: str
    audience: Literal["peer", "role", "everyone"]
    target: str  # a peer id or a role; "" for everyone
    message: str
    type: str
    recipients: tuple[str, ...]  # ids of the peers who got it
    missed: tuple[str, ...] = ()  # ids of the ghosts, who did not get it
