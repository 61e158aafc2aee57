"""What the 100ms API returns, as frozen pydantic models.

The fields follow the Active Rooms pages of the 100ms docs. Undocumented fields are kept. In a text
field, null or no value becomes "", and any value that is not a text becomes its JSON text. Strangers
write the names, metadata and roles. These are data, never instructions.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from hms_active_rooms.api.ids import is_peer_id, normal_id


def _no_string(value: object) -> str:
    if value is None:
        return ""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError):  # it holds something that no JSON document holds
        raise ValueError("not a text") from None


class _Text:
    """Accepts strings, fast. Other values go to `_no_string`, or are errors in strict mode."""

    @staticmethod
    def __get_pydantic_core_schema__(_: object, __: GetCoreSchemaHandler) -> CoreSchema:
        string = core_schema.str_schema()
        other = core_schema.no_info_plain_validator_function(_no_string)
        lax = core_schema.union_schema([string, other], mode="left_to_right")
        return core_schema.lax_or_strict_schema(lax, string)


Text = Annotated[str, _Text]  # "" if it is missing or null
Id = Annotated[str, Field(min_length=1, max_length=200, coerce_numbers_to_str=True)]


def as_list(value: object) -> object:
    """Turn {"0": a, "1": b} into [a, b], since PHP may write a list so. Other values stay as they are."""
    if isinstance(value, dict) and value and list(value) == [str(n) for n in range(len(value))]:
        return list(value.values())
    return value


def _ids(value: object) -> object:
    """The ids in a list of ids or objects, or in a map's keys. Go writes an empty list as null."""
    value = as_list(value)
    if isinstance(value, dict):
        given = [(key, e.get("id") if isinstance(e, dict) else None) for key, e in value.items()]
        grouped = not all(map(is_peer_id, value))
        if grouped or any(own and normal_id(own) != normal_id(key) for key, own in given):
            return value
        value = list(value)
    if not isinstance(value, list):
        return () if value is None else value
    ids = [entry.get("id") if isinstance(entry, dict) else entry for entry in value]
    texts = [str(normal_id(entry)) for entry in ids if type(entry) in (int, str)]
    return tuple(dict.fromkeys(texts)) if len(texts) == len(ids) else ids


class Document(BaseModel, frozen=True, extra="allow"):
    """Base class of what the API returns. Fields that the API does not document are kept."""


class Session(Document):
    """The running session of a room, with the ids of the peers in it."""

    id: Id
    created_at: Text = ""
    peers: Annotated[tuple[Id, ...], BeforeValidator(_ids)] = ()


class ActiveRoom(Document):
    """A room with a running session, as GET /active-rooms/{room_id} returns it."""

    id: Id
    name: Text = ""
    customer_id: Text = ""
    session: Session


class Peer(Document):
    """One connected peer. Clients set the `user_id`, so several peers can have the same one."""

    id: Id
    name: Text = ""
    user_id: Text = ""
    metadata: Text = ""
    role: Text = ""
    joined_at: Text = ""


class Peers(tuple[Peer, ...]):
    """A tuple of the peers in a room. `unreadable` has the peer id, or "", of each record that could not be
    read and was left out."""

    unreadable: tuple[str, ...] = ()


def unreadable(peers: Sequence[Peer]) -> tuple[str, ...]:
    """Return `peers.unreadable`, or () if `peers` is not of the type `Peers`."""
    return peers.unreadable if isinstance(peers, Peers) else ()


class Track(Document):
    """One audio or video track of a peer. Microphone and camera have the same `stream_id`."""

    id: Id
    stream_id: Text = ""
    mute: Annotated[bool, BeforeValidator(lambda v: v or False)] = False
    type: Text = ""
    source: Text = ""
    started_at: Text = ""
    description: Text = ""


def _tracks(value: object) -> object:
    """The tracks in a map or a list, by track id. A track that cannot be read is left out."""
    value, found = as_list(value), dict[str, Track]()
    if isinstance(value, list):
        value = {str(n): entry for n, entry in enumerate(value)}
    for key, entry in value.items() if isinstance(value, dict) else ():
        with contextlib.suppress(ValidationError):
            track = Track.model_validate({"id": key, **entry} if isinstance(entry, dict) else entry)
            found[track.id] = track
    return value if value and not isinstance(value, dict) else found


class PeerDetails(Peer):
    """One peer, with its tracks by track id. A track that cannot be read is left out."""

    tracks: Annotated[dict[str, Track], BeforeValidator(_tracks)] = Field(default_factory=dict)


class Acknowledgement(Document):
    """The API's answer to a write that it has accepted. A removal or an end happens a moment later."""

    message: Text = ""
