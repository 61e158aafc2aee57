"""The MCP server under `langchain.mcp.MCPAdapter` in a `create_agent`; prints a table.

    python -m evals.mcp_adapter [--folder DIR]

The adapter needs fastmcp, so the command makes an environment of its own: in a temporary
folder, or in DIR, which is kept. There it starts itself again, in front of a simulated room.
Exits 1 when something is sent that nobody approved, or what somebody approved is not.

The adapter turns a question into an interrupt. When the run is resumed it issues the call
from round one and gives its saved answers, in order, to whatever is asked by then.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from evals.mcp_conformance import Row, table

ROOT = Path(__file__).parent.parent
PACKAGES = ("langchain>=1.5.2,<2", "langgraph>=1.2.20,<2", "fastmcp>=4.2,<5")

END = "hms-end-active-room"
LATE = timedelta(minutes=75)


@dataclass
class Stage:
    """An agent whose model asks to end the session, and the person who is asked.

    Attributes:
        sim: the simulated 100ms.
        agent: of `create_agent`, with the adapter's tools.
        skip: lets the journal's time go on.
        shown: the questions that were interrupts, in order.
        told: what the tool said in the end; "" while the run is paused.
    """

    sim: Any
    agent: Any
    skip: Callable[[timedelta], None]
    shown: list[str] = field(default_factory=list)
    told: str = ""
    _choices: list[str] = field(default_factory=list)

    async def invoke(self, given: Any) -> None:
        """Start the run, or go on with it."""
        result = await self.agent.ainvoke(given, {"configurable": {"thread_id": "1"}})
        paused = result.get("__interrupt__")
        self.told = "" if paused else result["messages"][-2].text
        if paused:
            [request] = paused[0].value["requests"]
            self.shown.append(request["message"])
            self._choices = request["requested_schema"]["properties"]["decision"]["enum"]

    async def start(self) -> None:
        """The model asks to end the session."""
        await self.invoke({"messages": [("user", "end the session")]})

    async def answer(self, word: str) -> None:
        """The person answers the question that is shown."""
        from langgraph.types import Command

        [decision] = [choice for choice in self._choices if choice.startswith(word)]
        content = {"decision": decision}
        responses = {"approval": {"action": "accept", "content": content}}
        await self.invoke(Command(resume={"responses": responses}))

    def next_session(self) -> None:
        """Everybody leaves and three others come: another session."""
        world, room = self.sim.world, self.sim.room_id
        for peer in world.peers(room):
            world.leave(room, peer.id)
        for name in ("Ann", "Ben", "Cy"):
            world.join(room, name=name, user_id=name.lower(), role="student")

    @property
    def sent(self) -> int:
        """How many requests changed the room."""
        return sum(request.method == "POST" for request in self.sim.requests)


async def approved(stage: Stage) -> bool:
    """A yes to what is shown ends the session, by one request."""
    await stage.start()
    before = stage.sent
    await stage.answer("approve")
    return before == 0 and stage.sent == 1 and len(stage.shown) == 1


async def rejected_when_asked_again(stage: Stage) -> bool:
    """The session changes behind a yes; the person rejects what is asked then."""
    await stage.start()
    stage.next_session()
    await stage.answer("approve")
    asked = len(stage.shown) == 2 and "3 people" in stage.shown[1]
    await stage.answer("reject")
    return asked and stage.sent == 0 and "rejected" in stage.told


async def resumed_with_nothing(stage: Stage) -> bool:
    """The session changes behind a yes; the run goes on by `invoke(None)`."""
    await stage.start()
    stage.next_session()
    await stage.answer("approve")
    await stage.invoke(None)
    return stage.sent == 0 and not stage.told and "Too late" in stage.shown[-1]


async def approved_too_late(stage: Stage) -> bool:
    """A yes 75 minutes late decides nothing; the question that is asked then is answered."""
    await stage.start()
    stage.skip(LATE)
    await stage.answer("approve")
    nothing = stage.sent == 0 and "Too late, nothing is sent" in stage.shown[-1]
    await stage.answer("approve")
    return nothing and stage.sent == 1


SCENES: Sequence[tuple[str, Callable[[Stage], Awaitable[bool]]]] = (
    ("yes: one request", approved),
    ("yes, another session, no: nothing is sent", rejected_when_asked_again),
    ("yes, another session, invoke(None): nothing is decided", resumed_with_nothing),
    ("yes 75 minutes late: too late; yes to what is asked then: one request", approved_too_late),
)


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    """A simulated classroom, our server over HTTP, the adapter, an agent."""
    from langchain.agents import create_agent
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    from langgraph.checkpoint.memory import InMemorySaver

    from hms_active_rooms import ActiveRoomsToolkit
    from hms_active_rooms.gate.journal import Journal
    from hms_active_rooms.serve.app import create_app
    from hms_active_rooms.serve.guard import guard_settings
    from hms_active_rooms.serve.mcp import build_server, entry
    from hms_active_rooms.serve.server import serving
    from hms_active_rooms.sim import environment, running_sim

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the namespace is in beta, and says so
        from langchain.mcp import MCPAdapter

    class Model(GenericFakeChatModel):
        """Says what it was given, whatever the tools are."""

        def bind_tools(self, tools: Any, **_: Any) -> Any:
            return self

    ahead = timedelta()

    def skip(by: timedelta) -> None:
        nonlocal ahead
        ahead += by

    with running_sim("classroom") as sim:
        journal = Journal(":memory:", clock=lambda: datetime.now(UTC) + ahead)
        toolkit = ActiveRoomsToolkit.from_env(
            rooms=[sim.room_id], journal=journal, environ=environment(sim)
        )
        guard = guard_settings("127.0.0.1")
        app = create_app(toolkit, guard=guard, mcp=entry(build_server(toolkit)))
        call = {"name": END, "args": {"room_id": sim.room_id}, "id": "1", "type": "tool_call"}
        said = [AIMessage("", tool_calls=[call]), AIMessage("ok")]
        async with serving(app) as url, MCPAdapter(f"{url}/mcp") as adapter:
            tools = await adapter.list_tools()
            model = Model(messages=iter(said))
            yield Stage(sim, create_agent(model, tools, checkpointer=InMemorySaver()), skip)
        await toolkit.aclose()


async def rows() -> list[Row]:
    """Every scene on a stage of its own."""
    found = []
    for what, scene in SCENES:
        async with staged() as stage:
            good = await scene(stage)
        notes = "" if good else f"{stage.sent} requests; {stage.told or stage.shown[-1]!r}"
        found.append(Row("langchain.mcp.MCPAdapter", what, int(good), int(not good), notes=notes))
    return found


def in_its_own_environment(folder: Path) -> int:
    """Make the environment if it is not there, and start this command in it."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        project = f"{ROOT}[cli,sim,mcp]"
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "-e", project, *PACKAGES], check=True
        )
    return subprocess.run(
        [str(python), "-m", "evals.mcp_adapter", "--here"], cwd=ROOT, check=False
    ).returncode


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the environment there")
    parser.add_argument("--here", action="store_true", help="this Python has what is needed")
    options = parser.parse_args()
    if options.here:
        found = asyncio.run(rows())
        print(table(found))
        return int(any(row.failed for row in found))
    with tempfile.TemporaryDirectory() as scratch:
        return in_its_own_environment((options.folder or Path(scratch)).resolve())


if __name__ == "__main__":
    sys.exit(main())
