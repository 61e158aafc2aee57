"""The aiohttp transport (extra `fast`): more than twice the calls a second of the default.

Imported only when asked for.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from pydantic import SecretStr
from yarl import URL

from hms_active_rooms.api.retry import Cause
from hms_active_rooms.api.transport import REASONS
from hms_active_rooms.api.wire import (
    KEEP_ALIVE_S,
    MAX_CONNECTIONS,
    Answer,
    Flight,
    Limits,
    NoAnswer,
    Reasons,
    Request,
    chain,
    no_answer,
    received,
    unusable_proxy,
    user_agent,
    whole_body,
)

_ERRORS: Final = (aiohttp.ClientError, OSError)

# Raised while a connection is made, before a byte of the request.
_NOT_SENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
)
_REASONS: Final[Reasons] = (
    *REASONS,
    (aiohttp.ConnectionTimeoutError, "no connection in time"),
    (aiohttp.ClientHttpProxyError, "the proxy refused the connection"),
)


class AiohttpPool:
    """Connections of aiohttp."""

    def __init__(self, limits: Limits) -> None:
        if limits.proxy and urlsplit(limits.proxy).scheme not in ("http", "https"):
            raise unusable_proxy()
        self._proxy = limits.proxy
        self._max_bytes = limits.max_bytes
        times = limits.timeouts
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S, ssl=limits.tls
            ),
            timeout=aiohttp.ClientTimeout(
                connect=times.pool_s + times.connect_s,
                sock_connect=times.connect_s,
                sock_read=times.read_s,
            ),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": user_agent(),
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=["Content-Type"],
            auto_decompress=False,
        )

    async def send(self, request: Request, token: SecretStr, flight: Flight) -> Answer | NoAnswer:
        """See `Pool`."""
        flight.sent = True  # it may be, and aiohttp says so only when asked at every step
        try:
            return await self._exchange(request, token)
        except asyncio.CancelledError as cancelled:
            # The frames below hold the Authorization header.
            raise cancelled.with_traceback(None) from None
        except _ERRORS as error:
            return _failed(error)

    async def _exchange(self, request: Request, token: SecretStr) -> Answer | NoAnswer:
        response = await self._session.request(
            request.method,
            _url(request.url),
            data=request.body,
            headers={
                "Authorization": f"Bearer {token.get_secret_value()}",
                **({"Content-Type": "application/json"} if request.body is not None else {}),
            },
            allow_redirects=False,
            proxy=self._proxy,
        )
        body: bytes | NoAnswer
        try:
            coding = response.headers.get("Content-Encoding")
            body = await whole_body(response.content.iter_any(), coding, self._max_bytes)
        except _ERRORS as error:
            body = _failed(error)
        finally:
            response.close()  # one that was read whole is back in the pool already
        return received(response.status, body, response.headers)

    async def aclose(self) -> None:
        """See `Pool`."""
        await self._session.close()


@lru_cache(maxsize=256)
def _url(url: str) -> URL:
    return URL(url, encoded=True)


def _failed(error: BaseException) -> NoAnswer:
    links = chain(error)
    cause: Cause = "cut_off"
    if any(isinstance(link, _NOT_SENT) for link in links):
        cause = "not_sent"
    elif any(isinstance(link, TimeoutError) for link in links):
        cause = "timeout"
    return no_answer(cause, error, _REASONS)
