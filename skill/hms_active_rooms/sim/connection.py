"""Breaking TCP connections on purpose, under uvicorn.

uvicorn copies its lifespan state into every request's scope. A protocol of our own puts
a handle on its connection there, so that the app can reset or close it. In-process use
(httpx.ASGITransport) has no connection; there a break is a ConnectionResetError.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Final

from starlette.types import Receive, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

_KEY: Final = "sim_connection"

_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on with zero seconds: closing sends RST instead of FIN."""


class Connection:
    """The client's connection, which the app may break."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None

    def reset(self) -> None:
        """Send a TCP reset; what was not read by the client is lost."""
        if self.transport is None:
            return
        sock: socket.socket | None = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()

    def close(self) -> None:
        """Send what was written, then close."""
        if self.transport is not None:
            self.transport.close()


class BreakableProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with a handle on the connection in each request's scope."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._connection = Connection()
        state = {**app_state, _KEY: self._connection}
        super().__init__(config, server_state, state, _loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connection.transport = transport


async def reset(scope: Scope, receive: Receive) -> None:
    """Reset the request's connection and wait until it is gone."""
    connection = _connection(scope)
    connection.reset()
    await until_gone(receive)


async def close(scope: Scope, receive: Receive) -> None:
    """Close the request's connection after what was sent, and wait until it is gone."""
    connection = _connection(scope)
    connection.close()
    await until_gone(receive)


async def until_gone(receive: Receive) -> None:
    """Wait until the client's connection is closed, by whomever."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _connection(scope: Scope) -> Connection:
    found = scope.get("state", {}).get(_KEY)
    if not isinstance(found, Connection):
        raise ConnectionResetError("the simulator broke the connection")
    return found
