"""The moderator: model -> gate -> ask -> one task per call -> model, on LangGraph.

The gate node proposes every state-changing call of a turn. The ask node puts all that need a
person into one interrupt, records the decisions and runs what was approved; whatever needs nobody
runs in a task of its own. The graph's state holds the questions as they are shown; the journal
decides what may run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
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
from hms_active_rooms.capability import capability
from hms_active_rooms.errors import ActiveRoomsError, ApprovalNeeded, InvalidCall, OutcomeUnknown
from hms_active_rooms.gate.actions.change import StateChange, explain
from hms_active_rooms.gate.approval import BadAnswer, BadAnswerError, Reject
from hms_active_rooms.gate.deciding import Decided
from hms_active_rooms.gate.gate import Asking, Gate
from hms_active_rooms.gate.journal.records import Action, Origin
from hms_active_rooms.moderator import history
from hms_active_rooms.moderator.hitl import action_request, hitl_request, parse_hitl_answer
from hms_active_rooms.moderator.models import resolve_model
from hms_active_rooms.tools.active_rooms import report
from hms_active_rooms.tools.arguments import ARGUMENTS
from hms_active_rooms.tools.asking import MESSAGE_KEY, THREAD_KEY, Place, place_of
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

MAX_BAD_ANSWERS = 10
"""Malformed answers to one question before it is dropped, so that a broken client ends."""

MAX_CALLS = 50
"""Calls of one model message that are looked at; each may read the room."""

_WITHDRAWN = "the person wrote a new message instead of answering"
_BEFORE_IT_WAS_SENT = "the person wrote a new message before it was sent"

_READERS = frozenset(tool.name for tool in capability().tools if tool.hints.read_only)

AsyncNode = Callable[[Any, RunnableConfig], Coroutine[Any, Any, Any]]


class Asked(TypedDict):
    """A call that a person is asked about, and the question as it is shown."""

    call: ToolCall
    request: dict[str, Any]
    thread: str


class ModeratorState(TypedDict):
    """Messages, and what the ask node needs. No approval lives here."""

    messages: Annotated[list[AnyMessage], add_messages]
    run: NotRequired[str]
    questions: NotRequired[list[Asked]]
    problem: NotRequired[str]
    prompts: NotRequired[int]
    bad_answers: NotRequired[int]


class CallTask(TypedDict):
    """One tool call, run in a task of its own."""

    call: ToolCall
    message_id: str
    thread: str


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
        """Withdraw what was still pending when the person wrote something new, and keep the
        thread bounded."""
        fresh: dict[str, Any] = {"questions": [], "problem": "", "prompts": 0, "bad_answers": 0}
        # Without a thread id, one name for all nodes of this run.
        fresh["run"] = place_of(config).origin_thread
        for action in await self._gate.open_actions(self._thread(config)):
            reason = _WITHDRAWN if action.state == "proposed" else _BEFORE_IT_WAS_SENT
            await self._gate.decide(action.id, Reject(reason), by="person", way="message")
        updates = history.pruned(state["messages"], _READERS)
        found = history.last_calls(state["messages"])
        if found is not None:
            message, calls = found
            for call in calls:
                origin = self._origin(message, call, state, config)
                updates.append(await self._left_over(call, origin))
        return {**fresh, "messages": updates}

    async def _left_over(self, call: ToolCall, origin: Origin) -> ToolMessage:
        """The result of a call whose turn was cut off: what the journal says, or nothing ran."""
        text = f"Not executed: {_WITHDRAWN}."
        try:
            checked = ARGUMENTS[call["name"]].model_validate(call["args"])
        except (KeyError, ValidationError):
            return _result(call, text)
        action = None
        if isinstance(checked, StateChange):
            action = await self._gate.find(checked, origin)
        return _reported(call, action) if action else _result(call, text)

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
        pending: list[Asked] = []
        asked, thread = state.get("prompts", 0), self._thread(config, state)
        asking = None if self._cannot_ask(config, asked) else Asking("interrupt")
        for number, call in enumerate(calls):
            if number >= MAX_CALLS:
                text = f"More than {MAX_CALLS} calls in one message; this one was not executed."
                results.append(_result(call, text, failed=True))
                continue
            verdict = await self._judge(call, self._origin(message, call, state, config), asking)
            if isinstance(verdict, ToolMessage):
                results.append(verdict)
            elif verdict is None:
                task = CallTask(call=call, message_id=message.id or "", thread=thread)
                ready.append(Send("tools", task))
            elif refusal := self._cannot_ask(config, asked + len(pending)):
                decided = await self._gate.decide(
                    verdict.id, Reject(refusal), by="gate", way="gate"
                )
                results.append(_reported(call, decided.action))
            else:
                shown = action_request(self._gate.request(verdict))
                pending.append(Asked(call=call, request=shown, thread=thread))
        update: dict[str, Any] = {"messages": results}
        if pending:
            update |= {"questions": pending, "prompts": asked + len(pending), "bad_answers": 0}
            return Command(update={**update, "problem": ""}, goto="ask")
        return Command(update=update, goto=ready or "model")

    def _cannot_ask(self, config: RunnableConfig, asked: int) -> str:
        if not place_of(config).can_interrupt:
            return "nobody can be asked here: no thread id, or no checkpointer"
        if asked >= self._max_prompts:
            return f"more than {self._max_prompts} actions were asked for in this turn"
        return ""

    async def _judge(
        self, call: ToolCall, origin: Origin, asking: Asking | None
    ) -> ToolMessage | Action | None:
        """A result at once, the action a person must be asked about, or None: run it."""
        name = call["name"]
        if name not in ARGUMENTS:
            known = ", ".join(ARGUMENTS)
            text = f"There is no such tool. Nothing was executed. The tools are: {known}."
            return _result(call, text, failed=True)
        try:
            checked = ARGUMENTS[name].model_validate(call["args"])
            if not isinstance(checked, StateChange):
                return None
            action = await self._gate.propose(checked, origin, asking=asking)
        except ValidationError as error:
            text = f"{explain(error)} Nothing was executed. Fix the arguments and call again."
            return _result(call, text, failed=True)
        except ActiveRoomsError as error:
            refused = {"state": "rejected", "reason": error.code, "text": error.for_person()}
            return _result(call, error.for_model(), refused, failed=True)
        if action.state == "proposed":
            return action
        if action.state in ("approved", "sent", "unknown"):
            return None
        return _reported(call, action)

    # --- ask -------------------------------------------------------------------------------

    async def ask(self, state: ModeratorState, config: RunnableConfig) -> Command[Any]:
        """One interrupt for all that is pending; decisions go into the journal, and what is
        approved is run."""
        place = place_of(config)
        # A copied thread asks anew, under its own name.
        pending = [q for q in state.get("questions", []) if q["thread"] == place.thread]
        if not pending:
            return Command(goto="gate")
        requests = [asked["request"] for asked in pending]
        seen = not self._plain_answers or await self._were_shown(place, requests)
        answer = interrupt(hitl_request(requests, state.get("problem", "")))
        try:
            if not seen:
                raise BadAnswerError("the answer was given before this question")
            answers: list[object] = [
                *parse_hitl_answer(answer, requests, plain_answers=self._plain_answers)
            ]
        except BadAnswerError as error:
            answers = [BadAnswer(str(error)) for _ in requests]
        by, bad = place.approver or "interrupt", state.get("bad_answers", 0) + 1
        again: list[Asked] = []
        problem = ""
        decided = await asyncio.gather(
            *(
                self._decided(request, one, by)
                for request, one in zip(requests, answers, strict=True)
            )
        )
        for asked, one in zip(pending, decided, strict=True):
            if one is not None and one.problem and one.action.state == "proposed":
                again.append(asked)
                problem = one.problem
                await self._gate.asked(one.action, "interrupt")
        ran = await asyncio.gather(
            *(
                self._result_of(asked["call"], one.action)
                for asked, one in zip(pending, decided, strict=True)
                if one is not None and asked not in again
            )
        )
        results = [result for result in ran if result is not None]
        update = {"messages": results, "questions": again, "problem": problem, "bad_answers": bad}
        if again and bad < MAX_BAD_ANSWERS:
            return Command(update=update, goto="ask")
        for asked in again:
            refusal = Reject("no valid answer came")
            action_id = asked["request"]["action_id"]
            await self._gate.decide(action_id, refusal, by="gate", way="gate")
        found = history.last_calls(state["messages"])
        all_answered = found is not None and len(results) == len(found[1])
        update |= {"questions": [], "problem": ""}
        return Command(update=update, goto="model" if all_answered else "gate")

    async def _decided(self, request: dict[str, Any], answer: object, by: str) -> Decided | None:
        """What became of one answer; None: the journal does not know the question any more."""
        action_id, shown = request["action_id"], request["description"]
        try:
            decided = await self._gate.decide(
                action_id, answer, by=by, way="interrupt", shown=shown
            )
        except InvalidCall:
            return None
        if decided.counted or decided.problem:
            return decided
        # Decided elsewhere, perhaps with other words or about a room that changed: a later row.
        return replace(decided, action=await self._gate.latest(decided.action))

    async def _result_of(self, call: ToolCall, action: Action) -> ToolMessage | None:
        """The result of a decided call, sent if it was approved; None: it is asked about again."""
        try:
            action = await self._gate.run(action)
        except OutcomeUnknown as error:
            unknown = {"state": "unknown", "executed": "maybe", "text": error.for_person()}
            return _result(call, error.for_model(), unknown)
        except ActiveRoomsError as error:
            told = {"executed": error.executed, "text": error.for_person()}
            return _result(call, error.for_model(), told, failed=True)
        return None if action.state == "proposed" else _reported(call, action)

    async def _were_shown(self, place: Place, requests: list[dict[str, Any]]) -> bool:
        """Whether these very questions were shown at this place before an answer came."""
        ids = [request["action_id"] for request in requests]
        return await asyncio.to_thread(self._record_shown, place.position(0), ids)

    def _record_shown(self, position: str, ids: list[str]) -> bool:
        with self._gate.journal.write() as tx:
            return not tx.ask(position, ids) and tx.asked_at(position) == ids

    # --- tools -----------------------------------------------------------------------------

    async def tools(self, task: CallTask, config: RunnableConfig) -> dict[str, Any]:
        """Run one call. Without a result the gate node looks at it again."""
        call = task["call"]
        told = {MESSAGE_KEY: task["message_id"], THREAD_KEY: task["thread"]}
        configurable = {**config.get("configurable", {}), **told}
        here = RunnableConfig(**{**config, "configurable": configurable})
        try:
            return {"messages": [await self._tools[call["name"]].ainvoke(call, here)]}
        except ApprovalNeeded:
            return {"messages": []}

    # --- where a call was made ---------------------------------------------------------------

    def _origin(
        self, message: AIMessage, call: ToolCall, state: ModeratorState, config: RunnableConfig
    ) -> Origin:
        thread = self._thread(config, state)
        return Origin(thread, message.id or "", call["id"] or "", self._requester)

    def _thread(self, config: RunnableConfig, state: ModeratorState | None = None) -> str:
        """The thread calls are recorded under; without a thread id, this run's own name."""
        place = place_of(config)
        run = state.get("run", "") if state is not None else ""
        return place.thread or run or place.origin_thread


def _reported(call: ToolCall, action: Action) -> ToolMessage:
    try:
        return _result(call, *report(action))
    except ToolException as error:
        return _result(call, str(error), failed=True)


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
