"""The simulator as an ASGI app: the simulated API below /v2, and the control API below /_sim."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any, Final
from weakref import WeakValueDictionary

from hms_active_rooms.sim.control import PREFIX, Control
from hms_active_rooms.sim.faults import Fault, Faults
from hms_active_rooms.sim.operations import answer, find
from hms_active_rooms.sim.records import Json, nanos_text
from hms_active_rooms.sim.request_log import RequestLog
from hms_active_rooms.sim.world import World

_Event = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Event]]
_Send = Callable[[_Event], Awaitable[None]]

_NO_FAULT: Final = Fault.model_construct(kind="latency")


class SimApp:
    """The ASGI app of one simulated account, for uvicorn or httpx.ASGITransport."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log = RequestLog()
        self.faults = Faults()

    @cached_property
    def _control(self) -> Control:
        return Control(self.world, self.log, self.faults)

    async def __call__(self, scope: _Event, receive: _Receive, send: _Send) -> None:
        """Serve one request. Requests outside of /_sim are logged, and faults can hit them."""
        body, more = b"", True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body += event.get("body", b"")
            more = event.get("more_body", False)
        # A request target may be a whole URL, as for a proxy.
        path = re.sub(r"^(?i:https?)://[^/]*", "", scope["path"]) or "/"
        try:
            if path.startswith(f"{PREFIX}/"):
                await _send(send, *self._control.answer(scope["method"], path, body))
            else:
                await self._serve(scope, path, body, receive, send)
        except asyncio.CancelledError:
            # The server stops, so a client that still waits gets no answer.
            if waiting := _connection(scope):
                waiting.shutdown(socket.SHUT_RDWR)
            raise

    async def _serve(
        self, scope: _Event, path: str, body: bytes, receive: _Receive, send: _Send
    ) -> None:
        method, query = scope["method"], scope["query_string"].decode("latin-1")
        at, found = nanos_text(self.world.now()), find(method, path)
        name = found[0].name if found else ""
        taken = self.faults.take(name, method)
        fault, hit = taken or _NO_FAULT, taken.kind if taken else ""
        asked = {"operation": name, "method": method, "path": path, "query": query}
        entry = self.log.begin(**asked, at=at, body=_parsed(body), fault=hit)
        if fault.when == "before":
            await asyncio.sleep(fault.latency_s)
        answered: tuple[int, Json] = 0, None
        if fault.executes:
            token = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            answered = answer(self.world, found, token, query, body)
            self.log.note(entry, executed=answered[0] == 200)
        if fault.when == "after":
            await asyncio.sleep(fault.latency_s)
        if fault.kind == "reset":
            # By a TCP reset the client also loses what it has not read yet.
            if (accepted := _connection(scope)) is None:
                raise ConnectionResetError("the simulator broke the connection")
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            accepted.shutdown(socket.SHUT_RD)  # the server reads the end and closes
        if fault.kind in ("reset", "hang"):
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        status, document = fault.refusal or answered
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        self.log.note(entry, status=status)
        cut = fault.kind == "truncated"
        await _send(send, status, fault.damaged(text), fault.retry_after_s, cut=cut)


async def _send(
    send: _Send, status: int, text: bytes, retry_after_s: int | None = None, *, cut: bool = False
) -> None:
    told = {"content-length": len(text), "content-type": "application/json"}
    told |= {} if retry_after_s is None else {"retry-after": retry_after_s}
    raw = [(name.encode(), str(value).encode()) for name, value in told.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    # With `cut` only half of the body is sent, so the server closes the connection.
    body = text[: len(text) // 2] if cut else text
    await send({"type": "http.response.body", "body": body, "more_body": cut})


def _parsed(body: bytes) -> Json:
    try:
        parsed: Json = json.loads(body, parse_constant=str) if body else None
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
    return parsed


# ASGI does not give the app the socket, which a reset needs. So `Listener` remembers each socket.
# httpx.ASGITransport has none; there a reset raises ConnectionResetError.

# SO_LINGER with zero seconds: a closed socket sends RST instead of FIN.
_NO_LINGER: Final = struct.pack("ii", 1, 0)
# The open connections, by host and port of the server and of the client.
_accepted: WeakValueDictionary[tuple[Any, ...], socket.socket] = WeakValueDictionary()


class Listener(socket.socket):
    """A listening socket that remembers the connections it has accepted."""

    def accept(self) -> tuple[socket.socket, Any]:
        accepted, client = super().accept()
        _accepted[*accepted.getsockname()[:2], *client[:2]] = accepted
        return accepted, client


def _connection(scope: _Event) -> socket.socket | None:
    return _accepted.get((*(scope.get("server") or ()), *(scope.get("client") or ())))
