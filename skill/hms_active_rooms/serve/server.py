"""Running the application on a port with uvicorn: blocking, or in a task for tests.

Threat: connections that send half a request, or nothing, or keep an answer going, until no
other fits. Invariant: as long as not all of them are being answered, whoever sends a whole
request gets in, since the oldest connection that has not is closed for it; the guard answers
programs on half of them at most, so that people do not wait behind programs. A stop waits
for what is being sent and tells whoever asked for it.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.serve.app import LAST_SENDS_S
from hms_active_rooms.serve.limits import MOST_CONNECTIONS
from hms_active_rooms.serve.running import all_ended
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from starlette.types import ASGIApp

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 9090
"""The contract's port of the MCP server."""

KEEP_ALIVE_S: Final = 75
"""Longer than clients keep idle connections, so that it is never us who close under a request."""

_GRACE_S: Final = 5
"""For answers on their way, after `LAST_SENDS_S` for what is being sent to the room."""

_ACCEPTED_AT_ONCE: Final = 64
_POLL_S: Final = 0.1


@dataclass(frozen=True)
class Patience:
    """What connections may take up.

    Attributes:
        connections: most at a time; for one more, the oldest without a whole request goes,
            or the new one when all are being answered.
        head_s: how long the head of a request may take, from the connection or its first byte.
    """

    connections: int = MOST_CONNECTIONS
    head_s: float = 10.0


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1 with an end to its patience."""

    patience = Patience()
    _numbers = itertools.count()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._number = next(self._numbers)
        self._head_timer: asyncio.TimerHandle | None = None
        self._wait_for_head()
        if len(self.connections) > self.patience.connections:
            self._make_room()

    def _make_room(self) -> None:
        """Close the oldest without a whole request; the new one itself if all are answered."""
        there = [c for c in self.connections if isinstance(c, _Protocol)]
        there = [c for c in there if not c.transport.is_closing()]
        if len(there) > self.patience.connections:
            spare = [c for c in there if c.spare]
            min(spare, key=lambda c: (c.between_requests, c._number)).transport.abort()

    @property
    def spare(self) -> bool:
        """No whole request of it is being answered."""
        now = self._request
        return self._no_head or (now is not None and now.more_body and not now.response_started)

    @property
    def between_requests(self) -> bool:
        """It brought a whole request before, and nothing since."""
        return self._request is not None and self._no_head and not self.conn.trailing_data[0]

    @property
    def _no_head(self) -> bool:
        return self._request is None or self._request.response_complete

    @property
    def _request(self) -> RequestResponseCycle | None:
        return self.cycle  # None until there is one, whatever uvicorn's annotation says

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._no_head:
            self._have_head()
        elif self._head_timer is None:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_head()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self.patience.head_s, self.transport.abort)

    def _have_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigurationError: the port is in use, or no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it an answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as problem:
        listener.close()
        reason = getattr(problem, "strerror", None) or problem
        raise ConfigurationError(
            f"Cannot listen on {quoted(host)[1:-1]}:{port}: {reason}.",
            hint="Choose another port, --port 0 for any free one.",
        ) from None
    return listener


def address(listener: socket.socket) -> str:
    """The base URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn that says when it answers, and lets open streams end before it waits for them."""

    def __init__(
        self, app: ASGIApp, closing: Callable[[], None], patience: Patience | None = None
    ) -> None:
        given = patience or Patience()

        class Patient(_Protocol):
            patience = given

        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=Patient,  # h11: the strict one, whatever else is installed
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
            backlog=_ACCEPTED_AT_ONCE,
            server_header=False,
            proxy_headers=False,
        )
        super().__init__(config)
        self.ready = asyncio.Event()
        self._closing = closing

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing()
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        sends = asyncio.create_task(all_ended(LAST_SENDS_S))
        while not sends.done() and not self.force_exit:
            await asyncio.wait({sends}, timeout=_POLL_S)
        sends.cancel()
        if self.force_exit:
            await all_ended(0)
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn would leave the application as it is, and its end to a traceback.
            await self.lifespan.shutdown()


def _nothing() -> None:
    pass


def serve(
    app: ASGIApp,
    listener: socket.socket,
    announce: Callable[[str], None],
    closing: Callable[[], None] = _nothing,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        app: the application.
        listener: from `listen`.
        announce: called with the base URL when it listens.
        closing: called when it stops, before it waits for open requests.
    """
    with listener:
        announce(address(listener))
        with suppress(KeyboardInterrupt):
            _Server(app, closing).run(sockets=[listener])


@asynccontextmanager
async def serving(
    app: ASGIApp,
    host: str = DEFAULT_HOST,
    port: int = 0,
    closing: Callable[[], None] = _nothing,
    patience: Patience | None = None,
) -> AsyncIterator[str]:
    """Serve in this loop while the block runs; its base URL."""
    listener = listen(host, port)
    server = _Server(app, closing, patience)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.ready.wait()
        yield address(listener)
    finally:
        server.should_exit = True
        await task
        listener.close()
