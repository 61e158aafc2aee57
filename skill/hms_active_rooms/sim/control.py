"""The control API below /_sim: what people, and not the API, do to a room; and what was seen.

For tests, demos and evals. It has no authentication, which is why the server binds to
loopback only. A body is a JSON object whose fields are the arguments of what is called.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from inspect import signature
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError, validate_call

from hms_active_rooms.sim.clock import nanos_text
from hms_active_rooms.sim.faults import Fault, Faults
from hms_active_rooms.sim.operations import path_pattern, update
from hms_active_rooms.sim.records import Json, Peer, Room, Seconds, Session
from hms_active_rooms.sim.request_log import RequestLog
from hms_active_rooms.sim.scenes import SceneRoom
from hms_active_rooms.sim.world import RefusedError, World

PREFIX: Final = "/_sim"

_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


class Control:
    """The control API of a world."""

    def __init__(self, world: World, log: RequestLog, faults: Faults) -> None:
        self._world = world

        def add_room(**fields: Any) -> Room:
            new = SceneRoom.model_validate(fields)
            return world.add_room(
                name=new.name, room_id=new.id or "", roles=new.roles, enabled=new.enabled
            )

        def add_fault(**fields: Any) -> dict[str, Json]:
            return {"id": faults.add(Fault.model_validate(fields))}

        def show_faults() -> list[dict[str, Any]]:
            return [{"id": n, "happened": h, **fault.model_dump()} for n, fault, h in faults.all()]

        def remove_fault(fault_id: int) -> None:
            if not faults.remove(fault_id):
                raise RefusedError(404, "no such fault")

        def advance(advance_s: Seconds) -> dict[str, Json]:
            world.advance(advance_s)
            return now()

        def settle() -> dict[str, Json]:
            world.settle()
            return now()

        def now() -> dict[str, Json]:
            return {"now": nanos_text(world.now())}

        def reset() -> None:
            faults.clear()
            world.reset()
            log.clear()

        def state() -> dict[str, object]:
            return {**now(), "rooms": world.rooms()}

        def webhooks() -> list[dict[str, Json]]:
            world.rooms()  # lands what is due
            return world.webhooks

        def routes() -> dict[str, list[str]]:
            return {
                f"{method} {PREFIX}{path}": list(
                    models[run].model_fields if run in models else signature(run).parameters
                )
                for method, path, run, _ in table
            }

        models: dict[object, type[BaseModel]] = {add_fault: Fault, add_room: SceneRoom}
        table: list[tuple[str, str, Callable[..., object], int]] = [
            ("POST", "/join", world.join, 201),
            ("POST", "/leave", world.leave, 200),
            ("POST", "/peers/{peer_id}", partial(update, world), 200),
            ("POST", "/rooms", add_room, 201),
            ("POST", "/rooms/{room_id}", world.set_enabled, 200),
            ("POST", "/faults", add_fault, 201),
            ("GET", "/faults", show_faults, 200),
            ("DELETE", "/faults", faults.clear, 200),
            ("DELETE", "/faults/{fault_id}", remove_fault, 200),
            ("POST", "/time", advance, 200),
            ("POST", "/settle", settle, 200),
            ("POST", "/reset", reset, 200),
            ("GET", "/state", state, 200),
            ("GET", "/requests", log.entries, 200),
            ("GET", "/deliveries", lambda: world.deliveries, 200),
            ("GET", "/webhooks", webhooks, 200),
            ("GET", "/", routes, 200),
        ]
        self._routes = [
            (method, path_pattern(PREFIX + path), run, validate_call(run), status)
            for method, path, run, status in table
        ]

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Call what belongs to a path with the fields of the body and the path; status and JSON."""
        fits = [(route, ids) for route in self._routes if (ids := route[1].fullmatch(path))]
        wanted = [one for one in fits if one[0][0] == method]
        if not wanted:
            methods = ", ".join(route[0] for route, _ in fits)
            text = (
                f"{path} takes {methods}"
                if fits
                else f"there is no {path}; GET {PREFIX}/ lists what there is"
            )
            return 405 if fits else 404, _json({"message": text})
        (_, _, run, call, status), ids = wanted[0]
        try:
            fields = _OBJECT.validate_json(body or b"{}") | ids.groupdict()
            with self._world.lock:
                if "room_id" in signature(run).parameters and not fields.get("room_id"):
                    fields["room_id"] = next((room.id for room in self._world.rooms()), "")
                result = call(**fields)
                return status, _json({} if result is None else result)
        except RefusedError as refused:
            return refused.status, _json({"message": refused.message})
        except ValidationError as bad:
            problems = [
                {"at": ".".join(str(part) for part in error["loc"]), "problem": error["msg"]}
                for error in bad.errors()
            ]
            return 422, _json({"message": "invalid input", "problems": problems})


def _json(value: object) -> bytes:
    # Escaped to ASCII: a body may hold half a surrogate pair, which UTF-8 cannot carry.
    return json.dumps(value, default=_shown).encode()


def _shown(value: Any) -> dict[str, Any]:
    match value:
        case Peer():
            return {**value.wire_with_tracks(), "kind": value.kind, "ghost": value.ghost}
        case Session():
            ending, peers = value.end_now is not None, list(value.peers.values())
            return {**_named(value, *_SESSION), "ending": ending, "peers": peers}
        case Room():
            roles = list(value.roles.values())
            return {**_named(value, *_ROOM), "roles": roles, "past_sessions": value.past}
    return asdict(value)


def _named(value: object, *fields: str) -> dict[str, Any]:
    return {field: getattr(value, field) for field in fields}


_SESSION: Final = ("id", "created_at", "ended_at", "left")
_ROOM: Final = ("id", "name", "customer_id", "template_id", "enabled", "session")
