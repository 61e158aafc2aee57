"""Slow and many requests on a real port, and a stop in the middle of one."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from hms_active_rooms.serve.app import create_app
from hms_active_rooms.serve.callers import Caller
from hms_active_rooms.serve.calls import call_tool
from hms_active_rooms.serve.decisions import all_ended
from hms_active_rooms.serve.guard import GuardSettings, guard_settings
from hms_active_rooms.serve.mcp import build_server, entry
from hms_active_rooms.serve.page.routes import Page
from hms_active_rooms.serve.rest import rest_entry
from serve.people import kit, remove, serving, students
from serve.rest_callers import ADA, CALLER, Client, rest_app
from stand_in import ROOM

REMOVE = "hms-remove-peers"
WAIT_S = 20.0
GUARDED = guard_settings(
    "127.0.0.1", callers={"": CALLER}, approvers={"ada": ADA}, own_login=("/approvals",)
)
LOGIN = "POST /approvals/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20000\r\n\r\n{"


@asynccontextmanager
async def served(**guard: Any) -> AsyncIterator[str]:
    """The address of a server."""
    toolkit = kit(students())
    settings: GuardSettings = dataclasses.replace(GUARDED, **guard)
    async with serving(rest_app(toolkit, guard=settings)) as url:
        yield url
    await toolkit.aclose()


async def test_many_reads_at_once_all_end_in_answers() -> None:
    headers = {"authorization": f"Bearer {CALLER}"}
    limits = httpx.Limits(max_connections=None)
    async with (
        served() as url,
        httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=None) as http,
    ):
        path, body = "/v1/tools/hms-list-peers", {"room_id": ROOM}
        answers = await asyncio.gather(*(http.post(path, json=body) for _ in range(200)))
    assert {answer.status_code for answer in answers} == {200}


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async with served(body_s=0.05) as url:
        host, _, port = url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(LOGIN.encode())
        answer = await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive in time" in answer


async def a_stream(program: httpx.AsyncClient) -> httpx.Response:
    """The answer to a session's own wish for news, which goes on as long as the program wants."""
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "program", "version": "1"},
    }
    call = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    begun = await program.post("/mcp", json=call)
    if begun.status_code != 200:
        return begun
    session = {"mcp-session-id": begun.headers["mcp-session-id"]}
    return await program.send(program.build_request("GET", "/mcp", headers=session), stream=True)


async def test_programs_that_listen_for_ever_leave_room_for_people() -> None:
    room = students()
    toolkit = kit(room)
    app = create_app(
        toolkit,
        entry(build_server(toolkit)),
        rest_entry(toolkit),
        Page(toolkit).entry,
        guard=dataclasses.replace(GUARDED, most_of_programs=4),
    )
    headers = {
        "authorization": f"Bearer {CALLER}",
        "accept": "application/json, text/event-stream",
    }
    async with serving(app) as url:
        waiting = await call_tool(toolkit, REMOVE, remove(), caller=Caller("test", "mcp:tester"))
        assert waiting.action
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=WAIT_S) as program:
            streams = [await a_stream(program) for _ in range(20)]
            assert [told.status_code for told in streams] == [200] * 4 + [503] * 16
            async with httpx.AsyncClient(base_url=url, timeout=WAIT_S) as person:
                page = await person.get("/approvals")
            async with Client(
                base_url=url, headers={"authorization": f"Bearer {ADA}"}, timeout=WAIT_S
            ) as ada:
                done = await ada.approve(waiting.data)
            for stream in streams:
                await stream.aclose()
    await toolkit.aclose()
    assert page.status_code == 200
    assert (done.status_code, done.json()["action"]["state"]) == (200, "done")
    assert [verb for verb, _ in room.posts] == ["remove"]


async def test_a_stop_while_sending_waits_and_tells_the_approver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = students()
    toolkit = kit(room)
    started, go = asyncio.Event(), asyncio.Event()
    real, last_sends = room.remove_peers, all_ended

    async def slow(room_id: str, **more: Any) -> Any:
        started.set()
        await go.wait()
        return await real(room_id, **more)

    async def sends(timeout_s: float) -> None:
        go.set()  # the server stops, and waits
        await last_sends(timeout_s)

    room.remove_peers = slow  # type: ignore[method-assign]
    monkeypatch.setattr("hms_active_rooms.serve.app.all_ended", sends)
    headers = {"authorization": f"Bearer {CALLER}"}
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(rest_app(toolkit, guard=GUARDED)))
        caller = Client(base_url=url, headers=headers)
        approver = Client(base_url=url, headers={"authorization": f"Bearer {ADA}"}, timeout=WAIT_S)
        waiting = (await caller.tool(REMOVE, remove())).json()["data"]
        approving = asyncio.create_task(approver.approve(waiting))
        await asyncio.wait_for(started.wait(), WAIT_S)
        await caller.aclose()
    told = await approving
    await approver.aclose()
    await toolkit.aclose()
    assert (told.status_code, told.json()["action"]["state"]) == (200, "done")
