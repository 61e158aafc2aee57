"""Running the application on a port with uvicorn: blocking, or in a task for tests."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import uvicorn

from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from starlette.types import ASGIApp

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 9090
"""The contract's port of the MCP server."""

KEEP_ALIVE_S: Final = 75
"""Longer than clients keep idle connections, so that it is never us who close under a request."""

_GRACE_S: Final = 5


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigurationError: the port is in use, or no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
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

    def __init__(self, app: ASGIApp, closing: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",  # the strict one, whatever else is installed
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
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
        await super().shutdown(sockets)


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
) -> AsyncIterator[str]:
    """Serve in this loop while the block runs; its base URL."""
    listener = listen(host, port)
    server = _Server(app, closing)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.ready.wait()
        yield address(listener)
    finally:
        server.should_exit = True
        await task
        listener.close()
