"""The moderator: model -> gate -> ask -> one task per call -> model, on LangGraph.

The gate node proposes every state-changing call of a turn, the ask node puts all that
need a person into one interrupt, and each call then runs in a task of its own. The
graph's state only says which rows to ask about; the journal decides what may run.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Literal, NotRequired

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AnyMessage, SystemMessage, ToolCall, ToolMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool, ToolException
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, Command, Send, interrupt
from pydantic import ValidationError
from typing_extensions import TypedDict

from hms_active_rooms import blocking
from hms_active_rooms.agent import history
from hms_active_rooms.agent.hitl import hitl_request, parse_hitl_answer
from hms_active_rooms.agent.models import resolve_model
from hms_active_rooms.capability import capability
from hms_active_rooms.errors import ActiveRoomsError, ApprovalNeeded, InvalidCall
from hms_active_rooms.gate.approval import BadAnswerError, Reject
from hms_active_rooms.gate.calls import explain, parse_call
from hms_active_rooms.gate.drafts import Origin
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.records import Action
from hms_active_rooms.tools.active_rooms import report
from hms_active_rooms.tools.arguments import ARGUMENTS
from hms_active_rooms.tools.asking import MESSAGE_KEY, place_of
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

MAX_BAD_ANSWERS = 10
"""Malformed answers to one question before it is dropped, so that a broken client ends."""

MAX_CALLS = 50
"""Calls of one model message that are looked at; each may read the room."""

_WITHDRAWN = "the person wrote a new message instead of answering"

AsyncNode = Callable[[Any, RunnableConfig], Coroutine[Any, Any, Any]]


class ModeratorState(TypedDict):
    """Messages, and what the ask node needs. No approval lives here."""

    messages: Annotated[list[AnyMessage], add_messages]
    pending: NotRequired[list[str]]
    problem: NotRequired[str]
    prompts: NotRequired[int]
    bad_answers: NotRequired[int]


class CallTask(TypedDict):
    """One tool call, run in a task of its own."""

    call: ToolCall
    message_id: str


def build_moderator(
    model: BaseChatModel | str | None,
    toolkit: ActiveRoomsToolkit,
    *,
    room_id: str | None = None,
    checkpointer: Checkpointer = None,
    max_steps: int = 12,
    max_prompts: int = 12,
    plain_answers: bool = False,
) -> CompiledStateGraph[ModeratorState, None, ModeratorState, ModeratorState]:
    """A compiled graph that talks and moderates.

    Args:
        model: a chat model that can call tools, its name for `init_chat_model`
            ("provider:model", extra `models`), or "commands" / None for the offline one.
        toolkit: client, policy, journal and gate.
        room_id: the room the conversation is about, told to the model.
        checkpointer: keeps the pause while a person is asked. None under a server
            that brings its own (`langgraph dev`).
        max_steps: model answers per message of the person.
        max_prompts: actions a person is asked about per message of theirs.
        plain_answers: take approvals without a digest, from UIs that know LangChain's shape
            only. A click too many then approves whatever is asked next.

    Resume with `Command(resume={interrupt.id: {"decisions": [{"type": "approve", "digest":
    ...}]}})`, the digest being the request's; name the person with `config={"configurable":
    {"thread_id": ..., "approver": "ada"}}`.
    """
    limits = _Limits(max_steps, max_prompts, plain_answers)
    nodes = _Nodes(resolve_model(model, room_id), toolkit, room_id, limits)
    graph = StateGraph(ModeratorState)
    graph.add_node("enter", _both(nodes.enter))
    graph.add_node("model", RunnableLambda(nodes.call_model, afunc=nodes.acall_model))
    graph.add_node("gate", _both(nodes.gate), destinations=("ask", "tools", "model"))
    graph.add_node("ask", _both(nodes.ask), destinations=("ask", "gate"))
    graph.add_node("tools", _both(nodes.tools), input_schema=CallTask)
    graph.add_edge(START, "enter")
    graph.add_edge("enter", "model")
    graph.add_conditional_edges("model", _after_model, ["gate", "__end__"])
    graph.add_edge("tools", "gate")
    compiled = graph.compile(checkpointer=checkpointer, name="moderator")
    return compiled.with_config(recursion_limit=10 * max_steps + 4 * MAX_BAD_ANSWERS)


def _both(node: AsyncNode) -> RunnableLambda[Any, Any]:
    def blocking_node(state: Any, config: RunnableConfig) -> Any:
        return blocking.run(node(state, config))

    return RunnableLambda(blocking_node, afunc=node, name=getattr(node, "__name__", None))


def _after_model(state: ModeratorState) -> Literal["gate", "__end__"]:
    last = state["messages"][-1]
    called = isinstance(last, AIMessage) and (last.tool_calls or last.invalid_tool_calls)
    return "gate" if called else "__end__"


@dataclass(frozen=True)
class _Limits:
    steps: int
    prompts: int
    plain_answers: bool


class _Nodes:
    def __init__(
        self,
        model: BaseChatModel,
        toolkit: ActiveRoomsToolkit,
        room_id: str | None,
        limits: _Limits,
    ) -> None:
        self._gate: Gate = toolkit.gate
        self._requester = toolkit.requester
        self._tools: dict[str, BaseTool] = {t.name: t for t in toolkit.get_tools_for_asking_graph()}
        self._model: Runnable[LanguageModelInput, AIMessage] = model.bind_tools(
            list(self._tools.values())
        )
        self._system = SystemMessage(_prompt(room_id))
        self._max_steps = limits.steps
        self._max_prompts = limits.prompts
        self._plain_answers = limits.plain_answers

    # --- enter: a new message of the person ------------------------------------------------

    async def enter(self, state: ModeratorState, config: RunnableConfig) -> dict[str, Any]:
        """Withdraw what was still pending when the person wrote something new."""
        fresh: dict[str, Any] = {"pending": [], "problem": "", "prompts": 0, "bad_answers": 0}
        for action in await self._gate.open_actions(self._thread(config)):
            await self._gate.withdraw(action.id, _WITHDRAWN, by="person", way="message")
        found = history.last_calls(state["messages"])
        if found is None or not found[1]:
            return fresh
        message, calls = found
        results = [
            await self._left_over(call, self._origin(message, call, config)) for call in calls
        ]
        return {**fresh, "messages": results}

    async def _left_over(self, call: ToolCall, origin: Origin) -> ToolMessage:
        """The result of a call whose turn was cut off: what the journal says, or nothing ran."""
        text = f"Not executed: {_WITHDRAWN}."
        if call["name"] not in ARGUMENTS or capability().tool(call["name"]).hints.read_only:
            return _result(call, text)
        try:
            action = await self._gate.find(parse_call(call["name"], call["args"]), origin)
            return _result(call, *report(action)) if action else _result(call, text)
        except InvalidCall:
            return _result(call, text)
        except ToolException as error:
            return _result(call, str(error), failed=True)

    # --- model -----------------------------------------------------------------------------

    def call_model(self, state: ModeratorState) -> dict[str, Any]:
        """The model's next message, or a closing one when a limit is reached."""
        if stop := self._limit(state):
            return {"messages": [AIMessage(stop)]}
        answer = self._model.invoke([self._system, *history.for_model(state["messages"])])
        return {"messages": [history.with_unique_call_ids(answer, state["messages"])]}

    async def acall_model(self, state: ModeratorState) -> dict[str, Any]:
        """`call_model`, asynchronously."""
        if stop := self._limit(state):
            return {"messages": [AIMessage(stop)]}
        answer = await self._model.ainvoke([self._system, *history.for_model(state["messages"])])
        return {"messages": [history.with_unique_call_ids(answer, state["messages"])]}

    def _limit(self, state: ModeratorState) -> str:
        if history.refusals_in_a_row(state["messages"]) >= self._gate.policy.refusals_in_a_row:
            return "I stopped: too many actions in a row were refused. Tell me what to do next."
        if history.steps_taken(state["messages"]) >= self._max_steps:
            return f"I stopped after {self._max_steps} steps. Tell me what to do next."
        return ""

    # --- gate ------------------------------------------------------------------------------

    async def gate(self, state: ModeratorState, config: RunnableConfig) -> Command[Any]:
        """Propose this turn's calls; then ask, run or answer them."""
        found = history.last_calls(state["messages"])
        if found is None:
            return Command(goto="model")
        message, calls = found
        results: list[ToolMessage] = [
            _result(
                ToolCall(name=c["name"] or "", args={}, id=c["id"]),
                "The arguments were not valid JSON. Nothing was executed. Call again.",
                failed=True,
            )
            for c in history.unreadable_calls(state["messages"])
        ]
        ready: list[Send] = []
        pending: list[str] = []
        asked = state.get("prompts", 0)
        for number, call in enumerate(calls):
            if number >= MAX_CALLS:
                text = f"More than {MAX_CALLS} calls in one message; this one was not executed."
                results.append(_result(call, text, failed=True))
                continue
            verdict = await self._judge(call, self._origin(message, call, config))
            if isinstance(verdict, ToolMessage):
                results.append(verdict)
            elif verdict is None:
                task = CallTask(call=call, message_id=message.id or "")
                ready.append(Send("tools", task))
            elif not place_of(config).can_interrupt:
                reason = "nobody can be asked here: no thread id, or no checkpointer"
                action = await self._gate.decide(verdict, Reject(reason), by="gate", way="gate")
                results.append(_result(call, *report(action)))
            elif asked + len(pending) >= self._max_prompts:
                reason = f"more than {self._max_prompts} actions were asked for in this turn"
                action = await self._gate.decide(verdict, Reject(reason), by="gate", way="gate")
                results.append(_result(call, *report(action)))
            else:
                pending.append(verdict)
        update: dict[str, Any] = {"messages": results}
        if pending:
            update |= {"pending": pending, "prompts": asked + len(pending), "bad_answers": 0}
            return Command(update={**update, "problem": ""}, goto="ask")
        return Command(update=update, goto=ready or "model")

    async def _judge(self, call: ToolCall, origin: Origin) -> ToolMessage | str | None:
        """A result at once, the id of the action a person must be asked about, or None: run it."""
        name = call["name"]
        if name not in ARGUMENTS:
            known = ", ".join(ARGUMENTS)
            text = f"There is no such tool. Nothing was executed. The tools are: {known}."
            return _result(call, text, failed=True)
        try:
            ARGUMENTS[name].model_validate(call["args"])
        except ValidationError as error:
            text = f"{explain(error)} Nothing was executed. Fix the arguments and call again."
            return _result(call, text, failed=True)
        if capability().tool(name).hints.read_only:
            return None
        try:
            action = await self._gate.propose(parse_call(name, call["args"]), origin)
            if action.state == "proposed":
                return action.id
            if action.state in ("approved", "sent", "unknown"):
                return None
            return _result(call, *report(action))
        except ActiveRoomsError as error:
            refused = {"state": "rejected", "reason": error.code}
            return _result(call, error.for_model(), refused, failed=True)
        except ToolException as error:
            return _result(call, str(error), failed=True)

    # --- ask -------------------------------------------------------------------------------

    async def ask(self, state: ModeratorState, config: RunnableConfig) -> Command[Any]:
        """One interrupt for all that is pending; decisions go into the journal."""
        gate, place = self._gate, place_of(config)
        rows = [await gate.get(action_id) for action_id in state.get("pending", [])]
        rows = [row for row in rows if row.thread == self._thread(config)]
        if not rows:
            return Command(goto="gate")
        ask = await gate.place_ask(("turn", place.thread, place.task), [r.id for r in rows])
        requests = [gate.request(row) for row in rows]
        if ask.fresh:
            for row in rows:
                await gate.asked(row, "interrupt")
        answer = interrupt(hitl_request(requests, state.get("problem", "")))
        by = place.approver
        try:
            # Recorded just now, or for other rows: then the answer was for another question.
            if ask.fresh or ask.items != [row.id for row in rows]:
                raise BadAnswerError("the answer was given before this question")
            decisions = parse_hitl_answer(answer, requests, by, plain_answers=self._plain_answers)
        except BadAnswerError as error:
            return await self._ask_again(rows, str(error), state.get("bad_answers", 0) + 1)
        for row, decision in zip(rows, decisions, strict=True):
            await gate.decide(row.id, decision, by=by or "interrupt", way="interrupt")
        return Command(update={"pending": [], "problem": ""}, goto="gate")

    async def _ask_again(self, rows: list[Action], problem: str, bad: int) -> Command[Any]:
        for row in rows:
            await self._gate.bad_answer(row, problem, way="interrupt")
            if bad >= MAX_BAD_ANSWERS:
                await self._gate.decide(
                    row.id, Reject("no valid answer came"), by="gate", way="gate"
                )
        goto = "gate" if bad >= MAX_BAD_ANSWERS else "ask"
        return Command(update={"problem": problem, "bad_answers": bad}, goto=goto)

    # --- tools -----------------------------------------------------------------------------

    async def tools(self, task: CallTask, config: RunnableConfig) -> dict[str, Any]:
        """Run one call. Without a result the gate node looks at it again."""
        call = task["call"]
        configurable = {**config.get("configurable", {}), MESSAGE_KEY: task["message_id"]}
        here = RunnableConfig(**{**config, "configurable": configurable})
        try:
            return {"messages": [await self._tools[call["name"]].ainvoke(call, here)]}
        except ApprovalNeeded:
            return {"messages": []}

    # --- where a call was made ---------------------------------------------------------------

    def _origin(self, message: AIMessage, call: ToolCall, config: RunnableConfig) -> Origin:
        return Origin(self._thread(config), message.id or "", call["id"] or "", self._requester)

    def _thread(self, config: RunnableConfig) -> str:
        return place_of(config).origin_thread


def _result(
    call: ToolCall, text: str, artifact: Any = None, *, failed: bool = False
) -> ToolMessage:
    return ToolMessage(
        text,
        tool_call_id=call["id"] or "",
        name=call["name"],
        artifact=artifact,
        status="error" if failed else "success",
    )


def _prompt(room_id: str | None) -> str:
    text = files(__package__).joinpath("prompt.md").read_text(encoding="utf-8")
    return f"{text}\nRoom: {room_id}\n" if room_id else text
