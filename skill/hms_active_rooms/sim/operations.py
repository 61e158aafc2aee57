"""The simulated operations: seven of the Active Rooms API, and one that enables a locked room."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from inspect import signature
from typing import Final, Literal, cast
from urllib.parse import parse_qsl

from hms_active_rooms.sim.records import UNSET_TIME, Delivery, Json, Peer, nanos_text
from hms_active_rooms.sim.settings import is_valid
from hms_active_rooms.sim.world import RefusedError, World

PREFIX: Final = "/v2"
Answer = dict[str, Json]


# Operations that change something. Their keyword arguments are fields of the request's body.


def update(
    world: World, room_id: str, peer_id: str, *, name: str = "", role: str = "", metadata: str = ""
) -> Peer:
    """Change a peer's name, role or metadata at once, and return the peer. What is "" stays as it is."""
    with world.lock:
        peer = world.peer(room_id, peer_id)
        room, session = world.room(room_id), world.session(room_id)
        if role and role not in room.roles:
            raise RefusedError(400, "invalid role")
        changes_role = bool(role) and role != peer.role
        if changes_role and room.is_full(role):
            full = "role limit reached"
            world.tell("role.change.failure", room, session, peer, role=role, error_message=full)
            raise RefusedError(400, full)
        peer.name = name or peer.name
        peer.metadata = metadata or peer.metadata
        if changes_role:
            at, previous = nanos_text(world.now()), peer.role
            peer.role = role
            peer.publish(room.roles[role], at, world.ids)
            changed: Answer = {"previous_role": previous, "role_changed_at": at}
            world.tell("role.change.success", room, session, peer, **changed)
        return peer


def send(
    world: World,
    room_id: str,
    *,
    message: str = "",
    peer_id: str = "",
    role: str = "",
    type: str = "",
) -> Delivery:
    """Deliver a message to a peer, to a role or, if both are "", to everyone."""
    if not 0 < len(message.encode()) <= world.settings.max_message_bytes:
        raise RefusedError(400, "invalid input")
    meant = _targets(world, room_id, peer_id, role)
    delivery = Delivery(
        seq=len(world.deliveries) + 1,
        at=nanos_text(world.now()),
        room_id=room_id,
        session_id=world.session(room_id).id,
        audience="peer" if peer_id else "role" if role else "everyone",
        target=peer_id or role,
        message=message,
        type=type,
        recipients=tuple(peer.id for peer in meant if not peer.ghost),
        missed=tuple(peer.id for peer in meant if peer.ghost),
    )
    world.deliveries.append(delivery)
    return delivery


def remove(
    world: World, room_id: str, *, peer_id: str = "", role: str = "", reason: str = ""
) -> None:
    """Accept the removal of one peer, or of all who have a role now. They are gone a moment later."""
    if not peer_id and not role:
        raise RefusedError(400, "invalid input")
    room, session = world.room(room_id), world.session(room_id)
    for peer in _targets(world, room_id, peer_id, role):
        kick = partial(world.drop, room, session, peer, "peer kicked", reason)
        world.later(world.settings.removal_delay_s, kick)


def end(world: World, room_id: str, *, reason: str = "", lock: bool = False) -> None:
    """Accept the end of the session, which closes a moment later. With `lock`, nobody can join any more."""
    room = world.room(room_id)
    asked: Answer = {**_BY_API, "lock_room": lock, "reason": reason}
    if room.session is None:
        never: Answer = {"session_id": "", "session_started_at": UNSET_TIME, "error_code": 404}
        never["error_message"] = "session not found"
        world.tell("room.end.failure", room, None, **asked, **never)
    session = world.session(room_id)
    room.enabled = room.enabled and not lock

    def land(at: datetime) -> None:
        if room.session is not session:
            return
        session.ending = None
        world.tell("room.end.success", room, session, None, at, **asked)
        # Dropping the last peer closes the session.
        for peer in list(session.peers.values()):
            world.drop(room, session, peer, "peer kicked", reason, at)

    session.ending = land
    world.later(world.settings.ending_delay_s, land)


def enable(world: World, room_id: str, *, enabled: bool | None = None) -> Answer:
    """Enable or disable a room; None changes nothing. Returns the room's fields."""
    if enabled is not None:
        world.set_enabled(room_id, enabled)
    room = world.room(room_id)
    return {name: getattr(room, name, unset) for name, unset in _SHOWN.items()}


# The fields of a room that `enable` returns, and the values of those that are not simulated.
_SHOWN: Final[Answer] = {
    **dict.fromkeys(("id", "name", "enabled", "description", "customer_id"), ""),
    **dict.fromkeys(("recording_source_template", "enabled_source_template"), True),
    "recording": None,
    **dict.fromkeys(("template_id", "template", "region", "created_at", "updated_at"), ""),
}
# Fields of a webhook event that say who ended a room: the API.
_BY_API: Final = {"peer_id": "", "user_id": "", "user_name": "", "role": "", "source": "api"}


def _targets(world: World, room_id: str, peer_id: str, role: str) -> list[Peer]:
    if peer_id:
        return [world.peer(room_id, peer_id)]
    listed = world.session(room_id).peers.values()
    return [peer for peer in listed if not role or peer.role == role]


# Operations that read. Their keyword arguments are parameters of the query.


def retrieve(world: World, room_id: str) -> Answer:
    """Return the room and its running session as the API shows them, with the ids of its peers."""
    room, session = world.room(room_id), world.session(room_id)
    shown: Answer = {"id": session.id, "created_at": session.created_at}
    return {
        "id": room.id,
        "name": room.name,
        "customer_id": room.customer_id,
        "session": {**shown, "peers": list(session.peers)},
    }


def list_peers(world: World, room_id: str, *, user_id: str = "", role: str = "") -> Answer:
    """Return the peers of the running session under their ids, as the API lists them. "" filters nothing."""
    # By peer id, as Go sorts the keys of a map.
    peers = sorted(world.session(room_id).peers.items())
    shown: Answer = {
        peer_id: peer.wire()
        for peer_id, peer in peers
        if user_id in ("", peer.user_id) and role in ("", peer.role)
    }
    return {"peers": shown}


def path_pattern(path: str) -> re.Pattern[str]:
    """A regular expression for a path such as "/rooms/{room_id}", with a group for each name in braces."""
    return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path))


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the simulated API. `run` does it. `says` is the message of its answer; "" if `run`
    returns the answer."""

    name: str  # as faults and the request log name it
    method: Literal["GET", "POST"]
    path: str
    run: Callable[..., Answer | Peer | Delivery | None]
    says: str = ""  # the answer's message; if "", the answer is the result of `run`

    def fields(self) -> dict[str, type]:
        """Return the names and types of the fields that a request for it may have."""
        known = signature(self.run, eval_str=True).parameters.values()
        return {each.name: each.annotation for each in known if each.kind is each.KEYWORD_ONLY}


_ROOM: Final = "/active-rooms/{room_id}"
_PEER: Final = _ROOM + "/peers/{peer_id}"
_REMOVED: Final = "peer remove request submitted"

OPERATIONS: Final = (
    Operation("retrieve_active_room", "GET", _ROOM, retrieve),
    Operation("list_peers", "GET", _ROOM + "/peers", list_peers),
    Operation("retrieve_peer", "GET", _PEER, World.peer),
    Operation("update_peer", "POST", _PEER, update),
    Operation("send_message", "POST", _ROOM + "/send-message", send, "message sent"),
    Operation("remove_peers", "POST", _ROOM + "/remove-peers", remove, _REMOVED),
    Operation("end_active_room", "POST", _ROOM + "/end-room", end, "session is ending"),
    Operation("enable_room", "POST", "/rooms/{room_id}", enable),
)
_PATTERNS: Final = [(each, path_pattern(PREFIX + each.path)) for each in OPERATIONS]
_FIELDS: Final = {operation.name: operation.fields() for operation in OPERATIONS}


def find(method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
    """The operation for a method and path, with the ids in the path; None if no operation fits."""
    for operation, pattern in _PATTERNS:
        if operation.method == method and (match := pattern.fullmatch(path)):
            return operation, match.groupdict()
    return None


def answer(
    world: World,
    found: tuple[Operation, dict[str, str]] | None,
    authorization: str,
    query: str,
    body: bytes,
) -> tuple[int, Answer]:
    """Check the token, and run the operation that `find` returned. Returns HTTP status and JSON."""
    if found is None:
        return error(404, "not found")
    if not is_valid(authorization, world.settings, world.clock()):
        return UNAUTHORIZED
    operation, ids = found
    known = _FIELDS[operation.name]
    with world.lock:
        try:
            world.room(ids["room_id"])
            # The first of several equal fields counts, as in Go's Query().Get.
            fields: Mapping[str, str | bool] = dict(parse_qsl(query, keep_blank_values=True)[::-1])
            if operation.method == "POST":
                fields = read_body(body, known)
            asked = {key: value for key, value in fields.items() if key in known}
            result = operation.run(world, **ids, **asked)
        except RefusedError as refused:
            return error(refused.status, refused.message)
        if operation.says:
            return 200, {"message": operation.says}
        return 200, result.wire_with_tracks() if isinstance(result, Peer) else cast(Answer, result)


def error(status: int, message: str) -> tuple[int, Answer]:
    return status, {"code": status, "message": message}


_NO_TOKEN: Final[Answer] = {"code": 401, "message": "Token validation error"}
UNAUTHORIZED: Final[tuple[int, Answer]] = (401, {**_NO_TOKEN, "details": ["not found"]})


# Bodies are read as by a well-known Go helper, whose error texts the real API has too.

_BADLY_FORMED: Final = "request body contains badly-formed JSON"


def _no_constant(name: str) -> object:
    raise RefusedError(400, _BADLY_FORMED)  # Python would read NaN and Infinity; Go does not


# An object becomes a tuple of pairs, so both values of a double key are checked. A whole number becomes
# a float, since Python refuses very long ones.
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=float, parse_constant=_no_constant
)


def read_body(data: bytes, known: Mapping[str, type]) -> dict[str, str | bool]:
    """Return the fields of a JSON object, without null values. `known` has the type of each field. Raises
    RefusedError for another body."""
    text = data.decode("utf-8", "replace").strip(" \t\r\n")
    if not text:
        raise RefusedError(400, "request body must not be empty")
    try:
        document, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as bad:
        raise RefusedError(400, f"{_BADLY_FORMED} (at position {bad.pos + 1})") from None
    except RecursionError:
        raise RefusedError(400, _BADLY_FORMED) from None
    if not isinstance(document, tuple | None):
        raise _wrong_type("")
    found: dict[str, str | bool] = {}
    for key, value in document or ():
        name = key.casefold()
        if name not in known or value is None:
            continue
        if not isinstance(value, known[name]):
            raise _wrong_type(name)
        if isinstance(value, str):
            # Go replaces a lone surrogate by U+FFFD.
            value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        found[name] = value
    if text[end:]:
        raise RefusedError(400, "request body must only contain a single JSON object")
    return found


def _wrong_type(name: str) -> RefusedError:
    return RefusedError(400, f'request body contains an invalid value for the "{name}" field')
