"""README, SKILL and references say what is true: generated parts are fresh, snippets run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from docs import PROJECT, filled, hints_table, session, simulator_page
from hms_active_rooms.sim.server import environment, running_sim
from scripted import ScriptedModel, calls, text

README = (PROJECT / "README.md").read_text(encoding="utf-8")
SKILL = (PROJECT / "SKILL.md").read_text(encoding="utf-8")
CONFIG: Any = {"configurable": {"thread_id": "t"}}


def test_the_hints_table_is_the_contracts() -> None:
    assert filled(README, "hints", hints_table()) == README, "run: python tests/docs.py"


@pytest.mark.slow
def test_the_session_shown_is_what_the_demo_prints() -> None:
    shown = session()
    assert "Checked: the room shows it" in shown
    assert filled(README, "session", shown) == README, "run: python tests/docs.py"


def test_the_simulator_page_is_its_table() -> None:
    page = PROJECT / "skill" / "references" / "simulator.md"
    assert page.read_text(encoding="utf-8") == simulator_page(), "run: python tests/docs.py"


def test_the_python_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(snippets) == 2
    with running_sim("classroom") as sim:
        for name, value in environment(sim).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HMS_JOURNAL", f"sqlite:///{tmp_path / 'journal.sqlite'}")
        model = ScriptedModel.saying(
            calls(("hms-remove-peers", {"room_id": sim.room_id, "role": "viewer"})), text("ok")
        )
        names: dict[str, Any] = {"room_id": sim.room_id, "model": model}
        for snippet in snippets:
            exec(snippet, names)
        for graph in (names["agent"], names["graph"]):
            out = graph.invoke({"messages": [HumanMessage("go")]}, CONFIG)
            assert out["__interrupt__"]
        assert isinstance(names["toolkit"].gate.policy.protected_roles, frozenset)
        assert InMemorySaver is names["InMemorySaver"]


def test_the_skill_is_valid(tmp_path: Path) -> None:
    """The name has to be the folder's, so it is validated through a link that has it."""
    link = tmp_path / "hms-active-rooms"
    link.symlink_to(PROJECT)
    done = subprocess.run(
        [str(Path(sys.executable).parent / "agentskills"), "validate", str(link)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def commands_of_the_skill() -> list[str]:
    return sorted(set(re.findall(r"`(hms-active-rooms [^`]+)`", SKILL)))


@pytest.mark.parametrize("command", commands_of_the_skill())
def test_every_command_of_the_skill_runs(command: str, tmp_path: Path) -> None:
    with running_sim("classroom") as sim:
        spam = next(p.id for p in sim.world.peers(sim.room_id) if p.name == "Spam Bot")
        env = {
            "PATH": str(Path(sys.executable).parent),
            "HOME": str(tmp_path),
            "HMS_JOURNAL": f"sqlite:///{tmp_path / 'journal.sqlite'}",
            **environment(sim),
        }

        def run(line: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                shlex.split(line), env=env, capture_output=True, text=True, timeout=60, check=False
            )

        action = "none"
        if "ACTION" in command:
            waiting = run(f"hms-active-rooms end {sim.room_id} --json")
            action = re.findall(r'"id": "(\w{12})"|"action_id": "(\w{12})"', waiting.stdout)[0]
            action = next(filter(None, action))
        line = command.replace("ROOM", sim.room_id).replace("PEER", spam[:8])
        line = line.replace("ACTION", action).replace("--wait 600", "--wait 0")
        done = run(line)
        if "approve" in command:
            assert done.returncode == 2, done.stdout + done.stderr  # needs a terminal
        elif any(f" {verb} " in line for verb in ("send", "remove", "end", "--wait")):
            assert done.returncode == 3, done.stdout + done.stderr
        else:
            assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert not [r for r in sim.requests if r.method == "POST"]
