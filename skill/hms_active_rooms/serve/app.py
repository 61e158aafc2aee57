"""One ASGI application from the ways in (MCP, REST and the page, or some of them), and running it on
a port with uvicorn.

uvicorn bounds the connections, the head of a request and idle time; the guard bounds the rest.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
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
from hms_active_rooms.serve.guard import Guard, GuardSettings
from hms_active_rooms.serve.limits import MOST_CONNECTIONS, refusals_of
from hms_active_rooms.serve.problems import HANDLERS
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit
from hms_active_rooms.untrusted import quoted

_LAST_SENDS_S: Final = 30.0
"""How long the end of the server waits for what is being sent to the room."""

ASKED: Final[signal.Signals | None] = getattr(signal, "SIGUSR1", None)
"""None where the system has no such signal (Windows)."""


Lifespan = Callable[[], AbstractAsyncContextManager[object]]


@dataclass(frozen=True)
class Entry:
    """One way in: its routes, and what must run around them."""

    routes: Sequence[BaseRoute] = ()
    lifespan: Lifespan | None = None


def create_app(toolkit: ActiveRoomsToolkit, *entries: Entry, guard: GuardSettings) -> Guard:
    """The application, behind the guard. `entries`: of `serve.mcp`, `serve.rest` and `serve.page`,
    and what else runs, without routes; whoever made the toolkit closes it."""
    lifespans = [each.lifespan for each in entries if each.lifespan]
    routes = [Route("/healthz", _healthz), *chain.from_iterable(each.routes for each in entries)]
    app = Starlette(
        routes=routes,
        lifespan=lambda _: at_work(toolkit.gate, lifespans),
        exception_handlers=HANDLERS,
    )
    app.router.redirect_slashes = False  # behind a proxy, it would name this server by http://
    return Guard(app, guard, refusals_of(toolkit.gate.journal))


@asynccontextmanager
async def at_work(gate: Gate, lifespans: Sequence[Lifespan]) -> AsyncIterator[None]:
    """What runs while a server serves, by any transport. At its start, actions that were approved
    earlier are sent, each by one of the servers that share the journal; at its end, requests that
    are on their way get time to finish. `lifespans` are entered before and left last."""
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
    """A listening socket, or ConfigurationError: the port is in use, or no such address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it an answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)  # connections that wait until they are accepted, as in uvicorn
    except (OSError, OverflowError) as problem:
        listener.close()
        reason = getattr(problem, "strerror", None) or problem
        raise ConfigurationError(
            f"Cannot listen on {quoted(host)[1:-1]}:{port}: {reason}.",
            hint="Choose another --host or --port; 0 takes any free port.",
        ) from None
    return listener


def address(listener: socket.socket) -> str:
    """The base URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn for this application: it lets what is being sent end, before it waits for the rest."""

    def __init__(self, app: ASGIApp) -> None:
        async def connected(scope: Scope, receive: Receive, send: Send) -> None:
            scope[CONNECTIONS] = self._open_connections
            await app(scope, receive, send)

        config = uvicorn.Config(
            connected,
            loop="asyncio",
            http="h11",  # the strict one, whatever else is installed
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=75,  # longer than clients: we never close under a request
            timeout_graceful_shutdown=5,  # for answers on their way, after `_LAST_SENDS_S`
            server_header=False,
            proxy_headers=False,
        )
        super().__init__(config)
        self._names: WeakKeyDictionary[object, str] = WeakKeyDictionary()

    def _open_connections(self) -> dict[object, str]:
        """A name for each, by the address at its other end; another one comes by it later."""
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
            # uvicorn would leave the application as it is, and its end to a traceback.
            await self.lifespan.shutdown()


def on_signal(work: Callable[[], None]) -> Lifespan:
    """What does the work whenever `ASKED` comes while a server serves, in its loop between its
    tasks. The signal is caught from now on: one that nobody catches ends the process. What came
    before the server is done first."""
    early: list[object] = []
    if ASKED is not None:
        signal.signal(ASKED, lambda *given: early.append(given))

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        if ASKED is None:
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(ASKED, work)
        if early:
            work()
        try:
            yield
        finally:
            loop.remove_signal_handler(ASKED)
            signal.signal(ASKED, signal.SIG_IGN)  # a server that stops finishes its work

    return running
