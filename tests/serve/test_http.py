"""The server on a real port, in front of a simulated 100ms; and the command that starts it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from accepted import waits_for_acknowledgements
from e2e.server import started
from forks import command
from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.serve.app import create_app, listen
from hms_active_rooms.serve.guard import guard_settings
from hms_active_rooms.serve.mcp import build_server, entry
from hms_active_rooms.sim import Fault, Simulation, running_sim
from hms_active_rooms.sim.settings import Settings
from serve.people import YES, Person, serving
from simulated import peer_id, posts

TOKEN = "caller-token-0123456789"
REMOVE = "hms-remove-peers"
COMMAND = ["-c", "from hms_active_rooms.cli.main import run; run()"]


@pytest.fixture
def sim() -> Iterator[Simulation]:
    quick = Settings(removal_delay_s=0.01, ending_delay_s=0.01)
    with running_sim("classroom", settings=quick) as simulation:
        yield simulation


def environment(sim: Simulation, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
        "HMS_BASE_URL": sim.base_url,
        "HMS_ACCESS_KEY": sim.access_key,
        "HMS_SECRET": sim.secret,
    }


def has_post(requests: tuple[Any, ...]) -> bool:
    return any(request.method == "POST" for request in requests)


@asynccontextmanager
async def running(sim: Simulation, **settings: Any) -> AsyncIterator[tuple[str, Any]]:
    toolkit = ActiveRoomsToolkit.from_env(
        rooms=[sim.room_id],
        journal=":memory:",
        environ={
            "HMS_BASE_URL": sim.base_url,
            "HMS_ACCESS_KEY": sim.access_key,
            "HMS_SECRET": sim.secret,
        },
    )
    guard = guard_settings("127.0.0.1", **settings)
    app = create_app(toolkit, entry(build_server(toolkit)), guard=guard)
    async with serving(app) as url:
        yield url, toolkit
    await toolkit.aclose()


@asynccontextmanager
async def connected(
    url: str, mode: str, person: Person | None = None, token: str = ""
) -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(headers=headers, timeout=30, verify=False) as http:
        transport = streamable_http_client(url, http_client=http)
        client = Client(transport, mode=mode, elicitation_callback=person)
        async with client as mcp:
            yield mcp


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("path", ["/mcp", "/"])
async def test_a_removal_over_http_in_both_eras(sim: Simulation, mode: str, path: str) -> None:
    person = Person([YES])
    spam = peer_id(sim, "Spam Bot")
    async with running(sim) as (url, _), connected(url + path, mode, person) as mcp:
        people = await mcp.call_tool("hms-list-peers", {"room_id": sim.room_id})
        assert people.structured_content["total"] == 15
        result = await mcp.call_tool(REMOVE, {"room_id": sim.room_id, "peer_id": spam[:8]})
        assert result.structured_content["state"] == "done"
    assert len(person.questions) == 1
    assert len(posts(sim)) == 1


async def test_the_server_speaks_both_eras_by_itself(sim: Simulation) -> None:
    async with running(sim) as (url, _):
        async with connected(url + "/mcp", "auto") as mcp:
            assert mcp.protocol_version == "2026-07-28"
        async with connected(url + "/mcp", "legacy") as mcp:
            assert mcp.protocol_version == "2025-11-25"


async def test_an_answer_waits_for_no_acknowledgement(sim: Simulation) -> None:
    async with running(sim) as (url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
        writer.write(b"GET /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readline()
        assert not waits_for_acknowledgements(writer.get_extra_info("socket"))
        writer.close()
        await writer.wait_closed()


async def test_a_proxys_whole_url_is_a_path_whose_host_counts(sim: Simulation) -> None:
    """RFC 9112, 3.2.2: a server takes it, and its host in place of Host."""
    async with running(sim, callers={"": TOKEN}, own_login=("/approvals",)) as (url, _):
        port = httpx.URL(url).port

        async def status(target: str, token: str = TOKEN) -> int:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
            bearer = f"Authorization: Bearer {token}\r\n" if token else ""
            writer.write(f"{head}{bearer}\r\n".encode())
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return int(line.split()[1])

        assert await status(f"{url}/healthz", "") == 200
        assert await status(f"HTTP://localhost:{port}/%68ealthz?x=1", "") == 200
        assert await status(f"{url}/mcp", "") == 401
        assert await status(f"{url}/mcp") == 406
        assert await status(f"http://127.0.0.1:{port}") == 406  # "/" is MCP's too
        assert await status(f"http://rooms.example:{port}/mcp") == 421
        assert await status("http:///mcp") == 421


async def test_whatever_is_not_there_is_a_problem_and_nobody_is_sent_elsewhere(
    sim: Simulation,
) -> None:
    async with running(sim) as (url, _), httpx.AsyncClient(base_url=url) as http:
        for method, path, status in [
            ("GET", "/nowhere", 404),
            ("GET", "/healthz/", 404),
            ("OPTIONS", "/mcp", 405),
            ("POST", "/healthz", 405),
            ("DELETE", "/healthz", 405),
        ]:
            told = await http.request(method, path)
            assert told.status_code == status, path
            if not path.startswith("/mcp"):
                assert told.headers["content-type"] == "application/problem+json"
                assert told.json()["executed"] == "no"
        body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        answers = [await http.post(path, json=body) for path in ("/mcp", "/mcp/")]
        assert answers[0].status_code == answers[1].status_code == 400


async def test_refused_requests_read_nothing_from_100ms(
    sim: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "hms-list-peers", "arguments": {"room_id": sim.room_id}},
    }
    good = {
        "authorization": f"Bearer {TOKEN}",
        "accept": "application/json, text/event-stream",
    }
    async with (
        running(sim, callers={"": TOKEN}) as (url, _),
        httpx.AsyncClient(base_url=url) as http,
    ):
        for path in ("/mcp", "/", "/v1/tools", "/anything"):
            for wrong, status in (
                ({**good, "host": "evil.example"}, 421),
                ({**good, "origin": "http://evil.example"}, 403),
                ({**good, "authorization": f"Bearer {TOKEN}x"}, 401),
                ({"accept": good["accept"]}, 401),
            ):
                answer = await http.post(path, json=call, headers=wrong)
                assert answer.status_code == status, (path, wrong)
                assert (await http.get(path, headers=wrong)).status_code == status
        healthy = await http.get("/healthz")
        assert healthy.json() == {"status": "ok"}
        probe = {"host": "10.0.0.7:8080", "authorization": "Basic eDp5"}
        assert (await http.get("/healthz", headers=probe)).status_code == 200
        assert (await http.post("/mcp", content=b"x" * 300_000, headers=good)).status_code == 413
    assert sim.requests == ()
    assert len([r for r in caplog.records if "refused" in r.getMessage()]) == 4 * 4 * 2 + 1
    assert TOKEN not in caplog.text


async def test_the_right_token_is_let_in(sim: Simulation) -> None:
    async with running(sim, callers={"": TOKEN}) as (url, _):
        async with connected(url + "/mcp", "auto", token=TOKEN) as mcp:
            people = await mcp.call_tool("hms-list-peers", {"room_id": sim.room_id})
        assert people.structured_content["total"] == 15


async def test_what_was_approved_before_a_restart_is_sent_when_it_starts(
    sim: Simulation, tmp_path: Path
) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.sqlite'}"
    environ = {
        "HMS_BASE_URL": sim.base_url,
        "HMS_ACCESS_KEY": sim.access_key,
        "HMS_SECRET": sim.secret,
        "HMS_JOURNAL": journal,
    }
    arguments = {"room_id": sim.room_id, "peer_id": peer_id(sim, "Spam Bot")}

    async def once(stack: AsyncExitStack) -> tuple[ActiveRoomsToolkit, Client]:
        toolkit = ActiveRoomsToolkit.from_env(rooms=[sim.room_id], environ=environ)
        stack.push_async_callback(toolkit.aclose)
        guard = guard_settings("127.0.0.1")
        app = create_app(toolkit, entry(build_server(toolkit)), guard=guard)
        url = await stack.enter_async_context(serving(app))
        return toolkit, await stack.enter_async_context(connected(url + "/mcp", "auto"))

    async with AsyncExitStack() as stack:
        toolkit, mcp = await once(stack)
        waiting = await mcp.call_tool(REMOVE, arguments)
        row = await toolkit.gate.get(waiting.structured_content["action_id"])
        await toolkit.gate.decide(
            row.id, toolkit.gate.request(row).approve(), by="ada", way="terminal"
        )
    assert posts(sim) == []
    async with AsyncExitStack() as stack:
        toolkit, mcp = await once(stack)
        done = await mcp.call_tool(REMOVE, arguments)
        assert done.structured_content["state"] == "done"
        assert done.structured_content["action_id"] == row.id
    assert len(posts(sim)) == 1


def test_a_port_in_use_is_a_clear_error() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(ConfigurationError, match="cannot listen"):
        listen("127.0.0.1", taken.getsockname()[1])


# --- the command -----------------------------------------------------------------------------------


async def test_the_command_serves_http_until_ctrl_c(sim: Simulation, tmp_path: Path) -> None:
    environ = environment(sim, tmp_path)
    with started(environ, "mcp", "--port", "0", "--room", sim.room_id, "--json") as server:
        assert server.said["rooms"] == [sim.room_id]
        async with connected(server.said["mcp"], "auto", Person([YES])) as mcp:
            arguments = {"room_id": sim.room_id, "peer_id": peer_id(sim, "Spam Bot")}
            result = await mcp.call_tool(REMOVE, arguments)
            assert result.structured_content["state"] == "done"
            assert (await mcp.list_resources()).resources
        server.signal(signal.SIGINT)
        assert server.ended() == 0
    assert len(posts(sim)) == 1


@pytest.mark.slow
async def test_a_stream_that_is_open_when_the_server_stops_ends_without_an_error(
    sim: Simulation, tmp_path: Path
) -> None:
    environ = environment(sim, tmp_path)
    with started(environ, "mcp", "--port", "0", "--room", sim.room_id, "--json") as server:
        accepts = {"accept": "application/json, text/event-stream"}
        async with httpx.AsyncClient(headers=accepts) as http:
            info = {"name": "agent", "version": "1"}
            hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}
            body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
            begun = await http.post(server.said["mcp"], json=body)
            session = {"mcp-session-id": begun.headers["mcp-session-id"]}
            async with http.stream("GET", server.said["mcp"], headers=session) as stream:
                server.signal(signal.SIGINT)
                assert [chunk async for chunk in stream.aiter_lines() if "error" in chunk] == []
        assert server.ended() == 0
    assert "ERROR" not in server.stderr


@pytest.mark.parametrize(
    ("given", "variables", "warning", "asked"),
    [
        (
            (),
            {},
            "may call the tools. An MCP client may also approve in its user's place; --no-elicitation stops that.",
            1,
        ),
        (("--no-elicitation",), {}, "may call the tools.", 0),
        ((), {"HMS_SERVER_TOKEN": TOKEN}, "", 1),
    ],
)
@pytest.mark.parametrize("which", ["mcp", "serve"])
async def test_the_command_warns_of_strangers_and_can_leave_the_client_out(
    sim: Simulation,
    tmp_path: Path,
    which: str,
    given: tuple[str, ...],
    variables: dict[str, str],
    warning: str,
    asked: int,
) -> None:
    environ = environment(sim, tmp_path) | variables
    arguments = (which, "--port", "0", "--room", sim.room_id, "--json", *given)
    person = Person([YES])
    with started(environ, *arguments) as server:
        token = variables.get("HMS_SERVER_TOKEN", "")
        async with connected(server.said["mcp"], "auto", person, token) as mcp:
            removal = {"room_id": sim.room_id, "peer_id": peer_id(sim, "Spam Bot")}
            result = await mcp.call_tool(REMOVE, removal)
    assert result.structured_content["waiting"] is (not asked)
    assert len(posts(sim)) == len(person.questions) == asked
    warnings = [line for line in server.stderr.splitlines() if "Warning" in line]
    expected = f"Warning: without HMS_SERVER_TOKEN any program on this machine {warning}"
    assert warnings == ([expected] if warning else [])


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_server_killed_while_sending_sends_nothing_twice(
    sim: Simulation, tmp_path: Path, when: Literal["before", "after"]
) -> None:
    environ = environment(sim, tmp_path)
    given = ("mcp", "--port", "0", "--room", sim.room_id, "--json")
    arguments = {"room_id": sim.room_id, "peer_id": peer_id(sim, "Spam Bot")}
    sim.faults.add(Fault(kind="hang", method="POST", when=when))
    with started(environ, *given) as server:
        killed = server.said["mcp"]

        async def call() -> None:
            async with connected(killed, "auto", Person([YES])) as mcp:
                await mcp.call_tool(REMOVE, arguments)

        calling = asyncio.create_task(call())
        await asyncio.to_thread(sim.log.wait_until, has_post, 60)
        server.kill()
        await asyncio.wait([calling])
        assert calling.exception()
    sim.faults.clear()
    with started(environ, *given) as server:
        async with connected(server.said["mcp"], "auto", Person([YES])) as mcp:
            result = await mcp.call_tool(REMOVE, arguments)
    assert result.structured_content["state"] == ("unknown" if when == "before" else "done")
    assert result.structured_content["executed"] == "maybe"
    assert len(posts(sim)) == 1


async def test_the_command_serves_stdio(sim: Simulation, tmp_path: Path) -> None:
    server = StdioServerParameters(
        command=sys.executable,
        args=[*COMMAND, "mcp", "--stdio", "--room", sim.room_id],
        env=environment(sim, tmp_path),
    )
    person = Person([YES])
    async with Client(server, elicitation_callback=person) as mcp:
        tools = (await mcp.list_tools()).tools
        arguments = {"room_id": sim.room_id, "peer_id": peer_id(sim, "Spam Bot")}
        result = await mcp.call_tool(REMOVE, arguments)
        assert len(tools) == 5
        assert result.structured_content["state"] == "done"
    assert len(person.questions) == 1
    assert len(posts(sim)) == 1


@pytest.mark.parametrize(
    ("arguments", "variables", "complaint"),
    [
        ([], {}, "No room is allowed"),
        (["--room", "ROOM", "--host", "0.0.0.0"], {}, "needs a token"),
        (["--room", "ROOM"], {"HMS_SERVER_TOKEN": "short"}, "at least 16"),
        *(
            (["--room", "ROOM"], {"HMS_SERVER_TOKENS": f"a={'t' * 16}{by}b={'u' * 16}"}, "any of")
            for by in ";|&"
        ),
        (["--room", "ROOM"], {"HMS_SERVER_TOKENS": f"a='{'t' * 16}'"}, "quotes"),
        (["--room", "ROOM"], {"HMS_SERVER_TOKEN": "t" * 16 + "\n"}, "cannot have spaces"),
        (
            ["--room", "ROOM"],
            {"HMS_SERVER_TOKEN": TOKEN, "HMS_APPROVER_TOKEN": TOKEN},
            "have the same token",
        ),
        (["--room", "ROOM"], {"HMS_POLICY_ROOMS": "7" * 24}, "does not name room"),
    ],
)
def test_the_command_refuses_to_start_unsafely(
    sim: Simulation,
    tmp_path: Path,
    arguments: list[str],
    variables: dict[str, str],
    complaint: str,
) -> None:
    given = [sim.room_id if a == "ROOM" else a for a in arguments]
    environ = environment(sim, tmp_path) | variables
    done = command(["mcp", "--port", "0", *given], environ)
    assert done.code == 2
    assert complaint in done.err
    assert TOKEN not in done.err
