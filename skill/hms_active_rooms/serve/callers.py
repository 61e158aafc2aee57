"""Tells programs apart by their token, the name they give themselves, and their session.

Some clients open a new session for each call. So the next session with the same token and name gets
the outcomes of an ended one, also of one at another server with this journal.

REST and version 2026-07-28 of MCP have no sessions. Without tokens, each connection counts as one.
With tokens none does, because a proxy can send several programs' requests over one connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from mcp_types import JSONRPCNotification, JSONRPCRequest, jsonrpc_message_adapter
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hms_active_rooms.gate.journal.records import OUTSIDE
from hms_active_rooms.gate.journal.workers import this_worker, worker_may_live
from hms_active_rooms.serve.guard import Principal, handing_on, hashed, principal
from hms_active_rooms.serve.problems import strict_json

HEADER: Final = "mcp-session-id"
KEY: Final = "hms_active_rooms.mcp_sessions"  # in an ASGI scope: `Sessions` and the session's tag

CONNECTIONS: Final = "hms_active_rooms.connections"
"""In an ASGI scope: a function that returns the names of open connections, by client address."""

NO_MESSAGE: Final = (
    "The body is no JSON-RPC message, has a key twice, or has an id that is neither an integer nor "
    "a text. Nothing was executed. Send each call by itself, not in a list."
)
TWICE: Final = (
    "An earlier request with this id is still open in this session. Nothing was executed for the "
    "new request. Send it again with another id."
)
MOST_OPEN: Final = 10_000  # open requests to remember, the newest ones; our choice
IDLE_S: Final = 30 * 60.0  # how long a session lasts after its last request


@dataclass(eq=False)
class Sessions:
    """ASGI middleware that records when each MCP session was last used. It refuses a request if another
    open request of the session has the same id."""

    app: ASGIApp
    versions: Collection[str]
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, float] = field(default_factory=dict, init=False)
    _open: dict[tuple[str, bytes], None] = field(default_factory=dict, init=False)

    def used(self, tag: str) -> None:
        """Record that a session is used now. `tag` is the start of the hash of the session's id."""
        if tag not in self._seen:
            self._end([each for each in self._seen if not self.may_live(each)])
        self._seen[tag] = self.clock()

    def may_live(self, tag: str) -> bool:
        """Whether session `tag` was used in the last 30 minutes, and its client did not end it."""
        return self.clock() - self._seen.get(tag, -IDLE_S) < IDLE_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        session, version = headers.get(HEADER, ""), headers.get("mcp-protocol-version")
        has_one = session and (version is None or version in self.versions)
        # Only a hash of the id is stored, since whoever knows the id can use the session.
        tag = hashed(session).hex()[:8] if has_one else ""
        scope[KEY] = (self, tag)
        number, wrong = None, ""
        if scope["method"] == "POST":
            first = await receive()  # the guard passes the whole body in one message
            receive = handing_on(first, receive)
            number, wrong = request_id(first.get("body", b""))
        mine = tag, hashed(str(number))
        if wrong or (number is not None and mine in self._open):
            error = {"code": -32600, "message": wrong or TWICE}
            answer = {"jsonrpc": "2.0", "id": number, "error": error}
            await JSONResponse(answer, 400)(scope, receive, send)
            return
        if not tag or scope["method"] not in ("POST", "DELETE"):
            await self.app(scope, receive, send)
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
        await self.app(scope, receive, noted)
        if scope["method"] == "DELETE":
            self._end([tag])

    def _end(self, tags: Collection[str]) -> None:
        for tag in tags:
            self._seen.pop(tag, None)
        self._open = {key: None for key in self._open if key[0] not in tags}


@dataclass(frozen=True)
class Caller:
    """The program that makes a tool call.

    Args:
        channel: the interface, the token's name and the program's name, such as "mcp:claude".
        requester: the same, often with session and server, such as "mcp:claude#3f2a91".
        key: the idempotency key; "" for none.
        token: the token's name.
        is_mine: tells whether another requester is the same caller.
    """

    channel: str  # "mcp:claude" or "rest:ada"; a repeated call is looked for only in its channel
    requester: str  # who asks, as the journal records it ("mcp:claude#3f2a91")
    key: str = ""
    token: str = ""
    is_mine: Callable[[str], bool] = field(default=lambda _: True, compare=False)

    @property
    def thread(self) -> str:
        """The name under which the journal groups this caller's actions."""
        return OUTSIDE + self.channel


def threads_of(token: str) -> tuple[str, ...]:
    """Return two texts about the programs that use one token: the thread (`Caller.thread`) of their REST
    calls, and the text with which the thread of each of their MCP clients begins. `token` is the token's
    name, not the token itself; "" if it has no name, or if no token is needed."""
    name = f":{token}" if token else ""
    return f"{OUTSIDE}rest{name}", f"{OUTSIDE}mcp{name}:"


def caller(way: str, name: str, request: Request | None, key: str = "") -> Caller:
    """Return the caller of a request.

    Args:
        way: "mcp" or "rest".
        name: the name that the program gave itself, in one word; "" for none.
        request: None over stdio.
        key: the idempotency key; "" for none.
    """
    world, _, process = this_worker().rpartition(":")
    kind = hashed(world).hex()[:4]
    place = here = f"{process}.{kind}"
    token, live, sessions = "", frozenset[str](), None
    if request:
        who = principal(request.scope)
        sessions, tag = request.scope.get(KEY, (None, ""))
        if not tag and who == Principal() and CONNECTIONS in request.scope:
            names = request.scope[CONNECTIONS]()
            tag, live = names.get(request.client, ""), frozenset(names.values())
        token, place = who.name, tag and f"{tag}/{here}"
    channel = ":".join(filter(None, (way, token, name)))
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


def request_id(body: bytes) -> tuple[int | str | None, str]:
    """Return the id of a JSON-RPC message, and "". The id is None if the message is no request. A refused
    message gives None and the reason."""
    try:
        message = strict_json(body)
        known = jsonrpc_message_adapter.validate_json(body, by_name=False)  # as the SDK does
    except ValueError:
        return None, NO_MESSAGE
    if isinstance(known, JSONRPCRequest):
        return known.id, ""
    odd = isinstance(known, JSONRPCNotification) and isinstance(message, dict) and "id" in message
    return None, NO_MESSAGE if odd else ""
