"""HTTP below the REST routes: strict JSON in, plain JSON out, methods, problems.

Threat: a body that two parsers read differently, that exhausts the parser, or that is no
JSON at all. Invariant: what is not exactly one JSON object of plain values, without a key
twice, is refused before anything is looked up.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hms_active_rooms.errors import ActiveRoomsError, PolicyRefusal
from hms_active_rooms.gate.calls import explain
from hms_active_rooms.serve.guard import note_refusal
from hms_active_rooms.serve.refusals import KEY
from hms_active_rooms.serve.rest_problems import MEDIA_TYPE, Problem, ProblemError, problem_of
from hms_active_rooms.untrusted import quoted

MAX_DEPTH: Final = 16
"""Our choice: the deepest body of ours has 3 levels."""

Handler = Callable[[Request], Awaitable[Response]]
_Model = TypeVar("_Model", bound=BaseModel)


class Resource:
    """One path: a handler for each method it has. An ASGI application for a `Route`."""

    def __init__(self, **handlers: Handler) -> None:
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers["HEAD"] = handlers["GET"]  # the server drops the body
        self._allow = {"allow": ", ".join(sorted([*self._handlers, "OPTIONS"]))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return  # nobody listens, and nothing was read
        except ProblemError as error:
            response = _problem(request, error.problem, error.headers)
        except ActiveRoomsError as error:
            response = _problem(request, *problem_of(error))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={**self._allow, "cache-control": "no-store"})
        handler = self._handlers.get(request.method)
        if handler is None:
            raise ProblemError(
                405,
                "method_not_allowed",
                f"This resource has no method {quoted(request.method, 20)}.",
                headers=self._allow,
            )
        return await handler(request)


def answer(
    content: Mapping[str, Any],
    status: int = 200,
    *,
    media_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A JSON response, ASCII only: a name cannot act in whatever shows it, nor break the encoding."""
    body = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    fixed = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(body, status, headers={**fixed, **(headers or {})}, media_type=media_type)


def _problem(request: Request, problem: Problem, headers: Mapping[str, str]) -> Response:
    if problem.status in (401, 403):
        client = request.client.host if request.client else "?"
        # A call that the policy refused is on record already, with the room; a list is not.
        noted = problem.code == PolicyRefusal.code and request.method == "POST"
        refusals = None if noted else request.scope.get(KEY)
        note_refusal(refusals, problem.code, request.method, request.url.path, client)
    content = problem.model_dump(mode="json", exclude_none=True)
    return answer(content, problem.status, media_type=MEDIA_TYPE, headers=headers)


async def body(request: Request) -> dict[str, Any]:
    """The request's one JSON object.

    Raises:
        ProblemError: 415 for another content type, 400 for what is not such an object.
    """
    types = request.headers.getlist("content-type")
    if len(types) != 1 or not _is_json(types[0]):
        raise ProblemError(
            415, "unsupported_media_type", "The body has to be JSON: Content-Type application/json."
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ProblemError(415, "unsupported_media_type", "The body must not be compressed.")
    return parsed(await request.body())


def _is_json(content_type: str) -> bool:
    essence, _, parameters = content_type.partition(";")
    plain = parameters.strip().lower().replace('"', "") in ("", "charset=utf-8")
    return plain and essence.strip().lower() == "application/json"


def parsed(raw: bytes) -> dict[str, Any]:
    """The one JSON object in these bytes. Pure.

    Raises:
        ProblemError: not UTF-8, not JSON, too deep, a key twice, or no object.
    """
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except RecursionError:
        raise _malformed(f"is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:  # no UTF-8, no JSON, a number nobody can hold
        place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise _malformed(f"is not JSON{place}") from None
    if not isinstance(value, dict):
        raise _malformed("is not a JSON object")
    if _deeper(value, MAX_DEPTH):
        raise _malformed(f"is nested deeper than {MAX_DEPTH} levels")
    return value


def _malformed(what: str) -> ProblemError:
    return ProblemError(400, "malformed_json", f"The body {what}.", hint="Send one JSON object.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise _malformed(f"has the key {quoted(twice, 40)} twice")
    return found


def _no_constant(_: str) -> None:
    raise ValueError("not JSON")


def _deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(item, dict | list) for item in level)


def checked(model: type[_Model], values: Mapping[str, Any]) -> _Model:
    """The values as the model, which refuses unknown fields.

    Raises:
        ProblemError: 422, with the field and the reason.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ProblemError(422, "invalid_call", explain(error)) from None


def query(request: Request, model: type[_Model]) -> _Model:
    """The query parameters as the model.

    Raises:
        ProblemError: 422 for one that is unknown, given twice or wrong.
    """
    pairs = request.query_params.multi_items()
    given = dict(pairs)
    if len(given) < len(pairs):
        raise ProblemError(422, "invalid_call", "A query parameter is given twice.")
    return checked(model, given)
