"""The simulated server as one ASGI app: the API below /v2, the control API below /_sim."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from hms_active_rooms.sim import connection, tokens
from hms_active_rooms.sim.clock import nanos_text
from hms_active_rooms.sim.control import control_app
from hms_active_rooms.sim.faults import Fault, Faults
from hms_active_rooms.sim.operations import Call, Operation, answer, error_body, find
from hms_active_rooms.sim.records import Json
from hms_active_rooms.sim.request_log import LoggedRequest, RequestLog
from hms_active_rooms.sim.world import World

PREFIX: Final = "/v2"

_BROKEN_JSON: Final = b'{"code":200,"message":"message se'


class SimApp:
    """The app, with what it works on.

    Attributes:
        world: the simulated account.
        log: every API request.
        faults: what is set to go wrong.
    """

    def __init__(self, world: World, log: RequestLog, faults: Faults) -> None:
        self.world = world
        self.log = log
        self.faults = faults
        self._control: ASGIApp = control_app(world, log, faults)
        self._stopping = asyncio.Event()

    def stop_waiting(self) -> None:
        """End the pauses of slow requests, so that a server can end. Call it on its loop."""
        self._stopping.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; everything outside the control API is logged and may be faulty."""
        if scope["type"] != "http" or scope["path"].startswith("/_sim/"):
            await self._control(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return
        path: str = scope["path"]
        found = find(scope["method"], path.removeprefix(PREFIX)) if _below(path) else None
        name = found[0].name if found else ""
        query = scope["query_string"].decode("latin-1")
        seq = self.log.begin(
            LoggedRequest(
                seq=0,
                at=nanos_text(self.world.now()),
                operation=name,
                method=scope["method"],
                path=path,
                query=query,
                body=_parsed(body),
            )
        )
        fault = self.faults.take(name, scope["method"], path)
        if fault is not None:
            self.log.note(seq, fault=fault.kind)
            if fault.when == "before":
                await self._pause(fault.latency_s)
        if fault is None or fault.executes:
            status, answered = self._execute(scope, found, query, body)
            self.log.note(seq, executed=status == 200)
        else:
            status, answered = 0, {}
        if fault is not None and fault.when == "after":
            await self._pause(fault.latency_s)
        await self._reply(fault, seq, status, answered, (scope, receive, send))

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _hang(self, scope: Scope, receive: Receive) -> None:
        """Nothing, until the client goes or the server ends."""
        gone = asyncio.create_task(connection.until_gone(receive))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({gone, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        gone.cancel()
        if self._stopping.is_set():
            await connection.reset(scope, receive)

    def _execute(
        self, scope: Scope, found: tuple[Operation, str, str] | None, query: str, body: bytes
    ) -> tuple[int, dict[str, Json]]:
        if found is None:
            return 404, error_body(404, "not found")
        authorization = next(
            (value.decode("latin-1") for key, value in scope["headers"] if key == b"authorization"),
            None,
        )
        if not tokens.is_valid(authorization, self.world.settings, self.world.wall_clock()):
            return 401, _UNAUTHORIZED
        operation, room_id, peer_id = found
        # The first of several values counts, as in Go's Query().Get.
        values = dict(reversed(parse_qsl(query, keep_blank_values=True)))
        return answer(self.world, operation, Call(room_id, peer_id, values, body))

    async def _reply(
        self,
        fault: Fault | None,
        seq: int,
        status: int,
        answered: dict[str, Json],
        wire: tuple[Scope, Receive, Send],
    ) -> None:
        scope, receive, send = wire
        kind = fault.kind if fault is not None else "latency"
        if kind == "reset":
            await connection.reset(scope, receive)
            return
        if kind == "hang":
            await self._hang(scope, receive)
            return
        headers: dict[str, str] = {}
        if fault is not None and kind == "status":
            status, answered = fault.status, error_body(fault.status, fault.text)
            if fault.retry_after_s is not None:
                headers["retry-after"] = str(fault.retry_after_s)
        elif kind == "unauthorized":
            status, answered = 401, _UNAUTHORIZED
        data = _BROKEN_JSON if kind == "malformed" else _encoded(answered)
        if fault is not None and kind == "oversized":
            # White space keeps it valid JSON: only the size is wrong.
            data += b" " * max(0, fault.size_bytes - len(data))
        self.log.note(seq, status=status)
        # Without its rest, the server closes the connection after what was sent.
        await _send(send, status, data, headers, whole=kind != "truncated")


def create_app(
    world: World, *, log: RequestLog | None = None, faults: Faults | None = None
) -> SimApp:
    """The ASGI app of a world, for uvicorn or for httpx.ASGITransport."""
    return SimApp(world, log or RequestLog(), faults or Faults())


_UNAUTHORIZED: Final = error_body(401, "Token validation error", "not found")


def _below(path: str) -> bool:
    return path.startswith(PREFIX + "/")


def _parsed(body: bytes) -> Json:
    if not body:
        return None
    try:
        parsed: Json = json.loads(body, parse_constant=str)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
    return parsed


def _encoded(body: dict[str, Json]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None when the client went away before it was whole."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(
    send: Send, status: int, data: bytes, headers: Mapping[str, str], *, whole: bool
) -> None:
    """Send an answer; the first half of it, with the length of the whole, when not `whole`."""
    fields = {"content-type": "application/json", "content-length": str(len(data)), **headers}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(key.encode(), value.encode()) for key, value in fields.items()],
        }
    )
    part = data if whole else data[: len(data) // 2]
    await send({"type": "http.response.body", "body": part, "more_body": not whole})
