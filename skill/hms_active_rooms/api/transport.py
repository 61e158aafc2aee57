"""The default transport: httpx. No other module imports httpx.

Proxies and CA bundles come from the environment (HTTPS_PROXY, SSL_CERT_FILE). A request to this
machine uses no proxy, since over plain http the proxy would see the token. Redirects are not
followed, and .netrc is not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, Final, Literal

import httpx
from pydantic import SecretStr

from hms_active_rooms.api import wire
from hms_active_rooms.api.address import environment_proxy, is_local, unusable_proxy
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.installing import extra

# For tests: httpx's MockTransport or ASGITransport, or one of your own.
CustomTransport = httpx.AsyncBaseTransport
TransportChoice = Literal["httpx", "aiohttp"] | CustomTransport

REASONS: Final = (
    (ssl.SSLCertVerificationError, "the server's certificate is not trusted"),
    (ssl.SSLError, "no secure connection could be made"),
    (socket.gaierror, "the host's name could not be resolved"),
    (ConnectionRefusedError, "the connection was refused"),
)
_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)
_HTTPX: Final = wire.Library(
    errors=_ERRORS,
    not_sent=(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError),
    late=httpx.TimeoutException,
    reasons=(
        *REASONS,
        (httpx.PoolTimeout, wire.ALL_BUSY),
        (httpx.ConnectTimeout, "no connection was made in time"),
        (httpx.ProxyError, "the proxy refused the connection"),
    ),
)

_BEGIN_BYTES: Final = 1000  # how much of an answer `post_once` reads


def pools(
    choice: TransportChoice, base_url: str, timeouts: wire.Timeouts, max_bytes: int
) -> Callable[[], wire.Pool]:
    """Return a function that makes a connection pool on the running event loop. The function, or `pools`
    itself, raises ConfigurationError if the transport, the CA bundle or the proxy cannot be used."""
    if isinstance(choice, httpx.AsyncBaseTransport):
        return lambda: HttpxPool(timeouts, max_bytes, choice)
    tls = _tls(not is_local(base_url))  # reads files, which must not block an event loop
    if choice == "aiohttp":
        with extra("fast", "transport aiohttp", "aiohttp", "yarl"):
            from hms_active_rooms.api.fast import AiohttpPool
        return lambda: AiohttpPool(timeouts, max_bytes, tls, environment_proxy(base_url))
    if choice == "httpx":
        return lambda: HttpxPool(timeouts, max_bytes, _connections(tls, base_url))
    raise ConfigurationError(
        'The transport must be "httpx", "aiohttp" or an object of the type httpx.AsyncBaseTransport.'
    )


def to_app(app: Any) -> CustomTransport:
    """Return an httpx transport that calls the ASGI application `app` directly, without a network."""
    return httpx.ASGITransport(app)


async def post_once(url: str, headers: Mapping[str, str], body: bytes, within_s: float) -> str:
    """Send one POST with JSON to a server other than 100ms, without a 100ms token. Return "" if the server
    accepted the message, else why not."""
    took = False
    try:
        async with asyncio.timeout(within_s):
            tls = await asyncio.to_thread(_tls, not is_local(url))
            async with _connections(tls, url) as connections:
                message = httpx.Request("POST", url, headers=headers, content=body)
                response = await connections.handle_async_request(message)
                took = response.is_success  # also if its body does not end
                said = (await anext(response.aiter_bytes(_BEGIN_BYTES), b"")).lower().lstrip()
                await response.aclose()
    except (*_ERRORS, ValueError, ConfigurationError) as error:
        return "" if took else type(error).__name__
    # Slack's "ok" is of the type text/html, too. Teams sends its errors with the status 200.
    page = said.startswith(b"<") and b"html" in said
    if response.is_success and not page and b"teams endpoint returned http error" not in said:
        return ""
    return f"HTTP {response.status_code}{' with a web page, perhaps a login' if page else ''}"


class HttpxPool:
    """Sends requests with httpx. `send` raises Unusable if a 2xx answer has more than `max_bytes`."""

    def __init__(
        self, timeouts: wire.Timeouts, max_bytes: int, transport: httpx.AsyncBaseTransport
    ) -> None:
        # httpx.AsyncClient is slower, since it parses the URL and looks for cookies each time.
        self._transport = transport
        # A custom transport may not report its steps, so each of its requests counts as sent.
        self._reports = type(transport) is httpx.AsyncHTTPTransport
        self._max_bytes = max_bytes
        self._timeout = {
            "connect": timeouts.connect_s,
            "read": timeouts.read_s,
            "write": timeouts.write_s,
            "pool": timeouts.pool_s,
        }

    async def send(self, request: wire.Request, token: SecretStr) -> wire.Answer:
        timeout = dict(self._timeout)
        if not request.reads:
            timeout["pool"] = min(timeout["pool"], wire.WRITE_POOL_S)
        extensions: dict[str, Any] = {"timeout": timeout}
        request.sent = not self._reports
        if self._reports and not request.reads:

            async def trace(event: str, info: Mapping[str, Any]) -> None:
                if event.endswith("send_request_headers.started"):
                    request.sent = True

            extensions["trace"] = trace
        url, body = _url(request.url), request.body or b""
        length = {} if request.reads else {"Content-Length": str(len(body))}
        # With `content`, httpx would make these headers itself, but much more slowly.
        message = httpx.Request(
            request.method,
            url,
            headers={"Host": url.netloc.decode(), **request.headers(token), **length},
            stream=httpx.ByteStream(body),
            extensions=extensions,
        )
        message.read()  # a custom transport may use its `content`
        return await wire.receive(self._exchange(message), _HTTPX)

    async def _exchange(self, message: httpx.Request) -> wire.Answer:
        response = await self._transport.handle_async_request(message)
        status, chunks = response.status_code, response.stream
        headers = dict(response.headers.items())  # httpx searches a list for each header
        # A custom transport may have read the body already, for example to log it.
        if response.is_stream_consumed and not isinstance(chunks, httpx.ByteStream):
            chunks = httpx.ByteStream(response.content)
            headers.pop("content-encoding", None)
        assert isinstance(chunks, httpx.AsyncByteStream)
        try:
            return await wire.answer(status, headers, chunks, self._max_bytes, _HTTPX)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()


def _connections(tls: ssl.SSLContext, url: str) -> httpx.AsyncBaseTransport:
    # These errors may hold the proxy's URL, so the error below is not chained to them.
    with contextlib.suppress(ValueError, httpx.InvalidURL):
        return httpx.AsyncHTTPTransport(
            verify=tls,
            proxy=environment_proxy(url),
            limits=httpx.Limits(
                max_connections=wire.MAX_CONNECTIONS,
                max_keepalive_connections=20,
                keepalive_expiry=wire.KEEP_ALIVE_S,
            ),
        )
    raise unusable_proxy()


_url: Final = lru_cache(maxsize=256)(httpx.URL)


@cache
def _tls(use_environment: bool) -> ssl.SSLContext:
    """Make the TLS settings, once per process, since it takes 20 ms or more."""
    with contextlib.suppress(OSError):
        return httpx.create_ssl_context(trust_env=use_environment)
    raise ConfigurationError(
        "The CA bundle that the environment sets cannot be used.",
        hint="Check SSL_CERT_FILE and SSL_CERT_DIR.",
    )
