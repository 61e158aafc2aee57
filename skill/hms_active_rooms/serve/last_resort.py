"""What is answered when our own code fails: that nobody knows, and one line in the log.

No traceback and no text of an error leaves the server or reaches its log: either may hold a secret.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from pathlib import PurePath
from typing import TYPE_CHECKING

from starlette.responses import Response

from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)


class LastResort:
    """ASGI wrapper that answers where the application did not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            # The server stops and waits no longer; nothing awaits this task's result.
            if not started:
                await _problem(503, "The server stops.")(scope, receive, send)
        except Exception as error:  # noqa: BLE001  # nothing is behind it, and nothing asks in it
            # The path without its query, which may hold a secret.
            named = quoted(scope["method"], 10)[1:-1], quoted(scope["path"], 100)
            _log.error("failed %s %s: %s", *named, place_of(error))
            if not started:
                await _problem(500, "The server failed.")(scope, receive, send)


async def failed(_: Request, __: Exception) -> Response:
    """The answer to a failed request; Starlette raises the error again behind it."""
    return _problem(500, "The server failed.")


def _problem(status: int, what: str) -> Response:
    body = {
        "type": "urn:hms-active-rooms:problem:internal",
        "title": what,
        "status": status,
        "detail": f"{what} It is not known whether anything was executed.",
        "code": "internal",
        "executed": "maybe",
        "hint": "Look at the room and the journal before you try again.",
    }
    headers = {"cache-control": "no-store", "connection": "close"}
    return Response(json.dumps(body), status, headers, "application/problem+json")


def place_of(error: BaseException) -> str:
    """The kind of error and the innermost places of it, without its text. Pure."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{PurePath(f.filename).name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}"
