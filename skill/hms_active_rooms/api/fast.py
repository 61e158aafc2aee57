"""The aiohttp transport (extra `fast`): several times the throughput with many calls at once.

Imported only when asked for. Its adapter reports a connection that broke after the
request was sent as a connect timeout, which would make a write look as if it had
never been executed. So what happened is read from aiohttp's own exception here.
"""

from __future__ import annotations

from typing import Final

import aiohttp
from httpx_aiohttp import HttpxAiohttpClient

from hms_active_rooms.api.retry import Cause

Client = HttpxAiohttpClient

ERRORS: Final = (aiohttp.ClientError,)
"""What aiohttp raises besides what its adapter translates."""

# Raised while a connection is made, before a byte of the request.
_NOT_SENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
)


def cause_of(error: BaseException) -> Cause:
    """What happened, by the aiohttp exception in the chain; "cut_off" when there is none."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__
    if any(isinstance(link, _NOT_SENT) for link in chain):
        return "not_sent"
    return "timeout" if any(isinstance(link, TimeoutError) for link in chain) else "cut_off"
