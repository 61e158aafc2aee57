"""The control API below /_sim: what people, and not the API, do to a room; and what was seen.

For tests, demos and evals. It has no authentication, which is why the server binds to
loopback only.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hms_active_rooms.sim import moderation
from hms_active_rooms.sim.clock import nanos_text
from hms_active_rooms.sim.faults import Fault, Faults
from hms_active_rooms.sim.records import Json, Medium, Peer, Role, Room, Session
from hms_active_rooms.sim.request_log import RequestLog
from hms_active_rooms.sim.world import RefusedError, World

Handler = Callable[[Request], Awaitable[Response]]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Join(_Input):
    """`POST /_sim/join`: somebody joins. Without a room: the first one."""

    room_id: str = ""
    name: str
    role: str
    user_id: str = ""
    metadata: str = ""
    peer_id: str = ""
    kind: Literal["regular", "sip"] = "regular"
    shares_screen: bool = False


class Leave(_Input):
    """`POST /_sim/leave`: somebody leaves, or (abrupt) their connection breaks."""

    room_id: str = ""
    peer_id: str
    abrupt: bool = False


class Change(_Input):
    """`POST /_sim/peers/{peer_id}`: somebody changes their name, metadata or role."""

    room_id: str = ""
    name: str = ""
    role: str = ""
    metadata: str = ""


class RoomChange(_Input):
    """`POST /_sim/rooms/{room_id}`: allow or block joins."""

    enabled: bool


class NewRole(_Input):
    """A role of a new room."""

    name: str
    publishes: tuple[Medium, ...] = ()
    max_peers: int | None = Field(default=None, ge=0)


class NewRoom(_Input):
    """`POST /_sim/rooms`: one more room in the account."""

    name: str
    id: str = ""
    roles: tuple[NewRole, ...]
    enabled: bool = True


class Advance(_Input):
    """`POST /_sim/time`: let time pass."""

    advance_s: float = Field(ge=0.0)


def control_app(world: World, log: RequestLog, faults: Faults) -> Starlette:
    """The control API of a world."""
    return Starlette(routes=_Control(world, log, faults).routes())


Model = TypeVar("Model", bound=BaseModel)


class _Control:
    def __init__(self, world: World, log: RequestLog, faults: Faults) -> None:
        self.world = world
        self.log = log
        self.faults = faults

    def routes(self) -> list[Route]:
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/join", self.join),
            ("POST", "/leave", self.leave),
            ("POST", "/peers/{peer_id}", self.change_peer),
            ("POST", "/rooms", self.add_room),
            ("POST", "/rooms/{room_id}", self.change_room),
            ("POST", "/faults", self.add_fault),
            ("GET", "/faults", self.show_faults),
            ("DELETE", "/faults", self.clear_faults),
            ("DELETE", "/faults/{fault_id:int}", self.remove_fault),
            ("POST", "/time", self.advance),
            ("POST", "/settle", self.settle),
            ("POST", "/reset", self.reset),
            ("GET", "/state", self.state),
            ("GET", "/requests", self.requests),
            ("GET", "/deliveries", self.deliveries),
            ("GET", "/webhooks", self.webhooks),
        ]
        return [
            Route("/_sim" + path, _answering(handler), methods=[method])
            for method, path, handler in table
        ]

    async def join(self, request: Request) -> Response:
        wanted = await _read(request, Join)
        fields = wanted.model_dump(exclude={"room_id"})
        with self.world.lock:
            peer = self.world.join(self._room_id(wanted.room_id), **fields)
            return JSONResponse(_peer(peer), status_code=201)

    async def leave(self, request: Request) -> Response:
        wanted = await _read(request, Leave)
        self.world.leave(self._room_id(wanted.room_id), wanted.peer_id, abrupt=wanted.abrupt)
        return JSONResponse({})

    async def change_peer(self, request: Request) -> Response:
        wanted = await _read(request, Change)
        fields = wanted.model_dump(exclude={"room_id"})
        with self.world.lock:
            room_id = self._room_id(wanted.room_id)
            peer = moderation.update(self.world, room_id, request.path_params["peer_id"], **fields)
            return JSONResponse(_peer(peer))

    async def add_room(self, request: Request) -> Response:
        wanted = await _read(request, NewRoom)
        roles = tuple(Role(role.name, role.publishes, role.max_peers) for role in wanted.roles)
        try:
            room = self.world.add_room(
                name=wanted.name, room_id=wanted.id, roles=roles, enabled=wanted.enabled
            )
        except ValueError as taken:
            raise RefusedError(409, str(taken)) from None
        return JSONResponse(_room(room), status_code=201)

    async def change_room(self, request: Request) -> Response:
        wanted = await _read(request, RoomChange)
        self.world.set_enabled(request.path_params["room_id"], wanted.enabled)
        return JSONResponse({})

    async def add_fault(self, request: Request) -> Response:
        fault = await _read(request, Fault)
        return JSONResponse({"id": self.faults.add(fault)}, status_code=201)

    async def show_faults(self, request: Request) -> Response:
        return JSONResponse(
            [
                {"id": number, "happened": happened, **fault.model_dump()}
                for number, fault, happened in self.faults.all()
            ]
        )

    async def clear_faults(self, request: Request) -> Response:
        self.faults.clear()
        return JSONResponse({})

    async def remove_fault(self, request: Request) -> Response:
        if not self.faults.remove(request.path_params["fault_id"]):
            raise RefusedError(404, "no such fault")
        return JSONResponse({})

    async def advance(self, request: Request) -> Response:
        self.world.advance((await _read(request, Advance)).advance_s)
        return JSONResponse({"now": nanos_text(self.world.now())})

    async def settle(self, request: Request) -> Response:
        self.world.settle()
        return JSONResponse({"now": nanos_text(self.world.now())})

    async def reset(self, request: Request) -> Response:
        self.faults.clear()
        self.world.reset()
        self.log.clear()
        return JSONResponse({})

    async def state(self, request: Request) -> Response:
        with self.world.lock:
            rooms: list[Json] = [_room(room) for room in self.world.rooms()]
            return JSONResponse({"now": nanos_text(self.world.now()), "rooms": rooms})

    async def requests(self, request: Request) -> Response:
        # Escaped to ASCII: a body may hold half a surrogate pair, which UTF-8 cannot carry.
        text = json.dumps([entry.as_json() for entry in self.log.entries()])
        return Response(text, media_type="application/json")

    async def deliveries(self, request: Request) -> Response:
        with self.world.lock:
            return JSONResponse([asdict(delivery) for delivery in self.world.deliveries])

    async def webhooks(self, request: Request) -> Response:
        with self.world.lock:
            self.world.rooms()  # lands what is due
            return JSONResponse(self.world.webhooks)

    def _room_id(self, given: str) -> str:
        if given:
            return given
        rooms = self.world.rooms()
        if not rooms:
            raise RefusedError(404, "there is no room")
        return rooms[0].id


def _answering(handler: Handler) -> Handler:
    """Turn refusals and bad input into JSON answers."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except RefusedError as refused:
            return JSONResponse({"message": refused.message}, status_code=refused.status)
        except ValidationError as bad:
            problems = [
                {"at": ".".join(str(part) for part in error["loc"]), "problem": error["msg"]}
                for error in bad.errors()
            ]
            return JSONResponse({"message": "invalid input", "problems": problems}, status_code=422)

    return answer


async def _read(request: Request, model: type[Model]) -> Model:
    return model.model_validate_json(await request.body())


def _peer(peer: Peer) -> dict[str, Json]:
    return {**peer.wire_with_tracks(), "kind": peer.kind, "ghost": peer.ghost}


def _session(session: Session) -> dict[str, Json]:
    return {
        "id": session.id,
        "created_at": session.created_at,
        "ended_at": session.ended_at,
        "ending": session.end_now is not None,
        "peers": [_peer(peer) for peer in session.peers.values()],
        "left": [_peer(peer) for peer in session.left],
    }


def _room(room: Room) -> dict[str, Json]:
    roles = [cast("Json", asdict(role)) for role in room.roles.values()]
    return {
        "id": room.id,
        "name": room.name,
        "customer_id": room.customer_id,
        "template_id": room.template_id,
        "enabled": room.enabled,
        "roles": roles,
        "session": _session(room.session) if room.session is not None else None,
        "past_sessions": [_session(session) for session in room.past],
    }
