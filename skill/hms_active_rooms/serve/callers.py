"""Who calls: a program's token, what it calls itself, its session; and no request id twice in one.

Some clients open a session for each call. So once a session has ended, here or at another server of
the journal, the next one of the same token and name is told what it asked for. REST and MCP's
protocol of 2026-07-28 have no sessions over HTTP: there each connection counts as one, except for a
caller with a token, who may come through a proxy that shares its connections.
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
"""Where a request's scope has its server's sessions, and the name of its own."""

CONNECTIONS: Final = "hms_active_rooms.connections"
"""Where a request's scope has what names the connections that are open now, by their address."""

TWICE: Final = (
    "A request with this id is open in this session. Nothing was executed for this one; use "
    "another id."
)
MOST_OPEN: Final = 10_000
"""Our choice: of more open requests the ids are forgotten, oldest first."""

IDLE_S: Final = 30 * 60.0
"""How long a session is kept that nobody uses."""


class Sessions:
    """ASGI wrapper around the transport: the sessions that may still call, the requests of each.

    `versions` of the protocol have sessions; in the others the header means nothing, and whoever
    sends it could be as many callers as they like. `clock` tells seconds that only grow.
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
        """The session called."""
        if tag not in self._seen:
            self._end([each for each in self._seen if not self.may_live(each)])
        self._seen[tag] = self._clock()

    def may_live(self, tag: str) -> bool:
        """Whether the session called lately, and has not ended."""
        return self._clock() - self._seen.get(tag, -IDLE_S) < IDLE_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        headers = Headers(scope=scope)
        session, version = headers.get(HEADER, ""), headers.get(VERSION)
        has_one = session and (version is None or version in self._versions)
        # Names the session; the id itself opens it, so it is written down nowhere.
        tag = hashed(session).hex()[:8] if has_one else ""
        scope[KEY] = (self, tag)
        if not tag or scope["method"] not in ("POST", "DELETE"):
            await self._app(scope, receive, send)
            return
        first = await receive()  # the guard hands on a body in one piece
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
            # A client that went away before the end may not use the id again.
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

    channel: str  # its calls are compared with each other ("mcp:claude", "rest:ada")
    requester: str  # who asks, for the record ("mcp:claude#3f2a91")
    key: str = ""  # an idempotency key of the caller's own
    token: str = ""  # the name of its token; "" for the one without
    is_mine: Callable[[str], bool] = field(default=lambda _: True, compare=False)
    """Whether what this requester of the channel asked for is this caller's."""

    @property
    def thread(self) -> str:
        """The name of the thread that the journal keeps these calls in."""
        return OUTSIDE + self.channel


def threads_of(token: str) -> tuple[str, ...]:
    """The threads of everything that programs with this token asked for, in the form that
    `Which.within` takes. `token`: its name; "" for the token without a name."""
    name = f":{token}" if token else ""
    return f"{OUTSIDE}rest{name}", f"{OUTSIDE}mcp{name}:"


def caller(way: str, name: str, request: Request | None, key: str = "") -> Caller:
    """Who calls by this way ("mcp", "rest"). `name`: what the program calls itself, as one plain
    word; `request`: None where this process serves this client alone; `key`: an idempotency key."""
    world, _, process = this_worker().rpartition(":")
    kind = hashed(world).hex()[:4]
    here, token, tag, live = f"{process}.{kind}", "", "", frozenset[str]()
    sessions: Sessions | None = None
    if request:
        who = principal(request.scope)
        token = who.name
        sessions, tag = request.scope.get(KEY, (None, ""))
        if sessions and tag:
            sessions.used(tag)
        elif who == Principal() and CONNECTIONS in request.scope:
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
        process, _, of = server.rpartition(".")  # another one, or one that serves one client
        return of == kind and not worker_may_live(f"{world}:{process}")

    return Caller(channel, requester, key, token, is_mine)


def _request_id(body: bytes) -> int | str | None:
    """The id of a JSON-RPC request; None for anything else, which the transport judges."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or "method" not in message:
        return None
    number = message.get("id")
    return number if isinstance(number, int | str) and not isinstance(number, bool) else None
