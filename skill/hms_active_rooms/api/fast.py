"""The aiohttp transport, with more than twice as many calls per second as httpx. It needs the extra
`fast`, so it is imported only if somebody chooses aiohttp."""

from __future__ import annotations

import ssl
from base64 import b64encode
from functools import lru_cache, partial
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

import aiohttp
from pydantic import SecretStr
from yarl import URL

from hms_active_rooms.api import wire
from hms_active_rooms.api.transport import REASONS

_AIOHTTP: Final = wire.Library(
    errors=(aiohttp.ClientError, OSError),
    not_sent=(
        aiohttp.ClientConnectorError,
        aiohttp.ConnectionTimeoutError,
        aiohttp.ClientHttpProxyError,
        aiohttp.ServerFingerprintMismatch,
        aiohttp.InvalidURL,
    ),
    late=TimeoutError,
    reasons=(
        *REASONS,
        (aiohttp.ConnectionTimeoutError, "no connection was made in time"),
        (aiohttp.ClientHttpProxyError, "the proxy refused the connection"),
    ),
)


class AiohttpPool:
    """Sends requests with aiohttp, for one client on one event loop. `max_bytes` is the size of the largest
    body that is read."""

    def __init__(
        self, timeouts: wire.Timeouts, max_bytes: int, tls: ssl.SSLContext, proxy: str | None
    ) -> None:
        self._proxy = _through(proxy) if proxy else {}
        self._max_bytes = max_bytes
        of_write = min(timeouts.pool_s, wire.WRITE_POOL_S)
        self._timeout = {  # the key is `request.reads`
            reads: aiohttp.ClientTimeout(
                connect=wait_s + timeouts.connect_s,
                sock_connect=timeouts.connect_s,
                sock_read=timeouts.read_s,
            )
            for reads, wait_s in ((True, timeouts.pool_s), (False, of_write))
        }
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=wire.MAX_CONNECTIONS, keepalive_timeout=wire.KEEP_ALIVE_S, ssl=tls
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=["Content-Type"],
            auto_decompress=False,
        )

    async def send(self, request: wire.Request, token: SecretStr) -> wire.Answer:
        request.sent = True  # too early, since it is slow to find out the moment
        return await wire.receive(self._exchange(request, token), _AIOHTTP)

    async def _exchange(self, request: wire.Request, token: SecretStr) -> wire.Answer:
        response = await self._session.request(
            request.method,
            _url(request.url),
            data=request.body,
            headers=request.headers(token),
            timeout=self._timeout[request.reads],
            allow_redirects=False,
            **self._proxy,
        )
        status, headers = response.status, response.headers
        try:
            chunks = response.content.iter_any()
            return await wire.answer(status, headers, chunks, self._max_bytes, _AIOHTTP)
        finally:
            response.close()  # a connection that was read to the end is back in the pool already

    async def aclose(self) -> None:
        await self._session.close()


def _through(proxy: str) -> dict[str, Any]:
    """aiohttp's arguments for a request through a proxy. The login goes into a header, since aiohttp
    refuses some characters of a login in a URL, and encodes others in Latin-1."""
    parts = urlsplit(proxy)
    login, _, host = parts.netloc.rpartition("@")
    name, _, password = login.partition(":")
    basic = b64encode(unquote_to_bytes(name) + b":" + unquote_to_bytes(password)).decode()
    headers = {"Proxy-Authorization": f"Basic {basic}"} if login else None
    return {"proxy": parts._replace(netloc=host).geturl(), "proxy_headers": headers}


_url: Final = lru_cache(maxsize=256)(partial(URL, encoded=True))
