"""Requests that the real server refuses, on every way in: logged, and nothing read from 100ms."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from e2e.server import APPROVER, CALLER, Browser, Program, Server, guarded, serving
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.sim.server import Simulation, running_sim

ELSEWHERE = "7" * 24
MCP_HEADERS = {
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2025-11-25",
}


@dataclass
class Guarded:
    """A server with tokens, and what there is to show that it did nothing."""

    sim: Simulation
    server: Server
    journal: Journal
    _logged: int = 0

    def new_lines(self) -> list[str]:
        """What was logged since the last look."""
        lines = self.server.stderr.splitlines()
        new, self._logged = lines[self._logged :], len(lines)
        return new


@pytest.fixture(scope="module")
def guarded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with running_sim("classroom") as sim:
        environ = guarded(sim, tmp_path_factory.mktemp("guarded"))
        with serving(sim, environ) as server:
            journal = Journal(environ["HMS_JOURNAL"])
            yield Guarded(sim, server, journal)
            journal.close()


@pytest.fixture
def here(guarded_server: Guarded) -> Iterator[Guarded]:
    """The server; whatever a test does, nothing is read from 100ms and no secret is logged."""
    guarded_server.new_lines()
    yield guarded_server
    assert guarded_server.sim.requests == ()
    for secret in (CALLER, APPROVER, guarded_server.sim.secret, "secret-of-the-attempt"):
        assert secret not in guarded_server.server.stderr


def mcp_call(tool: str, **arguments: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def mcp_text(here: Guarded, call: dict[str, Any]) -> str:
    """What a client of the MCP server is told."""

    async def talk() -> str:
        headers = {"authorization": f"Bearer {CALLER}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30, verify=False) as http:
            transport = streamable_http_client(here.server.said["mcp"], http_client=http)
            async with Client(transport) as client:
                params = call["params"]
                result = await client.call_tool(params["name"], params["arguments"])
        assert result.is_error
        [block] = result.content
        assert isinstance(block, types.TextContent)
        return block.text

    return asyncio.run(talk())


def requests(room: str) -> dict[str, tuple[str, str, Any]]:
    """One of each kind, as they would be answered if they came from the right place."""
    look = {"room_id": room}
    return {
        "mcp": ("POST", "/mcp", mcp_call("hms-list-peers", **look)),
        "mcp at /": ("POST", "/", mcp_call("hms-remove-peers", **look, role="viewer")),
        "mcp stream": ("GET", "/mcp", None),
        "rest reader": ("POST", "/v1/tools/hms-list-peers", look),
        "rest change": ("POST", "/v1/tools/hms-end-active-room", look),
        "rest actions": ("GET", "/v1/actions", None),
        "rest approval": ("POST", "/v1/actions/abcdefghijkl/approve", {"digest": "0" * 64}),
        "page login": ("POST", "/approvals/login", {"token": "secret-of-the-attempt"}),
        "page news": ("GET", "/approvals/news", None),
        "page journal": ("GET", f"/approvals/journal?room={room}", None),
        "page decision": ("POST", "/approvals/actions/abcdefghijkl", {"type": "approve"}),
    }


KINDS = list(requests(""))


def send(here: Guarded, kind: str, **headers: str) -> httpx.Response:
    method, path, body = requests(here.sim.room_id)[kind]
    given = {**MCP_HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx.request(method, here.server.url + path, json=body, headers=given, timeout=30)


def test_another_host_is_refused(here: Guarded) -> None:
    for kind in KINDS:
        token = f"Bearer {CALLER}"
        assert send(here, kind, host="evil.example", authorization=token).status_code == 421
        [line] = here.new_lines()
        assert "refused" in line
        assert line.endswith(": host")


def test_another_origin_is_refused(here: Guarded) -> None:
    for kind in KINDS:
        token = f"Bearer {CALLER}"
        answer = send(here, kind, origin="https://evil.example", authorization=token)
        assert answer.status_code == 403
        [line] = here.new_lines()
        assert line.endswith(": origin")


def test_a_program_without_the_token_is_refused(here: Guarded) -> None:
    for token in ["", "Bearer secret-of-the-attempt", f"Basic {CALLER}"]:
        for kind in [kind for kind in KINDS if not kind.startswith("page")]:
            headers = {"authorization": token} if token else {}
            answer = send(here, kind, **headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            [line] = here.new_lines()
            assert line.endswith(": wrong_token" if token else ": no_token")


@pytest.mark.parametrize("kind", ["mcp", "mcp at /", "mcp stream", "page journal"])
def test_an_approvers_token_opens_rest_alone(kind: str, here: Guarded) -> None:
    assert send(here, kind, authorization=f"Bearer {APPROVER}").status_code == 403
    [line] = here.new_lines()
    assert line.endswith(": approver")


@pytest.mark.parametrize("token", ["", f"Bearer {CALLER}"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("page")])
def test_whoever_is_not_logged_in_is_refused_by_the_page(
    kind: str, token: str, here: Guarded
) -> None:
    headers = {"origin": here.server.url} | ({"authorization": token} if token else {})
    answer = send(here, kind, **headers)
    assert answer.status_code == (403 if kind == "page login" else 401)
    [line] = here.new_lines()
    assert "refused" in line


def test_the_callers_token_approves_nothing(here: Guarded) -> None:
    assert send(here, "rest approval", authorization=f"Bearer {CALLER}").status_code == 403
    [line] = here.new_lines()
    assert "not_an_approver" in line


@pytest.mark.parametrize("kind", ["mcp", "rest reader"])
def test_another_room_is_not_read(kind: str, here: Guarded) -> None:
    method, path, body = requests(ELSEWHERE)[kind]
    if kind == "mcp":
        assert "does not allow" in mcp_text(here, body)
    else:
        with Program(here.server, CALLER) as program:
            assert program.request(method, path, json=body).status_code == 403
    lines = here.new_lines()
    assert lines
    assert all("refused" in line for line in lines)


@pytest.mark.parametrize("kind", ["mcp at /", "rest change"])
def test_a_change_of_another_room_is_refused_on_record(kind: str, here: Guarded) -> None:
    method, path, body = requests(ELSEWHERE)[kind]
    before = len(here.journal.actions())
    if kind == "mcp at /":
        assert "does not allow" in mcp_text(here, body)
    else:
        with Program(here.server, CALLER) as program:
            assert program.request(method, path, json=body).status_code == 403
    [row, *older] = here.journal.actions()
    assert len(older) == before
    assert (row.room_id, row.state, row.decided_by) == (ELSEWHERE, "rejected", "policy")


def test_the_page_tells_nothing_of_another_room(here: Guarded) -> None:
    with Browser(here.server) as person:
        assert person.get(f"/journal?room={ELSEWHERE}").status_code == 403
        [line] = here.new_lines()
        assert "refused" in line


def test_a_person_who_opens_the_bare_address_gets_to_the_page(here: Guarded) -> None:
    opened = {"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    answer = httpx.get(f"{here.server.url}/", headers=opened, follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/approvals")
    assert "<title>Approvals</title>" in answer.text
    assert here.new_lines() == []


def test_refused_requests_are_on_record_without_their_secrets(tmp_path: Path) -> None:
    """All ways in, then a flood; and all of it is on record."""
    with running_sim("classroom") as sim:
        environ = guarded(sim, tmp_path)
        with serving(sim, environ) as server:
            journal = Journal(environ["HMS_JOURNAL"])
            here = Guarded(sim, server, journal)
            send(here, "mcp", host="evil.example")
            send(here, "rest reader", origin="https://evil.example")
            send(here, "mcp at /", authorization="Bearer secret-of-the-attempt")
            send(here, "page login", origin=server.url)
            send(here, "page journal", origin=server.url)
            send(here, "rest approval", authorization=f"Bearer {CALLER}")
            with Program(server, CALLER) as program:
                program.tool("hms-list-peers", {"room_id": ELSEWHERE})
            for _ in range(100):
                send(here, "rest reader")
        rows = journal.refused_requests(limit=500)
        journal.close()
        assert sim.requests == ()
    told = Counter(row.way for row in rows)
    ways = [
        "host",
        "origin",
        "wrong_token",
        "login",
        "session",
        "not_an_approver",
        "policy_refusal",
    ]
    assert [told[way] for way in ways] == [1] * 7
    assert 5 < told["no_token"] <= 2 * 6  # the minute may end in between
    assert any(row.data["what"].endswith(" more requests") for row in rows)
    assert {"POST /mcp", "POST /", f"hms-list-peers of room {ELSEWHERE}"} <= {
        row.data["what"] for row in rows
    }
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("journal.sqlite*"))
    assert b"127.0.0.1" in kept
    for secret in (CALLER, APPROVER, "secret-of-the-attempt", f"room={sim.room_id}"):
        assert secret.encode() not in kept
