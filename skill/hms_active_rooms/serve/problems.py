"""Answers refused and failed requests with problem+json (RFC 9457).

Tracebacks and texts of unexpected exceptions may hold secrets, so they are neither sent nor logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from math import ceil
from pathlib import PurePath
from typing import Any, Final

from pydantic import BaseModel, JsonValue
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hms_active_rooms import errors
from hms_active_rooms.gate.actions.result import Executed
from hms_active_rooms.gate.view import ActionView
from hms_active_rooms.serve.decisions import NoAction, StaleDigest
from hms_active_rooms.serve.limits import KEY
from hms_active_rooms.untrusted import quoted, shortened

MEDIA_TYPE: Final = "application/problem+json"

_STATUS: Final[Mapping[type[errors.ActiveRoomsError], int]] = {
    errors.ActiveRoomsError: 500,
    errors.InvalidCall: 422,
    errors.PolicyRefusal: 403,
    errors.OutcomeUnknown: 502,
    errors.JournalError: 503,
    # Also for refused credentials, which are the server's, not the caller's.
    errors.ApiError: 502,
    errors.NotActive: 404,
    errors.PeerNotFound: 404,
    errors.NotFound: 404,
    errors.InvalidRequest: 422,
    errors.RateLimited: 429,
    errors.TimedOut: 504,
    NoAction: 404,
    StaleDigest: 409,
}
"""The HTTP status of each error class, and of its subclasses that are not listed."""

_log = logging.getLogger(__name__)


class Json(JSONResponse):
    """A JSON response that is not cached, and has only ASCII. `content` is JSON or a pydantic model."""

    def __init__(self, content: object, status_code: int = 200, **more: Any) -> None:
        super().__init__(content, status_code, **more)
        self.headers.update({"cache-control": "no-store", "x-content-type-options": "nosniff"})

    def render(self, content: object) -> bytes:
        if isinstance(content, BaseModel):
            content = content.model_dump(mode="json")
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class Refused(HTTPException):
    """Raised to refuse a request; nothing was executed.

    Args:
        status: the HTTP status.
        code: for programs.
        detail: what is wrong, for people.
        hint: what to do, for people.
        more: `headers` of the response, and `action`, the action as it is now, if a decision did not
            count.
    """

    def __init__(self, status: int, code: str, detail: str, hint: str = "", **more: Any) -> None:
        self.action: ActionView | None = more.pop("action", None)
        super().__init__(status, detail, **more)
        self.code, self.hint = code, hint


def problem(
    status: int, code: str, detail: str, hint: str = "", *, executed: Executed = "no", **more: Any
) -> Json:
    """Make a problem+json answer. Its fields are those of `rest.Problem`; `more` are further fields."""
    urn, title = f"urn:hms-active-rooms:problem:{code}", HTTPStatus(status).phrase
    told = {"type": urn, "title": title, "status": status, "detail": detail, "code": code}
    return Json(told | {"executed": executed, "hint": hint, **more}, status, media_type=MEDIA_TYPE)


async def on_error(request: Request, error: Exception) -> Json:
    """Answer a request that ended in this error. A refusal (401, 403) is recorded."""
    answer, code = told(error, request.url.path), getattr(error, "code", "")
    if answer.status_code >= 500:
        _log.error("failed %s %s: %s", request.method, quoted(request.url.path, 100), error)
    # A call (POST) that the policy refused is recorded already, with its room.
    noted = code == errors.PolicyRefusal.code and request.method == "POST"
    if answer.status_code in (401, 403) and not noted:
        note(request.scope, code)
    return answer


def told(error: Exception, path: str = "") -> Json:
    """The problem+json for this error, for a request to `path`."""
    code, detail, hint, more = "malformed_json", "The body is not JSON.", "", dict[str, Any]()
    status, headers = 400, dict[str, str]()
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
    match error:
        case errors.ActiveRoomsError(code=code, hint=hint, executed=executed):
            status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
            detail, more = error.for_person(), {"executed": executed}
            if (wait_s := getattr(error, "retry_after_s", None)) is not None:
                headers["retry-after"] = str(max(0, ceil(wait_s)))
        case Refused(status_code=status, code=code, detail=detail, hint=hint, action=action):
            more = {"action": action.model_dump(mode="json")} if action else {}
        case HTTPException(status_code=404):
            status, code, detail = 404, "not_found", "There is no such resource."
            hint = "See /v1/openapi.json." if path.startswith("/v1") else ""
        case HTTPException(status_code=405):
            status, code = 405, "method_not_allowed"
            detail = "This path does not accept this method."
    answer = problem(status, code, detail, hint, **more)
    answer.headers.update(headers)
    return answer


def note(scope: Scope, word: str) -> None:
    """Record a refused request without its query, which may hold a secret. `word` is the reason."""
    client = str((scope.get("client") or ("?", 0))[0])
    scope[KEY].add(word, f"{scope['method'][:10]} {scope['path']}", client)


async def failed(_: Request, __: Exception) -> Json:
    """The answer after an unexpected exception: nobody knows whether anything was executed."""
    return _unknown(500, "The server failed.")


def _unknown(status: int, what: str) -> Json:
    detail = f"{what} It is not known whether anything was executed."
    hint = "Look at the room and the journal before you try again."
    answer = problem(status, "internal", detail, hint, executed="maybe")
    answer.headers["connection"] = "close"
    return answer


HANDLERS: Final[dict[Any, Any]] = {
    HTTPException: on_error,
    errors.ActiveRoomsError: on_error,
    Exception: failed,
}


async def last_resort(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the application for one request. If it raises an unexpected exception, or the server stops, the
    request still gets a response."""
    last: Message = {}

    async def noted(message: Message) -> None:
        nonlocal last
        last = message
        await send(message)

    try:
        await app(scope, receive, noted)
    except asyncio.CancelledError:
        # The server stops, and nothing awaits this task.
        if not last:
            await _unknown(503, "The server stops.")(scope, receive, noted)
    except Exception as error:  # noqa: BLE001
        # uvicorn would log its text, which may hold a secret. (No graph's interrupt comes here.)
        named = shortened(scope["method"], 10), quoted(scope["path"], 100)
        _log.error("failed %s %s: %s", *named, place_of(error))
        if not last:
            await _unknown(500, "The server failed.")(scope, receive, noted)
        return
    # End a stream of events that the server's stop has cut off, else uvicorn logs an error.
    if last and last.get("more_body", last["type"] == "http.response.start"):
        await send({"type": "http.response.body"})


def place_of(error: BaseException) -> str:
    """An error's class, and file and line of its three innermost frames, without its text."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{PurePath(f.filename).name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}"


async def json_body(request: Request) -> dict[str, JsonValue]:
    """Return the JSON object in the request's body; {} for an empty body. Raises `Refused` for any other
    body."""
    body = await request.body()
    kinds = [kind.partition(";")[0].strip() for kind in request.headers.getlist("content-type")]
    if (kinds or body) and [kind.lower() for kind in kinds] != ["application/json"]:
        raise Refused(415, "unsupported_media_type", "Content-Type has to be application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        # A proxy may have checked the decoded body, which is another text.
        raise Refused(415, "unsupported_media_type", "The body must not have a Content-Encoding.")
    with suppress(ValueError):
        if isinstance(value := strict_json(body or b"{}"), dict):
            return value
    text = "The body has to be one UTF-8 JSON object, with each key once."
    raise Refused(400, "malformed_json", text)


def strict_json(body: bytes) -> object:
    """The parsed JSON. Raises ValueError for bad JSON, NaN, or a key that comes twice."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_not_json)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key comes twice")
    return found


def _not_json(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")
