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

from hms_active_rooms.errors import ActiveRoomsError
from hms_active_rooms.serve.page.sessions import Logins, Session
from hms_active_rooms.serve.problems import Refused, json_object, on_error

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


def cookie_name(request: Request) -> str:
    """With the port, as cookies do not know ports: two servers would log each other's people out."""
    port = request.url.port
    return f"hms_approvals_{port}" if port else "hms_approvals"


def session_of(request: Request, logins: Logins) -> Session:
    """Whose request it is.

    Raises:
        Refused: nobody's.
    """
    cookie = request.cookies.get(cookie_name(request), "")
    session = logins.find(cookie, request.headers.get(KEY_HEADER, ""))
    if session is None:
        raise Refused(401, "session", "You are not logged in, or no longer.")
    return session


async def sent_by_the_page(request: Request) -> dict[str, Any]:
    """The JSON object of a POST that a script of this origin sent. The guard compared Origin.

    Raises:
        Refused: it came from elsewhere, or is none.
    """
    if not request.headers.get("origin") or request.headers.get("sec-fetch-site") not in (
        None,
        "same-origin",
    ):
        raise Refused(403, "origin", "Only the page itself may send this.")
    return await json_object(request)


def answer(value: Mapping[str, Any]) -> Response:
    """A JSON answer of the page. In ASCII: a model's text may hold half a character."""
    return Response(json.dumps(value), media_type="application/json", headers=HEADERS)


def file(content: bytes, kind: str) -> Response:
    """One of the page's own files."""
    return Response(content, media_type=kind, headers=HEADERS)


async def problem(request: Request, error: Refused | ActiveRoomsError) -> Response:
    """What went wrong, as everywhere on this server."""
    told = await on_error(request, error)
    told.headers.update(HEADERS)
    return told
