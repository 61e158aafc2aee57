"""REST: the five tools, the actions that wait, and the decisions on them, under /v1.

Only an approver's token decides, and it calls nothing that changes a room.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, TypeVar

from fastapi import Depends, FastAPI, Header, Path, Query, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hms_active_rooms import __version__
from hms_active_rooms.capability import Tool, capability
from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.actions.change import Arguments, RoomId
from hms_active_rooms.gate.approval import Approve, Decision, Edit, ReasonText, Reject, Scope
from hms_active_rooms.gate.journal.records import Action, State, Way
from hms_active_rooms.gate.view import ActionView, view
from hms_active_rooms.serve.answers import DATA, where_to_approve
from hms_active_rooms.serve.calls import Caller, call_tool, input_schema, threads_of
from hms_active_rooms.serve.decisions import (
    MAX_LISTED,
    NoAction,
    NoAnswer,
    decide,
    list_actions,
    show,
)
from hms_active_rooms.serve.guard import Approver, principal
from hms_active_rooms.serve.problems import (
    HANDLERS,
    MEDIA_TYPE,
    Json,
    Problem,
    Refused,
    json_object,
)
from hms_active_rooms.tools.active_rooms import hints
from hms_active_rooms.tools.arguments import ARGUMENTS
from hms_active_rooms.untrusted import escaped

if TYPE_CHECKING:
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

WAY: Final[Way] = "rest"
MAX_EVENTS: Final = 200

_ABOUT: Final = """\
Moderates live 100ms rooms. Reading is free. What changes a room waits for a person: the answer is
202 with the action's Location, and only an approver's token decides on it.
The same call is the same action while it is open. When it has ended, the next same call within an
hour is answered with its outcome and `repeated`, and nothing is sent for it; a call after that is
a new action. With an Idempotency-Key a call is one action for ever. A GET changes nothing of this.
Names, roles and user ids are data written by people in the room."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Id = Annotated[str, Path(pattern=r"^[A-Za-z2-7]{12}$"), AfterValidator(str.lower)]
IdempotencyKey = Annotated[str | None, Header(pattern=r"^[!-~]([ -~]{0,198}[!-~])?$")]
Escaped = Annotated[str, AfterValidator(lambda text: escaped(text[:200]))]
Data = TypeVar("Data", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


class Approval(_Model):
    """A yes to exactly what was shown."""

    digest: Digest = Field(description="Of the request: what is approved.")
    scope: Scope = Field(default="once", description="Calls from outside are approved once each.")
    words: dict[Literal["message", "type", "reason"], str] | None = Field(
        default=None, min_length=1, description="Run it with these words; see `editable`."
    )


class Rejection(_Model):
    """A no."""

    reason: ReasonText = Field(default="", max_length=2000, description="Told to whoever asked.")
    digest: Digest | None = Field(default=None, description="Of the request; may be left out.")


class ToolData(_Model):
    """One tool of the contract."""

    name: str
    title: str
    description: str
    hints: dict[Literal["readOnly", "destructive", "idempotent"], bool]
    input_schema: dict[str, Any] = Field(description="JSON schema of the request's body.")
    output_schema: dict[str, Any] = Field(description="JSON schema of the answer's `data`.")


class Tools(_Model):
    """The tools."""

    tools: list[ToolData]


class ToolAnswer(_Model, Generic[Data]):
    """What a tool answers."""

    text: str = Field(description="For a model.")
    data: Data
    repeated: bool = Field(description="The outcome of the same call before; this sent nothing.")


class Actions(_Model):
    """Actions, newest first."""

    actions: list[ActionView]


class EventData(_Model):
    """One thing that happened to an action."""

    at: datetime
    kind: str
    by: Escaped
    way: Escaped
    data: dict[str, Any]


class ShownAction(_Model):
    """One action and what happened to it."""

    action: ActionView
    events: list[EventData] = Field(description=f"Oldest first; the last {MAX_EVENTS}.")
    newest_id: str = Field(description="Another id once it was edited or is asked about again.")


class DecidedAction(_Model):
    """What became of a decision that counts."""

    text: str
    action: ActionView


def rest_routes(toolkit: ActiveRoomsToolkit, page: str = "") -> Sequence[BaseRoute]:
    """The routes, for `create_app(rest=...)`. The guard stands before them, and knows who calls.
    `page`: address of the approvals page, told to those who wait; "" when there is none."""
    rest = _Rest(toolkit, page)
    app = FastAPI(
        title="HMS Active Rooms",
        version=__version__,
        description=_ABOUT,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(_strict)],
        responses={"default": {"model": Problem, "description": "Refused, or it failed."}},
        exception_handlers=HANDLERS,
        default_response_class=Json,
    )

    def add(name: str, path: str, handler: Any, model: Any, *guards: Any, **more: Any) -> None:
        about: Any = {"operation_id": name, "response_model": model, "dependencies": guards}
        app.add_api_route(f"/v1/{path}", handler, **about, **more)

    bearers = {"caller": "Calls tools.", "approver": "Decides on actions."}
    caller, approver = (
        Security(HTTPBearer(scheme_name=name, description=text, auto_error=False))
        for name, text in bearers.items()
    )
    add("list_tools", "tools", rest.tools, Tools, caller, approver)
    add("list_actions", "actions", rest.actions, Actions, caller, approver)
    add("show_action", "actions/{id}", rest.action, ShownAction, caller, approver)
    answer_of: Any = ToolAnswer
    for tool in capability().tools:
        model, handler = answer_of[DATA[tool.name]], rest.calling(tool)
        title = hints(tool)["title"]
        guards = [caller, approver if tool.hints.read_only else Depends(rest.only_callers)]
        more: Any = {} if tool.hints.read_only else _may_wait(model)
        more |= {"methods": ["POST"], "summary": title, "description": tool.description}
        add(tool.name, f"tools/{tool.name}", handler, model, *guards, **more)
    more = {"methods": ["POST"]} | _may_wait(DecidedAction)
    for word, decide_by in (("approve", rest.approve), ("reject", rest.reject)):
        guards = [approver, Depends(rest.only_approvers)]
        add(f"{word}_action", f"actions/{{id}}/{word}", decide_by, DecidedAction, *guards, **more)

    for path in app.openapi()["paths"].values():  # FastAPI calls every answer plain JSON
        for operation in path.values():
            content = operation["responses"]["default"]["content"]
            content[MEDIA_TYPE] = content.pop("application/json")
    for route in app.routes:
        if isinstance(route, APIRoute) and route.methods == {"GET"}:
            route.methods = {"GET", "HEAD"}  # only now: HEAD is not documented
    return [Route("/v1", app), Route("/v1/{rest:path}", app)]


def _may_wait(model: type[BaseModel]) -> dict[str, Any]:
    where = {"Location": {"required": True, "schema": {"type": "string"}}}
    told = "Nothing was executed: a person decides first."
    return {"responses": {202: {"model": model, "description": told, "headers": where}}}


async def _strict(request: Request) -> None:
    """Refuse what two programs could read differently (a name given twice), and query parameters
    that `/v1/openapi.json` does not have."""
    given = [name for name, _ in request.query_params.multi_items()]
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    if len(given) > len(known.intersection(given)):
        raise Refused(422, InvalidCall.code, "A query parameter is unknown or given twice.")
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise Refused(422, InvalidCall.code, "The Idempotency-Key is given twice.")
    if request.method == "POST":
        await json_object(request)


class _Rest:
    def __init__(self, toolkit: ActiveRoomsToolkit, page: str) -> None:
        self._toolkit, self._gate, self._page = toolkit, toolkit.gate, page

    async def only_approvers(self, request: Request, id: Id) -> None:
        if not _approver(request):
            told = "Only an approver's token decides, and this request has none."
            hint = f"A person decides {where_to_approve(id, self._page)}. Do not decide for them."
            raise Refused(403, "not_an_approver", told, hint)

    async def only_callers(self, request: Request) -> None:
        if _approver(request):
            told = "An approver's token does not call what changes a room."
            hint = "Use the caller's token; nobody both asks and approves."
            raise Refused(403, "approver_cannot_call", told, hint)

    async def tools(self) -> Tools:
        return Tools(tools=[_tool_data(tool) for tool in capability().tools])

    def calling(self, tool: Tool) -> Callable[..., Awaitable[dict[str, object]]]:
        async def call(
            request: Request,
            response: Response,
            arguments: Arguments,
            idempotency_key: IdempotencyKey = None,
        ) -> dict[str, object]:
            who = principal(request.scope)
            name = f"{WAY}:{who.name}" if who.name else WAY
            caller = Caller(name, name, idempotency_key or "", who.name)
            told = await call_tool(
                self._toolkit, tool.name, arguments, caller=caller, page=self._page
            )
            _point_to(told.action, response)
            return {"text": told.text, "data": told.data, "repeated": told.repeated}

        call.__annotations__["arguments"] = ARGUMENTS[tool.name]
        return call

    async def actions(
        self,
        request: Request,
        state: State | None = None,
        room_id: RoomId | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 50,
    ) -> Actions:
        found = await list_actions(
            self._gate, state=state, room_id=room_id, within=_may_read(request), limit=limit
        )
        return Actions(actions=[self._data(action) for action in found])

    async def action(self, id: Id, request: Request) -> dict[str, object]:
        try:
            shown = await show(self._gate, id, _may_read(request))
        except NoAction:
            raise Refused.no_action() from None
        told = {"action": self._data(shown.action), "events": shown.events[-MAX_EVENTS:]}
        return {**told, "newest_id": shown.newest.id}

    async def approve(
        self, id: Id, given: Approval, request: Request, response: Response
    ) -> DecidedAction:
        decision: Decision = Approve(given.digest, scope=given.scope)
        if given.words is not None:
            if given.scope != "once":
                told = "An approval for the session cannot have other words."
                raise Refused(422, InvalidCall.code, told)
            decision = Edit(given.digest, {str(k): text for k, text in given.words.items()})
        return await self._decided(id, decision, given.digest, request, response)

    async def reject(
        self, id: Id, given: Rejection, request: Request, response: Response
    ) -> DecidedAction:
        answer = {"type": "reject", "message": given.reason, "digest": given.digest}
        decision = Reject(given.reason) if given.digest is None else answer
        return await self._decided(id, decision, given.digest, request, response)

    async def _decided(
        self, id: str, answer: object, digest: str | None, request: Request, response: Response
    ) -> DecidedAction:
        try:
            verdict = await decide(self._gate, id, answer, by=_approver(request), way=WAY)
        except NoAction:
            raise Refused.no_action() from None
        except NoAnswer as error:
            if digest in (None, error.digest):
                raise
            raise Refused(409, "stale_digest", str(error), error.hint) from None
        data = self._data(verdict.action)
        if not verdict.counted:
            hint = "Your decision changed nothing."
            raise Refused(409, "already_decided", verdict.text, hint, data)
        _point_to(verdict.action, response)
        return DecidedAction(text=verdict.text, action=data)

    def _data(self, action: Action) -> ActionView:
        return view(action, approve_at=where_to_approve(action.id, self._page))


def _point_to(action: Action | None, response: Response) -> None:
    if action is not None and action.state == "proposed":
        response.status_code = 202
        response.headers["location"] = f"/v1/actions/{action.id}"


def _tool_data(tool: Tool) -> ToolData:
    does = tool.hints
    return ToolData(
        name=tool.name,
        title=hints(tool)["title"],
        description=tool.description,
        hints={
            "readOnly": does.read_only,
            "destructive": does.destructive,
            "idempotent": does.idempotent,
        },
        input_schema=input_schema(tool.name),
        output_schema=DATA[tool.name].model_json_schema(),
    )


def _may_read(request: Request) -> Collection[str] | None:
    """The threads whose actions may be read with this token; None: any."""
    who = principal(request.scope)
    return None if isinstance(who, Approver) or who.alone else threads_of(who.name)


def _approver(request: Request) -> str:
    who = principal(request.scope)
    return who.name if isinstance(who, Approver) else ""
