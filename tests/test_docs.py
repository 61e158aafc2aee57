"""The README and the simulator's page say what is true: generated parts are fresh, snippets run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from docs import PROJECT, filled, hints_table, session, simulator_page
from hms_active_rooms.sim.server import environment, running_sim
from scripted import ScriptedModel, calls, text

README = (PROJECT / "README.md").read_text(encoding="utf-8")
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
