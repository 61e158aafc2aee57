"""From what came back, or did not, to a typed answer or the error to raise. Pure.

The server's own words are quoted in errors, since they help, but as untrusted text:
escaped, capped, and with anything that looks like a token taken out.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import SecretStr, ValidationError

from hms_active_rooms.api.models import Acknowledgement, Document
from hms_active_rooms.api.quoting import quoted
from hms_active_rooms.api.retry import Cause, Effect, executed, retry_after_s
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

M = TypeVar("M", bound=Document)

_TEXT_LIMIT: Final = 200
_DETAILS_LIMIT: Final = 5
_JWT: Final = re.compile(r"eyJ[\w-]+\.[\w-]+(\.[\w-]*)?", re.ASCII)

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")

# Recorded: "session not active". The second is what a locked room says when joining,
# the third stands in a webhook; all mean that nobody is in the room.
_NOT_ACTIVE: Final = frozenset({"session not active", "room not active", "session not found"})
_PEER_NOT_FOUND: Final = frozenset({"peer not found"})
"""An assumption: no recording of this answer is known."""

_READ_HINT: Final = "Nothing was changed; try again in a moment."


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: status, the two headers we use, and the whole body, decompressed."""

    status: int
    body: bytes
    retry_after: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No usable HTTP answer: why, and a text of ours for people."""

    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed, and the error to raise unless it is sent again."""

    cause: Cause
    error: ApiError


def judge(
    reply: Answer | NoAnswer, model: type[M], effect: Effect, *, token: SecretStr, now: float
) -> M | Failure:
    """The typed answer, or the failure.

    Args:
        reply: what the transport brought.
        model: what the operation returns.
        effect: whether the request was a read or a write.
        token: what was sent, to keep it out of every text.
        now: Unix time, for a Retry-After date.
    """
    if isinstance(reply, NoAnswer):
        return no_answer(reply, effect)
    if not 200 <= reply.status < 300:
        return _refused(reply, effect, token, now)
    if reply.status == 204 and issubclass(model, Acknowledgement):
        # The docs' status table has "204 no content"; an acknowledgement needs no words.
        return model()
    try:
        return _read(reply.body, model)
    except ValidationError as error:
        reason = f"its answer is not what it documents ({_place(error)})"
    except (ValueError, RecursionError):
        reason = "its answer is not whole or not JSON"
    return no_answer(NoAnswer("malformed", reason), effect, reply)


def no_answer(failed: NoAnswer, effect: Effect, answer: Answer | None = None) -> Failure:
    """The failure when there is no usable answer."""
    done = executed(failed.cause, effect)
    status, request_id = (answer.status, _id(answer)) if answer else (None, None)
    text = f"100ms could not be asked: {failed.reason}."
    if failed.cause == "not_sent":
        return Failure(failed.cause, ConnectionFailed(text, executed=done))
    kind = TimedOut if failed.cause == "timeout" else BadResponse
    error = kind(
        f"100ms gave no usable answer: {failed.reason}.",
        executed=done,
        hint=_hint(effect),
        status=status,
        request_id=request_id,
    )
    return Failure(failed.cause, error)


def deadline_passed(seconds: float, done: Executed, effect: Effect) -> TimedOut:
    """The error when the whole call took too long."""
    return TimedOut(
        f"100ms did not answer within {seconds:g} seconds.", executed=done, hint=_hint(effect)
    )


def _hint(effect: Effect) -> str | None:
    return _READ_HINT if effect == "read" else None


def _refused(answer: Answer, effect: Effect, token: SecretStr, now: float) -> Failure:
    status = answer.status
    message, details = _words(answer.body, token)
    said = f"100ms answered {status}" + (f": {quoted(message, _TEXT_LIMIT)}" if message else "")
    said += f" ({', '.join(details)})." if details else "."

    def failure(cause: Cause, kind: type[ApiError], **more: Any) -> Failure:
        more |= {"status": status, "request_id": _id(answer), "details": details}
        return Failure(cause, kind(said, executed=executed(cause, effect), **more))

    if status < 400:
        return failure("redirected", BadResponse, hint="Check the base URL.")
    if status >= 500:
        return failure("server_error", ServerError, hint=_hint(effect))
    if status == 408:
        return failure("timeout", TimedOut, hint=_hint(effect))
    if status == 429:
        wait = retry_after_s(answer.retry_after, message, now=now)
        hint = f"Wait {wait:g} seconds, then try again." if wait else None
        return failure("rate_limited", RateLimited, retry_after_s=wait, hint=hint)
    if status == 401:
        return failure("unauthorized", Unauthorized)
    if status == 403:
        return failure("refused", Forbidden)
    if status == 404:
        words = message.strip().lower()
        if words in _NOT_ACTIVE:
            return failure("refused", NotActive)
        return failure("refused", PeerNotFound if words in _PEER_NOT_FOUND else NotFound)
    return failure("refused", InvalidRequest)


def _words(body: bytes, token: SecretStr) -> tuple[str, tuple[str, ...]]:
    """`message` and `details` of an error body, "" and () when it is no such JSON."""
    try:
        document = _document(body)
    except (ValueError, RecursionError):
        return "", ()
    if not isinstance(document, dict):
        return "", ()
    message, details = document.get("message"), document.get("details")
    entries = details if isinstance(details, list) else []
    return (
        _without_token(message, token) if isinstance(message, str) else "",
        tuple(
            quoted(_without_token(entry, token), _TEXT_LIMIT)
            for entry in entries[:_DETAILS_LIMIT]
            if isinstance(entry, str)
        ),
    )


def _without_token(text: str, token: SecretStr) -> str:
    return _JWT.sub("[token]", text.replace(token.get_secret_value(), "[token]"))


def _read(body: bytes, model: type[M]) -> M:
    # pydantic-core takes plain JSON in one go. It refuses what `_document` mends (a byte order
    # mark, half a surrogate pair), but takes NaN; so whatever is not plain goes the long way.
    if b"NaN" not in body and b"Infinity" not in body:
        with suppress(ValueError):
            return model.from_json(body)
    return model.model_validate(_document(body))


def _document(body: bytes) -> Any:
    """JSON, or ValueError. NaN and Infinity are not JSON; a lone surrogate becomes "?".

    A stranger's name must not make a whole roster unreadable, and text that cannot be
    encoded would fail later, in a log or a database.
    """
    text = body.decode("utf-8-sig", "replace")
    document = json.loads(text, parse_constant=_refuse_constant)
    return _encodable(document) if _SURROGATE.search(text) else document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_encodable(entry) for entry in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(entry) for key, entry in value.items()}
    return value


def _place(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # The last part may be the type, of the two that a text can have.
    parts = first["loc"][:-1] if first["loc"][-1:] == ("str",) else first["loc"]
    place = ".".join(quoted(str(part), 40)[1:-1] for part in parts) or "the whole"
    return f"{place}: {first['type']}"


def _id(answer: Answer) -> str | None:
    return quoted(answer.request_id, 100)[1:-1] if answer.request_id else None
