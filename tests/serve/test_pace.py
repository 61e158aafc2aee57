"""How many new calls a minute get a row: no flood fills the journal, no person's work is stopped."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.errors import PeerNotFound, RateLimited
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.serve import calls, limits
from hms_active_rooms.serve.callers import Caller
from hms_active_rooms.serve.calls import Answer, call_tool
from hms_active_rooms.serve.guard import guard_settings
from hms_active_rooms.serve.limits import MOST_NEW_A_MINUTE, refusals_of
from serve.people import client, kit, remove, students, text
from serve.rest_callers import CALLER, problem, rest_app, speaking
from stand_in import ROOM, Clock, StandInRoom, peer

REMOVE, SEND = "hms-remove-peers", "hms-send-message"
NOBODY = remove(99)
"""Refused on the spot: a row each time."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def strict(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ActiveRoomsToolkit]:
    """A toolkit of whose callers each may make three new calls a minute."""
    monkeypatch.setattr(calls, "MOST_NEW_A_MINUTE", 3)

    def made(url: str = ":memory:") -> ActiveRoomsToolkit:
        return kit(students(), Journal(url, clock=clock), actions_per_minute=1)

    return made


async def call(toolkit: ActiveRoomsToolkit, channel: str = "mcp", key: str = "") -> Answer:
    return await call_tool(toolkit, REMOVE, NOBODY, caller=Caller(channel, "tester", key))


async def test_a_flood_of_calls_refused_on_the_spot_fills_nothing_and_is_counted(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    journal = toolkit.gate.journal
    for number in range(MOST_NEW_A_MINUTE + 20):
        with pytest.raises(PeerNotFound if number < MOST_NEW_A_MINUTE else RateLimited):
            await call(toolkit)
    assert len(journal.actions(limit=500)) == MOST_NEW_A_MINUTE
    assert "rate_limited" in caplog.text
    await refusals_of(journal).ended()
    rows = [(event.way, event.data["what"], event.by) for event in journal.refused_requests()]
    named = ("rate_limited", f"{REMOVE} of room {ROOM}", "tester")
    assert rows == [("rate_limited", "15 more requests", ""), *[named] * 5]


async def test_a_flood_of_new_keys_fills_nothing(
    strict: Callable[..., ActiveRoomsToolkit], tmp_path: Path
) -> None:
    toolkit = strict(f"sqlite:///{tmp_path / 'journal.sqlite'}")
    for number in range(9):
        with pytest.raises(PeerNotFound if number < 3 else RateLimited):
            await call(toolkit, key=f"k{number}")
    with pytest.raises(PeerNotFound):
        await call(toolkit, key="k0")  # no new one
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        for table in ("hms_asks", "hms_actions"):
            assert db.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (3,)
    await refusals_of(toolkit.gate.journal).ended()


async def test_a_minute_later_and_for_another_thread_new_calls_are_taken(
    strict: Callable[..., ActiveRoomsToolkit], clock: Clock
) -> None:
    toolkit = strict()
    await clock.sleep(20)
    for _ in range(3):
        with pytest.raises(PeerNotFound):
            await call(toolkit)
    with pytest.raises(RateLimited, match="3 new calls") as told:
        await call(toolkit)
    assert (told.value.executed, told.value.retry_after_s) == ("no", 40)
    assert told.value.for_model().endswith("Nothing was executed. Call again in 40 s.")
    with pytest.raises(PeerNotFound):
        await call(toolkit, "rest")
    await clock.sleep(40)
    with pytest.raises(PeerNotFound):
        await call(toolkit)
    await refusals_of(toolkit.gate.journal).ended()


async def test_the_same_call_is_no_new_one_while_it_is_open(
    strict: Callable[..., ActiveRoomsToolkit],
) -> None:
    toolkit = strict()
    for _ in range(9):
        answer = await call_tool(toolkit, REMOVE, remove(1), caller=Caller("mcp", "tester"))
        assert answer.data["waiting"]


async def test_a_class_of_thirty_is_written_to_one_by_one(clock: Clock) -> None:
    room = StandInRoom([peer(number) for number in range(1, 31)])
    toolkit = kit(room, Journal(":memory:", clock=clock), unattended=(SEND,), actions_per_minute=30)
    for person in room.peers:
        said = {"room_id": ROOM, "message": "your turn", "peer_id": person.id}
        answer = await call_tool(toolkit, SEND, said, caller=Caller("mcp", "tester"))
        assert answer.data["executed"] == "yes"
        await clock.sleep(1)
    assert len(room.posts) == 30


async def test_one_a_second_goes_on_for_ever(clock: Clock) -> None:
    journal = Journal(":memory:", clock=clock)
    await clock.sleep(17)
    for _ in range(10 * MOST_NEW_A_MINUTE):
        assert refusals_of(journal).take_one("mcp", MOST_NEW_A_MINUTE) == 0
        await clock.sleep(1)


async def test_where_more_may_be_sent_more_may_be_asked_for(clock: Clock) -> None:
    most = MOST_NEW_A_MINUTE + 5
    toolkit = kit(students(), Journal(":memory:", clock=clock), actions_per_minute=most)
    for _ in range(most):
        with pytest.raises(PeerNotFound):
            await call(toolkit)
    with pytest.raises(RateLimited):
        await call(toolkit)
    await refusals_of(toolkit.gate.journal).ended()


async def test_by_rest_it_is_a_429_that_says_when_to_call_again(
    strict: Callable[..., ActiveRoomsToolkit],
) -> None:
    toolkit = strict()
    async with speaking(rest_app(toolkit), CALLER) as (me,):
        for _ in range(3):
            problem(await me.tool(REMOVE, NOBODY), 404, "peer_not_found")
        answer = await me.tool(REMOVE, NOBODY)
    problem(answer, 429, "rate_limited")
    assert answer.headers["retry-after"] == "60"
    await refusals_of(toolkit.gate.journal).ended()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_by_mcp_it_is_an_error_that_says_that_nothing_was_executed(
    mode: str, strict: Callable[..., ActiveRoomsToolkit]
) -> None:
    toolkit = strict()
    async with client(toolkit, mode) as mcp:
        told = [await mcp.call_tool(REMOVE, NOBODY) for _ in range(4)]
    assert all(result.is_error for result in told)
    assert "Nothing was executed. Call again in 60 s." in text(told[-1])
    assert "No peer" in text(told[-2])
    assert len(toolkit.gate.journal.actions()) == 3
    await refusals_of(toolkit.gate.journal).ended()


@pytest.mark.parametrize(
    ("files", "connections"),
    [(1024, 512), (65_536, 512), (resource.RLIM_INFINITY, 512), (256, 128), (8, 16)],
)
def test_half_of_the_files_a_process_may_open_are_for_connections(
    files: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert limits.most_connections() == connections


def test_half_of_the_connections_are_not_for_programs() -> None:
    assert guard_settings("127.0.0.1").most_of_programs == limits.MOST_CONNECTIONS // 2
