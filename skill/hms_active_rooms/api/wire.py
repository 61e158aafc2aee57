"""One HTTP exchange as values: what is sent, what comes back, and the limits in between."""

from __future__ import annotations

import ssl
import zlib
from collections.abc import AsyncIterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import SecretStr

from hms_active_rooms.api.retry import Cause, Effect
from hms_active_rooms.errors import ConfigurationError

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""A roster of 20,000 peers, the largest room, is about 6 MB."""

KEEP_ALIVE_S: Final = 3.0
"""Below the 5 s after which many servers close an idle connection: a write on a
connection that is just being closed ends as "may have been executed"."""

MAX_CONNECTIONS: Final = 100


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for one attempt; a call's deadline covers all attempts and waits together.

    Attributes:
        connect_s: to make a connection, TLS included.
        read_s: between two pieces of an answer. A read fits twice into the default deadline.
        write_s: between two pieces of a request.
        pool_s: for a free connection.
    """

    connect_s: float = 5.0
    read_s: float = 12.0
    write_s: float = 12.0
    pool_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for every exchange of one client; `proxy` is its URL."""

    timeouts: Timeouts
    tls: ssl.SSLContext
    proxy: str | None
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, without the token; the URL is percent-encoded, the body JSON or None."""

    method: str
    url: str
    body: bytes | None

    @property
    def effect(self) -> Effect:
        """A GET changes nothing."""
        return "read" if self.method == "GET" else "write"


@dataclass(slots=True)
class Flight:
    """How far a request got, readable while it is under way and after a cancellation."""

    sent: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: status, the headers we use, and the whole body, decompressed."""

    status: int
    body: bytes
    retry_after: str | None = None
    request_id: str | None = None
    date: str | None = None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No usable HTTP answer: why, and a text of ours for people."""

    cause: Cause
    reason: str


class Pool(Protocol):
    """The connections of one client on one event loop."""

    async def send(self, request: Request, token: SecretStr, flight: Flight) -> Answer | NoAnswer:
        """One exchange. What goes wrong comes back as a value: a library's exception holds
        the request with its Authorization header and would carry it into a log."""

    async def aclose(self) -> None:
        """Close the connections."""


async def whole_body(
    chunks: AsyncIterable[bytes], coding: str | None, max_bytes: int
) -> bytes | NoAnswer:
    """The body, decompressed by us: the libraries have no limit for what they inflate."""
    too_large = NoAnswer("too_large", f"its answer is larger than {max_bytes} bytes")
    coding = (coding or "identity").strip().lower()
    if coding not in ("identity", "", "gzip", "x-gzip"):
        return NoAnswer("malformed", "its answer is compressed in a way we did not ask for")
    packed = coding.endswith("gzip")
    inflate = zlib.decompressobj(wbits=31)
    parts: list[bytes] = []
    left, received = max_bytes, 0
    async for chunk in chunks:
        received += len(chunk)
        if received > max_bytes:
            return too_large
        while chunk:
            part, rest = chunk, b""
            if packed:
                if inflate.eof:  # gzip allows several members, one behind the other
                    inflate = zlib.decompressobj(wbits=31)
                try:
                    part, rest = inflate.decompress(chunk, left + 1), inflate.unused_data
                except zlib.error:
                    return NoAnswer("malformed", "its answer cannot be decompressed")
            left -= len(part)
            if left < 0 or inflate.unconsumed_tail:
                return too_large
            parts.append(part)
            chunk = rest
    if packed and received and not inflate.eof:
        return NoAnswer("cut_off", "its answer ended too early")
    return b"".join(parts)


def received(status: int, body: bytes | NoAnswer, headers: _Headers) -> Answer | NoAnswer:
    """The answer. Of a refusal the status says enough, should its words be lost."""
    if isinstance(body, NoAnswer):
        if 200 <= status < 300:
            return body
        body = b""
    get = headers.get
    return Answer(status, body, get("retry-after"), get("x-request-id"), get("date"))


class _Headers(Protocol):
    def get(self, key: str, /) -> str | None: ...


def no_answer(cause: Cause, error: BaseException, not_sent: Reasons) -> NoAnswer:
    """The text is ours: the library's own may quote hosts, proxies or headers."""
    if cause == "timeout":
        return NoAnswer(cause, "no answer in time")
    if cause == "cut_off":
        return NoAnswer(cause, "the connection was lost before the answer was whole")
    links = chain(error)
    for kind, reason in not_sent:
        if any(isinstance(link, kind) for link in links):
            return NoAnswer(cause, reason)
    return NoAnswer(cause, "no connection could be made")


Reasons = tuple[tuple[type[BaseException], str], ...]


def chain(error: BaseException) -> list[BaseException]:
    """The error and what it came from."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def environment_proxy(base_url: str) -> str | None:
    """The proxy that the environment names for this address.

    Raises:
        ConfigurationError: it is none; its URL is not shown, since it may hold a password.
    """
    parts = urlsplit(base_url)
    found = getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        usable = urlsplit(proxy).hostname and urlsplit(proxy).port != 0
    except ValueError:
        usable = False
    if usable and urlsplit(proxy).scheme in ("http", "https", "socks5", "socks5h"):
        return proxy
    raise unusable_proxy()


def unusable_proxy() -> ConfigurationError:
    """The error for a proxy that a transport cannot use."""
    return ConfigurationError(
        "A proxy of the environment cannot be used.",
        hint="Look at HTTPS_PROXY, HTTP_PROXY and ALL_PROXY.",
    )


Kind = Literal["httpx", "aiohttp"]


@cache
def user_agent() -> str:
    """Name and version."""
    try:
        return f"hms-active-rooms/{metadata.version('hms-active-rooms')}"
    except metadata.PackageNotFoundError:
        return "hms-active-rooms/0"
