"""The control API below /_sim: people join and leave, faults are set, and tests read what happened.

Each path calls a function; the request's body is a JSON object with its arguments. There is no
authentication, so the server listens on loopback only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from functools import partial
from inspect import signature
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError, validate_call

from hms_active_rooms.plain import explain
from hms_active_rooms.sim.faults import Fault, Faults
from hms_active_rooms.sim.operations import path_pattern, update
from hms_active_rooms.sim.records import Peer, nanos_text
from hms_active_rooms.sim.request_log import RequestLog
from hms_active_rooms.sim.world import RefusedError, World

PREFIX: Final = "/_sim"
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


class Control:
    """The control API: requests below /_sim change the simulated rooms, and tell what happened."""

    def __init__(self, world: World, log: RequestLog, faults: Faults) -> None:
        def reset() -> None:
            faults.clear()
            world.reset()
            log.clear()

        def routes() -> dict[str, list[str]]:
            return {
                f"{how} {PREFIX}{path}": [*signature(run).parameters] for how, path, run in table
            }

        self._world, self._faults = world, faults
        table: list[tuple[str, str, Callable[..., object]]] = [
            ("POST", "/join", world.join),
            ("POST", "/leave", world.leave),
            ("POST", "/peers/{peer_id}", partial(update, world)),
            ("POST", "/rooms", world.add_room),
            ("POST", "/rooms/{room_id}", world.set_enabled),
            ("POST", "/faults", Fault),
            ("GET", "/faults", faults.shown),
            ("DELETE", "/faults", faults.clear),
            ("POST", "/time", world.advance),
            ("POST", "/settle", world.settle),
            ("POST", "/reset", reset),
            ("GET", "/state", lambda: self._now() | {"rooms": world.rooms()}),
            ("GET", "/requests", log.entries),
            ("GET", "/deliveries", lambda: world.deliveries),
            ("GET", "/webhooks", lambda: world.webhooks),
            ("GET", "/", routes),
        ]
        self._routes = [
            (how, path_pattern(PREFIX + path), run, run if run is Fault else validate_call(run))
            for how, path, run in table
        ]

    def _now(self) -> dict[str, object]:
        return {"now": nanos_text(self._world.now())}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Answer a request to the control API. Return the HTTP status and JSON."""
        fits = {
            route[0]: (*route[2:], m) for route in self._routes if (m := route[1].fullmatch(path))
        }
        if method not in fits:
            text = f"there is no {method} {path}; GET {PREFIX}/ lists all paths"
            return 404, _json({"message": text})
        run, call, ids = fits[method]
        try:
            given = _OBJECT.validate_json(body or b"{}") | ids.groupdict()
            with self._world.lock:
                rooms = self._world.rooms()  # due changes happen now
                if "room_id" in signature(run).parameters and not given.get("room_id"):
                    given["room_id"] = next((room.id for room in rooms), "")
                if isinstance(made := call(**given), Fault):
                    self._faults.add(made)
                    made = None
                is_new = run in (self._world.join, self._world.add_room, Fault)
                return 201 if is_new else 200, _json(self._now() if made is None else made)
        except RefusedError as refused:
            return refused.status, _json({"message": refused.message})
        except ValidationError as bad:
            return 422, _json({"message": explain(bad)})


def _json(value: object) -> bytes:
    # ASCII, since a text may have a lone surrogate, which UTF-8 cannot encode.
    return json.dumps(value, default=_shown).encode()


def _shown(value: Any) -> object:
    if isinstance(value, Peer):
        return {**value.wire_with_tracks(), "kind": value.kind, "ghost": value.ghost}
    if isinstance(value, datetime):
        return nanos_text(value)
    if callable(value):
        return True  # a session's `ending`
    return {field.name: getattr(value, field.name) for field in fields(value)}
