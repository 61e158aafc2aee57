"""Two typed clients, async and sync, for the seven operations of the 100ms Active Rooms API."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import lru_cache, wraps
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypeVar, cast
from urllib.parse import quote, urlencode

from pydantic import SecretStr

from hms_active_rooms.api import answers
from hms_active_rooms.api import auth as auth_module
from hms_active_rooms.api.address import checked_base_url
from hms_active_rooms.api.answers import Reader
from hms_active_rooms.api.auth import TokenSource
from hms_active_rooms.api.ids import parse_peer_id, parse_room_id, shown
from hms_active_rooms.api.models import Acknowledgement, ActiveRoom, PeerDetails, Peers
from hms_active_rooms.api.per_loop import PerLoop
from hms_active_rooms.api.reading import read_done, read_peer, read_room, read_roster
from hms_active_rooms.api.wire import (
    MAX_ANSWER_BYTES,
    Backoff,
    Request,
    Timeouts,
    Unusable,
    seconds,
)
from hms_active_rooms.blocking import run
from hms_active_rooms.capability import Operation, capability
from hms_active_rooms.environment import one_of
from hms_active_rooms.errors import ApiError, ConfigurationError, InvalidCall, Unauthorized

if TYPE_CHECKING:
    from hms_active_rooms.api.transport import TransportChoice

T = TypeVar("T")
P = ParamSpec("P")

DEADLINE_S: Final = 30.0  # how long a whole call, with its retries and waits, may take by default


class ActiveRoomsClient:
    """A client for one 100ms account. Use one client for all calls: a new one sets up TLS again. Any
    number of event loops and threads can share a client.

    A wrong argument raises InvalidCall, and a wrong proxy in the environment raises ConfigurationError.
    In both cases nothing is sent. Any other failure raises an ApiError. Its `executed` says whether the
    request may have been executed.

    If a read fails for a reason that may pass, the client waits and repeats it. After a 401 it repeats
    the read at once, if `auth` has another token. It never repeats a write. Before you repeat a write,
    read the room: another session may run by then, and the write would change that session.

    Args:
        auth: gives the management token.
        base_url: the URL of the API. By default the URL in `capability.yaml`.
        timeouts: how long each step of one attempt may take.
        deadline_s: how many seconds a whole call, with its retries and waits, may take.
        transport: "httpx" (default), "aiohttp" (extra `fast`), or an httpx transport object.
        max_answer_bytes: the size of the largest answer that is read, after decompression.
        backoff: how often and how fast a failed read is sent again.
        sleep, rng, clock: tests replace `asyncio.sleep`, `random.random` and `time.time` by these.

    Raises ConfigurationError if a setting is wrong.
    """

    def __init__(
        self,
        auth: TokenSource,
        *,
        base_url: str | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        deadline_s: float = DEADLINE_S,
        transport: TransportChoice = "httpx",
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Imported here, since the HTTP library takes 0.1 s to load, and models do not need it.
        from hms_active_rooms.api.transport import pools

        url = capability().base_uri if base_url is None else base_url
        if not callable(getattr(auth, "token", None)):
            raise ConfigurationError(f"auth has to be a TokenSource, not {type(auth).__name__}.")
        # A wrong type would else raise a TypeError later, perhaps after a request was sent.
        for name, given, kind in (
            ("base_url", url, str),
            ("timeouts", timeouts, Timeouts),
            ("max_answer_bytes", max_answer_bytes, int),
            ("backoff", backoff, Backoff),
        ):
            if not isinstance(given, kind):
                raise ConfigurationError(
                    f"{name} has to be of the type {kind.__name__}, not {type(given).__name__}."
                )
        self.base_url = checked_base_url(url)
        self.deadline_s = seconds("deadline_s", deadline_s)
        self._pools = PerLoop(pools(transport, self.base_url, timeouts, max_answer_bytes))
        self._auth, self._backoff = auth, backoff
        self._sleep, self._rng, self._clock = sleep, rng, clock

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, transport: TransportChoice | None = None
    ) -> Self:
        """Make a client from environment variables. HMS_ACCESS_KEY and HMS_SECRET are needed, or
        HMS_MANAGEMENT_TOKEN. HMS_BASE_URL and HMS_TRANSPORT ("httpx" or "aiohttp") are optional.

        Args:
            environ: the variables; by default `os.environ`.
            transport: used in place of HMS_TRANSPORT.

        Raises:
            ConfigurationError: a variable is missing or wrong.
        """
        environ = os.environ if environ is None else environ
        url = environ.get("HMS_BASE_URL") or capability().base_uri
        chosen = one_of(environ, "HMS_TRANSPORT", "httpx", "aiohttp")
        return cls(
            auth_module.from_env(capability().token_variable, environ),
            base_url=checked_base_url(url, "HMS_BASE_URL"),
            transport=transport or ("aiohttp" if chosen == "aiohttp" else "httpx"),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections as soon as no request uses them. Later calls raise InvalidCall."""
        await self._pools.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r})"

    async def retrieve_active_room(self, room_id: str) -> ActiveRoom:
        """Return the room with its running session. Raises NotActive if nobody is in the room now."""
        return await self._call("retrieveactiveroom", room_id, read_room)

    async def list_peers(
        self, room_id: str, *, user_id: str | None = None, role: str | None = None
    ) -> Peers:
        """Return the connected peers in the API's order. A peer whose record cannot be read is left out, and
        counts in the result's `unreadable`.

        Args:
            room_id: the room.
            user_id: only peers with this user id; "" means any.
            role: only peers with this role; "" means any.

        Raises:
            NotActive: nobody is in the room now.
        """
        query = _texts(user_id=user_id or None, role=role or None)
        return await self._call("listpeers", room_id, read_roster, query=query)

    async def retrieve_peer(self, room_id: str, peer_id: str) -> PeerDetails:
        """Return the peer with this full id. Raises PeerNotFound, or NotActive if nobody is in the room."""
        return await self._call("retrievepeer", room_id, read_peer, peer_id=peer_id)

    async def update_peer(
        self,
        room_id: str,
        peer_id: str,
        *,
        name: str | None = None,
        role: str | None = None,
        metadata: str | None = None,
    ) -> PeerDetails:
        """Change a peer, and return the changed peer. None leaves a field as it is.

        Args:
            room_id: the room.
            peer_id: a full id.
            name: the new name; "" empties it.
            role: a role of the room's template. It applies at once, without the peer's consent.
            metadata: a text, by convention JSON, that replaces the old text; "" empties it.

        Raises:
            InvalidCall: nothing is to be changed, or `role` is "".
        """
        body = _texts(may_be_empty=("name", "metadata"), name=name, role=role, metadata=metadata)
        if not body:
            raise InvalidCall("There is nothing to change. Give name, role or metadata.")
        return await self._call("updatepeer", room_id, read_peer, body, peer_id=peer_id)

    async def send_message(
        self,
        room_id: str,
        message: str,
        *,
        peer_id: str | None = None,
        role: str | None = None,
        type: str | None = None,
    ) -> Acknowledgement:
        """Send a message to one peer, to a role, or else to everyone. 100ms documents a limit of 4 KB for its
        client SDKs only, so the size is not checked.

        Args:
            room_id: the room.
            message: the text.
            peer_id: a full id.
            role: everyone who has this role.
            type: apps show the type "chat" in their chat. Which type the API uses for None is not known.

        Raises:
            InvalidCall: both `peer_id` and `role` are given, or an argument is "".
        """
        body = _texts(message=message, role=role, type=type)
        if "message" not in body:
            raise InvalidCall("message must be a text.")
        if peer_id is not None and role is not None:
            raise InvalidCall("Give peer_id or role, not both.")
        body |= {} if peer_id is None else {"peer_id": parse_peer_id(peer_id)}
        return await self._call("sendmessage", room_id, read_done, body)

    async def remove_peers(
        self,
        room_id: str,
        *,
        peer_id: str | None = None,
        role: str | None = None,
        reason: str | None = None,
    ) -> Acknowledgement:
        """Remove one peer, or everyone who has a role. They leave a moment after the API's answer.

        Args:
            room_id: the room.
            peer_id: a full id.
            role: everyone who has this role.
            reason: shown to those who are removed.

        Raises:
            InvalidCall: both `peer_id` and `role` are given, or neither.
        """
        if (peer_id is None) == (role is None):
            raise InvalidCall("Give exactly one of peer_id and role.")
        body = _texts(role=role, reason=reason)
        body |= {} if peer_id is None else {"peer_id": parse_peer_id(peer_id)}
        return await self._call("removepeers", room_id, read_done, body)

    async def end_room(
        self, room_id: str, *, reason: str | None = None, lock: bool = False
    ) -> Acknowledgement:
        """End the running session for everyone. It ends a moment after the API's answer; until then a second
        call succeeds, too.

        Args:
            room_id: the room.
            reason: whether people see it is not known.
            lock: also disable the room, so that nobody can join until somebody enables it again.

        Raises:
            NotActive: no session runs.
        """
        if lock is not True and lock is not False:
            raise InvalidCall("lock must be true or false.")
        body: dict[str, object] = {**_texts(reason=reason), **({"lock": True} if lock else {})}
        return await self._call("endactiveroom", room_id, read_done, body)

    async def _call(
        self,
        name: str,
        room_id: str,
        read: Reader[T],
        body: Mapping[str, object] | None = None,
        *,
        query: Mapping[str, str] = MappingProxyType({}),
        peer_id: str | None = None,
    ) -> T:
        path = {"room_id": parse_room_id(room_id)}
        path |= {} if peer_id is None else {"peer_id": parse_peer_id(peer_id)}
        operation, place = _operation(name, **path)
        asked = f"?{urlencode(query, quote_via=quote)}" if query else ""
        request = Request(
            operation.method,
            f"{self.base_url}{place}{asked}",
            # 100ms answers 400 to a request without a body, so an empty body is sent as {}.
            json.dumps(body or {}).encode() if operation.has_body else None,
        )
        meant = {"peer_id": str(body["peer_id"])} if body and "peer_id" in body else {}
        timer = asyncio.timeout(self.deadline_s)
        outcome: T | ApiError
        try:
            async with timer:
                ids = {**meant, **path, **query, "operation": name}
                outcome = await self._attempts(request, read, ids, timer)
        except TimeoutError:
            if not timer.expired():
                raise
            outcome = answers.deadline_passed(self.deadline_s, request)
        # Raised here, outside any except block, so that no library exception is chained to ours.
        if isinstance(outcome, ApiError):
            raise outcome
        return outcome

    async def _attempts(
        self, request: Request, read: Reader[T], asked: Mapping[str, str], timer: asyncio.Timeout
    ) -> T | ApiError:
        attempt, refreshed = 1, False
        while True:
            token = cast(SecretStr, _token(self._auth))
            answered = None
            try:
                async with await self._pools.here() as pool:
                    answered = answers.without(token, await pool.send(request, token))
                if 200 <= answered.status < 300:
                    return answers.typed(answered, read, asked)
                error, again, wait = answers.refused(answered, request, self._clock())
            except Unusable as why:
                if answered is not None:  # this connection may have mixed up its answers
                    await self._pools.renew()
                error, again, wait = answers.unusable(why, request, answered)
            except ApiError as said:
                return said
            if isinstance(error, Unauthorized) and not refreshed:
                error.renewed = refreshed = _token(self._auth, token) is not None
                if refreshed and request.reads:
                    continue
            if not again or not request.reads or attempt >= self._backoff.attempts:
                return error
            # Never wait less than the server asks for.
            wait += self._rng() * self._backoff.ceiling_s(attempt)
            ends = timer.when() or math.inf
            if wait >= ends - asyncio.get_running_loop().time():
                return error  # the wait would end after the deadline
            attempt += 1
            await self._sleep(wait)


def _blocking(
    method: Callable[Concatenate[ActiveRoomsClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncActiveRoomsClient, P], T]:
    @wraps(method)
    def call(self: SyncActiveRoomsClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(method(self.client, *args, **kwargs))

    return call


class SyncActiveRoomsClient:
    """A client for synchronous code, with the same operations and errors as `ActiveRoomsClient`. It runs
    each call on an event loop in the background. `close` also closes `client`."""

    def __init__(self, client: ActiveRoomsClient) -> None:
        self.client = client

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Make a client as `ActiveRoomsClient.from_env` does. Raises ConfigurationError if a variable is
        missing or wrong."""
        return cls(ActiveRoomsClient.from_env(environ))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Later calls raise InvalidCall."""
        run(self.client.aclose)

    retrieve_active_room = _blocking(ActiveRoomsClient.retrieve_active_room)
    list_peers = _blocking(ActiveRoomsClient.list_peers)
    retrieve_peer = _blocking(ActiveRoomsClient.retrieve_peer)
    update_peer = _blocking(ActiveRoomsClient.update_peer)
    send_message = _blocking(ActiveRoomsClient.send_message)
    remove_peers = _blocking(ActiveRoomsClient.remove_peers)
    end_room = _blocking(ActiveRoomsClient.end_room)


@lru_cache(maxsize=256)  # a room is read again and again
def _operation(name: str, **path: str) -> tuple[Operation, str]:
    operation = capability().operation(name)
    return operation, operation.url_path(**path)


def _token(source: TokenSource, after: SecretStr | None = None) -> SecretStr | None:
    """Ask for a token or, if `after` is given, for a newer one. Raises Unauthorized in place of the
    source's own errors, and if it gives no SecretStr."""
    cause: Exception | None = None
    try:
        given: object = source.token() if after is None else source.refresh(after=after)
        if isinstance(given, SecretStr) or (given is None and after is not None):
            return given
        why = f"gave a value of the type {type(given).__name__}, not SecretStr"
    except Exception as error:  # noqa: BLE001 - each source has errors of its own
        why, cause = f"raised {type(error).__name__}", error
    raise Unauthorized(f"There is no token for 100ms: the token source {why}.") from cause


def _texts(*, may_be_empty: tuple[str, ...] = (), **values: str | None) -> dict[str, str]:
    given = {name: value for name, value in values.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, str):
            raise InvalidCall(f"{name} must be a text, not {shown(value)}.")
        if not value and name not in may_be_empty:
            raise InvalidCall(f"{name} must not be empty. If it is not needed, leave it out.")
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise InvalidCall(
                f"{name} has a broken character (a lone surrogate), which cannot be sent."
            )
    return given
