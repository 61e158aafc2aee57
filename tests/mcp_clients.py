"""The MCP server under clients nobody here wrote; prints a table, exits 1 if a check that applies fails.

    python tests/mcp_clients.py [--folder DIR] [--only npm|langchain|adapter]

npm        the protocol's conformance suite and the MCP Inspector
langchain  langchain-mcp-adapters in a LangGraph agent: our question becomes an interrupt
adapter    `langchain.mcp.MCPAdapter` in a `create_agent`

Each is installed in DIR, which is kept, or in a temporary folder, and talks HTTP to our server in
front of a simulated room. The two Python clients need releases that ours cannot have beside it, so
this file starts itself again in an environment of their own; so only the standard library is
imported at the top.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hms_active_rooms.sim import Simulation

ROOT = Path(__file__).parent.parent
NPM = (
    "node@22",
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "@modelcontextprotocol/inspector@2.12.0",
)
PYTHON = {
    "langchain": ("langchain-mcp-adapters==0.3.1", "mcp<2", "langgraph>=1.2.20,<2"),
    "adapter": (
        *("-e", f"{ROOT}[cli,sim,mcp]"),
        *("langchain>=1.5.2,<2", "langgraph>=1.2.20,<2", "fastmcp>=4.2,<5", "pytest"),
    ),
}

# Most scenarios of the suite call test tools that only a reference server has. These apply to any
# server; checks in them that still ask for such a tool, or for prompts, do not apply.
SCENARIOS = {
    "2025-11-25": "server-initialize server-session-lifecycle ping tools-list resources-list"
    " server-sse-multiple-streams dns-rebinding-protection",
    "2026-07-28": "server-stateless tools-list resources-list sep-2164-resource-not-found"
    " server-sse-multiple-streams dns-rebinding-protection caching http-header-validation"
    " input-required-result-unsupported-methods",
}
NOT_OURS = ("Not testable: server does not list the diagnostic tool", "prompts/list returned")
END, REMOVE = "hms-end-active-room", "hms-remove-peers"
_WAIT_S = 600


class Row(NamedTuple):
    """One line of the table."""

    client: str
    what: str
    passed: int
    failed: int
    not_applicable: int = 0
    notes: str = ""


def checked(client: str, what: str, good: bool, notes: str = "") -> Row:
    return Row(client, what, int(good), int(not good), notes="" if good else notes)


class Programs:
    """What is installed in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bin = folder / "node_modules" / ".bin"
        path = f"{self._bin}{os.pathsep}{os.environ.get('PATH', '')}"
        self._environ = {**os.environ, "PATH": path, "HOME": str(folder)}
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, *command: str, must: bool = False) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=_WAIT_S,
            check=False,
        )
        if must and done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done

    def need_npm(self) -> None:
        if not (self._bin / "conformance").exists():
            install = ("npm", "install", "--no-audit", "--no-fund")
            self.run("npm", "init", "-y", must=True)
            self.run(*install, NPM[0], must=True)
            self.run(*install, *NPM[1:], must=True)

    def python(self, client: str, *arguments: str) -> Row:
        """This file as that client, in its own environment; what it found."""
        python = self._folder / client / "bin" / "python"
        if not python.exists():
            self.run(sys.executable, "-m", "venv", str(self._folder / client), must=True)
            self.run(str(python), "-m", "pip", "install", "-q", *PYTHON[client], must=True)
        done = self.run(str(python), __file__, "--as", client, *arguments)
        return checked(
            client, arguments[-1], done.returncode == 0, (done.stderr or done.stdout)[-300:]
        )


@contextmanager
def server(sim: Simulation, folder: Path) -> Iterator[str]:
    """Our server as people start it; its MCP address."""
    environ = {
        **os.environ,
        "HMS_BASE_URL": sim.base_url,
        "HMS_ACCESS_KEY": sim.access_key,
        "HMS_SECRET": sim.secret,
        "HMS_JOURNAL": f"sqlite:///{folder / 'journal.sqlite'}",
    }
    command = [sys.executable, "-m", "hms_active_rooms", "mcp", "--port", "0", "--json"]
    with subprocess.Popen(
        [*command, "--room", sim.room_id], env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())["mcp"]
        finally:
            process.terminate()


def conformance(programs: Programs, url: str, folder: Path) -> Iterator[Row]:
    for version, names in SCENARIOS.items():
        for name in names.split():
            out = folder / f"{version}-{name}"
            programs.run(
                *("conformance", "server", "--url", url, "--scenario", name),
                *("--spec-version", version, "--output-dir", str(out)),
            )
            found = sorted(out.rglob("checks.json"))
            checks = json.loads(found[0].read_text()) if found else []
            failed = [c for c in checks if c["status"] == "FAILURE"]
            ours = [c for c in failed if not c.get("errorMessage", "").startswith(NOT_OURS)]
            passed = sum(c["status"] == "SUCCESS" for c in checks)
            notes = "; ".join(c["id"] for c in ours) if checks else "the suite wrote no result"
            bad, other = len(ours) or int(not checks), len(failed) - len(ours)
            yield Row("conformance suite", f"{name} ({version})", passed, bad, other, notes)


def inspector(programs: Programs, url: str, sim: Simulation) -> Iterator[Row]:
    base = ("mcp-inspector", "--cli", url, "--transport", "http", "--method")
    room = ("--tool-arg", f"room_id={sim.room_id}")

    def call(tool: str, *arguments: str) -> Any:
        done = programs.run(*base, "tools/call", "--tool-name", tool, *room, *arguments)
        return json.loads(done.stdout or "{}").get("structuredContent", {})

    strict = programs.run(*base, "tools/list", "--strict")
    listed = strict.returncode == 0 and "hms-list-peers" in strict.stdout
    yield checked("MCP Inspector", "tools/list --strict", listed)
    people = call("hms-list-peers").get("total") == 15
    yield checked("MCP Inspector", "tools/call hms-list-peers", people)
    held = call(REMOVE, "--tool-arg", "role=viewer").get("waiting") is True
    yield checked(
        "MCP Inspector", f"tools/call {REMOVE}: waits, nothing sent", held and not sent(sim)
    )
    text = programs.run(
        *base, "resources/read", "--uri", "skill://hms-active-rooms/SKILL.md"
    ).stdout
    yield checked("MCP Inspector", "resources/read SKILL.md", "hms-active-rooms" in text)


def sent(sim: Simulation) -> int:
    return sum(request.method == "POST" for request in sim.requests)


# --- inside an environment of its own ---------------------------------------------------------


async def as_langchain(url: str, room: str, name: str) -> bool:
    """Remove this person after one approval. The first call's question is closed unanswered and
    becomes an interrupt; the second call is the same action, asked again, and answered."""
    from langchain_mcp_adapters.callbacks import Callbacks
    from langchain_mcp_adapters.client import MultiServerMCPClient
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, StateGraph
    from langgraph.types import Command, interrupt
    from mcp.types import ElicitResult

    asked, approved = [""], []

    async def elicited(mcp_context: Any, params: Any, context: Any) -> Any:
        asked.append(params.message)
        if params.message not in approved:
            return ElicitResult(action="cancel")
        choices = params.requestedSchema["properties"]["decision"]["enum"]
        [yes] = [choice for choice in choices if choice.startswith("approve")]
        return ElicitResult(action="accept", content={"decision": yes})

    client = MultiServerMCPClient(
        {"rooms": {"url": url, "transport": "streamable_http"}},
        callbacks=Callbacks(on_elicitation=elicited),
    )
    tools = {tool.name: tool for tool in await client.get_tools()}
    found = await tools["hms-list-peers"].ainvoke({"room_id": room, "name": name})
    rows = found[0]["text"].splitlines()
    peer = next(row.split('"')[1] for row in rows if f'"{name}"' in row and row.startswith("["))

    async def act(state: dict[str, str]) -> dict[str, str]:
        given = {"room_id": room, "peer_id": peer}
        said = await tools[REMOVE].ainvoke(given)
        if "waiting" in said[0]["text"]:
            approved.append(interrupt({"question": asked[-1]}))
            said = await tools[REMOVE].ainvoke(given)
        return {"told": said[0]["text"]}

    graph: Any = StateGraph(dict)
    graph.add_node("act", act)
    graph.add_edge(START, "act")
    agent = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    [question] = (await agent.ainvoke({"told": ""}, config))["__interrupt__"]
    done = await agent.ainvoke(Command(resume=question.value["question"]), config)
    return str(done["told"]).startswith("Removed")


SCRIPTS: dict[str, tuple[int, str]] = {
    "approve": (1, "ended"),
    "another-session approve reject": (0, "rejected"),
    "another-session approve nothing": (0, "Too late"),
    "75-minutes approve": (0, "came too late. Nothing is sent"),
    "75-minutes approve approve": (1, "ended"),
}
"""What happens after the question, how many requests that makes, and what is said last."""


async def as_adapter(script: str) -> bool:
    """End the session by an agent with the adapter's tools, whose run the script resumes.

    The adapter turns a question into an interrupt. When the run is resumed it issues the call from
    round one and gives its saved answers, in order, to whatever is asked by then.
    """
    import warnings
    from datetime import UTC, datetime, timedelta

    from langchain.agents import create_agent
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Command

    from hms_active_rooms import ActiveRoomsToolkit
    from hms_active_rooms.gate.journal import Journal
    from hms_active_rooms.serve.app import create_app
    from hms_active_rooms.serve.guard import guard_settings
    from hms_active_rooms.serve.mcp import build_server, entry
    from hms_active_rooms.sim.server import environment, running_sim
    from serve.people import serving

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the namespace is in beta, and says so
        from langchain.mcp import MCPAdapter

    class Model(GenericFakeChatModel):
        def bind_tools(self, tools: Any, **_: Any) -> Any:
            return self

    ahead = timedelta()
    with running_sim("classroom") as sim:
        world, room = sim.world, sim.room_id
        journal = Journal(":memory:", clock=lambda: datetime.now(UTC) + ahead)
        environ = environment(sim)
        toolkit = ActiveRoomsToolkit.from_env(rooms=[room], journal=journal, environ=environ)
        app = create_app(toolkit, entry(build_server(toolkit)), guard=guard_settings("127.0.0.1"))
        call = {"name": END, "args": {"room_id": room}, "id": "1", "type": "tool_call"}
        model = Model(messages=iter([AIMessage("", tool_calls=[call]), AIMessage("ok")]))
        config: Any = {"configurable": {"thread_id": "1"}}
        async with serving(app) as url, MCPAdapter(f"{url}/mcp") as adapter:
            agent: Any = create_agent(
                model, await adapter.list_tools(), checkpointer=InMemorySaver()
            )
            result = await agent.ainvoke({"messages": [("user", "end the session")]}, config)
            for step in script.split():
                if step == "75-minutes":
                    ahead += timedelta(minutes=75)
                elif step == "another-session":
                    for peer in world.peers(room):
                        world.leave(room, peer.id)
                    world.join(room, name="Ann", user_id="ann", role="student")
                elif step == "nothing":
                    result = await agent.ainvoke(None, config)
                else:
                    [request] = result["__interrupt__"][0].value["requests"]
                    choices = request["requested_schema"]["properties"]["decision"]["enum"]
                    [decision] = [choice for choice in choices if choice.startswith(step)]
                    answer = {"action": "accept", "content": {"decision": decision}}
                    resume: Any = Command(resume={"responses": {"approval": answer}})
                    result = await agent.ainvoke(resume, config)
        await toolkit.aclose()
        paused = result.get("__interrupt__")
        said = paused[0].value["requests"][0]["message"] if paused else result["messages"][-2].text
        requests, words = SCRIPTS[script]
        print(sent(sim), said)
        return sent(sim) == requests and words.casefold() in said.casefold()


def run(folder: Path, only: str | None) -> Iterator[Row]:
    from hms_active_rooms.sim import running_sim

    programs = Programs(folder)
    if only in (None, "npm"):
        programs.need_npm()
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_sim() as sim,
        server(sim, Path(scratch)) as url,
    ):
        if only in (None, "npm"):
            yield from conformance(programs, url, Path(scratch))
            yield from inspector(programs, url, sim)
        if only in (None, "langchain"):
            before = sent(sim)
            row = programs.python("langchain", url, sim.room_id, "Spam Bot")
            yield row if sent(sim) == before + 1 else row._replace(passed=0, failed=1)
    if only in (None, "adapter"):
        for script in SCRIPTS:
            yield programs.python("adapter", script)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep what is installed there")
    parser.add_argument("--only", choices=("npm", *PYTHON))
    parser.add_argument("--as", dest="client", choices=tuple(PYTHON), help=argparse.SUPPRESS)
    parser.add_argument("given", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        client: Any = {"langchain": as_langchain, "adapter": as_adapter}[options.client]
        return int(not asyncio.run(client(*options.given)))
    with tempfile.TemporaryDirectory() as scratch:
        rows = list(run((options.folder or Path(scratch)).resolve(), options.only))
    print("| client | what | passed | failed | not applicable | notes |\n|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
