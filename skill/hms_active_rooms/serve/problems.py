"""What the client of a refused or failed request is told: problem+json (RFC 9457), with one HTTP
status for each kind of error.

No traceback and no text of an unexpected exception leaves the server or reaches its log: these may
hold a secret.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from pathlib import PurePath
from typing import Any, Final

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hms_active_rooms import errors
from hms_active_rooms.gate.actions.result import Executed
from hms_active_rooms.gate.view import ActionView
from hms_active_rooms.serve.decisions import NoAction, StaleDigest
from hms_active_rooms.serve.limits import KEY
from hms_active_rooms.untrusted import quoted

MEDIA_TYPE: Final = "application/problem+json"

_STATUS: Final[Mapping[type[errors.ActiveRoomsError], int]] = {
    errors.ActiveRoomsError: 500,
    errors.InvalidCall: 422,
    errors.PolicyRefusal: 403,
    errors.OutcomeUnknown: 502,
    errors.JournalError: 503,
    # Also for refused credentials: they are the server's, so the caller did nothing wrong.
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
"""A class that is not listed has the status of its base class."""

_log = logging.getLogger(__name__)


class Json(JSONResponse):
    """JSON in ASCII: a name in it cannot control a terminal or break the encoding. Not cached."""

    def __init__(self, content: object, status_code: int = 200, **more: Any) -> None:
        super().__init__(content, status_code, **more)
        self.headers.update({"cache-control": "no-store", "x-content-type-options": "nosniff"})

    def render(self, content: object) -> bytes:
        if isinstance(content, BaseModel):
            content = content.model_dump(mode="json")
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class Refused(HTTPException):
    """Raised to answer a request with a problem. Nothing was executed. `action`: the action that
    the request is about, if another decision came first."""

    def __init__(self, status: int, code: str, detail: str, hint: str = "", **more: Any) -> None:
        self.action: ActionView | None = more.pop("action", None)
        super().__init__(status, detail, **more)
        self.code, self.hint = code, hint


def problem(
    status: int, code: str, detail: str, hint: str = "", *, executed: Executed = "no", **more: Any
) -> Json:
    """The answer to a request that was refused or failed; `rest.Problem` describes its fields."""
    urn, title = f"urn:hms-active-rooms:problem:{code}", HTTPStatus(status).phrase
    told = {"type": urn, "title": title, "status": status, "detail": detail, "code": code}
    return Json(told | {"executed": executed, "hint": hint, **more}, status, media_type=MEDIA_TYPE)


async def on_error(request: Request, error: Exception) -> Json:
    """The answer for an error; a refusal is recorded."""
    answer, code = told(error, request.url.path), getattr(error, "code", "")
    # A call that the policy refused is recorded already, with its room; a list is not.
    noted = code == errors.PolicyRefusal.code and request.method == "POST"
    if answer.status_code in (401, 403) and not noted:
        note(request.scope, code)
    return answer


def told(error: Exception, path: str = "") -> Json:
    """The answer to a request for `path` that ended in this error."""
    code, detail, hint, more = "malformed_json", "The body is not JSON.", "", dict[str, Any]()
    status, headers = 400, dict[str, str]()
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
    match error:
        case errors.ActiveRoomsError(code=code, hint=hint, executed=executed):
            status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
            detail, more = error.for_person(), {"executed": executed}
            if isinstance(error, errors.RateLimited) and error.retry_after_s is not None:
                headers["retry-after"] = str(max(0, ceil(error.retry_after_s)))
        case Refused(status_code=status, code=code, detail=detail, hint=hint, action=action):
            more = {"action": action.model_dump(mode="json")} if action else {}
        case HTTPException(status_code=404):
            status, code, detail = 404, "not_found", "There is no such resource."
            hint = "See /v1/openapi.json." if path.startswith("/v1") else ""
        case HTTPException(status_code=405):
            status, code, detail = 405, "method_not_allowed", "This resource has no such method."
    answer = problem(status, code, detail, hint, **more)
    answer.headers.update(headers)
    return answer


def note(scope: Scope, word: str) -> None:
    """Record a refused request, without its query: the secret of a login link is there."""
    client = str((scope.get("client") or ("?", 0))[0])
    scope[KEY].add(word, f"{scope['method'][:10]} {scope['path']}", client)


async def failed(_: Request, __: Exception) -> Json:
    """The answer after an unexpected exception, which Starlette raises again afterwards."""
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
"""`exception_handlers` for an application."""


async def last_resort(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the application for one request. An unexpected exception is logged in one line, and a
    request that the server's stop interrupts is answered."""
    started = False

    async def noted(message: Message) -> None:
        nonlocal started
        started = True
        await send(message)

    try:
        await app(scope, receive, noted)
    except asyncio.CancelledError:
        # The server stops and does not wait; nothing awaits this task's result.
        if not started:
            await _unknown(503, "The server stops.")(scope, receive, send)
    except Exception as error:  # noqa: BLE001
        # Any exception: uvicorn, the only caller, would log its text, which may hold a secret. (No
        # graph's interrupt passes here.) The path is logged without its query for the same reason.
        named = quoted(scope["method"], 10)[1:-1], quoted(scope["path"], 100)
        _log.error("failed %s %s: %s", *named, place_of(error))
        if not started:
            await _unknown(500, "The server failed.")(scope, receive, send)


def place_of(error: BaseException) -> str:
    """The kind of an error and the innermost lines it passed, without its text. Pure."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{PurePath(f.filename).name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}"


async def json_object(request: Request) -> dict[str, Any]:
    """The request's body: one JSON object with each key once; {} if it is empty. Raises `Refused`
    for another body or a Content-Type that is not JSON."""
    body = await request.body()
    kinds = [kind.partition(";")[0].strip() for kind in request.headers.getlist("content-type")]
    if (kinds or body) and [kind.lower() for kind in kinds] != ["application/json"]:
        raise Refused(415, "unsupported_media_type", "Content-Type has to be application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        # A proxy that decodes the body would read something else than we do.
        raise Refused(415, "unsupported_media_type", "The body has to come without encoding.")
    try:
        value = json.loads(
            body.decode() or "{}", object_pairs_hook=_unique, parse_constant=_not_json
        )
    except (ValueError, RecursionError):  # also for bytes that are not UTF-8
        value = None
    if not isinstance(value, dict):
        raise Refused(400, "malformed_json", "The body is not one JSON object, or has a key twice.")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return found


def _not_json(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")
