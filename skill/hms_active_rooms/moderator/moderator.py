"""The moderator as a LangGraph graph: model -> gate -> a task for each call that reads -> model.

A new message of the person rejects the questions that are still open, in the model node.

The gate node asks in one interrupt about all calls that change a room, and runs what was approved.
When the graph resumes, LangGraph runs this node from its start. The journal then says what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Literal, NotRequired, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import ToolException
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from hms_active_rooms import blocking
from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.capability import capability
from hms_active_rooms.errors import ActiveRoomsError, BrokenRecord, ConfigurationError, InvalidCall
from hms_active_rooms.gate.actions.change import Arguments, StateChange
from hms_active_rooms.gate.approval import ApprovalRequest, BadAnswerError, Reject, parse_answer
from hms_active_rooms.gate.gate import Gate, refused_again, skip_if_broken
from hms_active_rooms.gate.journal.records import UNSENT, Action, Origin, State, Way, call_key
from hms_active_rooms.gate.view import question
from hms_active_rooms.moderator import history
from hms_active_rooms.moderator.models import resolve_model
from hms_active_rooms.tools.active_rooms import as_message, report
from hms_active_rooms.tools.arguments import checked
from hms_active_rooms.tools.asking import NOBODY, Interrupts, Place, outside, place_of
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

MAX_CALLS = 50  # of one model message; the others get an error
_WITHDRAWN = "the person wrote a new message instead of answering"
_WENT_ON = "the conversation went on before an answer came"
_BEFORE_IT_WAS_SENT = "the person wrote a new message before the action was sent"
_READERS = frozenset(tool.name for tool in capability().tools if tool.hints.read_only)

Node = Callable[[Any, RunnableConfig], Any]
AsyncNode = Callable[[Any, RunnableConfig], Coroutine[Any, Any, Any]]


class ModeratorState(TypedDict):
    """The state of the graph: the messages, and notes on the turn. It holds no questions and no decisions."""

    messages: Annotated[list[AnyMessage], add_messages]
    run: NotRequired[str]  # a random name of this turn
    prompts: NotRequired[int]  # actions that a person was asked about in this turn
    told: NotRequired[str]  # id of the last model message whose calls the gate node answered


class ModeratorInput(TypedDict):
    """The input of the graph: new messages, in any form that LangChain reads."""

    messages: Sequence[AnyMessage | dict[str, Any] | tuple[str, str]]


class CallTask(TypedDict):
    """The input of the graph's node `tools`: one tool call that changes nothing in the room."""

    call: ToolCall


def build_moderator(
    model: BaseChatModel | str | None,
    toolkit: ActiveRoomsToolkit,
    *,
    room_id: str | None = None,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
    max_steps: int = 12,
    max_prompts: int = 12,
    plain_answers: bool = False,
    records_questions: bool = True,
) -> CompiledStateGraph[ModeratorState, None, ModeratorInput, ModeratorState]:
    """Build the moderator: a compiled graph in which a model calls tools and a person approves changes.

    Args:
        model: a chat model that can call tools, or a name for LangChain's `init_chat_model`. A name needs the
            extra `models`. None and "commands" mean the offline model.
        toolkit: the tools for the model. Its `confirm` is not called, since the graph asks by an interrupt.
        room_id: the room that the conversation is about. The model is told this id.
        checkpointer: the LangGraph checkpointer that stores the graph while a person is asked. Leave it out
            if a server such as `langgraph dev` has its own.
        max_steps: the most messages of the model after one message of the person.
        max_prompts: the most actions that the person is asked about after one of their messages.
        plain_answers: accept approvals without the question's digest, for UIs that know only LangChain's
            answers. A second click may then approve the next question too.
        records_questions: record each question as asked when the graph pauses. Give False if you call
            `Gate.asked` yourself, for each question that a person saw.

    To resume the graph, call it with `Command(resume={interrupt.id: {"decisions": [{"type": "approve",
    "digest": ...}]}})`. Give one decision for each of the interrupt's `action_requests`, with the request's
    digest. Name who decided: `config={"configurable": {"thread_id": ..., "approver": "ada"}}`.

    Raises:
        InvalidCall: `room_id` is not a room id.
        PolicyRefusal: the policy does not allow the room.
        ConfigurationError: another argument is wrong.
    """
    for name, flag in (("plain_answers", plain_answers), ("records_questions", records_questions)):
        if not isinstance(flag, bool):  # "0" would count as true
            raise ConfigurationError(f"{name} is {flag!r}. Give True or False.")
    for name, most in (("max_steps", max_steps), ("max_prompts", max_prompts)):
        if type(most) is not int or most < 1:
            raise ConfigurationError(f"{name} is {most!r}. Give a whole number, at least 1.")
    if not isinstance(checkpointer, BaseCheckpointSaver | bool | None):
        raise ConfigurationError(
            f"checkpointer is {checkpointer!r:.100}. Give a LangGraph checkpointer, True, False or None."
        )
    if room_id is not None:
        toolkit.gate.policy.check_room(parse_room_id(room_id))
    chosen = resolve_model(model, room_id)
    shown: Way | None = "interrupt" if records_questions else None
    nodes = _Nodes(chosen, toolkit, room_id, max_steps, max_prompts, plain_answers, shown)
    graph = StateGraph(ModeratorState, input_schema=ModeratorInput)
    graph.add_node("model", _Node(nodes.acall_model, nodes.call_model))
    graph.add_node("gate", _Node(nodes.gate), destinations=("tools", "model"))
    graph.add_node("tools", _Node(nodes.tools), input_schema=CallTask)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", _after_model, ["gate", "__end__"])
    graph.add_edge("tools", "model")
    compiled = graph.compile(checkpointer=checkpointer, name="moderator")
    return compiled.with_config(recursion_limit=3 * max_steps + 10)


class _Node(Runnable[Any, Any]):
    """A node for sync and async graphs. `RunnableLambda` is slower, and traces each call twice."""

    def __init__(self, awaited: AsyncNode, called: Node | None = None) -> None:
        self._awaited = awaited
        self._called = called or (lambda state, config: blocking.run(awaited(state, config)))

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:
        return self._called(input, config or {})

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Any:
        return await self._awaited(input, config or {})


def _is_new_turn(state: ModeratorState) -> bool:
    """Whether a new turn begins: the newest messages are not results of the model's calls."""
    found = history.last_calls(state["messages"])
    if found is None or found.calls or not isinstance(state["messages"][-1], ToolMessage):
        return True
    return state.get("told") != found.message.id


def _heard(state: ModeratorState, new: dict[str, Any]) -> list[AnyMessage]:
    if not (updates := new.get("messages")):
        return state["messages"]
    before: list[Any] = list(state["messages"])
    return cast(list[AnyMessage], add_messages(before, updates))


def _said(messages: Sequence[AnyMessage], new: dict[str, Any], answer: AIMessage) -> dict[str, Any]:
    said = history.with_unique_call_ids(answer, messages)
    return {**new, "messages": [*new.get("messages", ()), said]}


def _after_model(state: ModeratorState) -> Literal["gate", "__end__"]:
    last = state["messages"][-1]
    called = isinstance(last, AIMessage) and (last.tool_calls or last.invalid_tool_calls)
    return "gate" if called else "__end__"


@dataclass(eq=False)
class _Nodes:
    model: BaseChatModel
    toolkit: ActiveRoomsToolkit
    room_id: str | None
    max_steps: int
    max_prompts: int
    plain_answers: bool
    shown: Way | None

    def __post_init__(self) -> None:
        self._gate: Gate = self.toolkit.gate
        self._tools = {tool.name: tool for tool in self.toolkit.get_tools()}
        try:
            self._bound_model: Runnable[LanguageModelInput, AIMessage] = self.model.bind_tools(
                list(self._tools.values())
            )
        except NotImplementedError:
            raise ConfigurationError(
                f"The chat model {type(self.model).__name__} cannot call tools.",
                hint="Give a chat model that has `bind_tools`.",
            ) from None
        text = files(__package__).joinpath("prompt.md").read_text(encoding="utf-8")
        self._system = SystemMessage(f"{text}\nRoom: {self.room_id}\n" if self.room_id else text)

    def call_model(self, state: ModeratorState, config: RunnableConfig) -> dict[str, Any]:
        new = blocking.run(self._entered(state, config)) if _is_new_turn(state) else {}
        heard = _heard(state, new)
        said = self._limit(heard) or self._bound_model.invoke(self._told(heard))
        return _said(heard, new, said)

    async def acall_model(self, state: ModeratorState, config: RunnableConfig) -> dict[str, Any]:
        new = await self._entered(state, config) if _is_new_turn(state) else {}
        heard = _heard(state, new)
        said = self._limit(heard) or await self._bound_model.ainvoke(self._told(heard))
        return _said(heard, new, said)

    def _told(self, messages: Sequence[AnyMessage]) -> list[AnyMessage]:
        return [self._system, *history.for_model(messages)]

    def _limit(self, messages: Sequence[AnyMessage]) -> AIMessage | None:
        if history.refusals_in_a_row(messages) >= self._gate.policy.refusals_in_a_row:
            said = "I stopped: too many actions in a row were rejected or expired. Tell me what to do next."
        elif sum(isinstance(m, AIMessage) for m in history.this_turn(messages)) >= self.max_steps:
            said = f"I stopped after {self.max_steps} steps. Tell me what to do next."
        else:
            return None
        return AIMessage(said)

    async def _entered(self, state: ModeratorState, config: RunnableConfig) -> dict[str, Any]:
        """Begin a turn: reject the conversation's open questions, and delete old messages."""
        messages = state["messages"]
        updates = history.pruned(messages, _READERS)
        if (found := history.last_calls(messages)) is not None:
            wrote = isinstance(messages[-1], HumanMessage)
            went_on = "the person wrote a new message" if wrote else "the conversation went on"
            unheard = f"Not executed: {went_on} before the call was looked at."
            # Some UIs add a tool result when nobody answered; the journal's replaces it.
            ours = state.get("told") == found.message.id
            for call in found.calls if ours else found.message.tool_calls:
                try:
                    row = await self._withdraw(call, found.message, state, config, UNSENT)
                    if row is not None:
                        updates.append(_reported(call, row))
                    elif call in found.calls:
                        updates.append(as_message(call, unheard, failed=True))
                except BrokenRecord as error:
                    updates.append(_reported(call, error))
            # A failed call may be approved still. The new message may mean no, so reject it.
            for message, call in history.failed_calls(messages) if wrote else ():
                with skip_if_broken(call["id"] or ""):
                    await self._withdraw(call, message, state, config, ["approved"])
        # Random, since another checkpointer may have a message with the same id.
        told = found.message.id if found else ""
        return {"run": outside(), "prompts": 0, "messages": updates, "told": told}

    async def _withdraw(
        self,
        call: ToolCall,
        message: AIMessage,
        state: ModeratorState,
        config: RunnableConfig,
        states: Collection[State],
    ) -> Action | None:
        """Reject an earlier call's action, if it is in one of the `states`. Returns the action."""
        change = _checked(call)
        if not isinstance(change, StateChange):
            return None
        row = await self._gate.find(change, self._origin(message, call, state, config))
        if row is None or row.state not in states:
            return row
        wrote = isinstance(state["messages"][-1], HumanMessage)
        reason = _BEFORE_IT_WAS_SENT if row.state == "approved" else _WITHDRAWN
        no, by = Reject(reason if wrote else _WENT_ON), "person" if wrote else "gate"
        way: Way = "message" if wrote else "gate"
        return (await self._gate.decide(row.id, no, by=by, way=way)).action

    async def gate(self, state: ModeratorState, config: RunnableConfig) -> Command[Any]:
        found = history.last_calls(state["messages"])
        if found is None:
            return Command(goto="model")
        results: list[ToolMessage] = [
            as_message(
                ToolCall(name=c["name"] or "", args={}, id=c["id"]),
                "The arguments were not valid JSON. Nothing was executed. Call again.",
                failed=True,
            )
            for c in found.unreadable
        ]
        reads: list[Send] = []
        changes: list[_Change] = []
        for number, call in enumerate(found.calls):
            taken = _checked(call)
            if number >= MAX_CALLS:
                text = f"A message can make at most {MAX_CALLS} calls. This call was not executed."
                results.append(as_message(call, text, failed=True))
            elif isinstance(taken, StateChange):
                changes.append((call, taken, self._origin(found.message, call, state, config)))
            elif isinstance(taken, Arguments):
                reads.append(Send("tools", CallTask(call=call)))
            else:
                results.append(_reported(call, taken))
        prompts = state.get("prompts", 0)
        if changes:
            ended, asked = await self._ask_and_run(changes, place_of(config), prompts)
            results, prompts = results + ended, prompts + asked
        told: dict[str, Any] = {"messages": results, "prompts": prompts, "told": found.message.id}
        return Command(update=told, goto=reads or "model")

    async def _ask_and_run(
        self, changes: Sequence[_Change], place: Place, prompts: int
    ) -> tuple[list[ToolMessage], int]:
        """Returns the results, and the number of questions."""
        asks = Interrupts(self._gate, place, self._pause, self.shown)
        rows = await asks.rows([call_key(change, origin) for _, change, origin in changes])
        results: list[ToolMessage] = []
        pending: list[tuple[ToolCall, Action]] = []
        asked = 0
        for call, change, origin in changes:
            refusal = "" if place.can_interrupt else NOBODY.reason
            if prompts + asked >= self.max_prompts:
                refusal = f"the person is asked about at most {self.max_prompts} actions in a turn"
            try:
                row = rows.get(call_key(change, origin))
                if row is None and len(changes) == 1 and not refusal:
                    row = await asks.propose(change, origin)
                elif row is None:
                    row = await self._gate.propose(change, origin, is_new=True)
                action = refused_again(row)
            except ActiveRoomsError as error:
                refused = {"state": "rejected", "reason": error.code, "text": error.for_person()}
                results.append(as_message(call, error.for_model(), refused, failed=True))
                continue
            if action.state == "proposed" and refusal:
                no = Reject(refusal)
                action = (await self._gate.decide(action.id, no, by="gate", way="gate")).action
            elif action.state == "proposed" or action.decided_way == "interrupt":
                asked += 1
            pending.append((call, action))
        ended = await asks.drive([action for _, action in pending])
        calls = [call for call, _ in pending]
        return results + [_reported(*each) for each in zip(calls, ended, strict=True)], asked

    def _pause(self, requests: Sequence[ApprovalRequest]) -> Sequence[object]:
        shown = [question(request) for request in requests]
        answer = interrupt(hitl_request(shown))
        return parse_hitl_answer(answer, shown, plain_answers=self.plain_answers)

    async def tools(self, task: CallTask, config: RunnableConfig) -> dict[str, Any]:
        call = task["call"]
        return {"messages": [await self._tools[call["name"]].ainvoke(call, config)]}

    def _origin(
        self, message: AIMessage, call: ToolCall, state: ModeratorState, config: RunnableConfig
    ) -> Origin:
        """Where a call was made. Without a thread id, the turn's `run` is the thread."""
        run = state.get("run", "")
        thread = place_of(config).thread or run
        return Origin(thread, f"{run} {message.id}", call["id"] or "", self.toolkit.requester)


_Change = tuple[ToolCall, StateChange, Origin]


def hitl_request(requests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the value of one interrupt that asks `requests`, in the shape of LangChain's UIs.

    Asked:    {"action_requests": requests, "review_configs": [...], "problem": "..."}
    Answered: {"decisions": [{"type": "approve", "digest": "..."}, {"type": "reject", "message": "..."}]}

    Keys:
        problem: why the person's last answer did not count. The key is missing if there was no such answer.
        decisions: one decision for each request, in the same order.
        digest: the digest of the approved request. An approval with another digest does not count.
    """
    value: dict[str, Any] = {
        "action_requests": list(requests),
        "review_configs": [
            {"action_name": r["name"], "allowed_decisions": ["approve", "edit", "reject"]}
            for r in requests
        ],
    }
    problem = next((r["problem"] for r in requests if r["problem"]), "")
    return {**value, "problem": problem} if problem else value


def parse_hitl_answer(
    answer: object, requests: Sequence[dict[str, Any]], *, plain_answers: bool = False
) -> list[dict[str, Any]]:
    """Return the person's decisions, one for each question.

    Args:
        answer: the value that the graph was resumed with.
        requests: the questions, in their order.
        plain_answers: a decision without a digest gets the digest of its question.

    Raises:
        BadAnswerError: anything in the answer is wrong. Then no decision counts.
    """
    if not isinstance(answer, dict) or set(answer) != {"decisions"}:
        raise BadAnswerError('the answer has to be {"decisions": [...]}')
    given = answer["decisions"]
    if not isinstance(given, list) or len(given) != len(requests):
        raise BadAnswerError(
            f"it needs one decision for each of the {len(requests)} actions, in their order"
        )
    answers: list[dict[str, Any]] = []
    for one, request in zip(given, requests, strict=True):
        if plain_answers and isinstance(one, dict):
            one = {"digest": request["digest"], **one}
        digest = parse_answer(one).digest
        # Without an interrupt id, LangGraph may deliver an answer to another interrupt. No digest fits then.
        # A question without a digest has a broken record, and no answer changes that.
        if digest is not None and request["digest"] and digest != request["digest"]:
            raise BadAnswerError("its digest is not the digest of this question")
        answers.append(one)
    return answers


def _checked(call: ToolCall) -> Arguments | InvalidCall:
    try:
        return checked(call["name"], call["args"])
    except InvalidCall as error:
        return error


def _reported(call: ToolCall, ended: Action | ActiveRoomsError) -> ToolMessage:
    try:
        return as_message(call, *report(ended))
    except ToolException as error:
        return as_message(call, str(error), failed=True)
