"""The HTTP routes of the approvals page.

A one-time link logs a person in and opens a session. Without a session, people get only the empty
page and the login. A request needs the session's cookie and its key. (Browsers send the cookie also
to other ports of this host, but only the page's origin can read the key.) A decision has to come from
a script of this origin. Links and sessions are hashes in memory.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args
from urllib.parse import quote

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.errors import ActiveRoomsError, InvalidCall
from hms_active_rooms.gate.journal.records import FINAL, State, Way
from hms_active_rooms.serve.app import Entry
from hms_active_rooms.serve.decisions import decide_and_run, list_actions, show, told
from hms_active_rooms.serve.guard import hashed
from hms_active_rooms.serve.page.feed import Feed, PageSettings, action_view, event_view
from hms_active_rooms.serve.problems import Json, Refused, json_body, on_error
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit
from hms_active_rooms.untrusted import escaped, quoted

PATH: Final = "/approvals"
KEY_HEADER: Final = "x-approvals-key"
WAY: Final[Way] = "page"
JOURNAL_ROWS: Final = 50
MAX_NAME_CHARS: Final = 60

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

_SCRIPTS: Final = ("page.js", "cards.js", "lists.js", "server.js", "text.js")
_FILES: Final = {
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(_SCRIPTS, "text/javascript"),
}

_Answer = Response | dict[str, Any]


@dataclass(frozen=True)
class Session:
    """A person who is logged in on the approvals page until `ends_at`, a time of the clock of `Logins`."""

    name: str  # as the journal records it
    ends_at: float  # by the clock of `Logins`
    _halves: bytes = field(repr=False)


@dataclass
class Logins:
    """Makes login links and logins of people. `link_s` and `session_s` are the seconds that they last."""

    link_s: float
    session_s: float
    clock: Callable[[], float] = time.monotonic
    _links: dict[bytes, tuple[str, float]] = field(default_factory=dict, init=False)
    _sessions: dict[bytes, Session] = field(default_factory=dict, init=False)

    def link(self, name: str = "") -> str:
        """Make a login link, and return its secret. Without a `name`, the person gives one at the login."""
        self._forget()
        token = secrets.token_urlsafe(32)
        person = person_name(name) if name else ""
        self._links[hashed(token)] = (person, self.clock() + self.link_s)
        return token

    def open(self, token: str, name: str) -> tuple[Session, str, str]:
        """Log a person in by a login link, which then is used up. Return the session, its cookie and its key:
        each request needs both.

        Args:
            token: the secret of the link.
            name: the person's name, if the link has none.

        Raises:
            InvalidCall: the link or the name is not valid. A wrong name does not use up the link.
        """
        self._forget()
        link = self._links.get(hashed(token))
        if link is None:
            raise InvalidCall(
                "This login link was used already, is too old, or comes from a server that has "
                "stopped. For a new link, start the server again.",
                hint="",
            )
        person = link[0] or person_name(name)
        del self._links[hashed(token)]
        cookie, key = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        halves = hashed(cookie) + hashed(key)
        session = Session(person, self.clock() + self.session_s, halves)
        self._sessions[halves] = session
        return session, cookie, key

    def find(self, cookie: str, key: str) -> Session | None:
        session = self._sessions.get(hashed(cookie) + hashed(key))
        return session if session and self.lasts(session) else None

    def lasts(self, session: Session) -> bool:
        return session._halves in self._sessions and self.clock() < session.ends_at

    def close(self, session: Session) -> None:
        self._sessions.pop(session._halves, None)

    def _forget(self) -> None:
        now = self.clock()
        self._links = {k: v for k, v in self._links.items() if now < v[1]}
        self._sessions = {k: v for k, v in self._sessions.items() if now < v.ends_at}


def person_name(text: str) -> str:
    """A person's name for the journal. Raises InvalidCall if it is empty or too long, or has quotes
    or invisible characters."""
    name = text.strip()
    if not name or len(name) > MAX_NAME_CHARS or escaped(name) != name:
        rule = f"A name has 1 to {MAX_NAME_CHARS} visible characters, and no quotes."
        raise InvalidCall(f"{quoted(text)} is not a valid name. {rule}", hint="")
    return name


class Page:
    """The approvals page, at the path "/approvals". Its `entry` is the part for `create_app`.
    `GuardSettings.own_login` must list the path."""

    def __init__(self, toolkit: ActiveRoomsToolkit, settings: PageSettings | None = None) -> None:
        self._gate = toolkit.gate
        self._settings = settings or PageSettings()
        self._logins = Logins(self._settings.link_s, self._settings.session_s)
        self._feed = Feed(self._gate, self._settings)
        works: dict[tuple[str, str], Callable[[Request, Session], Awaitable[_Answer]]] = {
            ("POST", "/logout"): self._logout,
            ("POST", "/actions/{action_id}"): self._decide,
            ("GET", "/actions/{action_id}"): self._action,
            ("GET", "/news"): self._news,
            ("GET", "/journal"): self._rows,
        }
        routes = [
            *(Route(f"{PATH}/{name}", _file(name, kind)) for name, kind in _FILES.items()),
            *(Route(PATH + end, _file("page.html", "text/html")) for end in ("", "/")),
            _route("POST", "/login", self._login),
            *(_route(*place, work, self._session) for place, work in works.items()),
        ]
        self.entry = Entry(routes, self._feed.running)

    def login_link(self, base_url: str, name: str = "") -> str:
        """Return a link that logs one person in, once. Without a `name`, the person types one."""
        person = f"&name={quote(person_name(name), safe='')}" if name else ""
        return f"{base_url.rstrip('/')}{PATH}#login={self._logins.link(name)}{person}"

    def _session(self, request: Request) -> Session:
        cookie = request.cookies.get(_cookie_name(request), "")
        session = self._logins.find(cookie, request.headers.get(KEY_HEADER, ""))
        if session is None:
            raise Refused(401, "session", "You are not logged in.")
        return session

    async def _login(self, request: Request) -> Response:
        body = await _sent(request)
        try:
            token, name = (str(body.get(part, "")) for part in ("token", "name"))
            session, cookie, key = self._logins.open(token, name)
        except InvalidCall as error:
            raise Refused(403, "login", str(error)) from None
        with suppress(Refused):  # end the session that this browser had
            self._logins.close(self._session(request))
        response = Json({"name": session.name, "key": key})
        response.set_cookie(
            _cookie_name(request),
            cookie,
            max_age=int(self._settings.session_s),
            path=PATH,
            # The browser's origin shows TLS even if a proxy ends it.
            secure=request.headers["origin"].lower().startswith("https:"),
            httponly=True,
            samesite="strict",
        )
        return response

    async def _logout(self, request: Request, who: Session) -> Response:
        await _sent(request)
        self._logins.close(who)
        response = Json({})
        response.delete_cookie(_cookie_name(request), path=PATH)
        return response

    async def _news(self, request: Request, who: Session) -> dict[str, Any]:
        seen = request.query_params.get("seen", "")
        told = await self._feed.news(seen, lambda: self._logins.lasts(who))
        return {"name": self._session(request).name, **told}  # raises if the session has ended

    async def _action(self, request: Request, _: Session) -> dict[str, Any]:
        action, events, newest = await show(self._gate, request.path_params["action_id"].lower())
        # Somebody who opens a waiting action in the journal's list sees its question too.
        seen = any(event.kind == "asked" and event.way == WAY for event in events)
        if action.waiting and not seen:
            await self._gate.asked(action, WAY)
        return {
            **action_view(action),
            "told": told(action, newest),
            "ended": newest.state in FINAL,
            "events": [event_view(event) for event in events],
        }

    async def _decide(self, request: Request, who: Session) -> dict[str, Any]:
        body = await _sent(request)
        action_id = request.path_params["action_id"].lower()
        verdict = await decide_and_run(self._gate, action_id, body, by=who.name, way=WAY)
        ended = verdict.action.state in FINAL
        return {"counted": verdict.counted, "text": verdict.text, "ended": ended}

    async def _rows(self, request: Request, _: Session) -> dict[str, Any]:
        given = request.query_params
        states: dict[str, State] = {state: state for state in get_args(State)}
        if (text := given.get("state", "")) and text not in states:
            raise InvalidCall("There is no such state.", hint="")
        room = parse_room_id(given["room"]) if given.get("room") else None
        rows = await list_actions(
            self._gate, state=states.get(text), room_id=room, limit=JOURNAL_ROWS
        )
        return {"rows": [action_view(row) for row in rows]}


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = Path(__file__).with_name(name).read_bytes()

    async def serve(_: Request) -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return serve


def _route(
    method: str,
    path: str,
    work: Callable[..., Awaitable[_Answer]],
    session: Callable[[Request], Session] | None = None,
) -> Route:
    """A route. `session` finds the session of a request; if it is None, anybody may call."""

    async def serve(request: Request) -> Response:
        try:
            found = await (work(request, session(request)) if session else work(request))
        except (Refused, ActiveRoomsError) as error:
            found = await on_error(request, error)
        response = Json(found) if isinstance(found, dict) else found
        response.headers.update(HEADERS)
        return response

    route = Route(PATH + path, serve)
    route.methods = {method}  # no HEAD: it would record that a question was shown
    return route


def _cookie_name(request: Request) -> str:
    """Has the port in it, since browsers share cookies between the ports of a host."""
    port = request.url.port
    return f"hms_approvals_{port}" if port else "hms_approvals"


async def _sent(request: Request) -> dict[str, JsonValue]:
    """The JSON that a script of the page sent. The guard has compared Origin and Host."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    if not request.headers.get("origin") or site != "same-origin":
        raise Refused(403, "origin", "Only the page itself may send this.")
    return await json_body(request)
