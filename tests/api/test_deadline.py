"""Deadlines and cancellation: when a call ends, and what it says then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.wire import ROOM, FixedToken, Seen, Sleeps, Wire, hang, reply
from hms_active_rooms.api import ActiveRoomsClient, Timeouts
from hms_active_rooms.api.wire import MAX_CONNECTIONS
from hms_active_rooms.errors import ConnectionFailed, RateLimited, ServerError, TimedOut

Make = Callable[..., ActiveRoomsClient]


async def test_a_write_under_way_at_the_deadline_may_have_been_executed(
    make_client: Make, wire: Wire
) -> None:
    wire.answers = [hang]
    with pytest.raises(TimedOut, match=r"within 3 seconds") as caught:
        await make_client(deadline_s=3).end_room(ROOM)
    assert caught.value.executed == "maybe"
    assert len(wire.seen) == 1


async def test_a_read_under_way_at_the_deadline_executed_nothing(
    make_client: Make, wire: Wire
) -> None:
    wire.answers = [hang]
    with pytest.raises(TimedOut) as caught:
        await make_client(deadline_s=0.2).list_peers(ROOM)
    assert caught.value.executed == "no"
    assert "Nothing was executed" in caught.value.for_model()


async def test_httpx_knows_that_a_write_was_still_connecting_at_the_deadline() -> None:
    connecting = asyncio.Event()

    async def stalled(*args: object, **kwargs: object) -> Any:
        connecting.set()
        await asyncio.Event().wait()

    async with ActiveRoomsClient(
        FixedToken(), base_url="http://localhost:9", deadline_s=0.1
    ) as client:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("anyio.connect_tcp", stalled)
            with pytest.raises(TimedOut) as caught:
                await client.end_room(ROOM)
    assert connecting.is_set()
    assert caught.value.executed == "no"


async def test_a_write_does_not_wait_until_other_calls_have_ended(
    make_client: Make, wire: Wire
) -> None:
    all_open = asyncio.Event()

    async def held(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(wire.seen) == MAX_CONNECTIONS:
            all_open.set()
        await hang(seen, writer)

    wire.answers = [held]
    client = make_client(timeouts=Timeouts(connect_s=2, pool_s=60), deadline_s=12)
    busy = [asyncio.create_task(client.list_peers(ROOM)) for _ in range(MAX_CONNECTIONS)]
    await all_open.wait()
    with pytest.raises(ConnectionFailed) as caught:
        await client.end_room(ROOM)
    assert caught.value.executed == "no"
    assert len(wire.seen) == MAX_CONNECTIONS
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)


async def test_no_wait_goes_beyond_the_deadline(
    make_client: Make, wire: Wire, sleeps: Sleeps
) -> None:
    wire.answers = [reply(429, {}, headers={"retry-after": "29"})]
    with pytest.raises(RateLimited):
        await make_client(deadline_s=20).list_peers(ROOM)
    assert sleeps.waited == []


async def test_cancelling_a_call_cancels_it_and_frees_its_connection(
    client: ActiveRoomsClient, wire: Wire
) -> None:
    wire.answers = [hang, reply(200, {"peers": {}})]
    task = asyncio.create_task(client.end_room(ROOM))
    await wire.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert await client.list_peers(ROOM) == ()
    assert len(wire.seen) == 2


async def test_cancelling_between_attempts_cancels_the_call(make_client: Make, wire: Wire) -> None:
    waiting = asyncio.Event()

    async def wait(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    wire.answers = [reply(500, {})]
    task = asyncio.create_task(make_client(sleep=wait).list_peers(ROOM))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(wire.seen) == 1


async def test_a_callers_own_timeout_stays_the_callers(
    client: ActiveRoomsClient, wire: Wire
) -> None:
    wire.answers = [hang]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.end_room(ROOM)


async def test_a_timeout_that_a_part_of_ours_raises_is_not_taken_for_the_deadline(
    make_client: Make, wire: Wire
) -> None:
    async def broken(seconds: float) -> None:
        raise TimeoutError("from the sleep")

    wire.answers = [reply(500, {})]
    with pytest.raises(TimeoutError, match="from the sleep"):
        await make_client(sleep=broken).list_peers(ROOM)


@pytest.mark.parametrize(
    "error", [httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ConnectError, httpx.ProxyError]
)
async def test_a_custom_transports_failure_to_connect_executed_nothing(
    error: type[httpx.HTTPError], sleeps: Sleeps
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("no")

    client = ActiveRoomsClient(FixedToken(), transport=httpx.MockTransport(fail), sleep=sleeps)
    with pytest.raises(ConnectionFailed) as caught:
        await client.end_room(ROOM)
    assert caught.value.executed == "no"
    assert ("fewer calls at once" in caught.value.hint) == (error is httpx.PoolTimeout)
    assert sleeps.waited == []
    await client.aclose()


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.WriteTimeout])
async def test_a_custom_transports_later_timeout_may_have_executed(
    error: type[httpx.HTTPError], sleeps: Sleeps
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("no")

    client = ActiveRoomsClient(FixedToken(), transport=httpx.MockTransport(fail), sleep=sleeps)
    with pytest.raises(TimedOut) as caught:
        await client.end_room(ROOM)
    assert caught.value.executed == "maybe"
    assert sleeps.waited == []
    await client.aclose()


async def test_a_read_that_fails_gives_its_last_error(
    client: ActiveRoomsClient, wire: Wire
) -> None:
    wire.answers = [reply(500, {}), reply(502, {}), reply(503, {}), reply(504, {})]
    with pytest.raises(ServerError) as caught:
        await client.list_peers(ROOM)
    assert caught.value.status == 504
