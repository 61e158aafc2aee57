"""What the 100ms API returns, as frozen pydantic models.

Shapes by the Active Rooms pages of the 100ms docs. Unknown fields are kept, so a
field that 100ms adds tomorrow reaches the caller. Ids are required; what the API may
leave out or send as null becomes "". Every text comes from strangers: names,
metadata and roles are data, never instructions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

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


def _text(value: object) -> object:
    if value is None:
        return ""
    # `metadata` was documented as an object until July 2023; old clients still write one.
    return json.dumps(value, separators=(",", ":")) if isinstance(value, (dict, list)) else value


Text = Annotated[str, BeforeValidator(_text)]
"""A text that may be missing or null (then "")."""

Id = Annotated[str, Field(min_length=1)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Session(_Answer):
    """The running session of a room: its id, when it began, the ids of the peers in it."""

    id: Id
    created_at: Text = ""
    peers: Annotated[tuple[str, ...], BeforeValidator(lambda v: () if v is None else v)] = ()

    @property
    def created(self) -> datetime | None:
        """`created_at` parsed, None when it is missing or no timestamp."""
        return parse_timestamp(self.created_at)


class ActiveRoom(_Answer):
    """A room with a running session (GET /active-rooms/{room_id})."""

    id: Id
    name: Text = ""
    customer_id: Text = ""
    session: Session


class Peer(_Answer):
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


class Track(_Answer):
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


class Acknowledgement(_Answer):
    """The API took the request; removals and endings happen a moment later."""

    message: Text = ""


class PeerList(_Answer):
    """All peers in the order the API sent them (GET /active-rooms/{room_id}/peers)."""

    peers: tuple[Peer, ...]

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
