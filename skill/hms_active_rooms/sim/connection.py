"""Breaking TCP connections on purpose, whatever server runs the app.

The listening socket notes each connection it accepts, under the two addresses that the ASGI
scope names too, so that the app can reset its own. In-process use (httpx.ASGITransport) has no
connection; there a break is a ConnectionResetError.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Final
from weakref import WeakValueDictionary

from starlette.types import Receive, Scope

_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on with zero seconds: closing sends RST instead of FIN."""

_accepted: WeakValueDictionary[tuple[Any, ...], socket.socket] = WeakValueDictionary()
"""Open connections by (server's host and port, client's host and port)."""


class Listener(socket.socket):
    """A listening socket whose connections the app may break."""

    def accept(self) -> tuple[socket.socket, Any]:
        """As a socket's own."""
        accepted, client = super().accept()
        _accepted[*accepted.getsockname()[:2], *client[:2]] = accepted
        return accepted, client


async def reset(scope: Scope, receive: Receive) -> None:
    """Send a TCP reset and wait until the connection is gone; what was not read by then is lost."""
    accepted = _accepted.get((*(scope.get("server") or ()), *(scope.get("client") or ())))
    if accepted is None:
        raise ConnectionResetError("the simulator broke the connection")
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    accepted.shutdown(socket.SHUT_RD)  # the server reads the end, and closes
    await until_gone(receive)


async def until_gone(receive: Receive) -> None:
    """Wait until the client's connection is closed, by whomever."""
    while (await receive())["type"] != "http.disconnect":
        pass
