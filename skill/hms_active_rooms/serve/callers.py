"""Tells who calls (a token, the program's own name, its session), and refuses a request id that is
open twice in a session.

Some clients open a new session for each call. So when a session has ended, here or at another
server with the same journal, the next session with the same token and name is told the outcomes of
what the ended session asked for. REST, and MCP's protocol of 2026-07-28, have no sessions over
HTTP: there each connection counts as one, except for a caller with a token, which may come through
a proxy that shares connections.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hms_active_rooms.gate.journal.records import OUTSIDE
from hms_active_rooms.gate.journal.workers import this_worker, worker_may_live
from hms_active_rooms.serve.guard import Principal, handing_on, hashed, principal

HEADER: Final = "mcp-session-id"
VERSION: Final = "mcp-protocol-version"
KEY: Final = "hms_active_rooms.mcp_sessions"
"""Key in a request's scope: the server's `Sessions`, and the tag of the request's own session."""

CONNECTIONS: Final = "hms_active_rooms.connections"
"""Key in a request's scope: a function that returns, by address, names of the open connections."""

TWICE: Final = (
    "A request with this id is open in this session. Nothing was executed for this one; use "
    "another id."
)
MOST_OPEN: Final = 10_000
"""Our choice: if more requests are open, the oldest ids are forgotten."""

IDLE_S: Final = 30 * 60.0
"""How long an unused session is kept."""


class Sessions:
    """ASGI wrapper around MCP's transport. It knows which sessions may still call, and which
    requests are open in each.

    Only these `versions` of the protocol have sessions. In others the header is ignored, since a
    client could send any value and count as many callers. `clock` returns seconds, monotonic.
    """

    def __init__(
        self,
        app: ASGIApp,
        versions: Collection[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._versions = versions
        self._clock = clock
        self._seen: dict[str, float] = {}
        self._open: dict[tuple[str, bytes], None] = {}

    def used(self, tag: str) -> None:
        """Note that a call has come in the session with this tag."""
        if tag not in self._seen:
            self._end([each for each in self._seen if not self.may_live(each)])
        self._seen[tag] = self._clock()

    def may_live(self, tag: str) -> bool:
        """Whether the session called in the last `IDLE_S` seconds and has not ended."""
        return self._clock() - self._seen.get(tag, -IDLE_S) < IDLE_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        session, version = headers.get(HEADER, ""), headers.get(VERSION)
        has_one = session and (version is None or version in self._versions)
        # A name for the session. Its id gives access to the session, so the id itself is not
        # stored.
        tag = hashed(session).hex()[:8] if has_one else ""
        scope[KEY] = (self, tag)
        if not tag or scope["method"] not in ("POST", "DELETE"):
            await self._app(scope, receive, send)
            return
        first = await receive()  # the guard passes the whole body in one message
        number = _request_id(first.get("body", b""))
        mine = tag, hashed(str(number))
        if number is not None and mine in self._open:
            error = {"code": -32600, "message": TWICE}
            answer = {"jsonrpc": "2.0", "id": number, "error": error}
            await JSONResponse(answer, 400)(scope, receive, send)
            return

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                self.used(tag)
            # If the client leaves before the end, the id stays open and cannot be used again.
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._open.pop(mine, None)
            await send(message)

        if number is not None:
            self._open[mine] = None
            if len(self._open) > MOST_OPEN:
                del self._open[next(iter(self._open))]
        await self._app(scope, handing_on(first, receive), noted)
        if scope["method"] == "DELETE":
            self._end([tag])

    def _end(self, tags: Collection[str]) -> None:
        for tag in tags:
            self._seen.pop(tag, None)
        self._open = {key: None for key in self._open if key[0] not in tags}


@dataclass(frozen=True)
class Caller:
    """Who calls, and from where."""

    channel: str  # equal calls are looked for within it ("mcp:claude", "rest:ada")
    requester: str  # who asks, for the record ("mcp:claude#3f2a91")
    key: str = ""  # an idempotency key of the caller's own
    token: str = ""  # the name of its token; "" for one without a name
    is_mine: Callable[[str], bool] = field(default=lambda _: True, compare=False)
    """Whether the actions of this requester, in the same channel, belong to this caller."""

    @property
    def thread(self) -> str:
        """The journal's thread name for these calls."""
        return OUTSIDE + self.channel


def threads_of(token: str) -> tuple[str, ...]:
    """The threads of all programs with this token, in the form that `Which.within` takes. `token`:
    the token's name; "" for the one without a name."""
    name = f":{token}" if token else ""
    return f"{OUTSIDE}rest{name}", f"{OUTSIDE}mcp{name}:"


def caller(way: str, name: str, request: Request | None, key: str = "") -> Caller:
    """The caller that came this `way` ("mcp", "rest"). `name`: what the program calls itself, as
    one plain word; `request`: None if this process serves only this client; `key`: an idempotency
    key."""
    world, _, process = this_worker().rpartition(":")
    kind = hashed(world).hex()[:4]
    here, token, tag, live = f"{process}.{kind}", "", "", frozenset[str]()
    sessions: Sessions | None = None
    if request:
        who = principal(request.scope)
        token = who.name
        sessions, tag = request.scope.get(KEY, (None, ""))
        if not tag and who == Principal() and CONNECTIONS in request.scope:
            names = request.scope[CONNECTIONS]()
            tag, live = names.get(request.client, ""), frozenset(names.values())
    channel = ":".join(filter(None, (way, token, name)))
    place = here if request is None else tag and f"{tag}/{here}"
    requester = f"{channel}#{place}" if place else channel

    def is_mine(asked_by: str) -> bool:
        other, _, server = asked_by.partition("#")[2].rpartition("/")
        if asked_by == requester or not server:
            return True
        if server == here and other:
            return not (other in live or (sessions and sessions.may_live(other)))
        process, _, of = server.rpartition(".")  # of another server process
        return of == kind and not worker_may_live(f"{world}:{process}")

    return Caller(channel, requester, key, token, is_mine)


def _request_id(body: bytes) -> int | str | None:
    """The id of a JSON-RPC request; None for anything else, which the transport handles."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or "method" not in message:
        return None
    number = message.get("id")
    return number if isinstance(number, int | str) and not isinstance(number, bool) else None
