"""Who calls: programs are told apart by token, client and session, in the record, in what they
are told and in their limits; servers of one journal know each other's questions."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action
from hms_active_rooms.serve import callers, calls
from hms_active_rooms.serve.app import create_app
from hms_active_rooms.serve.callers import HEADER, IDLE_S, NO_MESSAGE, TWICE, Sessions
from hms_active_rooms.serve.decisions import all_ended
from hms_active_rooms.serve.guard import GuardSettings, caller_tokens, guard_settings
from hms_active_rooms.serve.limits import refusals_of
from hms_active_rooms.serve.mcp import build_server, entry, serve_stdio
from hms_active_rooms.serve.rest import rest_entry
from serve.people import YES, Person, kit, named, remove, serving, students, text, yes_to
from serve.rest_callers import ADA, problem, rest_app, speaking
from stand_in import ROOM, Clock, StandInRoom

REMOVE, SEND = "hms-remove-peers", "hms-send-message"
A, B = "agent-a-token-0123456789", "agent-b-token-0123456789"
TWO = guard_settings("127.0.0.1", callers={"agent-a": A, "agent-b": B})
OPEN = guard_settings("127.0.0.1")


@asynccontextmanager
async def served(toolkit: ActiveRoomsToolkit, guard: GuardSettings = OPEN) -> AsyncIterator[str]:
    app = create_app(toolkit, entry(build_server(toolkit)), rest_entry(toolkit), guard=guard)
    async with serving(app) as url:
        yield url


@asynccontextmanager
async def connected(
    url: str,
    mode: str = "legacy",
    *,
    token: str = "",
    name: str = "agent",
    person: Any = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Client]:
    headers = {**headers, **({"authorization": f"Bearer {token}"} if token else {})}
    async with httpx2.AsyncClient(headers=headers, timeout=30, verify=False) as http:
        client = Client(
            streamable_http_client(f"{url}/mcp", http_client=http),
            mode=mode,
            elicitation_callback=person,
            client_info=types.Implementation(name=name, version="1"),
        )
        async with client as mcp:
            yield mcp


async def approve(toolkit: ActiveRoomsToolkit, action_id: str) -> None:
    row = await toolkit.gate.get(action_id)
    await toolkit.gate.decide(row.id, toolkit.gate.request(row).approve(), by="ada", way="page")
    await toolkit.gate.run(row.id)


async def two_agents(
    toolkit: ActiveRoomsToolkit, first: Client, second: Client
) -> tuple[Action, Action]:
    """One asks and a person approves; the other asks for the same. Their rows."""
    said = {"room_id": ROOM, "message": "five minutes"}
    asked = await first.call_tool(SEND, said)
    await approve(toolkit, asked.structured_content["action_id"])
    other = await second.call_tool(SEND, said)
    assert other.structured_content["waiting"] is True
    assert other.structured_content["note"] == ""
    told = await first.call_tool(SEND, said)
    assert told.structured_content["state"] == "done"
    assert "made before" in text(told)
    rows = [asked.structured_content["action_id"], other.structured_content["action_id"]]
    return await toolkit.gate.get(rows[0]), await toolkit.gate.get(rows[1])


# --- tokens ---------------------------------------------------------------------------------------


def test_callers_are_named_by_their_tokens() -> None:
    environ = {"HMS_SERVER_TOKEN": "x" * 20, "HMS_SERVER_TOKENS": f"agent-a={A}, agent-b={B}"}
    assert caller_tokens(environ) == {"": "x" * 20, "agent-a": A, "agent-b": B}
    assert caller_tokens({"HMS_SERVER_TOKENS": ""}) == {}


@pytest.mark.parametrize(
    "wrong", [A, f"={A}", f"Agent={A}", "agent=", f"a={A},a={B}", f"a b={A}", " ,"]
)
def test_what_is_no_name_and_token_is_an_error_that_tells_no_token(wrong: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        caller_tokens({"HMS_SERVER_TOKENS": wrong})
    assert A not in f"{told.value} {told.value.hint}"


def test_two_callers_with_one_token_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match="same token"):
        guard_settings("127.0.0.1", callers={"a": A, "b": A})


async def test_rest_tells_programs_apart_by_their_token() -> None:
    toolkit = kit(students())
    async with speaking(rest_app(toolkit, guard=TWO), A, B) as (a, b):
        first = (await a.tool(REMOVE, remove())).json()["data"]
        second = (await b.tool(REMOVE, remove())).json()["data"]
        again = (await a.tool(REMOVE, remove())).json()["data"]
    assert first["action_id"] == again["action_id"] != second["action_id"]
    assert (first["requester"], second["requester"]) == ("rest:agent-a", "rest:agent-b")


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer none"}], ids=["", "useless"])
async def test_without_tokens_rest_programs_are_told_apart_by_their_connections(
    header: dict[str, str],
) -> None:
    """What one asked for is told to the next as soon as its connection is gone. A token that the
    server was not given tells nobody apart."""
    toolkit = kit(students())
    said = {"room_id": ROOM, "message": "five minutes"}

    async def call(program: httpx.AsyncClient, **headers: str) -> Any:
        return (
            await program.post(f"/v1/tools/{SEND}", json=said, headers=headers | header)
        ).json()["data"]

    async with served(toolkit) as url, httpx.AsyncClient(base_url=url) as one:
        asked = await call(one)
        async with httpx.AsyncClient(base_url=url) as two:
            other = await call(two)
            await approve(toolkit, asked["action_id"])
            assert (await call(two))["action_id"] == other["action_id"]
            assert (await call(one))["state"] == "done"
        async with httpx.AsyncClient(base_url=url) as three:
            assert (await call(three))["action_id"] == other["action_id"]
            keyed = [await call(program, **{"idempotency-key": "k"}) for program in (one, three)]
    assert asked["action_id"] != other["action_id"]
    assert asked["requester"] != other["requester"]
    assert {each["requester"].partition("#")[0] for each in (asked, other)} == {"rest"}
    assert keyed[0]["action_id"] == keyed[1]["action_id"]  # who shares a key means one action


async def test_a_program_reads_by_rest_only_what_was_asked_for_with_its_token() -> None:
    plain = "plain-token-0123456789"
    tokens = {"": plain, "agent_a": A, "agent-a": B}  # _ stands for any character in SQL's LIKE
    guard = guard_settings("127.0.0.1", callers=tokens, approvers={"ada": ADA})
    toolkit = kit(students())
    async with (
        served(toolkit, guard) as url,
        connected(url, token=A, name="mcp") as mcp_a,
        connected(url, token=plain, name="agent_a") as mcp_plain,
        AsyncExitStack() as stack,
    ):
        mine: dict[str, set[str]] = {A: set(), B: set(), plain: set()}
        for token, mcp, number in ((A, mcp_a, 1), (plain, mcp_plain, 2)):
            told = (await mcp.call_tool(REMOVE, remove(number))).structured_content
            mine[token].add(told["action_id"])
        programs = {}
        for token in (*mine, ADA):
            http = httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {token}"})
            programs[token] = await stack.enter_async_context(http)
        for token, ids in mine.items():
            told = (await programs[token].post(f"/v1/tools/{REMOVE}", json=remove(3))).json()
            ids.add(told["data"]["action_id"])
        for token, http in programs.items():
            listed = (await http.get("/v1/actions")).json()["actions"]
            everything = set().union(*mine.values())
            seen = mine.get(token, everything)
            assert {each["action_id"] for each in listed} == seen
            for action_id in everything:
                status = (await http.get(f"/v1/actions/{action_id}")).status_code
                assert status == (200 if action_id in seen else 404)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_agents_outcome_is_not_told_to_the_agent_with_another_token(mode: str) -> None:
    toolkit = kit(students())
    async with (
        served(toolkit, TWO) as url,
        connected(url, mode, token=A) as a,
        connected(url, mode, token=B) as b,
    ):
        first, second = await two_agents(toolkit, a, b)
    assert first.requester.startswith("mcp:agent-a:agent")
    assert second.requester.startswith("mcp:agent-b:agent")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_agents_outcome_is_not_told_to_the_agent_with_another_name(mode: str) -> None:
    toolkit = kit(students())
    async with (
        served(toolkit) as url,
        connected(url, mode, name="one") as one,
        connected(url, mode, name="two") as two,
    ):
        await two_agents(toolkit, one, two)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_outcome_is_not_told_to_another_client_of_that_name_while_both_are_here(
    mode: str,
) -> None:
    """Told apart by session; in the era without sessions, and without tokens, by connection."""
    toolkit = kit(students())
    async with served(toolkit) as url, connected(url, mode) as one, connected(url, mode) as two:
        first, second = await two_agents(toolkit, one, two)
    assert first.requester != second.requester
    assert first.thread == second.thread


@pytest.mark.parametrize("stdio", [True, False])
async def test_an_outcome_is_not_told_to_the_client_of_another_machines_server(
    stdio: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = students()
    toolkit = kit(room)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(callers, "this_worker", lambda: "another/boot/pid:7@8")
        async with AsyncExitStack() as stack:
            if stdio:
                info = types.Implementation(name="agent", version="1")
                mcp = Client(build_server(toolkit), client_info=info)
                await stack.enter_async_context(mcp)
            else:
                url = await stack.enter_async_context(served(toolkit))
                mcp = await stack.enter_async_context(connected(url))
            asked = (await mcp.call_tool(REMOVE, remove())).structured_content
    await approve(toolkit, asked["action_id"])
    room.peers = students().peers
    async with served(toolkit) as url, connected(url) as mcp:
        told = (await mcp.call_tool(REMOVE, remove())).structured_content
    assert told["waiting"]


@pytest.mark.parametrize(
    ("one", "two"), [("клиент", "客户端"), ("a b", "a(b"), ("x" * 41, "x" * 42)]
)
async def test_what_a_session_asked_for_is_not_told_to_a_client_whose_name_looks_alike_on_record(
    one: str, two: str
) -> None:
    toolkit = kit(students())
    async with served(toolkit) as url:
        async with connected(url, name=one) as mcp:
            asked = (await mcp.call_tool(REMOVE, remove())).structured_content
        async with connected(url, name=two) as mcp:
            again = (await mcp.call_tool(REMOVE, remove())).structured_content
        async with connected(url, name=one) as mcp:
            mine = (await mcp.call_tool(REMOVE, remove())).structured_content
    assert asked["action_id"] != again["action_id"]
    assert asked["action_id"] == mine["action_id"]


async def test_what_a_session_asked_for_is_told_to_the_next_one_once_it_has_ended() -> None:
    """Some clients open a session for each call."""
    toolkit = kit(students())
    async with served(toolkit) as url:
        async with connected(url) as mcp:
            asked = (await mcp.call_tool(REMOVE, remove())).structured_content
        async with connected(url) as mcp:
            again = (await mcp.call_tool(REMOVE, remove())).structured_content
        await approve(toolkit, asked["action_id"])
        async with connected(url) as mcp:
            told = (await mcp.call_tool(REMOVE, remove())).structured_content
    assert asked["action_id"] == again["action_id"] == told["action_id"]
    assert told["state"] == "done"


@pytest.mark.parametrize("way", ["auto", "legacy", "rest", "rest with a key"])
async def test_a_question_says_that_the_same_was_sent_by_a_connection_that_is_gone(
    way: str,
) -> None:
    room, told = students(), list[Any]()
    toolkit = kit(room)
    async with served(toolkit) as url:
        for number in range(2):
            async with AsyncExitStack() as stack:
                if way.startswith("rest"):
                    http = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
                    headers = {"idempotency-key": str(number)} if "key" in way else {}
                    sent = await http.post(f"/v1/tools/{REMOVE}", json=remove(), headers=headers)
                    told.append(sent.json()["data"])
                else:
                    mcp = await stack.enter_async_context(connected(url, way))
                    told.append((await mcp.call_tool(REMOVE, remove())).structured_content)
                if number == 0:
                    await approve(toolkit, told[0]["action_id"])
                    with toolkit.gate.journal.write() as tx:
                        tx.told(told[0]["action_id"])  # the answer that was lost
                    room.peers = students().peers
    assert told[1]["waiting"]
    assert "The same call was sent" in told[1]["note"]


async def test_a_session_is_only_for_the_token_that_began_it() -> None:
    toolkit = kit(students())
    seen: list[str] = []

    async def note(response: Any) -> None:
        seen.append(response.headers.get(HEADER, ""))

    async with (
        served(toolkit, TWO) as url,
        httpx2.AsyncClient(
            headers={"authorization": f"Bearer {A}"}, event_hooks={"response": [note]}
        ) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode="legacy"),
    ):
        headers = {"authorization": f"Bearer {B}", HEADER: next(filter(None, seen))}
        async with httpx.AsyncClient(base_url=url, headers=headers) as other:
            answer = await other.post("/mcp", json=_listing(7), headers=_ACCEPT)
    assert answer.status_code == 404


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_noisy_client_does_not_shut_out_the_next(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MOST_NEW_A_MINUTE", 3)
    toolkit = kit(students(), Journal(":memory:", clock=Clock()), actions_per_minute=1)
    async with served(toolkit) as url, connected(url, mode, name="noisy") as noisy:
        told = [await noisy.call_tool(REMOVE, remove(99, reason=str(n))) for n in range(5)]
        assert "Call again in" in text(told[-1])
        async with connected(url, mode, name="next") as quiet:
            assert (await quiet.call_tool(REMOVE, remove())).structured_content["waiting"]
    await refusals_of(toolkit.gate.journal).ended()


async def test_a_session_for_each_call_gets_no_more_than_one_token_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "MOST_NEW_A_MINUTE", 1)
    monkeypatch.setattr(calls, "CALLERS_OF_A_TOKEN", 2)
    toolkit = kit(students(), Journal(":memory:", clock=Clock()), actions_per_minute=1)
    told = []
    async with served(toolkit) as url:
        for number in range(3):
            async with connected(url, name=f"name{number}") as mcp:
                told.append(text(await mcp.call_tool(REMOVE, remove(99))))
    assert ["Call again in" in words for words in told] == [False, False, True]
    await refusals_of(toolkit.gate.journal).ended()


async def test_open_questions_are_counted_for_each_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_OPEN", 1)
    toolkit = kit(students())
    async with speaking(rest_app(toolkit, guard=TWO), A, B) as (a, b):
        assert (await a.tool(REMOVE, remove(1))).status_code == 202
        problem(await a.tool(REMOVE, remove(2)), 403, "policy_refusal")
        assert (await b.tool(REMOVE, remove(2))).status_code == 202


async def test_a_session_for_each_question_leaves_no_more_open_than_one_token_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "MAX_OPEN", 1)
    monkeypatch.setattr(calls, "CALLERS_OF_A_TOKEN", 2)
    told = []
    async with served(kit(students())) as url:
        for number in (1, 2, 3):
            async with connected(url, name=f"name{number}") as mcp:
                told.append(text(await mcp.call_tool(REMOVE, remove(number))))
    assert ["New calls are refused" in words for words in told] == [False, False, True]


# --- one request id, twice ------------------------------------------------------------------------

_ACCEPT = {"accept": "application/json, text/event-stream"}


def _listing(number: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/list", "params": {}}


async def test_a_second_request_with_an_id_that_is_open_is_refused_and_the_first_answered() -> None:
    room = SlowRoom()
    toolkit = kit(room)
    async with served(toolkit) as url, httpx.AsyncClient(base_url=url, headers=_ACCEPT) as http:
        session = await _begin(http)
        call = {"name": "hms-list-peers", "arguments": {"room_id": ROOM}}
        body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call}
        first = asyncio.create_task(http.post("/mcp", json=body, headers=session))
        await room.asked.wait()
        for twin in (7, "7"):
            second = await http.post("/mcp", json=_listing(7) | {"id": twin}, headers=session)
            assert second.status_code == 400
            assert second.json()["error"]["message"] == TWICE
        room.go.set()
        answer = await first
        assert '"Peer 1' in answer.text.replace("\\", "")
        third = await http.post("/mcp", json=_listing(7), headers=session)
    assert third.status_code == 200
    assert "hms-end-active-room" in third.text


@pytest.mark.parametrize("version", [None, "2026-07-28"])
@pytest.mark.parametrize(
    "request_text",
    [
        '"id": 7, "method": "tools/list", "method": "tools/call"',
        '"id": 7, "id": 8, "method": "tools/list"',
        '"id": 7, "method": "tools/list", "params": {"cursor": "a", "cursor": "b"}',
        '"id": 7, "method": "tools/list", "params": {"cursor": NaN}',
        *(f'"id": {odd}, "method": "tools/list"' for odd in ("7.0", "7.5", "1e2", "null", "true")),
        *(f'"id": {odd}, "method": "tools/list"' for odd in ("[7]", "{}", "NaN")),
    ],
)
async def test_what_can_be_read_in_two_ways_is_refused_and_not_left_without_an_answer(
    request_text: str, version: str | None
) -> None:
    async with (
        served(kit(students())) as url,
        httpx.AsyncClient(base_url=url, headers=_ACCEPT) as http,
    ):
        head = {"mcp-protocol-version": version} if version else await _begin(http)
        head |= {"content-type": "application/json"}
        body = f'{{"jsonrpc": "2.0", {request_text}}}'
        answer = await http.post("/mcp", content=body, headers=head)
    assert answer.status_code == 400
    assert "Nothing was executed" in answer.json()["error"]["message"]


async def test_a_batch_is_answered_by_one_error_and_not_executed() -> None:
    async with (
        served(kit(students())) as url,
        httpx.AsyncClient(base_url=url, headers=_ACCEPT) as http,
    ):
        head = await _begin(http)
        answer = await http.post("/mcp", json=[_listing(1), _listing(2)], headers=head)
    assert answer.status_code == 400
    assert (answer.json()["id"], answer.json()["error"]["message"]) == (None, NO_MESSAGE)


@asynccontextmanager
async def on_stdio(
    toolkit: ActiveRoomsToolkit, monkeypatch: pytest.MonkeyPatch, *, mark: str = ""
) -> AsyncIterator[tuple[Callable[[str], None], Callable[[], Awaitable[Any]]]]:
    """A server over stdio that greeted its client, whose first line begins with `mark`. Yields what
    writes one line, and what reads one message."""
    (to_read, to_server), (from_server, to_write) = os.pipe(), os.pipe()
    with (
        os.fdopen(to_read) as stdin,
        os.fdopen(to_server, "w", buffering=1) as client,
        os.fdopen(from_server) as heard,
        os.fdopen(to_write, "w") as stdout,
    ):
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        server = asyncio.create_task(serve_stdio(build_server(toolkit), toolkit.gate))

        def say(line: str) -> None:
            client.write(f"{line}\n")

        async def hear() -> Any:
            return json.loads(await asyncio.to_thread(heard.readline))

        info = {"name": "agent", "version": "1"}
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}
        begin = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
        say(mark + json.dumps(begin))
        assert (await hear())["id"] == 0
        say('{"jsonrpc": "2.0", "method": "notifications/initialized"}')
        yield say, hear
        client.close()
        await server


async def test_over_stdio_too_a_second_request_with_an_open_id_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = SlowRoom()
    async with on_stdio(kit(room), monkeypatch) as (say, hear):
        call = {"name": "hms-list-peers", "arguments": {"room_id": ROOM}}
        say(json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call}))
        await room.asked.wait()
        say(json.dumps(_listing(7)))
        refused = await hear()
        assert (refused["id"], refused["error"]["message"]) == (7, TWICE)
        room.go.set()
        answer = await hear()
        assert answer["id"] == 7
        assert "Peer 1" in str(answer["result"])
        say(json.dumps(_listing(7)))
        assert "hms-end-active-room" in str((await hear())["result"])


@pytest.mark.parametrize(
    "line",
    [
        '{"jsonrpc": "2.0", "id": 7, "id": 8, "method": "tools/list"}',
        '{"jsonrpc": "2.0", "id": 7, "method": "ping", "method": "tools/list"}',
        '{"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {"a": 1, "a": 2}}',
        '{"jsonrpc": "2.0", "id": 7.0, "method": "tools/list"}',
        '{"jsonrpc": "2.0", "id": null, "method": "tools/list"}',
        '{"jsonrpc": "2.0", "id": 7, "method": "tools/list"',
        '{"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {"a": "\\ud83d"}}',
        '{"jsonrpc": "2.0", "id": 7, "method": "ping", "params": {"a": %s}}'
        % ("[" * 300 + "]" * 300),
        '[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]',
        "no JSON",
    ],
)
async def test_over_stdio_too_what_can_be_read_in_two_ways_is_refused(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_stdio(kit(students()), monkeypatch) as (say, hear):
        say(line)
        refused = await hear()
        assert (refused["id"], refused["error"]["message"]) == (None, NO_MESSAGE)
        say(json.dumps(_listing(7)))
        assert (await hear())["id"] == 7


async def test_the_mark_that_windows_puts_before_a_text_is_no_part_of_the_first_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with on_stdio(kit(students()), monkeypatch, mark="\ufeff") as (say, hear):
        say(json.dumps(_listing(7)))
        assert (await hear())["id"] == 7


async def test_an_id_that_was_given_up_is_free_again_once_its_session_is_idle() -> None:
    now = 0.0
    passed: list[object] = []

    async def given_up(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sessions = Sessions(given_up, ["2025-06-18"], clock=lambda: now)

    async def ask(session: str) -> None:
        body = json.dumps(_listing(7)).encode()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(_: Any) -> None: ...

        headers = [(HEADER.encode(), session.encode())]
        scope = {"type": "http", "method": "POST", "path": session, "headers": headers}
        await sessions(scope, receive, send)

    for session in ("a", "a", "b"):
        await ask(session)
    assert passed == ["a", "b"]
    now = IDLE_S
    await ask("c")
    await ask("a")
    assert passed == ["a", "b", "c", "a"]


async def test_a_session_that_the_protocol_does_not_have_makes_no_other_caller() -> None:
    toolkit = kit(students())
    async with served(toolkit) as url:
        for session in ("one", "two"):
            headers = {HEADER: session}
            async with connected(url, "auto", headers=headers) as mcp:
                assert (await mcp.call_tool(REMOVE, remove())).structured_content["waiting"]
    [row] = toolkit.gate.journal.actions()
    assert row.requester.startswith("mcp:agent#")


class SlowRoom(StandInRoom):
    """Answers for its people when told to."""

    def __init__(self) -> None:
        super().__init__(students().peers)
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def list_peers(self, room_id: str, **more: Any) -> Any:
        self.asked.set()
        await self.go.wait()
        return await super().list_peers(room_id, **more)


async def _begin(http: httpx.AsyncClient) -> dict[str, str]:
    """Begin a session; the headers of its requests."""
    info = {"name": "agent", "version": "1"}
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    answer = await http.post("/mcp", json=body)
    headers = {HEADER: answer.headers[HEADER], "mcp-protocol-version": "2025-06-18"}
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    await http.post("/mcp", json=note, headers=headers)
    return headers


# --- several servers, one journal -----------------------------------------------------------------


async def _first_round(mcp: Client) -> types.InputRequiredResult:
    asked = await mcp.session.call_tool(REMOVE, remove(), allow_input_required=True)
    assert isinstance(asked, types.InputRequiredResult)
    return asked


@pytest.mark.parametrize("restarted", [True, False])
async def test_an_answer_counts_at_any_server_of_the_journal(
    restarted: bool, tmp_path: Path
) -> None:
    room, url = students(), f"sqlite:///{tmp_path / 'journal.sqlite'}"
    async with AsyncExitStack() as stack:
        here = kit(room, url)
        one = await stack.enter_async_context(connected_to(here))
        asked = await _first_round(one)
        if restarted:
            await stack.aclose()
            await here.aclose()
        there = kit(room, url)
        other = await stack.enter_async_context(connected_to(there))
        told = await other.call_tool(
            REMOVE, remove(), input_responses=yes_to(asked), request_state=asked.request_state
        )
    assert told.structured_content["state"] == "done"
    assert [verb for verb, _ in room.posts] == ["remove"]


async def test_an_answer_counts_at_a_server_that_starts_after_the_journal_was_pruned() -> None:
    room, clock = students(), Clock()
    journal = Journal(":memory:", clock=clock)
    first = build_server(kit(room, journal))
    clock.now += timedelta(days=30)
    journal.prune(before=clock(), by="ada")
    async with Client(first, elicitation_callback=Person([YES])) as one:
        asked = await _first_round(one)
    async with connected_to(kit(room, journal)) as other:
        told = await other.call_tool(
            REMOVE, remove(), input_responses=yes_to(asked), request_state=asked.request_state
        )
    assert told.structured_content["state"] == "done"


@asynccontextmanager
async def connected_to(toolkit: ActiveRoomsToolkit) -> AsyncIterator[Client]:
    async with Client(build_server(toolkit), elicitation_callback=Person([YES])) as mcp:
        yield mcp


async def test_a_state_of_another_journal_says_that_nothing_was_executed() -> None:
    room = students()
    async with connected_to(kit(room)) as one, connected_to(kit(room)) as other:
        asked = await _first_round(one)
        with pytest.raises(MCPError, match="nothing was executed"):
            await other.call_tool(
                REMOVE, remove(), input_responses=yes_to(asked), request_state=asked.request_state
            )
    assert room.posts == []


async def test_a_state_is_only_for_the_token_that_got_it() -> None:
    room = students()
    toolkit = kit(room)
    async with (
        served(toolkit, TWO) as url,
        connected(url, "auto", token=A, person=Person([YES])) as a,
        connected(url, "auto", token=B, person=Person([YES])) as b,
    ):
        asked = await _first_round(a)
        with pytest.raises(MCPError, match="nothing was executed"):
            await b.call_tool(
                REMOVE, remove(), input_responses=yes_to(asked), request_state=asked.request_state
            )
    assert room.posts == []


# --- people are slow ------------------------------------------------------------------------------


async def test_while_a_person_is_asked_and_while_it_is_sent_there_is_progress(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hms_active_rooms.serve.mcp.PROGRESS_S", 0.01)
    seen: list[float] = []
    room, enough, again = students(), asyncio.Event(), asyncio.Event()
    real = room.remove_peers

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)
        if len(seen) == 3:
            enough.set()
        if message == "Waiting for 100ms.":
            again.set()

    async def waits(room_id: str, **more: Any) -> Any:
        await again.wait()
        return await real(room_id, **more)

    room.remove_peers = waits  # type: ignore[method-assign]

    async def slow(context: Any, params: Any) -> types.ElicitResult:
        await enough.wait()
        return named(YES, params.requested_schema)

    async with served(kit(room)) as url, connected(url, person=slow) as mcp:
        told = await mcp.call_tool(REMOVE, remove(), progress_callback=progress)
    assert told.structured_content["state"] == "done"
    assert seen == sorted(set(seen))
    assert seen[-1] < 1


async def test_a_yes_after_the_client_gave_the_call_up_counts_and_the_next_call_tells_it() -> None:
    room = students()
    toolkit = kit(room)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(context: Any, params: Any) -> types.ElicitResult:
        asked.set()
        await answer.wait()
        return named(YES, params.requested_schema)

    async with served(toolkit) as url, connected(url, person=slow) as mcp:
        call = asyncio.create_task(mcp.call_tool(REMOVE, remove()))
        await asked.wait()
        call.cancel()  # the client tells the server
        await asyncio.gather(call, return_exceptions=True)
        answer.set()
        [row] = toolkit.gate.journal.actions()
        await until_ended(toolkit, row.id)
        told = await mcp.call_tool(REMOVE, remove())
    kinds = [event.kind for event in toolkit.gate.journal.events(row.id)]
    assert "after_the_call" in kinds
    assert told.structured_content["action_id"] == row.id
    assert "made before" in text(told)
    assert "came after the call had ended" in text(told)
    assert [verb for verb, _ in room.posts] == ["remove"]


async def test_of_very_many_calls_that_were_given_up_late_answers_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hms_active_rooms.serve.mcp.MOST_LATE", 1)
    room = students()
    toolkit = kit(room)
    asked: asyncio.Queue[Any] = asyncio.Queue()
    answer = asyncio.Event()

    async def slow(_: Any, params: Any) -> types.ElicitResult:
        asked.put_nowait(params)
        await answer.wait()
        return named(YES, params.requested_schema)

    async with served(toolkit) as url, connected(url, person=slow) as mcp:
        for number in (1, 2):
            call = asyncio.create_task(mcp.call_tool(REMOVE, remove(number)))
            await asked.get()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            await mcp.list_tools()  # the server has read that the call is given up
        answer.set()
        second, first = toolkit.gate.journal.actions()
        await until_ended(toolkit, first.id)
        assert asked.empty()
        told = await mcp.call_tool(REMOVE, remove(2))
        assert asked.qsize() == 1  # again
    assert told.structured_content["action_id"] == second.id
    assert told.structured_content["state"] == "done"
    assert len(room.posts) == 2


async def until_ended(toolkit: ActiveRoomsToolkit, action_id: str) -> None:
    async with asyncio.timeout(10):
        while not (await toolkit.gate.get(action_id)).ended:
            await asyncio.sleep(0)
            await all_ended(10)
