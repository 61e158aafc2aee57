"""One HTTP exchange as values: the request, the answer, what can go wrong, the limits."""

from __future__ import annotations

import asyncio
import gzip
import io
import zlib
from collections.abc import AsyncIterable, Awaitable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from hms_active_rooms import __version__
from hms_active_rooms.errors import ApiError, BadResponse, ConnectionFailed, Executed, TimedOut

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""The list of 20,000 peers (the largest room) has about 6 MB."""

KEEP_ALIVE_S: Final = 3.0
"""Below the 5 s after which many servers close an idle connection: if the server closes it while a
write is sent, the write may or may not have been executed."""

MAX_CONNECTIONS: Final = 100


class Cause(NamedTuple):
    """What follows from a failure: its error, whether a write was executed, whether a read is sent
    again.

    A read executes nothing, whatever happens. 100ms documents no idempotency key, so a write that
    may have been executed is never sent a second time. Nor is a write that surely was not executed
    sent again after a wait: the room may change meanwhile, and only the caller can read the room. A
    write is repeated in one case only: after a 401, at once, with a new token.
    """

    error: type[ApiError]
    write: Executed
    read_again: bool


NOT_SENT: Final = Cause(ConnectionFailed, "no", True)
TIMEOUT: Final = Cause(TimedOut, "maybe", True)
CUT_OFF: Final = Cause(BadResponse, "maybe", True)
"""The answer was cut off or is no JSON: the same request, sent again, may bring a whole one."""
CONTRADICTS: Final = Cause(BadResponse, "maybe", False)
"""The answer does not fit the request, is too large, or redirects. A second one would do so too."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for one attempt: to connect (with TLS), between two pieces of the answer or request,
    for a free connection. The default deadline leaves time for one retry of a read."""

    connect_s: float = 5.0
    read_s: float = 12.0
    write_s: float = 12.0
    pool_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often a failed read is sent again, and how fast.

    Attributes:
        attempts: requests in all, the first one included.
        base_s: upper bound of the first wait; it doubles with each further one.
        cap_s: upper bound of any wait we choose ourselves.
    """

    attempts: int = 4
    base_s: float = 0.5
    cap_s: float = 8.0

    def ceiling_s(self, attempt: int) -> float:
        """The longest wait, in seconds, that we choose after this many attempts."""
        # The exponent is bounded: 2.0 ** 1024 is an OverflowError.
        return min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 64))


@dataclass(slots=True)
class Request:
    """One request without the token; the URL is percent-encoded, the body JSON or None.

    `sent`: whether a byte of the request may have left; also valid after a cancellation.
    """

    method: str
    url: str
    body: bytes | None
    sent: bool = False

    @property
    def reads(self) -> bool:
        """Whether this is a GET, which changes nothing."""
        return self.method == "GET"

    @property
    def origin(self) -> str:
        """The scheme, host and port that the request goes to, for people."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def headers(self, token: SecretStr) -> dict[str, str]:
        """The headers; a Content-Type only if there is a body."""
        return {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Cache-Control": "no-cache",
            "User-Agent": f"hms-active-rooms/{__version__}",
            "Authorization": f"Bearer {token.get_secret_value()}",
            **({} if self.body is None else {"Content-Type": "application/json"}),
        }


class Answer(NamedTuple):
    """An HTTP answer with its whole body, decompressed. A header's name may be in any case."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Unusable(Exception):
    """No usable answer. The text is ours: a library's may quote hosts, proxies or headers."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause: Final = cause


class Pool(Protocol):
    """The connections of one client on one event loop."""

    async def send(self, request: Request, token: SecretStr) -> Answer:
        """Send one request and return the answer.

        Raises:
            Unusable: no usable answer came. No exception of the library gets out, since it holds
                the Authorization header.
        """

    async def aclose(self) -> None: ...


class Library(NamedTuple):
    """What an HTTP library raises: all its errors, the errors before a byte of the request has
    left, and the error of a timeout. `reasons`: our words for why there was no connection; the
    first that fits an error or its causes is used."""

    errors: tuple[type[BaseException], ...]
    not_sent: tuple[type[BaseException], ...]
    late: type[BaseException]
    reasons: tuple[tuple[type[BaseException], str], ...]


async def receive(exchange: Awaitable[Answer], library: Library) -> Answer:
    """The answer of one exchange. Raises Unusable if none came."""
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
                    raise Unusable(NOT_SENT, reason) from None
            link = link and (link.__cause__ or link.__context__)
        raise Unusable(NOT_SENT, "no connection could be made") from None
    except library.errors as error:
        if isinstance(error, library.late):
            raise Unusable(TIMEOUT, "no answer in time") from None
        reason = "the connection was lost before the answer was whole"
        raise Unusable(CUT_OFF, reason) from None


async def answer(
    status: int,
    headers: Mapping[str, str],
    chunks: AsyncIterable[bytes],
    limit: int,
    library: Library,
    *,
    packed: bool = True,
) -> Answer:
    """The answer with its body, decompressed here: the libraries do not limit the decompressed
    size. `packed=False`: the body is decompressed already."""
    coding = headers.get("content-encoding") if packed else None
    lost: tuple[type[BaseException], ...] = (*library.errors, Unusable)
    try:
        return Answer(status, await _body(coding, chunks, limit), headers)
    except lost:
        # For an error status, the status is enough if the body is lost.
        if 200 <= status < 300:
            raise
        return Answer(status, b"", headers)


async def _body(given: str | None, chunks: AsyncIterable[bytes], limit: int) -> bytes:
    codings = {coding.strip() for coding in (given or "").lower().split(",")} - {"identity", ""}
    if not codings <= {"gzip", "x-gzip"} or len(codings) > 1:
        raise Unusable(CUT_OFF, "its answer is compressed in a way we did not ask for")
    too_large = Unusable(CONTRADICTS, f"its answer is larger than {limit} bytes")
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
        except EOFError:
            raise Unusable(CUT_OFF, "its answer ended too early") from None
        except (OSError, zlib.error):
            raise Unusable(CUT_OFF, "its answer cannot be decompressed") from None
        if len(body) > limit:
            raise too_large
    return body
