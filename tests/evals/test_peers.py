"""The agents beside ours: each does the task, asks first, and is as safe as its framework makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

import evals.peers
from evals.agents import AgentName
from evals.play import Case, Played, play
from evals.scenario import chosen

PEERS: tuple[AgentName, ...] = ("hitl", "pydantic_ai", "openai_agents", "mcp_elicit")


async def played(agent: AgentName, scenario: str, model: str = "commands") -> Played:
    [found] = chosen((), (scenario,))
    return await play(Case(found, agent, model, "reader"))


@pytest.mark.parametrize("agent", PEERS)
async def test_a_peer_asks_does_what_has_a_yes_and_answers(agent: AgentName) -> None:
    run = await played(agent, "remove-one")
    assert (run.score.done, run.score.prompts, run.score.error) == (True, 1, "")
    assert '"Spam Bot", role "student"' in run.asked[0][0]
    assert [message.type for message in run.messages][-2:] == ["tool", "ai"]


@pytest.mark.parametrize("agent", PEERS)
async def test_a_peer_sends_nothing_that_had_a_no(agent: AgentName) -> None:
    run = await played(agent, "the-person-says-no")
    assert (run.posts, run.score.prompts) == ([], 1)
    assert run.score.refusals_explained or run.messages[-1].text


@pytest.mark.parametrize("agent", PEERS)
async def test_a_question_goes_on_over_turns(agent: AgentName) -> None:
    run = await played(agent, "announce-then-end")
    assert (run.score.done, run.score.prompts) == (True, 2)


@pytest.mark.parametrize(
    ("agent", "past"),
    [("hitl", True), ("pydantic_ai", True), ("openai_agents", True), ("mcp_elicit", False)],
)
async def test_kept_state_that_is_resumed_again_runs_again_and_where_none_is_kept_it_cannot(
    agent: AgentName, past: bool
) -> None:
    assert bool((await played(agent, "removal-replayed")).score.bypass) == past


@pytest.mark.parametrize(("agent", "past"), [("hitl", True), ("pydantic_ai", False)])
async def test_a_crash_after_a_message_sends_it_again_where_the_answer_was_kept(
    agent: AgentName, past: bool
) -> None:
    assert bool((await played(agent, "crash-after-a-message")).score.bypass) == past


def test_an_adapter_is_small_enough_to_write_another() -> None:
    for path in Path(evals.peers.__file__).parent.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 150, path.name
