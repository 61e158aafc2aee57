"""What a refused request is told: problem+json (RFC 9457), and one HTTP status for every error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any, Final, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from hms_active_rooms import errors
from hms_active_rooms.gate.actions.change import explain_all
from hms_active_rooms.gate.view import ActionView
from hms_active_rooms.serve.guard import note_refusal
from hms_active_rooms.serve.last_resort import failed
from hms_active_rooms.serve.limits import KEY

MEDIA_TYPE: Final = "application/problem+json"

_STATUS: Final[Mapping[type[errors.ActiveRoomsError], int]] = {
    errors.ActiveRoomsError: 500,
    errors.InvalidCall: 422,
    errors.PolicyRefusal: 403,
    errors.OutcomeUnknown: 502,
    errors.JournalError: 503,
    # Refused credentials too: they are the server's own, and nothing the caller sent is wrong.
    errors.ApiError: 502,
    errors.NotActive: 404,
    errors.PeerNotFound: 404,
    errors.NotFound: 404,
    errors.InvalidRequest: 422,
    errors.RateLimited: 429,
    errors.TimedOut: 504,
}
"""A class that is not named has the status of its base."""


class Problem(BaseModel):
    """Why a request was refused or failed."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(default="about:blank", description="A URN that ends in the code.")
    title: str
    status: int
    detail: str = ""
    code: str = Field(default="", description="Stable, for programs.")
    executed: Literal["no", "maybe", "yes"] = Field(
        default="no", description="Whether this request changed a room."
    )
    hint: str = Field(default="", description="What to do next.")
    action: ActionView | None = Field(
        default=None, description="The action now, where another decision came first."
    )


class Refused(HTTPException):
    """A request is answered with a problem. Nothing was executed."""

    def __init__(
        self, status: int, code: str, detail: str, hint: str = "", action: ActionView | None = None
    ) -> None:
        super().__init__(status, detail)
        self.code, self.hint, self.action = code, hint, action

    @classmethod
    def no_action(cls) -> Refused:
        """No such action, or none in the rooms of this server."""
        return cls(404, "no_action", "There is no such action.", "See GET /v1/actions.")


async def json_object(request: Request) -> dict[str, Any]:
    """The body: one JSON object, each key once; `Refused` if it is none, or not said to be JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "unsupported_media_type", "Content-Type has to be application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        # A program in between that decodes it would read another body than we do.
        raise Refused(415, "unsupported_media_type", "The body has to come without encoding.")
    try:
        text = (await request.body()).decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_not_json)
    except (ValueError, RecursionError):  # also what is not UTF-8
        value = None
    if not isinstance(value, dict):
        raise Refused(400, "malformed_json", "The body is not one JSON object, each key once.")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key twice")
    return found


def _not_json(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


class Json(JSONResponse):
    """JSON in ASCII, so that a name from a room can neither control the terminal that shows it
    nor break the encoding. No cache keeps it."""

    def __init__(self, content: object, status_code: int = 200, **more: Any) -> None:
        super().__init__(content, status_code, **more)
        self.headers.update({"cache-control": "no-store", "x-content-type-options": "nosniff"})

    def render(self, content: object) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


async def on_error(request: Request, error: Exception) -> Json:
    """The error as a problem, for FastAPI and the page; a refusal is put on record."""
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if isinstance(error, errors.RateLimited) and error.retry_after_s is not None:
        headers["retry-after"] = str(max(0, ceil(error.retry_after_s)))
    problem = _problem(error)
    if problem.status in (401, 403):
        client = request.client.host if request.client else "?"
        # A call that the policy refused is on record already, with the room; a list is not.
        noted = problem.code == errors.PolicyRefusal.code and request.method == "POST"
        refusals = None if noted else request.scope.get(KEY)
        note_refusal(refusals, problem.code, request.method, request.url.path, client)
    # Without the members that are not set; an action keeps all of its own.
    told = {name for name in Problem.model_fields if getattr(problem, name) is not None}
    content = problem.model_dump(mode="json", include=told)
    return Json(content, problem.status, headers=headers, media_type=MEDIA_TYPE)


def _problem(error: Exception) -> Problem:
    match error:
        case errors.ActiveRoomsError(code=code, hint=hint, executed=executed):
            status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
            return _told(status, code, error.for_person(), hint, executed=executed)
        case Refused(status_code=status, code=code, detail=detail, hint=hint, action=action):
            return _told(status, code, detail, hint, action=action)
        case RequestValidationError():
            found = error.errors()
            if any(each["loc"][0] == "path" for each in found):  # no id has such characters
                return _problem(Refused.no_action())
            if found[0]["type"] == "json_invalid":
                return _told(400, "malformed_json", "The body is not JSON.")
            where = [{**each, "loc": each["loc"][1:]} for each in found]
            return _told(422, errors.InvalidCall.code, explain_all(where))
        case HTTPException(status_code=404):
            return _told(404, "not_found", "There is no such resource.", "See /v1/openapi.json.")
        case HTTPException(status_code=405):
            return _told(405, "method_not_allowed", "This resource has no such method.")
    return _told(400, "malformed_json", "The body is not JSON.")


def _told(status: int, code: str, detail: str, hint: str = "", **more: Any) -> Problem:
    urn, title = f"urn:hms-active-rooms:problem:{code}", HTTPStatus(status).phrase
    told = {"type": urn, "title": title, "status": status, "detail": detail, "code": code}
    return Problem.model_validate({**told, "hint": hint, **more})


HANDLERS: Final[dict[Any, Any]] = {
    HTTPException: on_error,
    RequestValidationError: on_error,
    errors.ActiveRoomsError: on_error,
    Exception: failed,
}
"""FastAPI's `exception_handlers`."""
