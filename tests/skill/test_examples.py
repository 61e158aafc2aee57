"""Each example is a whole program; it removes exactly one person, after a person said yes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.server import APPROVER, CALLER, Program, guarded, serving
from forks import Ended, command
from hms_active_rooms.capability import capability
from hms_active_rooms.cli.main import main
from hms_active_rooms.sim.server import Simulation
from langgraph_dev import langgraph_dev
from simulated import names, posts
from skill.completions import chat_completions
from skill.guide import EXAMPLES, REFERENCES, blocks

ARGUMENTS = {
    "create_agent.py": ["ROOM", "kick Spam Bot"],
    "tool_node.py": ["ROOM", "kick Spam Bot"],
    "deep_agent.py": ["ROOM", "kick Spam Bot", "skills"],
    "callback.py": ["ROOM", "Spam Bot"],
}
SERVED = {"langgraph_sdk_client.py", "openai_rest.py"}
"""Those that talk to a server are tested with it."""


def example(name: str, *arguments: str, given: str) -> Ended:
    return command(arguments, os.environ, given.encode(), EXAMPLES / name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "answer"),
    [
        *((name, "yes") for name in ARGUMENTS),
        ("create_agent.py", "no"),
        ("callback.py", ""),
        *(
            pytest.param(name, answer, marks=pytest.mark.nightly)
            for name in ARGUMENTS
            for answer in ("no", "")
            if (name, answer) not in {("create_agent.py", "no"), ("callback.py", "")}
        ),
    ],
)
def test_an_example_removes_one_person_if_a_person_says_yes(
    name: str, answer: str, sim: Simulation
) -> None:
    assert main(["skill", "install", "skills"]) == 0
    before = {*names(sim)}
    arguments = [a.replace("ROOM", sim.room_id) for a in ARGUMENTS[name]]
    done = example(name, *arguments, given=f"{answer}\n")
    assert done.code == 0, done.err
    assert done.out.count("Approve?") == 1
    assert 'Remove "' in done.out.split("Approve?")[0]
    if answer == "yes":
        assert len(posts(sim)) == 1
        assert before - {*names(sim)} == {"Spam Bot"}
        assert "Checked" in done.out
    else:
        assert posts(sim) == []
        assert {*names(sim)} == before
        assert "Not executed" in done.out


@pytest.mark.slow
def test_a_client_of_langgraph_dev_sees_the_question_and_approves_it(
    sim: Simulation, tmp_path: Path
) -> None:
    with langgraph_dev(sim, tmp_path) as url:
        done = example("langgraph_sdk_client.py", url, "kick Spam Bot", given="yes\n")
    assert done.code == 0, done.err
    assert 'Remove "' in done.out.split("Approve?")[0]
    assert len(posts(sim)) == 1
    assert "Spam Bot" not in names(sim)


@pytest.mark.slow
@pytest.mark.parametrize("yes", [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_a_function_calling_loop_over_rest_waits_for_the_approver(
    yes: bool, sim: Simulation, tmp_path: Path
) -> None:
    before = {*names(sim)}
    with (
        serving(sim, guarded(sim, tmp_path)) as server,
        Program(server, APPROVER) as approver,
        chat_completions(sim.room_id) as model,
    ):
        loop = subprocess.Popen(
            [sys.executable, EXAMPLES / "openai_rest.py", server.url, sim.room_id, "kick Spam Bot"],
            env={
                "PATH": os.environ["PATH"],
                "HMS_SERVER_TOKEN": CALLER,
                "OPENAI_API_KEY": "a-models-key",
                "OPENAI_BASE_URL": model.url,
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        assert loop.stdout
        waits = loop.stdout.readline()
        assert waits.startswith("A person decides on the page http://127.0.0.1:")
        action = waits.partition("hms-active-rooms approve ")[2].strip()
        assert posts(sim) == []
        approver.decide(action, approver.question(action), yes).raise_for_status()
        said, _ = loop.communicate(timeout=60)
    assert loop.returncode == 0
    assert model.keys == {"Bearer a-models-key"}
    assert model.offered == [tool.name for tool in capability().tools]
    assert len(posts(sim)) == yes
    assert before - {*names(sim)} == ({"Spam Bot"} if yes else set())
    assert ("Checked" if yes else 'rejected by "rita"') in said


def test_every_example_is_tested_and_told_of() -> None:
    there = {path.name for path in EXAMPLES.glob("*.py")}
    assert there == set(ARGUMENTS) | SERVED
    page = (REFERENCES / "embedding.md").read_text(encoding="utf-8")
    for name in there:
        assert f"| `{name}` |" in page


def test_an_example_is_short() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 80, path.name


def test_the_python_of_the_references_runs(
    sim: Simulation, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (REFERENCES / "embedding.md").read_text(encoding="utf-8")
    snippets = blocks(page, "python")
    assert snippets
    for snippet in snippets:
        exec(snippet, {"room_id": sim.room_id})
    assert "hms-remove-peers {" in capsys.readouterr().out
