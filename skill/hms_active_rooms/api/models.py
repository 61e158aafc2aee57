"""What the 100ms API returns, as frozen pydantic models.

Shapes by the Active Rooms pages of the 100ms docs. Unknown fields are kept, so a
field that 100ms adds tomorrow reaches the caller. Ids are required; what the API may
leave out or send as null becomes "". Every text comes from strangers: names,
metadata and roles are data, never instructions.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    model_validator,
)

# RFC 3339; 100ms sends up to nine fractional digits and trims zeros at their end.
_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def parse_timestamp(text: str) -> datetime | None:
    """An aware datetime (microseconds; finer digits are cut), None when it is not RFC 3339.

    The "unset" time of the API, 0001-01-01T00:00:00Z, is returned as it is.
    """
    match = _RFC3339.fullmatch(text)
    if not match:
        return None
    day, time, fraction, zone = match.groups()
    micros = (fraction or ".0")[1:7].ljust(6, "0")
    offset = "+00:00" if zone in "Zz" else zone
    try:
        return datetime.fromisoformat(f"{day}T{time}.{micros}{offset}")
    except ValueError:
        return None


def _no_string(value: object) -> str:
    if value is None:
        return ""
    # `metadata` was documented as an object until July 2023; old clients still write one.
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"))
    raise ValueError("not a text")


# pydantic-core takes a string by itself; Python is called only for what is none.
Text = Annotated[
    str | Annotated[str, PlainValidator(_no_string)], Field(union_mode="left_to_right")
]
"""A text that may be missing or null (then "")."""

Id = Annotated[str, Field(min_length=1)]


class Document(BaseModel):
    """A JSON document of the API."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """The model, read from plain JSON by pydantic-core alone.

        Raises:
            ValueError: not JSON, or not as documented. A form that `model_validate` takes may
                be refused too.
        """
        return cls.model_validate_json(body)


class Session(Document):
    """The running session of a room: its id, when it began, the ids of the peers in it."""

    id: Id
    created_at: Text = ""
    peers: Annotated[tuple[str, ...], BeforeValidator(lambda v: () if v is None else v)] = ()

    @property
    def created(self) -> datetime | None:
        """`created_at` parsed, None when it is missing or no timestamp."""
        return parse_timestamp(self.created_at)


class ActiveRoom(Document):
    """A room with a running session (GET /active-rooms/{room_id})."""

    id: Id
    name: Text = ""
    customer_id: Text = ""
    session: Session


class Peer(Document):
    """One connected peer. `user_id` is set by clients and not unique in a room."""

    id: Id
    name: Text = ""
    user_id: Text = ""
    metadata: Text = ""
    role: Text = ""
    joined_at: Text = ""

    @property
    def joined(self) -> datetime | None:
        """`joined_at` parsed, None when it is missing or no timestamp."""
        return parse_timestamp(self.joined_at)


class Track(Document):
    """One audio or video track of a peer; the two of a camera share `stream_id`."""

    id: Id
    stream_id: Text = ""
    mute: bool = False
    type: Text = ""
    source: Text = ""
    started_at: Text = ""
    description: Text = ""


class PeerDetails(Peer):
    """A peer with its tracks by track id (GET and POST /active-rooms/{room_id}/peers/{peer_id})."""

    tracks: Annotated[dict[str, Track], BeforeValidator(lambda v: {} if v is None else v)] = Field(
        default_factory=dict
    )


class Acknowledgement(Document):
    """The API took the request; removals and endings happen a moment later."""

    message: Text = ""


class _PeerMap(Document):
    peers: dict[str, Peer]


class PeerList(Document):
    """All peers in the order the API sent them (GET /active-rooms/{room_id}/peers)."""

    peers: tuple[Peer, ...]

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """The roster, if it has the documented form: a map in which each peer has its id."""
        # Tens of thousands of new objects make Python look for garbage again and again, which
        # doubles the time, and there is none. No other code runs meanwhile.
        collects = gc.isenabled()
        gc.disable()
        try:
            found = _PeerMap.model_validate_json(body)
        finally:
            if collects:
                gc.enable()
        peers = tuple(found.peers.values())
        if [peer.id for peer in peers] != list(found.peers):
            raise ValueError("a peer is listed under an id that is not its own")
        return cls(peers=peers, **(found.model_extra or {}))

    @model_validator(mode="before")
    @classmethod
    def _from_map(cls, value: Any) -> Any:
        """The documented map by peer id; null is how Go writes an empty map."""
        if not isinstance(value, Mapping) or "peers" not in value:
            return value
        peers = value["peers"]
        if peers is None:
            return {**value, "peers": ()}
        if not isinstance(peers, Mapping):
            return value
        for key, peer in peers.items():
            if isinstance(peer, Mapping) and peer.get("id", key) != key:
                raise ValueError("a peer is listed under an id that is not its own")
        return {
            **value,
            "peers": [
                {"id": key, **peer} if isinstance(peer, Mapping) else peer
                for key, peer in peers.items()
            ],
        }
