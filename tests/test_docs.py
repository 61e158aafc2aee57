"""The README and the simulator's page say what is true: generated parts are fresh, snippets run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from docs import PROJECT, filled, hints_table, session, simulator_page
from hms_active_rooms import ActiveRoomsToolkit, blocking
from hms_active_rooms.environment import refuse_unknown
from hms_active_rooms.sim.server import environment, running_sim
from scripted import ScriptedModel, calls, text

README = (PROJECT / "README.md").read_text(encoding="utf-8")
CONFIG: Any = {"configurable": {"thread_id": "t"}}


def test_every_variable_that_docs_or_code_name_is_taken_as_a_setting() -> None:
    files = [*PROJECT.glob("*.md"), *(PROJECT / "skill").rglob("*.md")]
    files += (PROJECT / "skill" / "hms_active_rooms").rglob("*.py")
    named = {
        name
        for file in files
        for name in re.findall(r"(?<!_)HMS_[A-Z_]+", file.read_text(encoding="utf-8"))
        if not name.endswith("_")  # the beginning of a family
    }
    assert {"HMS_NOTIFY_URL", "HMS_SERVER_TOKENS", "HMS_POLICY_ROOMS"} <= named
    refuse_unknown(dict.fromkeys(named, "x"))


def test_the_hints_table_is_the_contracts() -> None:
    assert filled(README, "hints", hints_table()) == README, "run: python tests/docs.py"


@pytest.mark.slow
def test_the_session_shown_is_what_the_demo_prints() -> None:
    shown = session()
    assert "Checked in the room" in shown
    assert filled(README, "session", shown) == README, "run: python tests/docs.py"


def test_the_simulator_page_is_its_table() -> None:
    page = PROJECT / "skill" / "references" / "simulator.md"
    assert page.read_text(encoding="utf-8") == simulator_page(), "run: python tests/docs.py"


def test_the_python_of_the_readme_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, agent, moderator = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    with running_sim("classroom") as sim:
        for name, value in environment(sim).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HMS_JOURNAL", f"sqlite:///{tmp_path / 'journal.sqlite'}")
        monkeypatch.setattr("builtins.input", lambda _: "yes")
        remove = ("hms-remove-peers", {"room_id": sim.room_id, "role": "assistant"})
        model = ScriptedModel.saying(calls(remove), text("They are gone."))
        names: dict[str, Any] = {"room_id": sim.room_id, "model": model}
        exec(alone, names)
        assert "1 removed. Checked in the room." in capsys.readouterr().out
        roles = [peer.role for peer in sim.world.peers(sim.room_id)]
        assert ("viewer" in roles, "assistant" in roles) == (False, True)

        exec(agent, names)
        assert capsys.readouterr().out.endswith("They are gone.\n")
        assert "assistant" not in [peer.role for peer in sim.world.peers(sim.room_id)]
        assert isinstance(names["toolkit"].gate.policy.protected_roles, frozenset)

        names["model"] = ScriptedModel.saying(calls(remove), text("ok"))
        exec(moderator, names)
        out = names["graph"].invoke({"messages": [HumanMessage("go")]}, CONFIG)
        assert out["messages"][-1].text == "ok"


def test_the_question_a_program_gets_has_the_keys_that_embedding_names(tmp_path: Path) -> None:
    page = (PROJECT / "skill" / "references" / "embedding.md").read_text(encoding="utf-8")
    listed = page.split("| the question has |")[1].split("\n\n")[0]
    keys = set(
        re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in listed.split("\n")[2:]))
    )
    with running_sim("classroom") as sim:
        toolkit = ActiveRoomsToolkit.from_env(
            rooms=[sim.room_id],
            environ={**environment(sim), "HMS_JOURNAL": f"sqlite:///{tmp_path / 'journal.sqlite'}"},
        )
        wanted = {"room_id": sim.room_id, "message": "hi"}
        model = ScriptedModel.saying(calls(("hms-send-message", wanted)))
        agent = create_agent(model, toolkit.get_tools(), checkpointer=InMemorySaver())
        out: Any = agent.invoke({"messages": [HumanMessage("go")]}, CONFIG)
        [question] = out["__interrupt__"]
        assert keys <= set(question.value) | {"response_schema"}
        assert question.response_schema or "response_schema" in question.value
        blocking.run(toolkit.aclose)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's commands use curl")
def test_the_shell_of_the_five_minutes_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh simulated\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with running_sim("classroom") as sim:
        mine = {**environment(sim), "PATH": path, "XDG_STATE_HOME": str(tmp_path)}
        codes = [
            subprocess.run(
                ["sh", "-c", line], env=mine, capture_output=True, check=False
            ).returncode
            for line in lines
        ]
        # Without a terminal the two changes wait for a person.
        assert codes == [0, 3, 0, 0, 0, 3, 0]
        assert "Ann" in [peer.name for peer in sim.world.peers(sim.room_id)]
        assert [fault["kind"] for fault in sim.faults.shown()] == ["reset"]
