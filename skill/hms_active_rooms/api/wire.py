"""The parts of one HTTP exchange: request, answer, failures, limits. Also reads an answer's body."""

from __future__ import annotations

import asyncio
import gzip
import io
import math
import zlib
from collections.abc import AsyncIterable, Awaitable, Mapping
from dataclasses import dataclass, fields
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from hms_active_rooms import __version__
from hms_active_rooms.api.address import environment_proxy
from hms_active_rooms.errors import (
    ApiError,
    BadResponse,
    ConfigurationError,
    ConnectionFailed,
    TimedOut,
)

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024  # a list of 20,000 peers (a full room) has about 6 MB
# An idle connection is closed before servers close it (often after 5 s). If a server closed it while a
# write is sent, nobody would know whether the write was executed.
KEEP_ALIVE_S: Final = 3.0
MAX_CONNECTIONS: Final = 100
WRITE_POOL_S: Final = 1.0  # how long a write waits for a connection: the room may change meanwhile

WEB_PAGE: Final = "the answer is a web page, so it is probably not from 100ms"
ALL_BUSY: Final = f"all {MAX_CONNECTIONS} connections of this program were in use"


def seconds(name: str, given: object) -> float:
    """Return `given` as a float. If it is no number above 0, raise ConfigurationError that shows `name`."""
    if not isinstance(given, int | float) or given is True or not 0 < given < math.inf:
        raise ConfigurationError(f"{name} must be a number of seconds above 0.")
    return float(given)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How many seconds each step of one request may take.

    Args:
        connect_s: to connect, with TLS.
        read_s: until the next piece of the answer comes.
        write_s: until the next piece of the request is sent (only with httpx).
        pool_s: until a connection is free. A write waits at most 1 second for that.
    """

    connect_s: float = 5.0
    read_s: float = 12.0
    write_s: float = 12.0
    pool_s: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            seconds(field.name, getattr(self, field.name))


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often, and how fast, a failed read is sent again.

    Args:
        attempts: the most requests, the first one included.
        base_s: the longest wait before the second request. It doubles each time. The wait is random.
        cap_s: the longest wait before any request. A wait that the server asks for is added.
    """

    attempts: int = 4
    base_s: float = 0.5
    cap_s: float = 8.0

    def ceiling_s(self, attempt: int) -> float:
        """Return the longest random wait in seconds after an attempt. The first has the number 1."""
        return min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 64))


@dataclass(slots=True)
class Request:
    """One request, without the token.

    Args:
        url: percent-encoded.
        body: JSON, or None.
        sent: true if a byte of a write may have left this machine. For a read, it may stay false.
    """

    method: str
    url: str
    body: bytes | None
    sent: bool = False

    @property
    def reads(self) -> bool:
        """Whether this is a GET, which changes nothing. Any other request is a write."""
        return self.method == "GET"

    @property
    def origin(self) -> str:
        """The scheme, host and port, and a note if a proxy is used. For error texts."""
        parts = urlsplit(self.url)
        way = ", through the proxy that the environment sets (HTTPS_PROXY or ALL_PROXY)"
        return f"{parts.scheme}://{parts.netloc}{way if environment_proxy(self.url) else ''}"

    def headers(self, token: SecretStr) -> dict[str, str]:
        return {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Cache-Control": "no-cache",
            "User-Agent": f"hms-active-rooms/{__version__}",
            "Authorization": f"Bearer {token.get_secret_value()}",
            **({} if self.body is None else {"Content-Type": "application/json"}),
        }


class Answer(NamedTuple):
    """An HTTP answer with the decompressed body. Look headers up by their names in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Unusable(Exception):
    """Raised if no usable answer came to a request.

    Args:
        kind: the class of the error that the client raises then.
        reason: a part of that error's text. It never holds the token.
        again: whether another attempt may help.
    """

    def __init__(self, kind: type[ApiError], reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.kind, self.again = kind, again


def contradiction(reason: str) -> Unusable:
    """Return an Unusable with the text `reason`. Its `again` is False: another attempt would not help."""
    return Unusable(BadResponse, reason, again=False)


class Pool(Protocol):
    """The connections of one client on one event loop."""

    async def send(self, request: Request, token: SecretStr) -> Answer:
        """Send one request and return the answer, whatever its status. Raises Unusable if none came."""

    async def aclose(self) -> None: ...


class Library(NamedTuple):
    """The exceptions of an HTTP library, such as httpx.

    Args:
        errors: all that it raises.
        not_sent: those raised before a byte of the request has left.
        late: the one for a timeout.
        reasons: pairs of an exception and our words for why no connection could be made.
    """

    errors: tuple[type[BaseException], ...]
    not_sent: tuple[type[BaseException], ...]
    late: type[BaseException]
    reasons: tuple[tuple[type[BaseException], str], ...]


async def receive(exchange: Awaitable[Answer], library: Library) -> Answer:
    """Await `exchange` and return its answer. Raises Unusable in place of the exceptions in `library`."""
    try:
        return await exchange
    except asyncio.CancelledError as cancelled:
        # The frames of the traceback hold the request with its token.
        raise cancelled.with_traceback(None) from None
    except library.not_sent as error:
        link: BaseException | None = error
        for _ in range(10):
            for kind, reason in library.reasons:
                if isinstance(link, kind):
                    raise Unusable(ConnectionFailed, reason) from None
            link = link and (link.__cause__ or link.__context__)
        raise Unusable(ConnectionFailed, "no connection could be made") from None
    except library.errors as error:
        if isinstance(error, library.late):
            raise Unusable(TimedOut, "no answer came in time") from None
        reason = "the connection was lost before the answer was whole"
        raise Unusable(BadResponse, reason) from None


async def answer(
    status: int,
    headers: Mapping[str, str],
    chunks: AsyncIterable[bytes],
    limit: int,
    library: Library,
) -> Answer:
    """Make the answer of a request from status, headers and the pieces of its body.

    Args:
        status: the HTTP status. If it is not 2xx, a body that cannot be read counts as empty.
        headers: names in lower case, or a mapping that ignores case.
        chunks: the pieces of the body, perhaps compressed.
        limit: the most bytes of the body.
        library: the exceptions of the HTTP library. If the status is 2xx, they are not caught.

    Raises:
        Unusable: the status is 2xx, and the body is too large or cannot be decompressed.
    """
    coding = headers.get("content-encoding")
    lost: tuple[type[BaseException], ...] = (*library.errors, Unusable)
    try:
        return Answer(status, await _body(coding, chunks, limit), headers)
    except lost:
        # An error status is useful even if the body is lost.
        if 200 <= status < 300:
            raise
        return Answer(status, b"", headers)


async def _body(given: str | None, chunks: AsyncIterable[bytes], limit: int) -> bytes:
    codings = {coding.strip() for coding in (given or "").lower().split(",")} - {"identity", ""}
    if not codings <= {"gzip", "x-gzip"} or len(codings) > 1:
        raise Unusable(BadResponse, "the answer is compressed in a way we did not ask for")
    too_large = contradiction(f"the answer is larger than {limit} bytes")
    parts: list[bytes] = []
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        if received > limit:
            raise too_large
        parts.append(chunk)
    body = b"".join(parts)
    if codings and body:
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
                body = packed.read(limit + 1)
        except (EOFError, OSError, zlib.error):
            raise Unusable(BadResponse, "the answer cannot be decompressed") from None
        if len(body) > limit:
            raise too_large
    return body
