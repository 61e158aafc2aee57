"""One HTTP exchange: the only module that knows the HTTP library.

What can go wrong on the wire comes back as a value, never as an exception: the
library's exceptions hold the request with its Authorization header, and a chained
exception or a traceback with local variables would carry it into a log.

Proxies and CA bundles come from the environment (HTTPS_PROXY, SSL_CERT_FILE), as
people behind a company proxy expect, but not for a loopback address, where a proxy
would get the token in clear. Redirects are not followed, .netrc is not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import zlib
from collections.abc import Generator, Mapping
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Any, Final, Literal

import httpx
from pydantic import SecretStr

from hms_active_rooms.api.answers import Answer, NoAnswer
from hms_active_rooms.api.calls import Flight, Request
from hms_active_rooms.api.per_loop import PerLoop
from hms_active_rooms.api.retry import Cause
from hms_active_rooms.api.timeouts import Timeouts
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.installing import how_to_install

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""A roster of 20,000 peers, the largest room, is about 6 MB."""

KEEP_ALIVE_S: Final = 3.0
"""Below the 5 s after which many servers close an idle connection: a write on a
connection that is just being closed ends as "may have been executed"."""

_LIMITS: Final = httpx.Limits(
    max_connections=100, max_keepalive_connections=20, keepalive_expiry=KEEP_ALIVE_S
)

CustomTransport = httpx.AsyncBaseTransport
"""The seam for tests: httpx's MockTransport, ASGITransport or one of your own."""

TransportChoice = Literal["httpx", "aiohttp"] | CustomTransport


class Transport:
    """Connection pools of one client.

    Args:
        choice: "httpx", "aiohttp" (needs the extra `fast`), or an httpx transport.
        timeouts: for each step of an exchange.
        use_environment: whether proxies and CA bundles come from the environment.
        max_bytes: most bytes of an answer, after decompression.

    Raises:
        ConfigurationError: no such transport, its package is not installed, or the
            environment's CA bundle cannot be read.
    """

    def __init__(
        self,
        choice: TransportChoice,
        timeouts: Timeouts,
        *,
        use_environment: bool,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._choice = choice
        self._fast = _load_fast() if choice == "aiohttp" else None
        if isinstance(choice, str) and choice not in ("httpx", "aiohttp"):
            raise ConfigurationError('The transport must be "httpx" or "aiohttp".')
        self._timeout = httpx.Timeout(
            connect=timeouts.connect_s,
            read=timeouts.read_s,
            write=timeouts.write_s,
            pool=timeouts.pool_s,
        )
        self._use_environment = use_environment
        # Both read files, which an event loop must not wait for.
        self._tls, self._user_agent = _tls(use_environment), _user_agent()
        self._max_bytes = max_bytes
        self._errors: tuple[type[Exception], ...] = (
            httpx.HTTPError,
            httpx.InvalidURL,
            httpx.StreamError,
            OSError,
            *(self._fast.ERRORS if self._fast else ()),
        )
        self._clients = PerLoop(self._new_client)

    async def send(self, request: Request, token: SecretStr, flight: Flight) -> Answer | NoAnswer:
        """Send one request, once, and read its answer whole.

        Args:
            request: what to send.
            token: sent as bearer token.
            flight: is kept up to date with how far the request got.

        Raises:
            InvalidCall: the client is closed.
            ConfigurationError: a proxy of the environment cannot be used.
        """
        async with self._clients.use() as client:
            return await self._send(client, request, token, flight)

    async def _send(
        self, client: httpx.AsyncClient, request: Request, token: SecretStr, flight: Flight
    ) -> Answer | NoAnswer:
        # Only httpx itself reports its steps; of the others the worst is assumed.
        flight.sent = self._choice != "httpx"
        message = client.build_request(
            request.method,
            request.url,
            params=request.query or None,
            content=request.body,
            headers={"Content-Type": "application/json"} if request.body is not None else None,
            extensions={"trace": _Progress(flight)},
        )
        try:
            return await self._exchange(client, message, token)
        except asyncio.CancelledError as cancelled:
            # The frames below hold the request with its header.
            raise cancelled.with_traceback(None) from None
        except self._errors as error:
            cause = self._cause(error)
            return NoAnswer(cause, _reason(cause, error))

    async def aclose(self) -> None:
        """Close all connections and refuse further requests. May be called twice.

        A request on its way is not broken off: the last one closes the connections.
        """
        await self._clients.aclose()

    async def _exchange(
        self, client: httpx.AsyncClient, message: httpx.Request, token: SecretStr
    ) -> Answer | NoAnswer:
        response = await client.send(
            message, stream=True, auth=_Bearer(token), follow_redirects=False
        )
        body: bytes | NoAnswer
        try:
            body = await self._body(response)
        except self._errors as error:
            cause = self._cause(error)
            body = NoAnswer(cause, _reason(cause, error))
        finally:
            await response.aclose()
        if isinstance(body, NoAnswer):
            if response.is_success:
                return body
            # The status alone says that it was refused; only the server's words are lost.
            body = b""
        headers = response.headers
        return Answer(
            response.status_code, body, headers.get("retry-after"), headers.get("x-request-id")
        )

    async def _body(self, response: httpx.Response) -> bytes | NoAnswer:
        """The whole body, decompressed by us: httpx has no limit for what it inflates."""
        too_large = NoAnswer("too_large", f"its answer is larger than {self._max_bytes} bytes")
        if response.is_stream_consumed:  # a MockTransport's answer comes already read
            whole = response.content
            return whole if len(whole) <= self._max_bytes else too_large
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", "", "gzip", "x-gzip"):
            return NoAnswer("malformed", "its answer is compressed in a way we did not ask for")
        inflate = zlib.decompressobj(wbits=31) if coding in ("gzip", "x-gzip") else None
        parts: list[bytes] = []
        left, compressed = self._max_bytes, 0
        async for chunk in response.aiter_raw():
            compressed += len(chunk)
            try:
                part = inflate.decompress(chunk, left + 1) if inflate else chunk
            except zlib.error:
                return NoAnswer("malformed", "its answer cannot be decompressed")
            left -= len(part)
            if left < 0 or compressed > self._max_bytes or (inflate and inflate.unconsumed_tail):
                return too_large
            parts.append(part)
        if inflate and compressed and not inflate.eof:
            return NoAnswer("cut_off", "its answer ended too early")
        return b"".join(parts)

    def _cause(self, error: BaseException) -> Cause:
        if self._fast is not None:
            return self._fast.cause_of(error)  # type: ignore[no-any-return]
        before = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
        if isinstance(error, before):
            return "not_sent"
        return "timeout" if isinstance(error, httpx.TimeoutException) else "cut_off"

    def _new_client(self) -> httpx.AsyncClient:
        make = httpx.AsyncClient if self._fast is None else self._fast.Client
        custom = None if isinstance(self._choice, str) else self._choice
        # Not chained: such an error's text may hold the proxy's URL, and that a password.
        with contextlib.suppress(ImportError, ValueError, OSError, httpx.InvalidURL):
            client: httpx.AsyncClient = make(
                transport=custom,
                timeout=self._timeout,
                limits=_LIMITS,
                verify=self._tls,
                trust_env=self._use_environment,
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip",
                    "User-Agent": self._user_agent,
                },
            )
            return client
        raise ConfigurationError(
            "A proxy of the environment cannot be used.",
            hint="Look at HTTPS_PROXY, HTTP_PROXY and ALL_PROXY.",
        )


class _Bearer(httpx.Auth):
    """Adds the token inside the library, so that no variable of ours holds it in clear."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        yield request


class _Progress:
    """httpx's trace hook: notes when the first byte of the request is about to leave."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith("send_request_headers.started"):
            self._flight.sent = True


@cache
def _tls(use_environment: bool) -> ssl.SSLContext:
    """Made once per process: it takes 20 ms and more."""
    with contextlib.suppress(OSError):
        return httpx.create_ssl_context(trust_env=use_environment)
    raise ConfigurationError(
        "The CA bundle of the environment cannot be used.",
        hint="Look at SSL_CERT_FILE and SSL_CERT_DIR.",
    )


@cache
def _user_agent() -> str:
    try:
        return f"hms-active-rooms/{metadata.version('hms-active-rooms')}"
    except metadata.PackageNotFoundError:
        return "hms-active-rooms/0"


def _load_fast() -> ModuleType:
    try:
        from hms_active_rooms.api import fast
    except ImportError:
        raise ConfigurationError(
            "The transport aiohttp is not installed.",
            hint=f"Install it: {how_to_install('fast')}.",
        ) from None
    return fast


_NOT_SENT_REASONS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (ssl.SSLCertVerificationError, "the server's certificate is not trusted"),
    (ssl.SSLError, "no secure connection could be made"),
    (socket.gaierror, "the host's name could not be resolved"),
    (ConnectionRefusedError, "the connection was refused"),
    (httpx.PoolTimeout, "all connections were busy"),
    (httpx.ConnectTimeout, "no connection in time"),
    (httpx.ProxyError, "the proxy refused the connection"),
)


def _reason(cause: Cause, error: BaseException) -> str:
    """A text of ours: the library's own may quote hosts, proxies or headers."""
    if cause == "timeout":
        return "no answer in time"
    if cause == "cut_off":
        return "the connection was lost before the answer was whole"
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in chain:
        chain.append(found)
        found = found.__cause__ or found.__context__
    for kind, reason in _NOT_SENT_REASONS:
        if any(isinstance(link, kind) for link in chain):
            return reason
    return "no connection could be made"
