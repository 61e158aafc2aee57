"""Requests to the page and the headers of its answers: whose session, what is no answer.

Threat: another origin makes the person's browser send a decision, or frames the page; a
name in the room is a script. Invariant: nothing but the empty page and the login is
answered without a session; a decision comes from a script of this origin; and the browser
is told to run, load and send nothing but this server's own three files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from hms_active_rooms.errors import (
    ActiveRoomsError,
    ApiError,
    InvalidCall,
    JournalError,
    OutcomeUnknown,
    PolicyRefusal,
)
from hms_active_rooms.serve.guard import note_refusal
from hms_active_rooms.serve.page.sessions import Logins, Session
from hms_active_rooms.serve.refusals import KEY

PATH: Final = "/approvals"
KEY_HEADER: Final = "x-approvals-key"

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

_EXECUTED: Final = {
    "no": "Nothing was executed.",
    "maybe": "It may have been executed.",
    "yes": "It was executed.",
}


class RefusedError(Exception):
    """The request is not answered: HTTP status, a sentence for the person."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def cookie_name(request: Request) -> str:
    """With the port, as cookies do not know ports: two servers would log each other's people out."""
    port = request.url.port
    return f"hms_approvals_{port}" if port else "hms_approvals"


def session_of(request: Request, logins: Logins) -> Session:
    """Whose request it is.

    Raises:
        RefusedError: nobody's; on record.
    """
    cookie = request.cookies.get(cookie_name(request), "")
    session = logins.find(cookie, request.headers.get(KEY_HEADER, ""))
    if session is None:
        raise refused(request, 401, "You are not logged in, or no longer.", "session")
    return session


async def sent_by_the_page(request: Request) -> dict[str, Any]:
    """The JSON object of a POST that a script of this origin sent. The guard compared Origin.

    Raises:
        RefusedError: it came from elsewhere, or is none; on record.
    """
    if not request.headers.get("origin") or request.headers.get("sec-fetch-site") not in (
        None,
        "same-origin",
    ):
        raise refused(request, 403, "Only the page itself may send this.", "origin")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise refused(request, 415, "Only JSON is taken.", "type")
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise refused(request, 400, "That is no JSON object.", "json")
    return body


def refused(request: Request, status: int, text: str, word: str) -> RefusedError:
    """A refusal, put on record without what was sent."""
    client = request.client.host if request.client else "?"
    note_refusal(request.scope.get(KEY), word, request.method, request.url.path, client)
    return RefusedError(status, text)


def answer(value: Mapping[str, Any]) -> Response:
    """A JSON answer of the page. In ASCII: a model's text may hold half a character."""
    return Response(json.dumps(value), media_type="application/json", headers=HEADERS)


def file(content: bytes, kind: str) -> Response:
    """One of the page's own files."""
    return Response(content, media_type=kind, headers=HEADERS)


def problem(error: RefusedError | ActiveRoomsError) -> Response:
    """What went wrong, for a person: what happened, whether anything was executed."""
    if isinstance(error, RefusedError):
        text, status, executed = str(error), error.status, "no"
    else:
        text, status, executed = str(error), _status(error), error.executed
        if not (executed == "no" and "Nothing was" in text):
            text = f"{text} {_EXECUTED[executed]}"
    body = {"title": text, "status": status, "executed": executed}
    return Response(json.dumps(body), status, HEADERS, "application/problem+json")


def _status(error: ActiveRoomsError) -> int:
    match error:
        case InvalidCall() | PolicyRefusal():
            return 409
        case ApiError() | OutcomeUnknown():
            return 502
        case JournalError():
            return 503
    return 500
