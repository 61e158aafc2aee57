"""REST: the five tools, the actions that wait, and the decisions on them, under /v1.

Threat: a program repeats a request because an answer got lost, or approves what it asked
for. Invariant: every call goes through `serve.calls` and every decision through
`serve.decisions`; only an approver's token decides, and it calls nothing that changes a room.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hms_active_rooms.capability import capability
from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.records import Action
from hms_active_rooms.serve.answers import (
    MAX_TEXT_CHARS,
    action_answer,
    where_to_approve,
)
from hms_active_rooms.serve.calls import Caller, call_tool, is_repeated
from hms_active_rooms.serve.decisions import (
    Shown,
    Verdict,
    asked,
    decide,
    list_actions,
    show,
)
from hms_active_rooms.serve.openapi import document, listed
from hms_active_rooms.serve.rest_approvers import Approver, RestSettings, who
from hms_active_rooms.serve.rest_models import (
    ACTION_ID,
    KEY,
    MAX_EVENTS,
    ActionsQuery,
    Approval,
    NoQuery,
    Rejection,
)
from hms_active_rooms.serve.rest_problems import ProblemError
from hms_active_rooms.serve.rest_wire import Resource, answer, body, checked, query
from hms_active_rooms.untrusted import escaped

if TYPE_CHECKING:
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

WAY = "rest"
"""How people were asked, for the record."""

_ID = re.compile(ACTION_ID)
_KEY = re.compile(KEY)


def rest_routes(
    toolkit: ActiveRoomsToolkit, settings: RestSettings | None = None
) -> Sequence[BaseRoute]:
    """The routes, for `create_app(rest=...)`; the guard stands before them.

    Args:
        toolkit: holds the gate.
        settings: who may approve; without them nobody may by REST.
    """
    rest = _Rest(toolkit, settings or RestSettings())
    nothing = Resource(GET=_nothing, POST=_nothing, PUT=_nothing, PATCH=_nothing, DELETE=_nothing)
    return [
        Route("/v1/openapi.json", Resource(GET=rest.openapi)),
        Route("/v1/tools", Resource(GET=rest.tools)),
        Route("/v1/tools/{name}", Resource(POST=rest.call)),
        Route("/v1/actions", Resource(GET=rest.actions)),
        Route("/v1/actions/{id}", Resource(GET=rest.action)),
        Route("/v1/actions/{id}/approve", Resource(POST=rest.approve)),
        Route("/v1/actions/{id}/reject", Resource(POST=rest.reject)),
        Route("/v1", nothing),
        Route("/v1/{rest:path}", nothing),
    ]


async def _nothing(_: Request) -> Response:
    raise ProblemError(
        404, "not_found", "There is no such resource.", hint="See GET /v1/openapi.json."
    )


class _Rest:
    """The handlers."""

    def __init__(self, toolkit: ActiveRoomsToolkit, settings: RestSettings) -> None:
        self._toolkit = toolkit
        self._gate = toolkit.gate
        self._settings = settings
        self._document = document()

    async def openapi(self, request: Request) -> Response:
        query(request, NoQuery)
        return answer(self._document)

    async def tools(self, request: Request) -> Response:
        query(request, NoQuery)
        return answer({"tools": [listed(tool) for tool in capability().tools]})

    # --- calling -----------------------------------------------------------------------------

    async def call(self, request: Request) -> Response:
        query(request, NoQuery)
        tool = next((t for t in capability().tools if t.name == request.path_params["name"]), None)
        if tool is None:
            raise ProblemError(404, "no_tool", "There is no such tool.", hint="See GET /v1/tools.")
        if not tool.hints.read_only and isinstance(who(request, self._settings), Approver):
            raise ProblemError(
                403,
                "approver_cannot_call",
                "An approver's token does not call what changes a room.",
                hint="Use the caller's token; nobody both asks and approves.",
            )
        arguments = await body(request)
        caller = Caller(WAY, WAY, "" if tool.hints.read_only else _key(request))
        began = self._gate.journal.now()
        told = await call_tool(
            self._toolkit, tool.name, arguments, caller=caller, page=self._settings.page
        )
        content: dict[str, Any] = {"text": told.text, "data": told.data}
        if told.action is not None:
            content["repeated"] = is_repeated(told.action, began)
        if told.waiting and told.action:
            return _waits(content, told.action)
        return answer(content)

    # --- looking -----------------------------------------------------------------------------

    async def actions(self, request: Request) -> Response:
        wanted = query(request, ActionsQuery)
        found = await list_actions(
            self._gate, state=wanted.state, room_id=wanted.room_id, limit=wanted.limit
        )
        return answer({"actions": [self._data(action) for action in found]})

    async def action(self, request: Request) -> Response:
        query(request, NoQuery)
        shown = await self._shown(request)
        if request.method == "GET":
            await self._seen(request, shown)
        asked_about = shown.request
        return answer(
            {
                "action": self._data(shown.action),
                "request": asked_about
                and {
                    "text": asked_about.text,
                    "digest": asked_about.digest,
                    "deadline": asked_about.deadline.isoformat(),
                    "gate": asked_about.gate,
                    "editable": list(asked_about.editable),
                },
                "events": [
                    {
                        "at": event.at.isoformat(),
                        "kind": event.kind,
                        "by": escaped(event.by[:MAX_TEXT_CHARS]),
                        "way": escaped(event.way[:MAX_TEXT_CHARS]),
                        "data": event.data,
                    }
                    for event in shown.events[-MAX_EVENTS:]
                ],
                "newest_id": shown.newest.id,
            }
        )

    async def _seen(self, request: Request, shown: Shown) -> None:
        """On record, once: an approver saw the question. Whatever else looks writes nothing."""
        if not isinstance(who(request, self._settings), Approver):
            return
        if not any(e.kind == "asked" and e.way == WAY for e in shown.events):
            await asked(self._gate, shown.action, WAY)

    def _data(self, action: Action) -> dict[str, Any]:
        now = replace(action, state=action.state_at(self._gate.journal.now()))
        return action_answer(now, self._settings.page).data

    # --- deciding ----------------------------------------------------------------------------

    async def approve(self, request: Request) -> Response:
        query(request, NoQuery)
        by = self._approver(request)
        given = checked(Approval, await body(request))
        shown = await self._shown(request)
        action = shown.action
        decision: dict[str, Any] = {"digest": given.digest}
        if given.words is None:
            decision |= {"type": "approve", "scope": given.scope}
        elif given.scope != "once":
            raise ProblemError(
                422, "invalid_call", "An approval for the session cannot have other words."
            )
        else:
            words: dict[str, object] = dict(given.words.items())
            args = {**action.arguments, **words}
            decision |= {"type": "edit", "edited_action": {"name": action.tool, "args": args}}
        return await self._decided(action, decision, by)

    async def reject(self, request: Request) -> Response:
        query(request, NoQuery)
        by = self._approver(request)
        given = checked(Rejection, await body(request))
        shown = await self._shown(request)
        decision: dict[str, Any] = {"type": "reject", "message": given.reason}
        if given.digest is not None:
            decision["digest"] = given.digest
        return await self._decided(shown.action, decision, by)

    async def _decided(self, action: Action, decision: dict[str, Any], by: str) -> Response:
        try:
            verdict = await decide(self._gate, action.id, decision, by=by, way=WAY)
        except InvalidCall as error:
            if decision.get("digest", action.digest) == action.digest:
                raise
            raise ProblemError(409, "stale_digest", str(error), hint=error.hint) from None
        if not verdict.counted:
            raise self._too_late(verdict)
        content = {"text": verdict.text, "action": self._data(verdict.action)}
        if verdict.action.state == "proposed":
            return _waits(content, verdict.action)
        return answer(content)

    def _too_late(self, verdict: Verdict) -> ProblemError:
        return ProblemError(
            409,
            "already_decided",
            verdict.text,
            hint="Your decision changed nothing.",
            action=self._data(verdict.action),
        )

    def _approver(self, request: Request) -> str:
        """The name of whoever may decide.

        Raises:
            ProblemError: 403 for everybody else, with where to approve instead.
        """
        found = who(request, self._settings)
        if isinstance(found, Approver):
            return found.name
        where = where_to_approve(_action_id(request), self._settings.page)
        raise ProblemError(
            403,
            "not_an_approver",
            "Only an approver's token decides, and this request has none.",
            hint=f"A person decides {where}. Do not decide for them.",
        )

    async def _shown(self, request: Request) -> Shown:
        try:
            return await show(self._gate, _action_id(request))
        except InvalidCall:
            raise _no_action() from None


def _waits(content: dict[str, Any], action: Action) -> Response:
    return answer(content, 202, headers={"location": f"/v1/actions/{action.id}"})


def _action_id(request: Request) -> str:
    found: str = request.path_params["id"]
    if not _ID.fullmatch(found):
        raise _no_action()
    return found.lower()


def _no_action() -> ProblemError:
    return ProblemError(404, "no_action", "There is no such action.", hint="See GET /v1/actions.")


def _key(request: Request) -> str:
    given = request.headers.getlist("idempotency-key")
    if not given:
        return ""
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise ProblemError(
            422,
            "invalid_call",
            "Idempotency-Key has 1 to 200 printable ASCII characters, and is given once.",
        )
    return given[0]
