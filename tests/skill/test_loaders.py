"""Loaders that nobody here wrote find the skill: deepagents, and what a plugin's manifests say."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from deepagents import create_deep_agent
from deepagents.backends import FilesystemBackend
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from mcp import Client, StdioServerParameters, stdio_client

import hms_active_rooms
from docs import PROJECT
from hms_active_rooms.capability import capability
from hms_active_rooms.cli.main import main
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.sim.server import Simulation
from scripted import ScriptedModel, calls, text
from skill.guide import REFERENCES, blocks

PLUGIN = PROJECT / ".claude-plugin"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_deepagents_finds_the_skill_and_reads_it_when_it_is_wanted(tmp_path: Path) -> None:
    assert main(["skill", "install", str(tmp_path / "skills")]) == 0
    shown: list[str] = []

    def script(history: list[BaseMessage]) -> AIMessage:
        shown.append(history[0].text)
        answers = [m for m in history if isinstance(m, ToolMessage)]
        if not answers:
            return calls(("read_file", {"file_path": "/hms-active-rooms/SKILL.md", "limit": 1000}))
        if len(answers) == 1:
            path = "/hms-active-rooms/references/policy.md"
            return calls(("read_file", {"file_path": path}), prefix="d")
        return text("done")

    agent = create_deep_agent(
        ScriptedModel(script=script),
        backend=FilesystemBackend(root_dir=tmp_path / "skills", virtual_mode=True),
        skills=["/"],
    )
    out = agent.invoke({"messages": [HumanMessage("somebody is spamming in my room")]})
    head = yaml.safe_load((PROJECT / "SKILL.md").read_text(encoding="utf-8").split("---\n")[1])
    assert head["description"] in shown[0]
    assert "/hms-active-rooms/SKILL.md" in shown[0]
    assert "Never approve for the person" not in shown[0]
    guide, policy = [m.text for m in out["messages"] if isinstance(m, ToolMessage)]
    assert "Never approve for the person" in guide
    assert "More, when you need it" in guide
    assert "protected_roles" in policy


def test_a_plugin_install_gives_one_skill() -> None:
    plugin = read(PLUGIN / "plugin.json")
    assert plugin["skills"] == ["./"]
    assert (PROJECT / "SKILL.md").is_file()
    assert not (PROJECT / "skills").exists(), "it would be read as well"
    assert plugin["name"] == "hms-active-rooms"
    assert plugin["version"] == hms_active_rooms.__version__


def test_the_marketplace_offers_that_plugin() -> None:
    [entry] = read(PLUGIN / "marketplace.json")["plugins"]
    plugin = read(PROJECT / entry["source"] / ".claude-plugin" / "plugin.json")
    assert {k: plugin[k] for k in ("name", "version", "description")} == {
        k: entry[k] for k in ("name", "version", "description")
    }


def test_a_plugin_install_gives_one_server_that_runs_from_the_plugin() -> None:
    assert "mcpServers" not in read(PLUGIN / "plugin.json"), "it would be there twice"
    servers = read(PROJECT / ".mcp.json")["mcpServers"]
    [(name, server)] = servers.items()
    plugin = read(PLUGIN / "plugin.json")["name"]
    longest = max((tool.name for tool in capability().tools), key=len)
    assert len(f"mcp__plugin_{plugin}_{name}__{longest}") <= 64
    script, *rest = server["args"]
    assert Path(script.replace("${CLAUDE_PLUGIN_ROOT}", str(PROJECT))).is_file()
    assert rest == ["mcp", "--stdio"]
    # Set by the person's environment, empty when they are not set there.
    assert all(value == f"${{{key}:-}}" for key, value in server["env"].items())
    # A client may pass nothing else on, and a protection that does not arrive protects nobody.
    policy = {f"HMS_POLICY_{field.upper()}" for field in Policy.model_fields} - {
        "HMS_POLICY_UNATTENDED"  # only code sets it
    }
    assert policy | {"HMS_POLICY_FILE", "HMS_JOURNAL_KEY"} <= set(server["env"])


async def tools_of(server: dict[str, Any], environ: dict[str, str]) -> list[str]:
    """The tools a client lists that starts the server by this entry."""
    parameters = StdioServerParameters(
        command=server["command"], args=server["args"], env={**environ, **server["env"]}
    )
    async with Client(stdio_client(parameters)) as client:
        return [tool.name for tool in (await client.list_tools()).tools]


async def test_the_plugins_server_starts_and_has_the_five_tools(sim: Simulation) -> None:
    [server] = read(PROJECT / ".mcp.json")["mcpServers"].values()
    given = {**os.environ, "HMS_POLICY_ROOMS": sim.room_id}
    entry = {
        "command": sys.executable,
        "args": [a.replace("${CLAUDE_PLUGIN_ROOT}", str(PROJECT)) for a in server["args"]],
        "env": {name: given.get(name, "") for name in server["env"]},
    }
    assert await tools_of(entry, dict(os.environ)) == [tool.name for tool in capability().tools]


async def test_the_entry_for_a_client_starts_and_has_the_five_tools(sim: Simulation) -> None:
    page = (REFERENCES / "mcp.md").read_text(encoding="utf-8")
    [server] = json.loads(blocks(page, "json client")[0])["mcpServers"].values()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    tools = await tools_of(server, {**os.environ, "PATH": path})
    assert tools == [tool.name for tool in capability().tools]
