"""The simulated server as one ASGI app: the API below /v2, the control API below /_sim."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from typing import Any, Final
from weakref import WeakValueDictionary

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from hms_active_rooms.sim.clock import nanos_text
from hms_active_rooms.sim.control import control_app
from hms_active_rooms.sim.faults import Fault, Faults
from hms_active_rooms.sim.operations import Answer, answer, error_body, find
from hms_active_rooms.sim.records import Json
from hms_active_rooms.sim.request_log import LoggedRequest, RequestLog
from hms_active_rooms.sim.settings import is_valid
from hms_active_rooms.sim.world import World

_BROKEN_JSON: Final = b'{"code":200,"message":"message se'

_UNAUTHORIZED: Final[Answer] = {
    **error_body(401, "Token validation error"),
    "details": ["not found"],
}

_NO_FAULT: Final = Fault(kind="latency")


class SimApp:
    """The app, with what it works on.

    Attributes:
        world: the simulated account.
        log: every API request.
        faults: what is set to go wrong.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.log = RequestLog()
        self.faults = Faults()
        self._control = control_app(world, self.log, self.faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; everything outside the control API is logged and may be faulty."""
        if scope["type"] == "http":
            # An absolute-form target, as a client sends it through a proxy, names us first.
            scope["path"] = re.sub(r"^https?://[^/]*", "", scope["path"]) or "/"
        if scope["type"] != "http" or scope["path"].startswith("/_sim/"):
            await self._control(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            await self._serve(request, await request.body(), send)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            # The server ends. Who still waits for an answer gets none.
            if waiting := _connection(request):
                waiting.shutdown(socket.SHUT_RDWR)
            raise

    async def _serve(self, request: Request, body: bytes, send: Send) -> None:
        method, path = request.method, request.scope["path"]
        found = find(method, path)
        name = found[0].name if found else ""
        taken = self.faults.take(name, method, path)
        fault = taken or _NO_FAULT
        seq = self.log.begin(
            LoggedRequest(
                seq=0,
                at=nanos_text(self.world.now()),
                operation=name,
                method=method,
                path=path,
                query=request.url.query,
                body=_parsed(body),
                fault=taken.kind if taken else "",
            )
        )
        if fault.when == "before":
            await asyncio.sleep(fault.latency_s)
        status, answered = 0, Answer()
        token = request.headers.get("authorization")
        if fault.executes:
            if found is None:
                status, answered = 404, error_body(404, "not found")
            elif not is_valid(token, self.world.settings, self.world.wall_clock()):
                status, answered = 401, _UNAUTHORIZED
            else:
                # The first of several values counts, as in Go's Query().Get.
                query = dict(reversed(request.query_params.multi_items()))
                status, answered = answer(self.world, *found, query, body)
            self.log.note(seq, executed=status == 200)
        if fault.when == "after":
            await asyncio.sleep(fault.latency_s)
        if fault.kind == "reset":
            await _reset(request)
        elif fault.kind == "hang":
            await _until_gone(request)
        else:
            response = _response(fault, status, answered)
            self.log.note(seq, status=response.status_code)
            await _send(response, request, send, whole=fault.kind != "truncated")


def create_app(world: World) -> SimApp:
    """The ASGI app of a world, for uvicorn or for httpx.ASGITransport."""
    return SimApp(world)


def _response(fault: Fault, status: int, answered: Answer) -> Response:
    """What is sent, where something is."""
    headers: dict[str, str] = {}
    if fault.kind == "unauthorized":
        status, answered = 401, _UNAUTHORIZED
    elif fault.kind == "status":
        status, answered = fault.status, error_body(fault.status, fault.text)
        if fault.retry_after_s is not None:
            headers["retry-after"] = str(fault.retry_after_s)
    data = _BROKEN_JSON if fault.kind == "malformed" else JSONResponse(answered).body
    if fault.kind == "oversized":
        # White space keeps it valid JSON: only the size is wrong.
        data = bytes(data).ljust(fault.size_bytes)
    return Response(data, status, headers, "application/json")


async def _send(response: Response, request: Request, send: Send, *, whole: bool) -> None:
    if whole:
        await response(request.scope, request.receive, send)
        return
    # The length is that of the whole: the server closes the connection after half of it.
    status, headers = response.status_code, response.raw_headers
    await send({"type": "http.response.start", "status": status, "headers": headers})
    half = response.body[: len(response.body) // 2]
    await send({"type": "http.response.body", "body": half, "more_body": True})


def _parsed(body: bytes) -> Json:
    if not body:
        return None
    try:
        parsed: Json = json.loads(body, parse_constant=str)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
    return parsed


# Breaking TCP connections on purpose, whatever server runs the app. In-process use
# (httpx.ASGITransport) has no connection; there a break is a ConnectionResetError.

_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on with zero seconds: closing sends RST instead of FIN."""

_accepted: WeakValueDictionary[tuple[Any, ...], socket.socket] = WeakValueDictionary()
"""Open connections by (server's host and port, client's host and port)."""


class Listener(socket.socket):
    """A listening socket that notes its connections, so that the app may break its own."""

    def accept(self) -> tuple[socket.socket, Any]:
        """As a socket's own."""
        accepted, client = super().accept()
        _accepted[*accepted.getsockname()[:2], *client[:2]] = accepted
        return accepted, client


def _connection(request: Request) -> socket.socket | None:
    return _accepted.get((*(request.scope.get("server") or ()), *(request.client or ())))


async def _reset(request: Request) -> None:
    """Send a TCP reset and wait until the connection is gone; what was not read by then is lost."""
    accepted = _connection(request)
    if accepted is None:
        raise ConnectionResetError("the simulator broke the connection")
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    accepted.shutdown(socket.SHUT_RD)  # the server reads the end, and closes
    await _until_gone(request)


async def _until_gone(request: Request) -> None:
    """Wait until the client's connection is closed, by whomever."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
