"""The seven operations of the Active Rooms API: from a request's parts to a status and a body.

The checks come in this order: room, body, session, peer. (Only the texts are known; the
order is assumed.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from hms_active_rooms.sim import moderation
from hms_active_rooms.sim.body import BodyError, Fields, FieldType, read_body
from hms_active_rooms.sim.records import Json
from hms_active_rooms.sim.world import RefusedError, World


@dataclass(frozen=True, slots=True)
class Call:
    """What an operation is called with.

    Attributes:
        room_id, peer_id: from the path, decoded; no peer id where the path has none.
        query: the first value of each parameter.
        body: the raw bytes.
    """

    room_id: str
    peer_id: str
    query: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its name (for faults and the request log), where it is, what it does."""

    name: str
    method: Literal["GET", "POST"]
    path: re.Pattern[str]
    run: Callable[[World, Call], dict[str, Json]]


def find(method: str, path: str) -> tuple[Operation, str, str] | None:
    """The operation for a path below /v2, with the room id and the peer id from it."""
    for operation in OPERATIONS:
        match = operation.path.fullmatch(path)
        if match and operation.method == method:
            parts = match.groupdict()
            return operation, parts["room_id"], parts.get("peer_id", "")
    return None


def answer(world: World, operation: Operation, call: Call) -> tuple[int, dict[str, Json]]:
    """Run an operation: status and JSON body, for refusals too."""
    with world.lock:
        try:
            world.room(call.room_id)
            return 200, operation.run(world, call)
        except RefusedError as refused:
            return refused.status, error_body(refused.status, refused.message)
        except BodyError as bad:
            return 400, error_body(400, str(bad))


def error_body(status: int, message: str, *details: str) -> dict[str, Json]:
    """The documented shape of an error; `details` only where a text for it is known."""
    body: dict[str, Json] = {"code": status, "message": message}
    if details:
        body["details"] = list(details)
    return body


def _retrieve_active_room(world: World, call: Call) -> dict[str, Json]:
    room, session = world.room(call.room_id), world.session(call.room_id)
    return {
        "id": room.id,
        "name": room.name,
        "customer_id": room.customer_id,
        "session": {
            "id": session.id,
            "created_at": session.created_at,
            "peers": list(session.peers),
        },
    }


def _list_peers(world: World, call: Call) -> dict[str, Json]:
    user_id, role = call.query.get("user_id", ""), call.query.get("role", "")
    listed: dict[str, Json] = {
        # Go prints maps in the order of their keys.
        peer_id: peer.wire()
        for peer_id, peer in sorted(world.session(call.room_id).peers.items())
        if (not user_id or peer.user_id == user_id) and (not role or peer.role == role)
    }
    return {"peers": listed}


def _retrieve_peer(world: World, call: Call) -> dict[str, Json]:
    return world.peer(call.room_id, call.peer_id).wire_with_tracks()


def _update_peer(world: World, call: Call) -> dict[str, Json]:
    fields = read_body(call.body, {"name": "string", "role": "string", "metadata": "string"})
    peer = moderation.update(
        world,
        call.room_id,
        call.peer_id,
        name=_text(fields, "name"),
        role=_text(fields, "role"),
        metadata=_text(fields, "metadata"),
    )
    return peer.wire_with_tracks()


def _send_message(world: World, call: Call) -> dict[str, Json]:
    fields = read_body(call.body, {**_TARGET, "message": "string", "type": "string"})
    message = _text(fields, "message")
    if not message or len(message.encode()) > world.settings.max_message_bytes:
        raise BodyError("invalid input")
    moderation.send(
        world,
        call.room_id,
        message,
        peer_id=_text(fields, "peer_id"),
        role=_text(fields, "role"),
        kind=_text(fields, "type"),
    )
    return {"message": "message sent"}


def _remove_peers(world: World, call: Call) -> dict[str, Json]:
    fields = read_body(call.body, {**_TARGET, "reason": "string"})
    peer_id, role = _text(fields, "peer_id"), _text(fields, "role")
    if not peer_id and not role:
        raise BodyError("invalid input")
    moderation.remove(
        world, call.room_id, peer_id=peer_id, role=role, reason=_text(fields, "reason")
    )
    return {"message": "peer remove request submitted"}


def _end_room(world: World, call: Call) -> dict[str, Json]:
    fields = read_body(call.body, {"reason": "string", "lock": "bool"})
    moderation.end(
        world, call.room_id, reason=_text(fields, "reason"), lock=fields.get("lock") is True
    )
    return {"message": "session is ending"}


def _text(fields: Fields, name: str) -> str:
    """A string field; absent, null and empty are the same."""
    value = fields.get(name, "")
    return value if isinstance(value, str) else ""


_TARGET: Final[dict[str, FieldType]] = {"peer_id": "string", "role": "string"}

_ROOM: Final = r"/active-rooms/(?P<room_id>[^/]+)"
_PEER: Final = _ROOM + r"/peers/(?P<peer_id>[^/]+)"

OPERATIONS: Final = (
    Operation("retrieve_active_room", "GET", re.compile(_ROOM), _retrieve_active_room),
    Operation("list_peers", "GET", re.compile(_ROOM + "/peers"), _list_peers),
    Operation("retrieve_peer", "GET", re.compile(_PEER), _retrieve_peer),
    Operation("update_peer", "POST", re.compile(_PEER), _update_peer),
    Operation("send_message", "POST", re.compile(_ROOM + "/send-message"), _send_message),
    Operation("remove_peers", "POST", re.compile(_ROOM + "/remove-peers"), _remove_peers),
    Operation("end_active_room", "POST", re.compile(_ROOM + "/end-room"), _end_room),
)
"""The operations, by the names that faults and the request log use."""
