"""The page's routes: its files, login, the stream of news, one action, a decision, the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args
from urllib.parse import quote

from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute, Route

from hms_active_rooms.errors import ActiveRoomsError, InvalidCall
from hms_active_rooms.gate.journal.records import FINAL, State
from hms_active_rooms.serve.decisions import asked, decide, list_actions, show
from hms_active_rooms.serve.page.feed import Feed
from hms_active_rooms.serve.page.http import (
    HEADERS,
    PATH,
    answer,
    cookie_name,
    file,
    problem,
    sent_by_the_page,
    session_of,
)
from hms_active_rooms.serve.page.sessions import Logins, person_name
from hms_active_rooms.serve.page.settings import PageSettings
from hms_active_rooms.serve.page.view import (
    MAX_FIND_CHARS,
    action_view,
    people_view,
    refusal_view,
    row_view,
)
from hms_active_rooms.serve.problems import Refused

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

WAY: Final = "page"
"""How the journal calls decisions made here."""

JOURNAL_ROWS: Final = 50
MAX_JOURNAL_ROWS: Final = 499

_FILES: Final = {
    "": ("page.html", "text/html"),
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{
        f"/{name}": (name, "text/javascript")
        for name in ("page.js", "cards.js", "lists.js", "server.js", "text.js")
    },
}

_Handler = Callable[["Request"], Awaitable["Response"]]


@dataclass(frozen=True)
class Page:
    """The page, for `create_app(page=page.routes, lifespans=[page.lifespan])`.

    Attributes:
        routes: at `PATH` and below; the guard's `own_login` must name `PATH`.
        lifespan: reads rooms and journal while somebody looks.
        close: ends the open streams, so that a server that stops need not wait for them.
    """

    routes: Sequence[BaseRoute]
    lifespan: Callable[[], AbstractAsyncContextManager[None]]
    close: Callable[[], None]
    _logins: Logins

    def login_link(self, base_url: str, name: str = "") -> str:
        """A link that logs one person in, once. Its secret is behind the #, which browsers
        send to nobody and no log has.

        Args:
            base_url: where the server is reached, as "http://127.0.0.1:9090".
            name: for whom; "": they say who they are.

        Raises:
            InvalidCall: not a name.
        """
        person = f"&name={quote(person_name(name), safe='')}" if name else ""
        return f"{base_url.rstrip('/')}{PATH}#login={self._logins.link(name)}{person}"

    def new_links(self, base_url: str, people: Sequence[str]) -> dict[str, str]:
        """A link for each of these people, by name; those made before open nothing any more.

        Args:
            base_url: where the server is reached.
            people: names; none: one link, for whoever opens it, under "".

        Raises:
            InvalidCall: not a name.
        """
        self._logins.forget_links()
        return {name: self.login_link(base_url, name) for name in people or ("",)}


def page_routes(toolkit: ActiveRoomsToolkit, settings: PageSettings | None = None) -> Page:
    """The page on a toolkit's gate."""
    settings = settings or PageSettings()
    logins = Logins(settings.link_s, settings.session_s)
    feed = Feed(toolkit.gate, settings)
    desk = _Desk(toolkit, logins, feed, settings)
    posts = {
        "/login": desk.login,
        "/logout": desk.logout,
        "/actions/{action_id}": desk.decide,
    }
    gets = {
        "/events": desk.events,
        "/people": desk.people,
        "/journal": desk.journal,
        "/refusals": desk.refusals,
        "/actions/{action_id}": desk.action,
    }
    routes = [
        *(Route(PATH + path, _static(*found)) for path, found in _FILES.items()),
        *(Route(PATH + path, _answered(work), methods=["POST"]) for path, work in posts.items()),
        *(Route(PATH + path, _answered(work), methods=["GET"]) for path, work in gets.items()),
    ]
    return Page(routes, feed.running, feed.close, logins)


def _static(name: str, kind: str) -> _Handler:
    content = Path(__file__).with_name(name).read_bytes()

    async def serve(_: Request) -> Response:
        return file(content, kind)

    return serve


def _answered(work: _Handler) -> _Handler:
    async def serve(request: Request) -> Response:
        try:
            return await work(request)
        except (Refused, ActiveRoomsError) as error:
            return await problem(request, error)

    return serve


class _Desk:
    """Answers the page's script."""

    def __init__(
        self, toolkit: ActiveRoomsToolkit, logins: Logins, feed: Feed, settings: PageSettings
    ) -> None:
        self._gate = toolkit.gate
        self._logins = logins
        self._feed = feed
        self._settings = settings

    async def login(self, request: Request) -> Response:
        body = await sent_by_the_page(request)
        try:
            opened = self._logins.open(str(body.get("token", "")), str(body.get("name", "")))
        except InvalidCall as error:
            raise Refused(403, "login", str(error)) from None
        with suppress(Refused):  # whoever was logged in in this browser is not any more
            self._logins.close(session_of(request, self._logins))
        response = answer({"name": opened.session.name, "key": opened.key})
        response.set_cookie(
            cookie_name(request),
            opened.cookie,
            max_age=int(self._settings.session_s),
            path=PATH,
            # The page's own origin tells whether it was loaded over TLS; we may be behind it.
            secure=request.headers["origin"].lower().startswith("https:"),
            httponly=True,
            samesite="strict",
        )
        return response

    async def logout(self, request: Request) -> Response:
        session = session_of(request, self._logins)
        await sent_by_the_page(request)
        self._logins.close(session)
        response = answer({})
        response.delete_cookie(cookie_name(request), path=PATH)
        return response

    async def events(self, request: Request) -> Response:
        session = session_of(request, self._logins)

        def lasts() -> bool:
            return self._logins.lasts(session)

        return StreamingResponse(
            self._feed.stream(session.name, lasts),
            media_type="text/event-stream",
            headers={**HEADERS, "x-accel-buffering": "no"},
        )

    async def people(self, request: Request) -> Response:
        session_of(request, self._logins)
        now = self._feed.room(request.query_params.get("room", ""))
        find = request.query_params.get("find", "")[:MAX_FIND_CHARS]
        return answer(await asyncio.to_thread(people_view, now, find))

    async def action(self, request: Request) -> Response:
        session_of(request, self._logins)
        shown = await show(self._gate, request.path_params["action_id"])
        # The journal's rows open as questions too.
        if not any(event.kind == "asked" and event.way == WAY for event in shown.events):
            await asked(self._gate, shown.action, WAY)
        return answer(action_view(shown))

    async def decide(self, request: Request) -> Response:
        session = session_of(request, self._logins)
        body = await sent_by_the_page(request)
        action_id = request.path_params["action_id"]
        try:
            verdict = await decide(self._gate, action_id, body, by=session.name, way=WAY)
        finally:
            self._feed.look_now()
        ended = verdict.action.state in FINAL
        return answer({"counted": verdict.counted, "text": verdict.text, "ended": ended})

    async def journal(self, request: Request) -> Response:
        session_of(request, self._logins)
        given = request.query_params
        state = _state(given.get("state", ""))
        limit = MAX_JOURNAL_ROWS if given.get("all") else JOURNAL_ROWS
        rows = await list_actions(
            self._gate, state=state, room_id=given.get("room") or None, limit=limit + 1
        )
        return answer({"rows": [row_view(row) for row in rows[:limit]], "more": len(rows) > limit})

    async def refusals(self, request: Request) -> Response:
        session_of(request, self._logins)
        rows = await asyncio.to_thread(self._gate.journal.refused_requests, limit=JOURNAL_ROWS)
        return answer({"rows": [refusal_view(row) for row in rows]})


def _state(text: str) -> State | None:
    states: dict[str, State] = {state: state for state in get_args(State)}
    if text and text not in states:
        raise InvalidCall("There is no such state.", hint="")
    return states.get(text)
