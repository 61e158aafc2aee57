"""Our models under inspect, inspect's models in our agents, and what its logs say of a run."""

from __future__ import annotations

import gc
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    get_model,
    modelapi,
)
from inspect_ai.tool import ToolCall, ToolChoice, ToolFunction, ToolInfo
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolMessage,
    UsageMetadata,
)
from langchain_core.utils.function_calling import convert_to_openai_tool

from evals.agents import AgentName
from evals.chat import ScriptedModel
from evals.inspect.messages import (
    chosen_tool,
    said,
    to_inspect,
    to_langchain,
    tool_choice,
    tool_function,
    tool_info,
)
from evals.inspect.models import InspectChat, NoRoomError
from evals.inspect.task import REAL_MODEL_S, active_rooms, explanation
from evals.models import eval_model
from evals.play import GIVE_UP_S, Case, Played, play
from evals.scenario import chosen
from evals.score import Score
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.tools.arguments import ARGUMENTS

ROOM = "64f0c1a5500de00000000001"
CALL = {"name": "hms-list-peers", "args": {"room_id": "r"}, "id": "c1", "type": "tool_call"}
UNREAD = InvalidToolCall(
    name="hms-remove-peers", args='{"role": ', id="c2", error="not JSON", type="invalid_tool_call"
)
CONVERSATION: list[BaseMessage] = [
    SystemMessage(f"Room: {ROOM}", id="1"),
    HumanMessage("who is here", id="2"),
    AIMessage("I look.", id="3", tool_calls=[CALL], invalid_tool_calls=[UNREAD]),
    ToolMessage(
        "2 people", id="4", tool_call_id="c1", name="hms-list-peers", artifact={"total": 2}
    ),
    ToolMessage("not JSON", id="5", tool_call_id="c2", name="hms-remove-peers", status="error"),
    AIMessage("Two.", id="6"),
]


def schema(name: str) -> dict[str, Any]:
    function = convert_to_openai_tool(ARGUMENTS[name])["function"]
    return {"type": "function", "function": {**function, "name": name}}


def test_a_conversation_comes_back_from_inspect_as_it_was() -> None:
    there = to_inspect(CONVERSATION, with_data=True)
    assert [to_langchain(message) for message in there] == CONVERSATION


def test_what_a_model_thought_comes_back_to_it_with_the_providers_signature() -> None:
    thought = ContentReasoning(reasoning="Two are called Sam.", signature="s1")
    message = ChatMessageAssistant(
        content=[thought, ContentText(text="Which Sam?")], id="7", model="m"
    )
    told = to_langchain(message)
    assert told.text == "Which Sam?"
    [again] = to_inspect([told])
    assert again.content == message.content
    [plain] = to_inspect([AIMessage([{"type": "reasoning", "reasoning": "Hm."}, "Which?"])])
    assert plain.content == [ContentReasoning(reasoning="Hm."), ContentText(text="Which?")]


def test_models_get_the_text_of_a_tool_and_not_the_data_beside_it() -> None:
    assert all(message.metadata is None for message in to_inspect(CONVERSATION))


def test_a_call_that_could_not_be_read_and_that_nothing_answered_is_not_sent_on() -> None:
    unanswered = [m for m in CONVERSATION if m.id != "5"]
    assert [c.id for m in to_inspect(unanswered) for c in getattr(m, "tool_calls", None) or []] == [
        "c1"
    ]
    message = CONVERSATION[2]
    assert isinstance(message, AIMessage)
    assert [call.id for call in said(message).tool_calls or []] == ["c1", "c2"]


def test_a_providers_parse_error_becomes_an_unread_call_never_a_call() -> None:
    bad = ToolCall("c9", "hms-end-active-room", {}, parse_error="Error parsing the arguments")
    message = to_langchain(ChatMessageAssistant(content="", tool_calls=[bad]))
    assert isinstance(message, AIMessage)
    assert message.tool_calls == []
    assert [(c["id"], c["error"]) for c in message.invalid_tool_calls] == [
        ("c9", "Error parsing the arguments")
    ]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_no_rule_of_a_tools_schema_is_lost_on_the_way(name: str) -> None:
    tool = schema(name)
    assert tool_function(tool_info(tool["function"])) == tool


@pytest.mark.parametrize("choice", ["any", "none", "hms-list-peers"])
def test_a_tool_choice_comes_back_as_it_was(choice: str) -> None:
    there = tool_choice(choice)
    assert there is not None
    assert chosen_tool(there) == choice
    assert isinstance(there, ToolFunction) == (choice == "hms-list-peers")


async def test_an_offline_model_that_is_not_told_its_room_refuses() -> None:
    with pytest.raises(NoRoomError, match="Room: "):
        await get_model("hms/reckless").generate(f"Room: {ROOM}")


def test_a_model_that_is_not_there_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigurationError, match="nobody"):
        get_model("hms/nobody")


async def test_the_seed_and_the_tools_reach_the_model() -> None:
    tools = [schema(name) for name in ARGUMENTS]
    said_by = {}
    for seed in (1, 2):
        bridged = InspectChat(model=get_model("hms/reckless"), seed=seed).bind_tools(tools)
        direct = eval_model("reckless", room_id=ROOM, seed=seed).bind_tools(tools)
        answers = [await m.ainvoke(CONVERSATION[:2]) for m in (bridged, direct)]
        assert answers[0].tool_calls == answers[1].tool_calls
        said_by[seed] = answers[0].tool_calls
    assert said_by[1] != said_by[2]
    only = InspectChat(model=get_model("hms/reckless"), seed=1).bind_tools(tools[:1])
    named = {call["name"] for call in (await only.ainvoke(CONVERSATION[:2])).tool_calls}
    assert {name for name in named if name in ARGUMENTS} <= {tools[0]["function"]["name"]}


async def test_a_langchain_model_needs_no_room_and_its_tokens_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = UsageMetadata(input_tokens=7, output_tokens=2, total_tokens=9)
    model = ScriptedModel.saying(AIMessage("hello", usage_metadata=used))
    monkeypatch.setattr("evals.inspect.models.eval_model", lambda *_, **__: model)
    chat = InspectChat(model=get_model("hms/some:model", memoize=False))
    answer = await chat.ainvoke("hi")
    assert (answer.text, answer.usage_metadata) == ("hello", used)


@pytest.mark.parametrize("agent", ["moderator", "create_agent"])
@pytest.mark.parametrize("name", ["commands", "gullible"])
async def test_by_way_of_inspect_a_model_does_what_it_does_without(
    agent: AgentName, name: str
) -> None:
    (scenario,) = chosen(names=("hostile-room-one-removal",))
    case = Case(scenario, agent, name, "reader")
    bridged = InspectChat(model=get_model(f"hms/{name}"), seed=0, with_data=True)
    plain, by_inspect = await play(case), await play(case, bridged)
    # Requests differ by how often a removal is looked for, and tokens by what was seen then.
    assert replace(by_inspect.score, requests=0, tokens=0) == replace(
        plain.score, requests=0, tokens=0
    )
    assert by_inspect.score.model_calls > 1


async def test_an_explanation_shows_what_was_asked_sent_and_recorded_as_text_only() -> None:
    (scenario,) = chosen(names=("remove-one",))
    played = await play(Case(scenario, "moderator", "commands", "reader"))
    text = explanation(played)
    for heading in ("Questions and answers", "State-changing requests", "Journal"):
        assert f"**{heading}**\n\n    " in text
    assert "    done hms-remove-peers by reader (interrupt)" in text
    hostile = replace(played, asked=[("hello\n```\n# <script>\u202e", "Yes()")])
    shown = explanation(hostile)
    assert all(line.startswith("    ") for line in shown.splitlines() if "script" in line)
    assert "\u202e" not in shown
    assert "```" not in shown


def evaluated(task: Task, model: str, log_dir: Path) -> EvalLog:
    with warnings.catch_warnings():
        # inspect leaves streams of its own open; they are gone when this returns.
        warnings.simplefilter("ignore", ResourceWarning)
        [log] = inspect_eval(
            task, model=model, log_dir=str(log_dir), display="none", ctl_server=False
        )
        gc.collect()
    return log


def test_a_log_holds_the_score_its_numbers_and_every_call_of_the_model(tmp_path: Path) -> None:
    task = active_rooms(agent="hitl", person="rubber-stamp", scenario="order-in-a-name", repeat=2)
    log = evaluated(task, "hms/gullible", tmp_path)
    assert log.status == "success"
    assert log.samples is not None
    for sample in log.samples:
        assert sample.scores is not None
        outcome = sample.scores["outcome"]
        score = Score(**outcome.metadata or {})
        assert (score.model, score.agent, score.seed) == ("gullible", "hitl", sample.epoch - 1)
        assert outcome.value == {"done": int(score.done), "safe": 1}
        assert sum(event.event == "model" for event in sample.events) == score.model_calls
        assert sample.messages[-1].role == "assistant"
    assert log.results is not None
    assert {s.reducer for s in log.results.scores} == {"mean", "pass_k_2"}


@pytest.mark.parametrize(
    ("model", "seconds"), [("hms/commands", GIVE_UP_S), ("hms/some:model", REAL_MODEL_S)]
)
def test_a_model_that_was_not_written_here_has_half_an_hour_for_a_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, seconds: float
) -> None:
    given: list[float] = []

    async def timed(case: Case, chat: BaseChatModel, give_up_s: float) -> Played:
        given.append(give_up_s)
        return await play(case, chat, give_up_s)

    says = ScriptedModel.saying(AIMessage("hello"))
    monkeypatch.setattr("evals.inspect.models.eval_model", lambda *_, **__: says)
    monkeypatch.setattr("evals.inspect.task.play", timed)
    assert evaluated(active_rooms(scenario="is-it-live"), model, tmp_path).status == "success"
    assert given == [seconds]


class _Unreachable(ModelAPI):
    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        raise ConnectionError("nobody answers")


@pytest.mark.nightly
def test_a_model_that_cannot_be_asked_is_an_error_and_no_score(tmp_path: Path) -> None:
    modelapi(name="unreachable")(_Unreachable)
    log = evaluated(active_rooms(scenario="remove-one"), "unreachable/x", tmp_path)
    assert log.status == "error"
    assert log.error is not None
    assert "nobody answers" in log.error.message
    assert not log.samples or not log.samples[0].scores


def test_an_agent_that_is_not_there_is_refused() -> None:
    as_from_inspects_command_line: Any = "robot"
    with pytest.raises(ValueError, match="agents are"):
        active_rooms(agent=as_from_inspects_command_line)
