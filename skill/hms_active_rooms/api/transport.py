"""The default transport: httpx. The only module that imports it.

Proxies and CA bundles come from the environment (HTTPS_PROXY, SSL_CERT_FILE), as
people behind a company proxy expect, but not for a loopback address, where a proxy
would get the token in clear. Redirects are not followed, .netrc is not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from hms_active_rooms.api.address import is_loopback
from hms_active_rooms.api.retry import Cause
from hms_active_rooms.api.wire import (
    KEEP_ALIVE_S,
    MAX_CONNECTIONS,
    Answer,
    Flight,
    Kind,
    Limits,
    NoAnswer,
    Pool,
    Reasons,
    Request,
    Timeouts,
    environment_proxy,
    no_answer,
    received,
    unusable_proxy,
    user_agent,
    whole_body,
)
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.installing import how_to_install

CustomTransport = httpx.AsyncBaseTransport
"""The seam for tests: httpx's MockTransport, ASGITransport or one of your own."""

TransportChoice = Kind | CustomTransport

_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)

REASONS: Final[Reasons] = (
    (ssl.SSLCertVerificationError, "the server's certificate is not trusted"),
    (ssl.SSLError, "no secure connection could be made"),
    (socket.gaierror, "the host's name could not be resolved"),
    (ConnectionRefusedError, "the connection was refused"),
)
_REASONS: Final[Reasons] = (
    *REASONS,
    (httpx.PoolTimeout, "all connections were busy"),
    (httpx.ConnectTimeout, "no connection in time"),
    (httpx.ProxyError, "the proxy refused the connection"),
)


def pools(
    choice: TransportChoice, base_url: str, timeouts: Timeouts, max_bytes: int
) -> Callable[[], Pool]:
    """What makes the connections of a client on a loop.

    Raises:
        ConfigurationError: no such transport, its package is not installed, or the
            environment's CA bundle cannot be read; by what is returned: its proxy.
    """
    remote = not is_loopback(urlsplit(base_url).hostname or "")
    tls = _tls(remote)  # reads files, which an event loop must not wait for

    def limits() -> Limits:
        return Limits(timeouts, tls, environment_proxy(base_url) if remote else None, max_bytes)

    user_agent()
    if choice == "aiohttp":
        try:
            from hms_active_rooms.api.fast import AiohttpPool
        except ImportError:
            raise ConfigurationError(
                "The transport aiohttp is not installed.",
                hint=f"Install it: {how_to_install('fast')}.",
            ) from None
        return lambda: AiohttpPool(limits())
    if choice == "httpx":
        return lambda: HttpxPool(limits())
    if isinstance(choice, str):
        raise ConfigurationError('The transport must be "httpx" or "aiohttp".')
    return lambda: HttpxPool(limits(), choice)


def to_app(app: Any) -> CustomTransport:
    """To an ASGI application in this process: nothing leaves it, and no port is opened."""
    return httpx.ASGITransport(app)


async def post_once(url: str, headers: Mapping[str, str], body: bytes, within_s: float) -> str:
    """Send one POST to a receiver that is not 100ms; "" or what went wrong, without the URL.

    A redirect is not followed, nothing is repeated, and of the answer only the status is read.

    Args:
        url: the receiver's.
        headers: the token of 100ms is not among them.
        body: JSON.
        within_s: for all of it, however slowly the receiver answers.
    """
    try:
        async with asyncio.timeout(within_s):
            connections = await asyncio.to_thread(_to, url)
            async with connections:
                message = httpx.Request("POST", url, headers=headers, content=body)
                response = await connections.handle_async_request(message)
                await response.aclose()
    except (*_ERRORS, ValueError, ConfigurationError) as error:
        return type(error).__name__
    return "" if response.is_success else f"HTTP {response.status_code}"


def _to(url: str) -> httpx.AsyncBaseTransport:
    remote = not is_loopback(urlsplit(url).hostname or "")
    proxy = environment_proxy(url) if remote else None
    return _connections(Limits(Timeouts(), _tls(remote), proxy, 0))


class HttpxPool:
    """Connections of httpx, or a transport that was given."""

    def __init__(self, limits: Limits, custom: CustomTransport | None = None) -> None:
        # Its client would parse the URL, look for cookies and copy headers at each call.
        self._transport = custom or _connections(limits)
        # Only httpx itself reports its steps; of another the worst is assumed.
        self._reports = custom is None
        self._max_bytes = limits.max_bytes
        times = limits.timeouts
        self._timeout = {
            "connect": times.connect_s,
            "read": times.read_s,
            "write": times.write_s,
            "pool": times.pool_s,
        }

    async def send(self, request: Request, token: SecretStr, flight: Flight) -> Answer | NoAnswer:
        """See `Pool`."""
        extensions: dict[str, Any] = {"timeout": self._timeout}
        flight.sent = not self._reports
        if self._reports and request.effect == "write":
            extensions["trace"] = _Progress(flight)
        message = httpx.Request(
            request.method,
            _url(request.url),
            headers=[
                ("Accept", "application/json"),
                ("Accept-Encoding", "gzip"),
                ("User-Agent", user_agent()),
                ("Authorization", f"Bearer {token.get_secret_value()}"),
                *([("Content-Type", "application/json")] if request.body is not None else ()),
            ],
            content=request.body,
            extensions=extensions,
        )
        try:
            return await self._exchange(message)
        except asyncio.CancelledError as cancelled:
            # The frames below hold the request with its header.
            raise cancelled.with_traceback(None) from None
        except _ERRORS as error:
            return _failed(error)

    async def _exchange(self, message: httpx.Request) -> Answer | NoAnswer:
        response = await self._transport.handle_async_request(message)
        stream, coding = response.stream, response.headers.get("content-encoding")
        if response.is_stream_consumed and not isinstance(stream, httpx.ByteStream):
            # A transport of somebody's own that has read it, to log it for instance.
            stream, coding = httpx.ByteStream(response.content), None
        assert isinstance(stream, httpx.AsyncByteStream)
        body: bytes | NoAnswer
        try:
            body = await whole_body(stream, coding, self._max_bytes)
        except _ERRORS as error:
            body = _failed(error)
        finally:
            await response.aclose()
        return received(response.status_code, body, response.headers)

    async def aclose(self) -> None:
        """See `Pool`."""
        await self._transport.aclose()


def _connections(limits: Limits) -> httpx.AsyncBaseTransport:
    # Not chained: such an error's text may hold the proxy's URL.
    with contextlib.suppress(ImportError, ValueError, httpx.InvalidURL):
        return httpx.AsyncHTTPTransport(
            verify=limits.tls,
            proxy=limits.proxy,
            limits=httpx.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=20,
                keepalive_expiry=KEEP_ALIVE_S,
            ),
        )
    raise unusable_proxy()


def _failed(error: Exception) -> NoAnswer:
    cause: Cause = "cut_off"
    if isinstance(error, _NOT_SENT):
        cause = "not_sent"
    elif isinstance(error, httpx.TimeoutException):
        cause = "timeout"
    return no_answer(cause, error, _REASONS)


class _Progress:
    """httpx's trace hook: notes when the first byte of the request is about to leave."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith("send_request_headers.started"):
            self._flight.sent = True


_url: Final = lru_cache(maxsize=256)(httpx.URL)


@cache
def _tls(use_environment: bool) -> ssl.SSLContext:
    """Made once per process: it takes 20 ms and more."""
    with contextlib.suppress(OSError):
        return httpx.create_ssl_context(trust_env=use_environment)
    raise ConfigurationError(
        "The CA bundle of the environment cannot be used.",
        hint="Look at SSL_CERT_FILE and SSL_CERT_DIR.",
    )
