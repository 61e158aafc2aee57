"""The connections of httpx, which are httpcore's, without the client around them; used where no proxy
is between. What httpx builds around each request and answer takes as long as the exchange.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import httpcore
from pydantic import SecretStr

from hms_active_rooms.api import wire
from hms_active_rooms.api.transport import BUSY, KEPT_ALIVE, LATE, REASONS, named, reporting

_HTTPCORE: Final = wire.Library(
    errors=(
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.TimeoutException,
        httpcore.UnsupportedProtocol,
        OSError,
    ),
    not_sent=(httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout),
    late=httpcore.TimeoutException,
    reasons=(*REASONS, (httpcore.PoolTimeout, BUSY), (httpcore.ConnectTimeout, LATE)),
)


class DirectPool:
    """Connections of httpcore."""

    def __init__(self, timeouts: wire.Timeouts, max_bytes: int, tls: ssl.SSLContext) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            tls,
            max_connections=wire.MAX_CONNECTIONS,
            max_keepalive_connections=KEPT_ALIVE,
            keepalive_expiry=wire.KEEP_ALIVE_S,
        )
        self._max_bytes = max_bytes
        self._timeout = named(timeouts)

    async def send(self, request: wire.Request, token: SecretStr) -> wire.Answer:
        # No variable here holds the message: an error's traceback would show its header.
        return await wire.receive(self._exchange(self._message(request, token)), _HTTPCORE)

    def _message(self, request: wire.Request, token: SecretStr) -> httpcore.Request:
        headers: list[tuple[bytes | str, bytes | str]] = [("Host", urlsplit(request.url).netloc)]
        headers += request.headers(token).items()
        if request.body is not None:
            headers.append(("Content-Length", str(len(request.body))))
        return httpcore.Request(
            request.method,
            _url(request.url),
            headers=headers,
            content=request.body,
            extensions={"timeout": self._timeout, **reporting(request)},
        )

    async def _exchange(self, message: httpcore.Request) -> wire.Answer:
        response = await self._pool.handle_async_request(message)
        headers: dict[str, str] = {}
        for name, value in response.headers:
            key, text = name.decode("ascii").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        chunks = response.stream
        assert isinstance(chunks, AsyncIterable)
        try:
            return await wire.answer(response.status, headers, chunks, self._max_bytes, _HTTPCORE)
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self._pool.aclose()


_url: Final = lru_cache(maxsize=256)(httpcore.URL)
