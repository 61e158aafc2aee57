"""kill -9 of the server at every step of an approved removal: nothing approved is lost, nothing
is sent twice, and asking again tells the outcome."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import httpx
import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

from e2e.server import (
    APPROVER,
    CALLER,
    WAIT_S,
    Browser,
    Program,
    Server,
    guarded,
    serving,
    settings,
)
from forks import command
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.sim import Fault
from hms_active_rooms.sim.server import Simulation, running_sim
from hms_active_rooms.sim.settings import Settings
from serve.people import choice
from simulated import peer_id, posts

pytestmark = pytest.mark.slow

REMOVE = "hms-remove-peers"
CRASHING = (sys.executable, str(Path(__file__).parent / "crash_server.py"))
KINDS = {
    "rest": ("proposed", "approved", "sent", "done", "told"),
    "page": ("proposed", "asked", "approved", "sent", "done", "told"),
}


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with running_sim("classroom", settings=Settings(removal_delay_s=0.01)) as running:
        yield running


class Flow:
    """A program asks for the removal, a person approves it, the program asks what became of it."""

    def __init__(self, sim: Simulation, way: str) -> None:
        spam = peer_id(sim, "Spam Bot")
        self._arguments = {"room_id": sim.room_id, "peer_id": spam}
        self._way = way
        self.action = ""

    def ask(self, server: Server) -> dict[str, Any]:
        """The same call, whenever it is made; what is known of the action."""
        with Program(server, CALLER) as program:
            told = program.tool(REMOVE, self._arguments)
            if told.status_code == 404:  # it was done and told: they are gone, and this is new
                assert self.action
                told = program.get(f"/v1/actions/{self.action}")
                return dict(told.json()["action"])
            data = dict(told.raise_for_status().json()["data"])
        self.action = data["action_id"]
        return data

    def approve(self, server: Server) -> None:
        """By the way of this test."""
        with Browser(server) if self._way == "page" else Program(server, APPROVER) as person:
            answer = person.decide(self.action, person.question(self.action), yes=True)
        answer.raise_for_status()

    def whole(self, server: Server) -> None:
        """All of it."""
        self.ask(server)
        self.approve(server)
        self.ask(server)


@contextmanager
def dies(sim: Simulation, environ: dict[str, str], kill: str) -> Iterator[Server]:
    """A server that is killed at this step; the block sees it go."""
    with serving(sim, environ, kill=kill) as server:
        with suppress(httpx.TransportError, AssertionError):
            yield server
        assert server.ended() == -signal.SIGKILL, server.stderr


@contextmanager
def killed_when_requested(sim: Simulation, server: Server) -> Iterator[None]:
    """The server dies as soon as 100ms has the request that changes the room."""

    def kill() -> None:
        sim.log.wait_until(lambda log: any(r.method == "POST" for r in log), WAIT_S)
        server.kill()

    killing = threading.Thread(target=kill)
    killing.start()
    with suppress(httpx.TransportError):
        yield
    killing.join(WAIT_S)
    assert server.ended() == -signal.SIGKILL


BY_DAY = [
    ("rest", "approved", "before"),
    ("rest", "approved", "after"),
    ("page", "sent", "before"),
    ("page", "sent", "after"),
    ("rest", "done", "before"),
]
# Before the question and after the answer both ways are the same.
STEPS = [*(("rest", kind) for kind in KINDS["rest"]), *(("page", k) for k in KINDS["page"][1:-1])]
AT_NIGHT = [
    pytest.param(*step, moment, marks=pytest.mark.nightly)
    for step in STEPS
    for moment in ("before", "after")
    if (*step, moment) not in BY_DAY
]


@pytest.mark.parametrize(("way", "kind", "moment"), [*BY_DAY, *AT_NIGHT])
def test_a_server_killed_at_any_step_loses_no_approval_and_sends_nothing_twice(
    way: str, kind: str, moment: str, sim: Simulation, tmp_path: Path
) -> None:
    environ = guarded(sim, tmp_path)
    flow = Flow(sim, way)
    with dies(sim, environ, f"{moment}:{kind}") as server:
        flow.whole(server)
    kinds_of = KINDS[way]
    reached = kinds_of.index(kind) + (moment == "after")  # so many of the events are on record
    approved, sent = reached > kinds_of.index("approved"), reached > kinds_of.index("sent")
    requested = kinds_of.index(kind) >= kinds_of.index("done")
    assert len(posts(sim)) == requested

    with serving(sim, environ) as server:
        told = flow.ask(server)
        if not approved:
            # Nobody was told that it was approved; it is asked, not lost, and not sent.
            assert (told["state"], len(posts(sim))) == ("proposed", 0)
            flow.approve(server)
            told = flow.ask(server)
        if sent and not requested:
            # Killed between the claim and the request: nobody can know, so it says so.
            assert (told["state"], told["executed"], len(posts(sim))) == ("unknown", "maybe", 0)
        else:
            assert (told["state"], len(posts(sim))) == ("done", 1)

    journal = Journal(environ["HMS_JOURNAL"])
    [row, *more] = journal.actions(state="unknown" if sent and not requested else "done")
    kinds = [event.kind for event in journal.events(row.id)]
    journal.close()
    assert more == []
    assert row.decided_way == way
    assert (kinds.count("approved"), kinds.count("sent")) == (1, 1)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("way", ["rest", pytest.param("page", marks=pytest.mark.nightly)])
def test_a_server_killed_while_100ms_works_looks_and_sends_nothing_again(
    way: str, when: Literal["before", "after"], sim: Simulation, tmp_path: Path
) -> None:
    environ = guarded(sim, tmp_path)
    flow = Flow(sim, way)
    sim.faults.add(Fault(kind="hang", method="POST", when=when))
    with serving(sim, environ) as server:
        flow.ask(server)
        with killed_when_requested(sim, server):
            flow.approve(server)
    sim.faults.clear()

    with serving(sim, environ) as server:
        told = flow.ask(server)
    assert told["state"] == ("unknown" if when == "before" else "done")
    assert told["executed"] == "maybe"
    assert len(posts(sim)) == 1


@pytest.mark.parametrize(
    ("sent", "ignoring"),
    [
        ([signal.SIGINT], ""),
        ([signal.SIGTERM, signal.SIGTERM, signal.SIGHUP], ""),
        ([signal.SIGTERM], "trap '' INT;"),  # so a shell starts what runs in the background
    ],
)
def test_signals_to_a_stdio_server_wait_for_the_answer_to_an_open_send(
    sent: list[signal.Signals], ignoring: str, sim: Simulation, tmp_path: Path
) -> None:
    environ = {**settings(sim, tmp_path), "HMS_POLICY_RELAXED": "hms-send-message"}
    call = {"name": "hms-send-message", "arguments": {"room_id": sim.room_id, "message": "hi"}}
    started = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "c", "version": "1"},
    }
    lines: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": started},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": call},
    ]
    sim.faults.add(Fault(kind="latency", operation="send_message", latency_s=1.0))
    command = f"{ignoring} exec '{sys.executable}' -m hms_active_rooms mcp --stdio"
    server = subprocess.Popen(
        ["sh", "-c", f"{command} --room {sim.room_id}"],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    with server:
        assert server.stdin
        for line in lines:
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **line}) + "\n")
        server.stdin.flush()
        with closing(Journal(environ["HMS_JOURNAL"])) as journal:
            while not journal.actions(state="sent"):
                time.sleep(0.01)
            for each in sent:
                server.send_signal(each)
                time.sleep(0.1)  # signals that wait together come as one
            assert server.wait() == 0
            assert [action.state for action in journal.actions()] == ["done"]
    assert len(posts(sim)) == 1


def test_stdio_servers_that_start_after_a_kill_send_what_was_approved_once(
    sim: Simulation, tmp_path: Path
) -> None:
    environ = settings(sim, tmp_path)
    stdio = ["mcp", "--stdio", "--room", sim.room_id]
    spam = peer_id(sim, "Spam Bot")
    program, *given = CRASHING

    async def yes(context: Any, params: Any) -> types.ElicitResult:
        decision = choice(params.requested_schema, "approve")
        return types.ElicitResult(action="accept", content={"decision": decision})

    async def ask() -> None:
        dying = StdioServerParameters(
            command=program, args=[*given, "after:approved", *stdio], env=environ
        )
        async with Client(dying, elicitation_callback=yes) as client:
            with pytest.raises(MCPError):
                await client.call_tool(REMOVE, {"room_id": sim.room_id, "peer_id": spam})

    asyncio.run(ask())
    journal = Journal(environ["HMS_JOURNAL"])
    [row] = journal.actions(state="approved")
    assert len(posts(sim)) == 0

    # With nothing on its input a server ends as soon as nothing is left to do.
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: command(stdio, environ), range(2)))
    assert [server.code for server in ended] == [0, 0]
    assert len(posts(sim)) == 1
    [done] = journal.actions()
    assert (done.id, done.state, done.decided_way) == (row.id, "done", "elicitation")
    kinds = [event.kind for event in journal.events(row.id)]
    assert (kinds.count("approved"), kinds.count("sent")) == (1, 1)
    journal.close()
