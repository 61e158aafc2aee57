"""Joins MCP, REST and the approvals page in one ASGI application, and runs it with uvicorn.

uvicorn limits connections, headers and idle time. `serve.guard` limits bodies and open requests.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Final
from weakref import WeakKeyDictionary

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.serve.callers import CONNECTIONS
from hms_active_rooms.serve.decisions import all_ended, run_approved
from hms_active_rooms.serve.guard import HEALTH, Guard, GuardSettings
from hms_active_rooms.serve.limits import MOST_CONNECTIONS, refusals_of
from hms_active_rooms.serve.problems import HANDLERS
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit
from hms_active_rooms.untrusted import shortened

_LAST_SENDS_S: Final = 30.0  # how long a server that stops waits for its open requests to 100ms

Lifespan = Callable[[], AbstractAsyncContextManager[object]]


@dataclass(frozen=True)
class Entry:
    """Part of the HTTP server. `lifespan()` returns a context that is open while the server runs."""

    routes: Sequence[BaseRoute] = ()
    lifespan: Lifespan | None = None


def create_app(toolkit: ActiveRoomsToolkit, *entries: Entry, guard: GuardSettings) -> Guard:
    """Make the HTTP application from its parts. The caller has to close the toolkit.

    Args:
        toolkit: its gate and journal are used.
        entries: the parts, such as MCP, REST and the approvals page.
        guard: says which hosts, origins and tokens are accepted.
    """
    lifespans = [each.lifespan for each in entries if each.lifespan]
    routes = [Route(HEALTH, _healthz), *chain.from_iterable(each.routes for each in entries)]
    app = Starlette(
        routes=routes,
        lifespan=lambda _: at_work(toolkit.gate, lifespans),
        exception_handlers=HANDLERS,
    )
    app.router.redirect_slashes = False  # behind a proxy, a redirect would go to http://
    return Guard(app, guard, refusals_of(toolkit.gate.journal))


@asynccontextmanager
async def at_work(gate: Gate, lifespans: Sequence[Lifespan]) -> AsyncIterator[None]:
    """Return an asynchronous context in which a server runs. It enters `lifespans`. In the background it
    sends approved actions that a stopped server left unsent."""
    async with AsyncExitStack() as stack:
        for start in lifespans:
            await stack.enter_async_context(start())
        resumed = asyncio.create_task(run_approved(gate))
        try:
            yield
        finally:
            await asyncio.gather(resumed, return_exceptions=True)
            await all_ended(_LAST_SENDS_S)
            await refusals_of(gate.journal).ended()


async def _healthz(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"}, headers={"cache-control": "no-store"})


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigurationError if the address or port cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only with the protocol named does asyncio set TCP_NODELAY, which saves 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # On Windows, SO_REUSEADDR would let another program take over the port.
    alone = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
    listener.setsockopt(socket.SOL_SOCKET, alone, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)  # the queue of connections to accept, as in uvicorn
    except OSError as problem:
        listener.close()
        reason = problem.strerror or problem
        raise ConfigurationError(
            f"The server cannot listen on {shortened(host, 60)}:{port}: {reason}.",
            hint="Give another --host or --port. --port 0 takes any free port.",
        ) from None
    return listener


def address(listener: socket.socket) -> str:
    """The URL of a listening socket, such as "http://127.0.0.1:9090"."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """A uvicorn server for the ASGI application `app`. At its stop it waits for open requests to 100ms."""

    def __init__(self, app: ASGIApp) -> None:
        async def connected(scope: Scope, receive: Receive, send: Send) -> None:
            scope[CONNECTIONS] = self._open_connections
            await app(scope, receive, send)

        config = uvicorn.Config(
            connected,
            loop="asyncio",
            http="h11",  # the strict parser, even if another is installed
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=75,  # longer than a client's, so the client closes an idle connection
            timeout_graceful_shutdown=5,  # after `_LAST_SENDS_S`, to finish the HTTP answers
            server_header=False,
            proxy_headers=False,
        )
        super().__init__(config)
        self._names: WeakKeyDictionary[object, str] = WeakKeyDictionary()

    def _open_connections(self) -> dict[object, str]:
        """A unique name for each open connection, by the client's address."""
        return {
            getattr(each, "client", None): self._names.setdefault(each, secrets.token_hex(4))
            for each in self.server_state.connections
        }

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        sends = asyncio.create_task(all_ended(_LAST_SENDS_S))
        while not sends.done() and not self.force_exit:
            await asyncio.wait({sends}, timeout=0.1)
        sends.cancel()
        if self.force_exit:
            await all_ended(0)
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn skips this after a forced exit, and the process would end in a traceback.
            await self.lifespan.shutdown()
