"""Makes the tools of `capability.yaml` as LangChain `StructuredTool`s, all with one gate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import Signature, signature
from typing import Any, cast, no_type_check
from uuid import uuid4

from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.tools import StructuredTool, ToolException
from pydantic import BaseModel

from hms_active_rooms import blocking
from hms_active_rooms.capability import Tool, capability
from hms_active_rooms.errors import ActiveRoomsError, InvalidCall, OutcomeUnknown
from hms_active_rooms.gate.actions.change import Arguments, StateChange
from hms_active_rooms.gate.approval import Confirm
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal.records import Action, Origin, Way
from hms_active_rooms.gate.view import already, for_model, outcome, view
from hms_active_rooms.tools import roster
from hms_active_rooms.tools.arguments import ARGUMENTS, ListPeers
from hms_active_rooms.tools.asking import outside, perform, place_of

# What a tool returns: a text for the model, and LangChain's artifact as plain JSON values.
Answered = tuple[str, dict[str, Any]]
_Result = tuple[str | ToolMessage, object]
_STILL_APPROVED = "still approved"
# After a decision in one of these ways, outside the tools, the model is told who decided.
_ELSEWHERE: tuple[Way, ...] = ("page", "rest", "terminal", "command", "elicitation")


class ActiveRoomsTool(StructuredTool):
    """A StructuredTool that passes the call's id to its function. Its schema allows no unknown fields."""

    @property
    def tool_call_schema(self) -> type[BaseModel]:
        """The model of the tool's arguments. LangChain's own copy of it would allow unknown fields."""
        return cast(type[BaseModel], self.args_schema)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return super().invoke(_with_id(input), config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        return await super().ainvoke(_with_id(input), config, **kwargs)

    def _to_args_and_kwargs(
        self, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # InjectedToolCallId would pass the id, too, but then a plain tool.invoke({...}) raises. The
        # function parses the arguments.
        return (tool_input, tool_call_id), {}

    def _filter_injected_args(self, tool_input: dict[str, Any]) -> dict[str, Any]:
        # No argument is injected. LangChain's method would search all annotations at each call.
        return tool_input

    @property
    def _run(self) -> Any:
        return self.func

    @property
    def _arun(self) -> Any:
        return self.coroutine


def _with_id(given: Any) -> Any:
    """Return the input. Raises InvalidCall for a tool call without an id. LangGraph cannot return the
    result of such a call, but would notice only after the request was sent."""
    if isinstance(given, dict) and given.get("type") == "tool_call" and not given.get("id"):
        raise InvalidCall("The tool call has no id.", hint="Give the call an id.")
    return given


def build_tools(
    gate: Gate, *, confirm: Confirm | None = None, requester: str = "agent"
) -> list[StructuredTool]:
    """Return the tools, in the order of `capability.yaml`. If no graph can pause, `confirm` asks a person."""
    nowhere = outside()

    async def room(call: Arguments, _: str | None) -> Answered:
        live = await gate.active_room(call.room_id)
        return roster.render_room(live), roster.room_artifact(live)

    async def peers(call: Arguments, _: str | None) -> Answered:
        assert isinstance(call, ListPeers)
        text, view = roster.shown(*await read_roster(gate, call))
        return text, roster.artifact(call.room_id, view)

    async def change(call: Arguments, call_id: str | None) -> Answered:
        assert isinstance(call, StateChange)
        place = place_of(ensure_config())
        # In a graph the identity must be the same when the task runs again, even without a call id.
        # Outside a graph nothing runs again, so the same id twice means two calls.
        identity = (call_id or "") if place.task else str(uuid4())
        origin = Origin(place.thread or nowhere, place.task, identity, requester)
        return report(await perform(gate, call, origin, place, confirm))

    body = {"hms-retrieve-active-room": room, "hms-list-peers": peers}
    return [_tool(tool, body.get(tool.name, change)) for tool in capability().tools]


async def read_roster(gate: Gate, call: ListPeers) -> tuple[roster.Roster, int]:
    """Return what to show for a call of hms-list-peers, and how many tokens that may cost."""
    everyone = await gate.peers(call.room_id)
    view = roster.select(everyone, **call.model_dump(exclude={"room_id"}))
    return view, roster.default_budget(call.limit)


def report(ended: Action | ActiveRoomsError) -> Answered:
    """Return the model's text and LangChain's artifact. Raises ToolException if the call failed."""
    if isinstance(ended, OutcomeUnknown):
        return ended.for_model(), {"state": "unknown", "executed": "maybe"}
    if isinstance(ended, ActiveRoomsError):
        text = ended.for_model()
        if ended.held and _STILL_APPROVED not in text:
            text += (
                f" The action is {_STILL_APPROVED}: the same call sends it without a new question."
            )
        raise ToolException(text)
    whose = f"{already(ended)} " if ended.decided_way in _ELSEWHERE else ""
    text = whose + for_model(ended)
    if ended.state == "failed" and ended.executed == "no":
        raise ToolException(text)
    return text, view(ended, text=whose + outcome(ended)).model_dump(mode="json")


def as_message(
    call: ToolCall, text: str, artifact: Any = None, *, failed: bool = False
) -> ToolMessage:
    """Return the message for a tool call. If the call failed or was not executed, the status is "error"."""
    told = artifact if isinstance(artifact, dict) else {}
    # "done": nothing had to be executed, since nobody was left to affect
    unexecuted = told.get("executed") == "no" and told.get("state") != "done"
    return ToolMessage(
        text,
        tool_call_id=call["id"] or "",
        name=call["name"],
        artifact=artifact,
        status="error" if failed or unexecuted else "success",
    )


def _tool(
    tool: Tool, body: Callable[[Arguments, str | None], Awaitable[Answered]]
) -> StructuredTool:
    model = ARGUMENTS[tool.name]

    # Other frameworks call a tool's function themselves, with the arguments by name.
    async def acall(
        given: object = None, tool_call_id: str | None = None, /, **named: object
    ) -> _Result:
        try:
            arguments = model.parse(named if given is None else given)
            text, data = await body(arguments, tool_call_id)
        except ActiveRoomsError as error:
            text, data = report(error)
        made = ToolCall(name=tool.name, args={}, id=tool_call_id)
        return as_message(made, text, data) if tool_call_id else text, data

    def call(given: object = None, tool_call_id: str | None = None, /, **named: object) -> _Result:
        return blocking.run(acall(given, tool_call_id, **named))

    own = [p.replace(annotation=p.empty) for p in signature(model).parameters.values()]
    for each in (call, acall):
        # LangChain shows this signature to models that read prompts, not schemas. The signature and
        # `no_type_check` also save it a search for a config parameter at each call. The function
        # reads the config from the context.
        setattr(each, "__signature__", Signature(own))  # noqa: B010 - declared nowhere
        no_type_check(each)

    return ActiveRoomsTool(
        name=tool.name,
        description=tool.description,
        args_schema=model,
        func=call,
        coroutine=acall,
        response_format="content_and_artifact",
        handle_tool_error=True,
        metadata=hints(tool),
    )


def hints(tool: Tool) -> dict[str, Any]:
    """Return a tool's title, and its hints by the names that LangChain's MCP adapters use."""
    return {
        "title": tool.name.removeprefix("hms-").replace("-", " ").capitalize(),
        "readOnlyHint": tool.hints.read_only,
        "destructiveHint": tool.hints.destructive,
        "idempotentHint": tool.hints.idempotent,
        "openWorldHint": True,
    }
