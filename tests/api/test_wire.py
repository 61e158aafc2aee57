"""What goes wrong on the wire: what is sent again, and what the error says was executed."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import httpx
import pytest

from api.wire import PEER, ROOM, FixedToken, Sleeps, Wire, hang, raw_bytes, reply, reset
from hms_active_rooms.api import ActiveRoomsClient, Backoff, Timeouts
from hms_active_rooms.errors import (
    ApiError,
    BadResponse,
    ConnectionFailed,
    Forbidden,
    RateLimited,
    ServerError,
    TimedOut,
    Unauthorized,
)

PEERS = {"peers": {PEER: {"id": PEER, "name": "John"}}}
Make = Callable[..., ActiveRoomsClient]
Call = Callable[[ActiveRoomsClient], Awaitable[Any]]


def read(client: ActiveRoomsClient) -> Awaitable[Any]:
    return client.list_peers(ROOM)


WRITES: dict[str, Call] = {
    "send": lambda client: client.send_message(ROOM, "hello"),
    "remove": lambda client: client.remove_peers(ROOM, peer_id=PEER),
    "end": lambda client: client.end_room(ROOM),
    "update": lambda client: client.update_peer(ROOM, PEER, name="Jo"),
}

MAYBE_EXECUTED = {
    "reset": (reset, BadResponse),
    "closed without a word": (raw_bytes(b""), BadResponse),
    "half a status line": (raw_bytes(b"HTTP/1.1 20"), BadResponse),
    "not HTTP": (raw_bytes(b"220 mail ready\r\n\r\n"), BadResponse),
    "body cut off": (
        raw_bytes(b'HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{"message"'),
        BadResponse,
    ),
    "chunk cut off": (
        raw_bytes(b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{"messa'),
        BadResponse,
    ),
    "bad chunk": (
        raw_bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}"),
        BadResponse,
    ),
    "gzip cut off": (
        reply(raw=gzip.compress(b'{"message":"ok"}')[:-9], headers={"content-encoding": "gzip"}),
        BadResponse,
    ),
    "not gzip": (reply(raw=b'{"message":"ok"}', headers={"content-encoding": "gzip"}), BadResponse),
    "unknown coding": (reply(raw=b"x", headers={"content-encoding": "br"}), BadResponse),
    "not JSON": (reply(raw=b"<html>ok</html>"), BadResponse),
    "part of it": (reply(206, {"message": "ok"}), BadResponse),
    "wrong JSON": (reply(raw=b'["message"]'), BadResponse),
    "500": (reply(500, {"code": 500, "message": "oops"}), ServerError),
    "503 in HTML": (reply(503, raw=b"<html>"), ServerError),
    "408": (reply(408, {}), TimedOut),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("case", MAYBE_EXECUTED)
async def test_a_write_that_may_have_been_executed_is_never_sent_again(
    client: ActiveRoomsClient, wire: Wire, case: str, write: str
) -> None:
    answer, kind = MAYBE_EXECUTED[case]
    wire.answers = [answer]
    with pytest.raises(ApiError) as caught:
        await WRITES[write](client)
    assert type(caught.value) is kind
    assert caught.value.executed == "maybe"
    assert len(wire.seen) == 1


@pytest.mark.parametrize("case", MAYBE_EXECUTED)
async def test_a_read_is_sent_again_after_a_passing_failure(
    client: ActiveRoomsClient, wire: Wire, sleeps: Sleeps, case: str
) -> None:
    wire.answers = [MAYBE_EXECUTED[case][0], reply(200, PEERS)]
    assert [peer.id for peer in await client.list_peers(ROOM)] == [PEER]
    assert len(wire.seen) == 2


@pytest.mark.parametrize("case", ["500", "not JSON", "body cut off"])
async def test_a_read_that_keeps_failing_ends_after_a_few_attempts_and_executed_nothing(
    make_client: Make, wire: Wire, sleeps: Sleeps, case: str
) -> None:
    answer, kind = MAYBE_EXECUTED[case]
    wire.answers = [answer]
    with pytest.raises(kind) as caught:
        await read(make_client(backoff=Backoff(attempts=3, base_s=1.0, cap_s=1.5)))
    assert caught.value.executed == "no"
    assert len(wire.seen) == 3
    assert sleeps.waited == [0.5, 0.75]


async def test_a_write_sent_on_an_idle_connection_that_broke_is_not_sent_again(
    client: ActiveRoomsClient, wire: Wire
) -> None:
    wire.answers = [reply(200, PEERS), reset]
    await read(client)
    with pytest.raises(BadResponse) as caught:
        await client.send_message(ROOM, "hello")
    assert caught.value.executed == "maybe"
    assert [seen.method for seen in wire.seen] == ["GET", "POST"]
    assert wire.connections == 1


@pytest.mark.parametrize("case", ["reset", "closed without a word", "body cut off"])
async def test_what_failed_before_the_call_says_nothing_about_the_call(
    client: ActiveRoomsClient, wire: Wire, transport: str, unused_port: int, case: str
) -> None:
    wire.answers = [MAYBE_EXECUTED[case][0]]
    url = f"http://127.0.0.1:{unused_port}"
    try:
        if transport == "httpx":
            await httpx.AsyncClient().get(url)
        else:
            async with aiohttp.ClientSession() as session:
                await session.get(url)
    except (httpx.HTTPError, aiohttp.ClientError):
        with pytest.raises(ApiError) as caught:
            await client.end_room(ROOM)
    assert caught.value.executed == "maybe"


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_without_a_connection_executed_nothing_and_is_the_callers_to_wait_for(
    make_client: Make, wire: Wire, sleeps: Sleeps, write: str, unused_port: int
) -> None:
    client = make_client(base_url=f"http://127.0.0.1:{unused_port}/v2")
    with pytest.raises(ConnectionFailed, match="refused") as caught:
        await WRITES[write](client)
    assert caught.value.executed == "no"
    assert sleeps.waited == []


async def test_a_read_without_a_connection_is_tried_again(
    make_client: Make, sleeps: Sleeps, unused_port: int
) -> None:
    client = make_client(base_url=f"http://127.0.0.1:{unused_port}/v2")
    with pytest.raises(ConnectionFailed, match="refused"):
        await read(client)
    assert sleeps.waited == [0.25, 0.5, 1.0]


async def test_a_failed_tls_handshake_executed_nothing(make_client: Make) -> None:
    async def speak_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 no TLS here\r\n")
        writer.close()

    async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionFailed, match="no secure connection") as caught:
            await make_client(base_url=f"https://127.0.0.1:{port}/v2").end_room(ROOM)
    assert caught.value.executed == "no"


async def test_a_name_that_does_not_resolve_executed_nothing(make_client: Make) -> None:
    client = make_client(base_url="https://no-such-host.invalid/v2")
    with pytest.raises(ConnectionFailed, match="could not be resolved") as caught:
        await client.end_room(ROOM)
    assert caught.value.executed == "no"


async def test_a_read_waits_as_long_as_a_429_asks_and_is_sent_again(
    client: ActiveRoomsClient, wire: Wire, sleeps: Sleeps
) -> None:
    limited = reply(429, {"message": "slow down"}, headers={"Retry-After": "7"})
    wire.answers = [limited, reply(200, PEERS)]
    await read(client)
    assert len(wire.seen) == 2
    assert sleeps.waited == [7.25]


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_after_a_429_executed_nothing_and_is_the_callers_to_wait_for(
    client: ActiveRoomsClient, wire: Wire, sleeps: Sleeps, write: str
) -> None:
    wire.answers = [reply(429, {"message": "rate limit exceeded, retry after 7 seconds"})]
    with pytest.raises(RateLimited) as caught:
        await WRITES[write](client)
    assert (caught.value.executed, caught.value.retry_after_s) == ("no", 7)
    assert "Nothing was executed. Wait 7 seconds" in caught.value.for_model()
    assert len(wire.seen) == 1
    assert sleeps.waited == []


async def test_a_401_is_tried_once_more_with_a_new_token(make_client: Make, wire: Wire) -> None:
    wire.answers = [
        reply(401, {"message": "Token validation error"}),
        reply(200, {"peers": {}}),
    ]
    await read(make_client(auth=FixedToken("old", "new")))
    assert [seen.headers["authorization"] for seen in wire.seen] == ["Bearer old", "Bearer new"]


async def test_a_second_401_ends_the_call(make_client: Make, wire: Wire) -> None:
    wire.answers = [reply(401, {"message": "Token validation error", "details": ["not found"]})]
    with pytest.raises(Unauthorized, match="Token validation error") as caught:
        await read(make_client(auth=FixedToken("old", "new", "newer")))
    assert caught.value.executed == "no"
    assert '(details: "not found")' in str(caught.value)
    assert len(wire.seen) == 2


@pytest.mark.parametrize("given", [OSError("the vault is closed"), "a token", None])
@pytest.mark.parametrize("method", ["token", "refresh"])
async def test_a_token_source_that_gives_no_token_is_named_and_nothing_was_executed(
    make_client: Make, wire: Wire, method: str, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(**_: object) -> Any:
        if isinstance(given, Exception):
            raise given
        return given

    wire.answers = [reply(401, {})]
    source = FixedToken("old", "new")
    monkeypatch.setattr(source, method, ask)
    with pytest.raises(Unauthorized) as caught:
        await make_client(auth=source).end_room(ROOM)
    assert caught.value.executed == "no"
    nothing_newer = method == "refresh" and given is None
    assert ("token source" in str(caught.value)) is not nothing_newer
    assert "vault" not in str(caught.value)
    assert "a token" not in str(caught.value)
    assert len(wire.seen) == (method == "refresh")


async def test_a_401_without_another_token_ends_the_call(
    client: ActiveRoomsClient, wire: Wire
) -> None:
    wire.answers = [reply(401, {})]
    with pytest.raises(Unauthorized):
        await read(client)
    assert len(wire.seen) == 1


async def test_a_403_is_not_tried_again(make_client: Make, wire: Wire) -> None:
    wire.answers = [reply(403, {"message": "user does not have required permission"})]
    with pytest.raises(Forbidden) as caught:
        await read(make_client(auth=FixedToken("old", "new")))
    assert caught.value.executed == "no"
    assert len(wire.seen) == 1


@pytest.mark.parametrize(
    "write",
    [
        lambda client: client.end_room(ROOM),
        lambda client: client.remove_peers(ROOM, role="student"),
        lambda client: client.send_message(ROOM, "hi"),
    ],
)
async def test_a_403_to_a_write_speaks_of_the_credentials_rights(
    client: ActiveRoomsClient, wire: Wire, write: Call
) -> None:
    wire.answers = [reply(403, {"message": "user does not have required permission"})]
    with pytest.raises(Forbidden) as caught:
        await write(client)
    assert "the 100ms credentials do not allow the change" in caught.value.hint


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    client: ActiveRoomsClient, wire: Wire, status: int
) -> None:
    wire.answers = [reply(status, {}, headers={"location": f"{wire.base_url}/elsewhere"})]
    with pytest.raises(BadResponse) as caught:
        await read(client)
    assert caught.value.status == status
    assert len(wire.seen) == 1
    with pytest.raises(BadResponse) as caught:
        await client.end_room(ROOM)
    assert caught.value.executed == "maybe"


async def test_a_refusal_counts_even_if_its_words_are_cut_off(
    client: ActiveRoomsClient, wire: Wire
) -> None:
    wire.answers = [raw_bytes(b"HTTP/1.1 403 No\r\ncontent-length: 99\r\n\r\n{")]
    with pytest.raises(Forbidden) as caught:
        await client.end_room(ROOM)
    assert caught.value.executed == "no"


async def test_an_answer_without_end_is_cut_at_the_limit(make_client: Make, wire: Wire) -> None:
    client = make_client(max_answer_bytes=1000)
    wire.answers = [reply(raw=b'{"message":"' + b"x" * 5000 + b'"}')]
    with pytest.raises(BadResponse, match="larger than 1000 bytes") as caught:
        await client.end_room(ROOM)
    assert caught.value.executed == "maybe"


@pytest.mark.slow
async def test_a_small_answer_that_inflates_beyond_the_limit_is_cut_before_it_does(
    make_client: Make, wire: Wire
) -> None:
    client = make_client(max_answer_bytes=1_000_000)
    bomb = zlib.compressobj(9, wbits=31)
    data = bomb.compress(b'{"message":"' + b"x" * 100_000_000 + b'"}') + bomb.flush()
    wire.answers = [reply(raw=data, headers={"content-encoding": "gzip"})]
    tracemalloc.start()
    try:
        with pytest.raises(BadResponse, match="larger than"):
            await client.end_room(ROOM)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.slow
async def test_a_compressed_roster_of_the_largest_room_is_read(
    client: ActiveRoomsClient, wire: Wire
) -> None:
    roster = {
        f"{i:08x}-0000-4000-8000-000000000000": {"name": f"Peer {i}", "metadata": "x" * 50}
        for i in range(20_000)
    }
    body = gzip.compress(json.dumps({"peers": roster}).encode(), 1)
    wire.answers = [reply(raw=body, headers={"content-encoding": "gzip"})]
    peers = await client.list_peers(ROOM)
    assert [peer.id for peer in peers] == list(roster)


async def test_a_read_without_an_answer_is_asked_again_and_times_out_having_executed_nothing(
    make_client: Make, wire: Wire
) -> None:
    wire.answers = [hang]
    client = make_client(timeouts=Timeouts(read_s=0.05), backoff=Backoff(attempts=2))
    with pytest.raises(TimedOut, match="no answer came in time") as caught:
        await read(client)
    assert caught.value.executed == "no"
    assert len(wire.seen) == 2


async def test_a_write_without_an_answer_may_have_been_executed(
    make_client: Make, wire: Wire
) -> None:
    wire.answers = [hang]
    with pytest.raises(TimedOut) as caught:
        await make_client(timeouts=Timeouts(read_s=0.05)).end_room(ROOM)
    assert caught.value.executed == "maybe"
    assert len(wire.seen) == 1


class Logging(httpx.AsyncHTTPTransport):
    """A transport of a user's own that reads each answer before it passes it on."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        await response.aread()
        return response


async def test_an_answer_that_the_users_own_transport_has_read_counts(
    make_client: Make, wire: Wire
) -> None:
    body = gzip.compress(json.dumps({"message": "sent", **PEERS}).encode())
    client = make_client(transport=Logging())
    wire.answers = [reply(raw=body, headers={"content-encoding": "gzip"})]
    assert [peer.name for peer in await read(client)] == ["John"]
    await client.send_message(ROOM, "hello")


async def test_the_servers_request_id_is_kept(client: ActiveRoomsClient, wire: Wire) -> None:
    wire.answers = [reply(500, {}, headers={"x-request-id": "req-1\x1b[31m"})]
    with pytest.raises(ServerError) as caught:
        await client.end_room(ROOM)
    assert caught.value.request_id == "req-1\\u001b[31m"


async def test_environment_proxies_are_not_used_on_this_machine(
    make_client: Make, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:password@127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://user:password@127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    await make_client().end_room(ROOM)
    assert len(wire.seen) == 1


async def test_a_proxy_is_asked_for_a_tunnel_and_never_sees_the_token(
    make_client: Make, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = wire.base_url.removesuffix("/v2").replace("//", "//us%3Aer:p%E2%82%AC@")
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    wire.answers = [reply(407, {})]
    with pytest.raises(ConnectionFailed) as caught:
        await make_client(base_url="https://api.example/v2").end_room(ROOM)
    assert caught.value.executed == "no"
    assert "https://api.example, through the proxy that the environment sets" in str(caught.value)
    assert {(seen.method, seen.target) for seen in wire.seen} == {("CONNECT", "api.example:443")}
    assert all("authorization" not in seen.headers for seen in wire.seen)
    login = f"Basic {b64encode('us:er:p€'.encode()).decode()}"
    assert {seen.headers["proxy-authorization"] for seen in wire.seen} == {login}
    assert "p€" not in caught.value.for_model()
