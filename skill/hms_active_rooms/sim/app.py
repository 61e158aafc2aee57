"""The simulated server as one ASGI app: the API below /v2, the control API below /_sim."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any, Final
from urllib.parse import parse_qsl
from weakref import WeakValueDictionary

from hms_active_rooms.sim.clock import nanos_text
from hms_active_rooms.sim.control import Control
from hms_active_rooms.sim.faults import Fault, Faults
from hms_active_rooms.sim.operations import Answer, answer, error_body, find
from hms_active_rooms.sim.records import Json
from hms_active_rooms.sim.request_log import LoggedRequest, RequestLog
from hms_active_rooms.sim.settings import is_valid
from hms_active_rooms.sim.world import World

_Event = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Event]]
_Send = Callable[[_Event], Awaitable[None]]

_BROKEN_JSON: Final = b'{"code":200,"message":"message se'

_UNAUTHORIZED: Final[Answer] = {
    **error_body(401, "Token validation error"),
    "details": ["not found"],
}

_NO_FAULT: Final = Fault(kind="latency")


class SimApp:
    """The app of one world, for uvicorn or for httpx.ASGITransport."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log = RequestLog()
        self.faults = Faults()

    @cached_property
    def _control(self) -> Control:
        return Control(self.world, self.log, self.faults)

    async def __call__(self, scope: _Event, receive: _Receive, send: _Send) -> None:
        """Serve one request; everything outside the control API is logged and may be faulty."""
        body, more = b"", True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body += event.get("body", b"")
            more = event.get("more_body", False)
        # An absolute-form target, as a client sends it through a proxy, names us first.
        path = re.sub(r"^(?i:https?)://[^/]*", "", scope["path"]) or "/"
        if path.startswith("/_sim/"):
            status, text = self._control.answer(scope["method"], path, body)
            await _send(send, status, text)
            return
        try:
            await self._serve(scope, path, body, receive, send)
        except asyncio.CancelledError:
            # The server ends. Who still waits for an answer gets none.
            if waiting := _connection(scope):
                waiting.shutdown(socket.SHUT_RDWR)
            raise

    async def _serve(
        self, scope: _Event, path: str, body: bytes, receive: _Receive, send: _Send
    ) -> None:
        method, query = scope["method"], scope["query_string"].decode("latin-1")
        at = nanos_text(self.world.now())
        found = find(method, path)
        name = found[0].name if found else ""
        taken = self.faults.take(name, method, path)
        fault, hit = taken or _NO_FAULT, taken.kind if taken else ""
        seq = self.log.begin(
            LoggedRequest(0, at, name, method, path, query, _parsed(body), fault=hit)
        )
        if fault.when == "before":
            await asyncio.sleep(fault.latency_s)
        status, answered = 0, Answer()
        if fault.executes:
            token = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            if found is None:
                status, answered = 404, error_body(404, "not found")
            elif not is_valid(token, self.world.settings, self.world.wall_clock()):
                status, answered = 401, _UNAUTHORIZED
            else:
                # The first of several values counts, as in Go's Query().Get.
                fields = dict(reversed(parse_qsl(query, keep_blank_values=True)))
                status, answered = answer(self.world, *found, fields, body)
            self.log.note(seq, executed=status == 200)
        if fault.when == "after":
            await asyncio.sleep(fault.latency_s)
        if fault.kind == "reset":
            # A TCP reset; what the client has not read by then is lost.
            if (accepted := _connection(scope)) is None:
                raise ConnectionResetError("the simulator broke the connection")
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            accepted.shutdown(socket.SHUT_RD)  # the server reads the end, and closes
        if fault.kind in ("reset", "hang"):
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        headers: dict[str, str] = {}
        if fault.kind == "unauthorized":
            status, answered = 401, _UNAUTHORIZED
        elif fault.kind == "status":
            status, answered = fault.status, error_body(fault.status, fault.text)
            if fault.retry_after_s is not None:
                headers["retry-after"] = str(fault.retry_after_s)
        text = json.dumps(answered, ensure_ascii=False, separators=(",", ":")).encode()
        if fault.kind == "malformed":
            text = _BROKEN_JSON
        elif fault.kind == "oversized":
            # White space keeps it valid JSON: only the size is wrong.
            text = text.ljust(fault.size_bytes)
        self.log.note(seq, status=status)
        await _send(send, status, text, headers, whole=fault.kind != "truncated")


async def _send(
    send: _Send,
    status: int,
    text: bytes,
    headers: dict[str, str] | None = None,
    *,
    whole: bool = True,
) -> None:
    told = {"content-length": str(len(text)), "content-type": "application/json", **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in told.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    # The length is that of the whole: after half of it the server closes the connection.
    body = text if whole else text[: len(text) // 2]
    await send({"type": "http.response.body", "body": body, "more_body": not whole})


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
        accepted, client = super().accept()
        _accepted[*accepted.getsockname()[:2], *client[:2]] = accepted
        return accepted, client


def _connection(scope: _Event) -> socket.socket | None:
    return _accepted.get((*(scope.get("server") or ()), *(scope.get("client") or ())))
