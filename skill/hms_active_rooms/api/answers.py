"""Turns an HTTP answer into a typed answer or an error, without I/O. Errors quote the server's text
escaped, cut, and without tokens."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from pydantic import SecretStr

from hms_active_rooms import errors
from hms_active_rooms.api import wire
from hms_active_rooms.api.models import Peers
from hms_active_rooms.api.reading import PAGE, json_document, read_done, refuse_page
from hms_active_rooms.api.wire import Answer, Request, Unusable, contradiction
from hms_active_rooms.errors import ApiError
from hms_active_rooms.untrusted import quoted, shortened

T = TypeVar("T")
Reader = Callable[[bytes, Mapping[str, str]], T]
"""A function that turns a body into a typed answer, or raises `Unusable` or an ApiError. Its second
argument holds the ids, the query and the operation of the request."""

_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    408: errors.TimedOut,
    410: errors.NotFound,
    429: errors.RateLimited,
    499: errors.TimedOut,  # from a gRPC gateway: the call was cancelled half way
}
# After these failures a write may have been executed. After the others it was not.
_MAY_HAVE_RUN: Final = (errors.TimedOut, errors.BadResponse, errors.ServerError)
# 4xx statuses that may be due to the arguments. Any other 4xx has a cause outside the call.
_OF_ARGUMENTS: Final = (400, 413, 414, 422)

_TEXT_LIMIT: Final = 200
_DETAILS_LIMIT: Final = 5
_JWT: Final = re.compile(r"eyJ[\w-]+\.[\w-]+(\.[\w-]*)?", re.ASCII)

_SHORTEST_SECRET: Final = 8
# ASCII characters in an escaped form. A pair of backslashes is matched so that no match begins in it.
_ESCAPE: Final = re.compile(rb"\\(?:u00([2-7][0-9a-fA-F])|[\\/])")

# The real API was seen to send "session not active". Its docs and webhooks have more wordings.
_NO_PEER: Final = re.compile(r"\bpeers?\b", re.IGNORECASE)
_NO_SESSION: Final = re.compile(r"\bsession\b|\b(not|no longer|in) ?active\b", re.IGNORECASE)
_CLOCK_OFF_S: Final = 30.0
MAX_RETRY_AFTER_S: Final = 86_400.0  # a longer Retry-After is reported as one day
# The seconds in a Retry-After. A proxy may add a second value after a comma.
_SECONDS: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?)s?(?:,.*)?")
# The 100ms docs show only one 429, with this text. They document no header.
_IN_TEXT: Final = re.compile(r"retry after ([0-9]+) seconds?")
# What a cache says that did not ask the server now, also "TCP_HIT". But "stale-if-error" is a rule.
_HIT: Final = re.compile(r"(?<![a-z])(hit|stale|updating)(?![a-z-])", re.IGNORECASE)
_NEXT_PAGE: Final = re.compile(r"rel *= *(\"[^\"]*)?\bnext\b", re.IGNORECASE)

Failure = tuple[ApiError, bool, float]
"""An error, whether a read may be sent again, and how many seconds to wait at least before that."""


def without(token: SecretStr, answer: Answer) -> Answer:
    """Return the answer with "[token]" in place of each copy of the token in its body and headers. A token
    of fewer than 8 characters stays, since it may be an ordinary word."""
    secret, body, headers = token.get_secret_value(), answer.body, dict[str, str]()
    for name, value in answer.headers.items():  # aiohttp does not join headers of one name
        before = headers.get(name := name.lower())
        headers[name] = value if before is None else f"{before}, {value}"
    if len(secret) < _SHORTEST_SECRET:
        return answer._replace(headers=headers)
    written = json.dumps(secret, ensure_ascii=False)[1:-1].encode()
    plain = _ESCAPE.sub(_unescaped, body)
    if written in plain:
        body = plain.replace(written, b"[token]")
    headers = {name: value.replace(secret, "[token]") for name, value in headers.items()}
    return Answer(answer.status, body, headers)


def _unescaped(escape: re.Match[bytes]) -> bytes:
    char = chr(int(escape[1], 16)) if escape[1] else escape[0].decode()[1]
    return json.dumps(char)[1:-1].encode()


def typed(answer: Answer, read: Reader[T], asked: Mapping[str, str]) -> T:
    """Read an answer with a 2xx status by the function `read`, and return what it returns. `asked` has the
    fields of the request. Raises Unusable if the answer is incomplete, contradicts itself, or is old."""
    nothing = answer.status in (204, 205) and read is read_done
    if not nothing and answer.status not in (200, 201, 202, 203):
        raise Unusable(errors.BadResponse, f"the answer is not whole (status {answer.status})")
    headers = answer.headers
    if headers.get("content-range") or _NEXT_PAGE.search(headers.get("link") or ""):
        raise contradiction(PAGE)
    hit = any("cache" in name and _HIT.search(said) for name, said in headers.items())
    if read is not read_done and (hit or (headers.get("age") or "0") != "0"):
        raise Unusable(errors.BadResponse, "a proxy gave an old answer from its cache")
    kind = headers.get("content-type") or ""
    if (headers.get("grpc-status") or "0") != "0" or "problem+" in kind:
        raise contradiction("the answer's status says success, but a header says error")
    try:
        found = read(b"" if nothing else answer.body, asked)
    except RecursionError:
        raise Unusable(errors.BadResponse, "the answer is nested too deeply") from None
    if read is read_done:
        return found
    length = len(found) + len(found.unreadable) if isinstance(found, Peers) else math.inf
    told: dict[str, object] = {n.removeprefix("x-"): v for n, v in headers.items() if v}
    if pagination := headers.get("x-pagination"):
        with contextlib.suppress(ValueError, RecursionError):
            told["pagination"] = json_document(pagination.encode())
    refuse_page(told, length)
    return found


def unusable(why: Unusable, request: Request, answer: Answer | None) -> Failure:
    """Return the error for a request that got no usable answer, whether a read may be sent again, and the
    shortest wait before that in seconds. `answer` is None if none came."""
    told, hint = "100ms gave no usable answer at", None
    if why.kind is errors.ConnectionFailed:
        told = "100ms could not be reached at"
    if str(why) == wire.ALL_BUSY:
        told, hint = "No request was sent to", "Make fewer calls at once, then try again."
    elif str(why) == wire.WEB_PAGE and request.reads:
        hint = "Check the base URL (HMS_BASE_URL), and that this network needs no login."
    text = f"{told} {request.origin}: {_without_tokens(str(why))}."
    return _failed(why.kind, request, text, answer, hint), why.again, 0.0


def deadline_passed(seconds: float, request: Request) -> ApiError:
    """Return the error for a call that took longer than `seconds`."""
    done: errors.Executed = "maybe" if request.sent and not request.reads else "no"
    text = f"100ms did not answer within {seconds:g} seconds."
    return errors.TimedOut(text, executed=done, hint=_hint(request))


def refused(answer: Answer, request: Request, now: float) -> Failure:
    """Return the error for an answer with a status other than 2xx, whether a read may be sent again, and
    the shortest wait before that in seconds. `now` is Unix time."""
    status, hint = answer.status, None
    message, details = _words(answer.body)
    said = f"100ms answered {status}" + (f": {quoted(message, _TEXT_LIMIT)}" if message else "")
    said += f" (details: {', '.join(details)})." if details else "."
    by_range = errors.InvalidRequest if status < 500 else errors.ServerError
    kind = _BY_STATUS.get(status, errors.BadResponse if status < 400 else by_range)
    wait = retry_after_s(answer.headers.get("retry-after"), message, now=now)
    if status < 400:
        hint = "Check the base URL (HMS_BASE_URL)."
    elif status == 401:
        hint = _clock_hint(answer.headers.get("date"), now)
    elif status == 403 and not request.reads:
        hint = "Read the room. If this works, the 100ms credentials do not allow the change. Else check the room id."
    elif status == 429 and wait:
        hint = f"Wait {wait:g} seconds, then try again."
    elif kind is errors.InvalidRequest and status not in _OF_ARGUMENTS:
        hint = "The arguments are not the reason for this refusal. Do not repeat the call."
    elif kind is errors.NotFound and _NO_PEER.search(message):
        one = not request.reads or "/peers/" in request.url  # for a list: nobody at all is there
        kind = errors.PeerNotFound if one else errors.NotActive
    elif kind is errors.NotFound and _NO_SESSION.search(message):
        kind = errors.NotActive
    if not message or kind is errors.NotFound:  # perhaps another server has answered
        said += f" The address is {request.origin}."
    error = _failed(kind, request, said, answer, hint)
    if isinstance(error, errors.RateLimited):
        error.retry_after_s = wait
    return error, kind in (errors.TimedOut, errors.RateLimited, errors.ServerError), wait or 0.0


def _failed(
    kind: type[ApiError],
    request: Request,
    text: str,
    answer: Answer | None,
    hint: str | None = None,
) -> ApiError:
    sent_id = answer.headers.get("x-request-id") if answer else None
    unclear = kind in _MAY_HAVE_RUN
    return kind(
        text,
        executed="maybe" if unclear and not request.reads else "no",
        hint=_hint(request) if unclear and hint is None else hint,
        status=answer.status if answer else None,
        request_id=shortened(sent_id, 100) if sent_id else None,
    )


def _hint(request: Request) -> str | None:
    return "Try again in a moment." if request.reads else None


def _clock_hint(date: str | None, now: float) -> str | None:
    then = _moment(date or "")
    off = 0.0 if then is None else now - then
    if abs(off) < _CLOCK_OFF_S:
        return None
    way = "ahead of" if off > 0 else "behind"
    return (
        f"This machine's clock is {abs(off):,.0f} seconds {way} the server's clock. This may be why the "
        "server refuses the token. Only a person can set the clock."
    )


def _moment(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
        then = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return None if math.isnan(then) else then


def retry_after_s(header: str | None, message: str, *, now: float) -> float | None:
    """Return how many seconds the server asks to wait, at most one day, or None. `header` is the Retry-
    After header, `message` the text of the server's error, and `now` Unix time."""
    value = (header or "").strip()
    if seconds := _SECONDS.fullmatch(value):
        wait = float(seconds[1])
    elif (then := _moment(value)) is not None:
        wait = max(then - now, 0.0)
    elif found := _IN_TEXT.search(message):
        wait = float(found[1])
    else:
        return None
    return min(wait, MAX_RETRY_AFTER_S)


def _words(body: bytes) -> tuple[str, list[str]]:
    """The message and the details in the body of an error."""
    try:
        document = json_document(body)
    except (ValueError, RecursionError):
        document = None
    said: dict[str, object] = document if isinstance(document, dict) else {}
    message, details = said.get("message") or said.get("error"), said.get("details")
    message = message.get("message") if isinstance(message, dict) else message
    first = details[:_DETAILS_LIMIT] if isinstance(details, list) else []
    shown = [quoted(_without_tokens(one), _TEXT_LIMIT) for one in first if isinstance(one, str)]
    return _without_tokens(message).strip() if isinstance(message, str) else "", shown


def _without_tokens(text: str) -> str:
    return _JWT.sub("[token]", text)
