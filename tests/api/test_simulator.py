"""The whole client against the simulated 100ms, on both transports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import pytest

from api.wire import Sleeps
from hms_active_rooms.api import ActiveRoomsClient, Peer, SignedTokens, SyncActiveRoomsClient
from hms_active_rooms.errors import (
    ApiError,
    BadResponse,
    Forbidden,
    NotActive,
    PeerNotFound,
    RateLimited,
    ServerError,
    Unauthorized,
)
from hms_active_rooms.sim.faults import Fault
from hms_active_rooms.sim.server import Simulation, running_sim


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with running_sim("classroom", port=0) as sim:
        yield sim


@pytest.fixture
async def api(sim: Simulation, transport: Any, sleeps: Sleeps) -> AsyncIterator[ActiveRoomsClient]:
    tokens = SignedTokens(sim.access_key, sim.secret)
    async with ActiveRoomsClient(
        tokens, base_url=sim.base_url, transport=transport, sleep=sleeps
    ) as client:
        yield client


def executed(sim: Simulation, operation: str) -> int:
    return sum(entry.executed for entry in sim.requests if entry.operation == operation)


def by_name(peers: tuple[Peer, ...], name: str) -> Peer:
    (peer,) = [peer for peer in peers if peer.name == name]
    return peer


async def test_all_seven_operations_work(sim: Simulation, api: ActiveRoomsClient) -> None:
    room = await api.retrieve_active_room(sim.room_id)
    assert room.name == "Algebra II, Tuesday group"

    peers = await api.list_peers(sim.room_id)
    assert {peer.id for peer in peers} == set(room.session.peers)
    students = await api.list_peers(sim.room_id, role="student")
    assert {peer.role for peer in students} == {"student"}
    twice = await api.list_peers(sim.room_id, role="student", user_id="chen.wei")
    assert [peer.name for peer in twice] == ["Chen Wei", "Chen Wei"]
    assert await api.list_peers(sim.room_id, role="no such role") == ()

    teacher = await api.retrieve_peer(sim.room_id, by_name(peers, "Nora Berg").id)
    assert {track.source for track in teacher.tracks.values()} == {"regular", "screen"}

    liam = by_name(peers, "Liam O'Connor")
    updated = await api.update_peer(sim.room_id, liam.id, role="viewer", metadata='{"a":1}')
    assert (updated.id, updated.name, updated.role) == (liam.id, liam.name, "viewer")
    assert (await api.retrieve_peer(sim.room_id, liam.id)).metadata == '{"a":1}'

    sent = await api.send_message(sim.room_id, "héllo", role="student", type="chat")
    assert sent.message == "message sent"

    bot = by_name(peers, "Spam Bot")
    removed = await api.remove_peers(sim.room_id, peer_id=bot.id, reason="spam")
    assert removed.message == "peer remove request submitted"
    sim.world.settle()
    with pytest.raises(PeerNotFound):
        await api.retrieve_peer(sim.room_id, bot.id)

    ended = await api.end_room(sim.room_id, reason="lesson over", lock=True)
    assert ended.message == "session is ending"
    sim.world.settle()
    with pytest.raises(NotActive):
        await api.list_peers(sim.room_id)
    with pytest.raises(NotActive):
        await api.end_room(sim.room_id)


async def test_a_room_of_another_account_is_forbidden(
    sim: Simulation, api: ActiveRoomsClient
) -> None:
    with pytest.raises(Forbidden):
        await api.retrieve_active_room("0" * 24)
    assert len(sim.requests) == 1


async def test_wrong_credentials_are_unauthorized(sim: Simulation, transport: Any) -> None:
    tokens = SignedTokens(sim.access_key, "another-secret-of-32-characters-or-more")
    async with ActiveRoomsClient(tokens, base_url=sim.base_url, transport=transport) as api:
        with pytest.raises(Unauthorized, match="Token validation error"):
            await api.retrieve_active_room(sim.room_id)
    assert len(sim.requests) == 2


async def test_a_passing_401_is_healed_by_a_new_token(
    sim: Simulation, api: ActiveRoomsClient
) -> None:
    sim.faults.add(Fault(kind="unauthorized"))
    assert len(await api.list_peers(sim.room_id)) == 15


async def test_a_429_is_waited_for_by_a_read_and_not_by_a_write(
    sim: Simulation, api: ActiveRoomsClient, sleeps: Sleeps
) -> None:
    sim.faults.add(Fault(kind="status", status=429, retry_after_s=3, times=2))
    with pytest.raises(RateLimited) as caught:
        await api.send_message(sim.room_id, "once")
    assert (caught.value.executed, caught.value.retry_after_s) == ("no", 3)
    assert sleeps.waited == []
    assert len(await api.list_peers(sim.room_id)) == 15
    [waited] = sleeps.waited
    assert waited >= 3
    assert executed(sim, "send_message") == 0


async def test_a_429_without_end_is_the_callers_to_wait_for(
    sim: Simulation, api: ActiveRoomsClient
) -> None:
    sim.faults.add(Fault(kind="status", status=429, times=None))
    with pytest.raises(RateLimited) as caught:
        await api.send_message(sim.room_id, "never")
    assert caught.value.executed == "no"
    assert executed(sim, "send_message") == 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", ["reset", "status"])
async def test_a_message_whose_fate_is_unknown_is_not_sent_again(
    sim: Simulation,
    api: ActiveRoomsClient,
    kind: Literal["reset", "status"],
    when: Literal["before", "after"],
) -> None:
    sim.faults.add(Fault(kind=kind, when=when, operation="send_message"))
    with pytest.raises((ServerError, BadResponse)) as caught:
        await api.send_message(sim.room_id, "once at most")
    assert caught.value.executed == "maybe"
    assert executed(sim, "send_message") == (1 if when == "after" else 0)
    assert len(sim.requests) == 1


@pytest.mark.parametrize("kind", ["truncated", "malformed"])
async def test_a_damaged_answer_is_asked_for_again_only_by_a_read(
    sim: Simulation, api: ActiveRoomsClient, kind: Literal["truncated", "malformed"]
) -> None:
    sim.faults.add(Fault(kind=kind, times=2))
    with pytest.raises(ApiError) as caught:
        await api.end_room(sim.room_id)
    assert caught.value.executed == "maybe"
    assert executed(sim, "end_active_room") == 1
    assert len(await api.list_peers(sim.room_id)) == 15
    assert len(sim.requests) == 3


def test_the_environment_lines_of_the_simulator_make_a_synchronous_client(
    sim: Simulation, transport: str
) -> None:
    environ = {
        "HMS_BASE_URL": sim.base_url,
        "HMS_MANAGEMENT_TOKEN": sim.management_token(),
        "HMS_TRANSPORT": transport,
    }
    with SyncActiveRoomsClient.from_env(environ) as api:
        assert len(api.list_peers(sim.room_id)) == 15
