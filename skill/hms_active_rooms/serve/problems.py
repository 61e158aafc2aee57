"""Answers refused and failed requests with problem+json (RFC 9457). Each error has one status.

A traceback or the text of an unexpected exception may hold a secret. So neither is sent or logged.
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
from hms_active_rooms.untrusted import quoted, shortened

MEDIA_TYPE: Final = "application/problem+json"

_STATUS: Final[Mapping[type[errors.ActiveRoomsError], int]] = {
    errors.ActiveRoomsError: 500,
    errors.InvalidCall: 422,
    errors.PolicyRefusal: 403,
    errors.OutcomeUnknown: 502,
    errors.JournalError: 503,
    # Also if 100ms refuses the credentials, since these are the server's and not the caller's.
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
"""The HTTP status of each error. A class that is not listed has the status of its base class."""

_log = logging.getLogger(__name__)


class Json(JSONResponse):
    """A JSON answer, not cached. It is ASCII, so that no name in it can control a terminal."""

    def __init__(self, content: object, status_code: int = 200, **more: Any) -> None:
        super().__init__(content, status_code, **more)
        self.headers.update({"cache-control": "no-store", "x-content-type-options": "nosniff"})

    def render(self, content: object) -> bytes:
        if isinstance(content, BaseModel):
            content = content.model_dump(mode="json")
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class Refused(HTTPException):
    """Raise this to refuse a request for which nothing was executed. If another decision came
    first, `action` is the action that the request wanted to decide."""

    def __init__(self, status: int, code: str, detail: str, hint: str = "", **more: Any) -> None:
        self.action: ActionView | None = more.pop("action", None)
        super().__init__(status, detail, **more)
        self.code, self.hint = code, hint


def problem(
    status: int, code: str, detail: str, hint: str = "", *, executed: Executed = "no", **more: Any
) -> Json:
    """A problem+json answer. `rest.Problem` describes its fields."""
    urn, title = f"urn:hms-active-rooms:problem:{code}", HTTPStatus(status).phrase
    told = {"type": urn, "title": title, "status": status, "detail": detail, "code": code}
    return Json(told | {"executed": executed, "hint": hint, **more}, status, media_type=MEDIA_TYPE)


async def on_error(request: Request, error: Exception) -> Json:
    """Answer a request that ended in this error. If the answer is a refusal, record it."""
    answer, code = told(error, request.url.path), getattr(error, "code", "")
    if answer.status_code >= 500:
        _log.error("failed %s %s: %s", request.method, quoted(request.url.path, 100), error)
    # If the policy refused a call (a POST), that is recorded already, with its room.
    noted = code == errors.PolicyRefusal.code and request.method == "POST"
    if answer.status_code in (401, 403) and not noted:
        note(request.scope, code)
    return answer


def told(error: Exception, path: str = "") -> Json:
    """The problem+json for this error. `path` is the path of the request."""
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
            status, code, detail = 405, "method_not_allowed", "The path does not take this method."
    answer = problem(status, code, detail, hint, **more)
    answer.headers.update(headers)
    return answer


def note(scope: Scope, word: str) -> None:
    """Record a refused request, but not its query, which may hold a secret. `word` is the reason."""
    client = str((scope.get("client") or ("?", 0))[0])
    scope[KEY].add(word, f"{scope['method'][:10]} {scope['path']}", client)


async def failed(_: Request, __: Exception) -> Json:
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
    """Run the application for one request. The request gets an answer even if the application
    raises an unexpected exception, or is cancelled because the server stops."""
    last: Message = {}

    async def noted(message: Message) -> None:
        nonlocal last
        last = message
        await send(message)

    try:
        await app(scope, receive, noted)
    except asyncio.CancelledError:
        # The server stops and nothing awaits this task, so the error is not raised again.
        if not last:
            await _unknown(503, "The server stops.")(scope, receive, noted)
    except Exception as error:  # noqa: BLE001
        # Every exception is caught, since uvicorn would log its text. The text may hold a secret,
        # and so may the query. (No graph runs below this, so no interrupt is caught.)
        named = shortened(scope["method"], 10), quoted(scope["path"], 100)
        _log.error("failed %s %s: %s", *named, place_of(error))
        if not last:
            await _unknown(500, "The server failed.")(scope, receive, noted)
        return
    # If the server's stop cut off a stream of events, end the answer, or uvicorn logs an error.
    if last and last.get("more_body", last["type"] == "http.response.start"):
        await send({"type": "http.response.body"})


def place_of(error: BaseException) -> str:
    """An error's class, and file and line of its three innermost frames, without its text. Pure."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = " < ".join(f"{PurePath(f.filename).name}:{f.lineno}" for f in reversed(frames))
    return f"{type(error).__name__} at {places}"


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object in the request's body; {} if the body is empty. Raises `Refused` if the body
    is something else or has a key twice, or if the Content-Type is not JSON."""
    body = await request.body()
    kinds = [kind.partition(";")[0].strip() for kind in request.headers.getlist("content-type")]
    if (kinds or body) and [kind.lower() for kind in kinds] != ["application/json"]:
        raise Refused(415, "unsupported_media_type", "Content-Type has to be application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        # A proxy may decode such a body, and so check another text than this server reads.
        raise Refused(415, "unsupported_media_type", "The body must not have a Content-Encoding.")
    try:
        value = strict_json(body or b"{}")
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Refused(
            400, "malformed_json", "The body has to be one UTF-8 JSON object, with each key once."
        )
    return value


def strict_json(body: bytes) -> object:
    """The parsed JSON. Raises ValueError if it is no JSON, has NaN, or has a key twice."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_not_json)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("it has a key twice")
    return found


def _not_json(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")
