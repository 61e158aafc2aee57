"""From what came back, or did not, to a typed answer or the error to raise. Pure.

The server's own words are quoted in errors, since they help, but as untrusted text:
escaped, capped, and with anything that looks like a token taken out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from hms_active_rooms.api.reading import Contradicts, Malformed, json_document, read_done
from hms_active_rooms.api.retry import Cause, executed, retry_after_s
from hms_active_rooms.api.wire import Answer, NoAnswer, Request
from hms_active_rooms.errors import (
    ApiError,
    BadResponse,
    ConnectionFailed,
    Executed,
    Forbidden,
    InvalidRequest,
    NotActive,
    NotFound,
    PeerNotFound,
    RateLimited,
    ServerError,
    TimedOut,
    Unauthorized,
)
from hms_active_rooms.untrusted import quoted, shortened

T = TypeVar("T")
Reader = Callable[[bytes], T]
"""What the body says; raises `Malformed`, `Contradicts` or an ApiError."""

_TEXT_LIMIT: Final = 200
_DETAILS_LIMIT: Final = 5
_JWT: Final = re.compile(r"eyJ[\w-]+\.[\w-]+(\.[\w-]*)?", re.ASCII)

# Only "session not active" is recorded; webhooks, sibling pages and a locked room have others.
_NO_PEER: Final = re.compile(r"\bpeers?\b", re.IGNORECASE)
_NO_SESSION: Final = re.compile(r"\bsession\b|\b(not|no longer|in) ?active\b", re.IGNORECASE)

_READ_HINT: Final = "Nothing was changed; try again in a moment."
_CLOCK_OFF_S: Final = 30.0
_KINDS: Final = {401: Unauthorized, 403: Forbidden, 408: TimedOut, 429: RateLimited}
_CAUSES: Final[dict[int, Cause]] = {401: "unauthorized", 408: "timeout", 429: "rate_limited"}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed, and the error to raise unless it is sent again."""

    cause: Cause
    error: ApiError


def judge(
    reply: Answer | NoAnswer, request: Request, read: Reader[T], *, token: SecretStr, now: float
) -> T | Failure:
    """The typed answer, or the failure.

    Args:
        reply: what the transport brought.
        request: what it answers.
        read: reads the body of a success.
        token: what was sent, to keep it out of every text.
        now: Unix time, for a Retry-After date and to compare the clocks.
    """
    if isinstance(reply, NoAnswer):
        return _no_answer(reply, request)
    if not 200 <= reply.status < 300:
        return _refused(reply, request, token, now)
    nothing = reply.status in (204, 205) and read is read_done
    try:
        if reply.status in (200, 201, 202, 203) or nothing:
            return read(b"" if nothing else reply.body)
        why = NoAnswer("malformed", f"its answer is not whole (status {reply.status})")
    except ApiError as error:
        return Failure("refused", error)
    except Malformed as error:
        why = NoAnswer("malformed", str(error))
    except Contradicts as error:
        why = NoAnswer("contradicts", f"{_without_token(str(error), token)}")
    except RecursionError:
        why = NoAnswer("malformed", "its answer is nested too deeply")
    return _no_answer(why, request, reply)


def _no_answer(failed: NoAnswer, request: Request, answer: Answer | None = None) -> Failure:
    done = executed(failed.cause, request.effect)
    where = _origin(request)
    if failed.cause == "not_sent":
        text = f"100ms could not be asked at {where}: {failed.reason}."
        return Failure(failed.cause, ConnectionFailed(text, executed=done))
    kind = TimedOut if failed.cause == "timeout" else BadResponse
    error = kind(
        f"100ms gave no usable answer at {where}: {failed.reason}.",
        executed=done,
        hint=_hint(request),
        status=answer.status if answer else None,
        request_id=_id(answer) if answer else None,
    )
    return Failure(failed.cause, error)


def deadline_passed(seconds: float, done: Executed, request: Request) -> TimedOut:
    """The error when the whole call took too long."""
    text = f"100ms did not answer within {seconds:g} seconds."
    return TimedOut(text, executed=done, hint=_hint(request))


def _hint(request: Request) -> str | None:
    return _READ_HINT if request.effect == "read" else None


def _origin(request: Request) -> str:
    parts = urlsplit(request.url)
    return f"{parts.scheme}://{parts.netloc}"


def _refused(answer: Answer, request: Request, token: SecretStr, now: float) -> Failure:
    status = answer.status
    message, details = _words(answer.body, token)
    said = f"100ms answered {status}" + (f": {quoted(message, _TEXT_LIMIT)}" if message else "")
    said += f" ({', '.join(details)})." if details else "."
    more: dict[str, Any] = {}
    cause: Cause = _CAUSES.get(status, "refused")
    kind: type[ApiError] = _KINDS.get(status, InvalidRequest)
    if status < 400:
        cause, kind, more = "redirected", BadResponse, {"hint": "Check the base URL."}
    elif status >= 500:
        cause, kind, more = "server_error", ServerError, {"hint": _hint(request)}
    elif status == 408:
        more = {"hint": _hint(request)}
    elif status == 429:
        wait = retry_after_s(answer.retry_after, message, now=now)
        hint = f"Wait {wait:g} seconds, then try again." if wait else None
        more = {"retry_after_s": wait, "hint": hint}
    elif status == 401:
        more = {"hint": _clock_hint(answer.date, now)}
    elif status == 404:
        kind = NotFound
        if _NO_PEER.search(message):
            kind = PeerNotFound
        elif _NO_SESSION.search(message):
            kind = NotActive
        else:
            said += f" The address is {_origin(request)}."
    more |= {"status": status, "request_id": _id(answer), "details": details}
    return Failure(cause, kind(said, executed=executed(cause, request.effect), **more))


def _clock_hint(date: str | None, now: float) -> str | None:
    """What to say when this machine's clock makes every token we sign invalid."""
    try:
        off = now - parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if abs(off) < _CLOCK_OFF_S:
        return None
    way = "ahead of" if off > 0 else "behind"
    return (
        f"You cannot fix this; tell the person that this machine's clock is {abs(off):,.0f} seconds "
        f"{way} the server's, which makes a token invalid, and to set it."
    )


def _words(body: bytes, token: SecretStr) -> tuple[str, tuple[str, ...]]:
    """`message` and `details` of an error body, "" and () when it is no such JSON."""
    try:
        document = json_document(body)
    except (ValueError, RecursionError):
        return "", ()
    if not isinstance(document, dict):
        return "", ()
    message, details = document.get("message"), document.get("details")
    entries = details if isinstance(details, list) else []
    return (
        _without_token(message, token).strip() if isinstance(message, str) else "",
        tuple(
            quoted(_without_token(entry, token), _TEXT_LIMIT)
            for entry in entries[:_DETAILS_LIMIT]
            if isinstance(entry, str)
        ),
    )


def _without_token(text: str, token: SecretStr) -> str:
    return _JWT.sub("[token]", text.replace(token.get_secret_value(), "[token]"))


def _id(answer: Answer) -> str | None:
    return shortened(answer.request_id, 100) if answer.request_id else None
