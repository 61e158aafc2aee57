"""One approval flow, however a person is asked: the same rows, and one request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import mcp_types as types
import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from pexpect import EOF

from e2e.server import APPROVER, CALLER, WAIT_S, Browser, Program, guarded, serving
from forks import Terminal
from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.moderator import build_moderator
from hms_active_rooms.sim.server import Simulation, running_sim
from hms_active_rooms.sim.settings import Settings
from scripted import ScriptedModel, calls, text
from serve.people import choice
from simulated import names, peer_id, posts

REMOVE = "hms-remove-peers"
CONFIG: Any = {"configurable": {"thread_id": "t", "approver": "ada"}}


@dataclass(frozen=True)
class Place:
    """A simulated room, and a folder with the journal that everybody shares."""

    sim: Simulation
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        return guarded(self.sim, self.folder)

    @property
    def arguments(self) -> dict[str, Any]:
        return {"room_id": self.sim.room_id, "peer_id": peer_id(self.sim, "Spam Bot")}

    def toolkit(self) -> ActiveRoomsToolkit:
        return ActiveRoomsToolkit.from_env(rooms=[self.sim.room_id], environ=self.environ)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with running_sim("classroom", settings=Settings(removal_delay_s=0.01)) as sim:
        yield Place(sim, tmp_path)


# --- the ways ---------------------------------------------------------------------------------


def by_terminal(place: Place) -> None:
    """`remove` on a pseudo-terminal; the person types yes."""
    child = Terminal(["remove", place.sim.room_id, "Spam Bot"], place.environ)
    child.expect(r"Approve\? \[yes/no/edit\]")
    child.sendline("yes")
    child.expect(EOF)
    assert child.code() == 0
    child.close()


def by_moderators_interrupt(place: Place) -> None:
    """The ready-made graph asks once for the turn."""
    model = ScriptedModel.saying(calls((REMOVE, place.arguments)), text("ok"))
    kit = place.toolkit()
    graph = build_moderator(model, kit, room_id=place.sim.room_id, checkpointer=InMemorySaver())
    [interrupt] = graph.invoke({"messages": [HumanMessage("go")]}, CONFIG)["__interrupt__"]
    [asked] = interrupt.value["action_requests"]
    answer = {"decisions": [{"type": "approve", "digest": asked["digest"]}]}
    graph.invoke(Command(resume={interrupt.id: answer}), CONFIG)


def by_agents_interrupt(place: Place) -> None:
    """Somebody else's agent: the tool itself asks."""
    model = ScriptedModel.saying(calls((REMOVE, place.arguments)), text("ok"))
    kit = place.toolkit()
    agent = create_agent(model, kit.get_tools(), checkpointer=InMemorySaver())
    [interrupt] = agent.invoke({"messages": [HumanMessage("go")]}, CONFIG)["__interrupt__"]
    answer = {"type": "approve", "digest": interrupt.value["digest"]}
    agent.invoke(Command(resume={interrupt.id: answer}), CONFIG)


def by_elicitation(mode: str) -> Callable[[Place], None]:
    """A client of the MCP server is asked, in one of the protocol's eras."""

    async def yes(_: Any, asked: Any) -> types.ElicitResult:
        assert '"Spam Bot"' in asked.message
        decision = choice(asked.requested_schema, "approve")
        return types.ElicitResult(action="accept", content={"decision": decision})

    async def talk(url: str, arguments: dict[str, Any]) -> None:
        headers = {"authorization": f"Bearer {CALLER}"}
        async with httpx2.AsyncClient(headers=headers, timeout=WAIT_S, verify=False) as http:
            transport = streamable_http_client(url, http_client=http)
            async with Client(transport, mode=mode, elicitation_callback=yes) as client:  # type: ignore[arg-type]  # one of the modes
                told = await client.call_tool(REMOVE, arguments)
                assert told.structured_content["state"] == "done"

    def way(place: Place) -> None:
        with serving(place.sim, place.environ) as server:
            asyncio.run(talk(server.said["mcp"], place.arguments))

    return way


def by_page(place: Place) -> None:
    """A program calls, a person sees it on the page and approves there."""
    with (
        serving(place.sim, place.environ) as server,
        Program(server, CALLER) as program,
        Browser(server) as person,
    ):
        waiting = program.tool(REMOVE, place.arguments)
        action = waiting.json()["data"]["action_id"]
        verdict = person.decide(action, person.question(action), yes=True)
        assert verdict.json()["counted"]


def by_rest(place: Place) -> None:
    """A program calls, an approver's program approves."""
    with (
        serving(place.sim, place.environ) as server,
        Program(server, CALLER) as program,
        Program(server, APPROVER) as approver,
    ):
        waiting = program.tool(REMOVE, place.arguments)
        assert waiting.status_code == 202
        action = waiting.headers["location"].rpartition("/")[2]
        done = approver.decide(action, approver.question(action), yes=True)
        assert done.json()["action"]["state"] == "done"


WAYS: dict[str, tuple[Callable[[Place], None], str]] = {
    "terminal": (by_terminal, "terminal"),
    "moderator": (by_moderators_interrupt, "interrupt"),
    "create_agent": (by_agents_interrupt, "interrupt"),
    "elicitation": (by_elicitation("auto"), "elicitation"),
    "elicitation, handshake era": (by_elicitation("legacy"), "elicitation"),
    "page": (by_page, "page"),
    "rest": (by_rest, "rest"),
}
"""How a person is asked, and what the journal calls it."""


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_the_same_removal_leaves_the_same_rows_and_one_request_whatever_way_it_is_approved(
    name: str, place: Place
) -> None:
    way, word = WAYS[name]
    spam, room = peer_id(place.sim, "Spam Bot"), place.sim.room_id
    way(place)

    [post] = posts(place.sim)
    assert (post.path.rpartition("/")[2], post.body) == ("remove-peers", {"peer_id": spam})
    assert "Spam Bot" not in names(place.sim)

    journal = Journal(place.environ["HMS_JOURNAL"])
    [row] = journal.actions()
    events = [event for event in journal.events(row.id) if event.kind != "told"]
    journal.close()
    assert (row.tool, row.call.arguments()) == (REMOVE, {"room_id": room, "peer_id": spam})
    assert row.shown.kind == "remove-peer"
    assert [(p.name, p.id, p.role) for p in row.shown.people] == [("Spam Bot", spam, "student")]
    assert (row.gate, row.state, row.revision) == ("hard", "done", 1)
    assert (row.result.executed, row.result.verified) == ("yes", True)
    assert row.result.text.startswith('Removed "Spam Bot"')
    # By REST reading writes nothing; the approval names what was read by its digest.
    asked = [] if word == "rest" else ["asked"]
    assert [e.kind for e in events] == ["proposed", *asked, "approved", "sent", "done"]
    # Only who decided and by which way tells the rows apart.
    assert row.decided_way == word
    assert row.decided_by
    assert [e.way for e in events if e.kind in ("asked", "approved")] == [word] * (len(asked) + 1)
    assert {e.by for e in events if e.kind == "approved"} == {row.decided_by}
