"""Who may speak to the server at all: checked on every route, before anything reads a request.

Threat: a web page in the person's browser, another machine, a flood of bytes, or bytes that
never come, or a program that keeps all connections busy. Invariant: a request that `admission`
refuses, whose body is too large or too slow, or that is one too many of programs, is answered
here and put on record without its secrets, and nothing is read from 100ms.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import RedirectResponse, Response

from hms_active_rooms.serve.admission import (
    PRINCIPAL_KEY,
    Elsewhere,
    GuardSettings,
    Refusal,
    is_program,
    judge,
)
from hms_active_rooms.serve.limits import KEY, Refusals
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DRAIN_BYTES: Final = 1024 * 1024
_DRAIN_S: Final = 2.0
"""How much of a refused request is thrown away, unlooked at, and for how long at most."""

_BUSY: Final = Refusal(
    503, "Too many requests of programs are open. Nothing was executed; try again later.", "busy"
)
_TRY_AGAIN_S: Final = 5
"""Our choice: what takes long waits for a person, or for 100ms."""

_log = logging.getLogger(__name__)


class Guard:
    """ASGI wrapper around everything the server answers.

    Args:
        app: what is guarded.
        settings: who may speak to it.
        refusals: where refused requests go on record, those of `app` too; None: the log alone.
    """

    def __init__(
        self, app: ASGIApp, settings: GuardSettings, refusals: Refusals | None = None
    ) -> None:
        self._app = app
        self._settings = settings
        self._refusals = refusals
        self._of_programs: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Websockets are closed: nothing here speaks them."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        verdict = judge(self._settings, scope["path"], _headers(scope), scope["method"])
        if isinstance(verdict, Elsewhere):
            await _drained(receive)
            headers = {"cache-control": "no-store"}
            await RedirectResponse(verdict.path, 307, headers)(scope, receive, send)
            return
        if isinstance(verdict, Refusal):
            await _drained(receive)
            await self._refuse(verdict, scope, receive, send)
            return
        scope[PRINCIPAL_KEY] = verdict
        scope[KEY] = self._refusals
        try:
            async with asyncio.timeout(self._settings.body_s):
                first = await _body(receive, self._settings.max_body_bytes)
        except TimeoutError:
            first = Refusal(408, "The request did not arrive in time.", "slow")
        if isinstance(first, Refusal):
            await self._refuse(first, scope, receive, send)
            return
        program = is_program(self._settings, verdict, scope["path"])
        if program and self._is_busy(verdict.name):
            await self._refuse(_BUSY, scope, receive, send)
            return
        pending = [first]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        self._of_programs[verdict.name] += program
        try:
            await self._app(scope, replay, send)
        finally:
            self._of_programs[verdict.name] -= program

    def _is_busy(self, name: str) -> bool:
        """Whether a caller of this token has to wait. Where there are several, none may keep
        more than half busy."""
        most = self._settings.most_of_programs
        mine = most // 2 if len(self._settings.callers) > 1 else most
        return self._of_programs.total() >= most or self._of_programs[name] >= mine

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        # The path without its query: a login link's secret is in the query.
        client = str((scope.get("client") or ("?", 0))[0])
        note_refusal(self._refusals, refusal.word, scope["method"], scope["path"], client)
        headers = {"cache-control": "no-store", "connection": "close"}
        if refusal.status == 401:
            headers["www-authenticate"] = "Bearer"
        if refusal.status == 503:
            headers["retry-after"] = str(_TRY_AGAIN_S)
        body = json.dumps({"title": refusal.text, "status": refusal.status})
        answer = Response(body, refusal.status, headers, "application/problem+json")
        await answer(scope, receive, send)


def note_refusal(refusals: Refusals | None, word: str, method: str, path: str, client: str) -> None:
    """Log a refused request and put it on record, without its query, headers and body."""
    # Whoever is told to try again does: of those the log has no more than the record.
    if word != _BUSY.word or refusals is None or not refusals.are_many(word):
        _log.warning(
            "refused %s %s from %s: %s",
            quoted(method, 10)[1:-1],
            quoted(path, 100),
            quoted(client, 50)[1:-1],
            word,
        )
    if refusals is not None:
        refusals.add(word, f"{method[:10]} {path}", client)


async def _body(receive: Receive, limit: int) -> Message | Refusal:
    """The whole body as one message, or the disconnect; a refusal when it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            if more:
                await _drained(receive)
            return Refusal(413, "The request is too large.", "size")
        if not more:
            return {"type": "http.request", "body": bytes(body), "more_body": False}


async def _drained(receive: Receive) -> None:
    """Throw the rest of a request away, within bounds.

    A connection that is closed with bytes still unread is reset, and the answer with it.
    """
    left = _DRAIN_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _headers(scope: MutableMapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found
