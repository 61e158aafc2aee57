"""News for everybody who looks, read once for all of them, and not at all when nobody does."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.api.models import Peers
from hms_active_rooms.errors import TimedOut
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.store import Reading
from hms_active_rooms.gate.journal.tables import actions
from hms_active_rooms.serve.callers import Caller
from hms_active_rooms.serve.calls import call_tool
from hms_active_rooms.serve.decisions import decide_and_run
from hms_active_rooms.serve.page.feed import MAX_WAITING, Feed, PageSettings
from serve.people import broken, kit, remove, students
from stand_in import ROOM, Clock, StandInRoom, peer

QUICK = PageSettings(journal_s=0.01, room_s=0.01, hold_s=0.05)
SLOW = PageSettings(journal_s=0.01, room_s=3600.0, hold_s=3600.0)

WAIT_S = 20


class Counting(StandInRoom):
    """Counts how often its people were read."""

    reads = 0

    async def list_peers(self, room_id: str, **more: Any) -> Any:
        self.reads += 1
        return await super().list_peers(room_id, **more)


def always() -> bool:
    return True


async def propose(toolkit: ActiveRoomsToolkit, number: int = 1) -> str:
    answer = await call_tool(
        toolkit, "hms-remove-peers", remove(number), caller=Caller("test", "mcp:tester")
    )
    assert answer.action
    return answer.action.id


async def news(
    feed: Feed, wanted: Callable[[dict[str, Any]], Any] = lambda _: True
) -> dict[str, Any]:
    """The first picture that is wanted."""
    told = {"tag": ""}
    async with asyncio.timeout(WAIT_S):
        while not wanted(told := await feed.news(told["tag"], always)):
            pass
    return told


async def test_a_viewer_is_told_the_room_and_what_waits() -> None:
    toolkit = kit(students())
    action_id = await propose(toolkit)
    feed = Feed(toolkit.gate, QUICK)
    async with feed.running():
        told = await news(feed, lambda n: n["rooms"] and n["waiting"])
    (question,) = told["waiting"]
    request = toolkit.gate.request(await toolkit.gate.get(action_id))
    assert (question["question"], question["digest"]) == (request.text, request.digest)
    assert told["rooms"][0]["by_role"] == [["student", 3]]
    assert [row["name"] for row in told["rooms"][0]["rows"]] == ["Peer 1", "Peer 2", "Peer 3"]


async def test_a_room_counts_the_people_of_whom_nothing_usable_was_told() -> None:
    class Partly(StandInRoom):
        async def list_peers(self, room_id: str, **_: Any) -> Peers:
            found = Peers(self.peers[1:])
            found.unreadable = (self.peers[0].id,)
            return found

    feed = Feed(kit(Partly([peer(1), peer(2), peer(3)])).gate, QUICK)
    async with feed.running():
        [room] = (await news(feed, lambda n: n["rooms"]))["rooms"]
    assert (room["total"], room["unreadable"]) == (2, 1)


async def test_nobody_looks_so_nothing_is_read() -> None:
    room = Counting([peer(1)])
    feed = Feed(kit(room).gate, QUICK)
    async with feed.running():
        assert room.reads == 0
        await news(feed, lambda n: n["rooms"])
        await turns()  # one read may be under way
        before = room.reads
        await turns()
        assert room.reads == before


async def turns() -> None:
    """Let everything go on that waits for nothing."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_many_viewers_are_one_reader() -> None:
    room = Counting([peer(1)])
    feed = Feed(kit(room).gate, SLOW)
    async with feed.running():
        await asyncio.gather(*(news(feed, lambda n: n["rooms"]) for _ in range(20)))
        assert room.reads == 1


async def test_without_news_the_same_picture_comes_after_a_while() -> None:
    feed = Feed(kit(students()).gate, QUICK)
    async with feed.running():
        first = await news(feed, lambda n: n["rooms"])
        again = await feed.news(first["tag"], always)
    assert again | {"now": first["now"]} == first


async def test_whoever_is_logged_out_waits_for_nothing() -> None:
    feed = Feed(kit(students()).gate, SLOW)
    logged_in = True
    async with feed.running(), asyncio.timeout(WAIT_S):
        seen = await news(feed, lambda n: n["rooms"])
        waiting = asyncio.create_task(feed.news(seen["tag"], lambda: logged_in))
        await asyncio.sleep(0)
        assert not waiting.done()
        logged_in = False
        await waiting


async def test_a_decision_is_news() -> None:
    toolkit = kit(students())
    action_id = await propose(toolkit)
    feed = Feed(toolkit.gate, SLOW)
    async with feed.running():
        before = await news(feed, lambda n: n["waiting"])
        await decide_and_run(toolkit.gate, action_id, {"type": "reject"}, by="bob", way="terminal")
        after = await news(feed, lambda n: not n["waiting"])
    assert after["changes"] > before["changes"]


async def test_what_was_shown_is_on_record_once() -> None:
    toolkit = kit(students())
    action_id = await propose(toolkit)
    feed = Feed(toolkit.gate, QUICK)
    async with feed.running():
        for _ in ("ada", "bob"):
            await news(feed, lambda n: n["waiting"])
    events = await asyncio.to_thread(toolkit.gate.journal.events, action_id)
    assert [(e.kind, e.way) for e in events if e.kind == "asked"] == [("asked", "page")]


async def test_what_is_too_late_waits_no_more_and_is_moved() -> None:
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    action_id = await propose(toolkit)
    feed = Feed(toolkit.gate, QUICK)
    async with feed.running():
        await news(feed, lambda n: n["waiting"])
        await clock.sleep(601)
        await news(feed, lambda n: not n["waiting"])
    assert (await toolkit.gate.get(action_id)).state == "expired"


@pytest.mark.parametrize("most", [MAX_WAITING, 1])
async def test_an_action_whose_record_is_broken_is_no_question(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hms_active_rooms.serve.page.feed.MAX_WAITING", most)
    toolkit = kit(students())
    changed, whole = await propose(toolkit, 1), await propose(toolkit, 2)
    with toolkit.gate.journal.write() as tx:
        tx.db.execute(actions.update().where(actions.c.id == changed).values(note="x"))
    feed = Feed(toolkit.gate, QUICK)
    async with feed.running():
        told = await news(feed, lambda n: n["waiting"])
    assert ([each["action_id"] for each in told["waiting"]], told["more"]) == ([whole], 0)


async def test_trouble_is_told_and_the_reading_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unsteady(StandInRoom):
        broken = True

        async def list_peers(self, room_id: str, **more: Any) -> Any:
            if self.broken:
                raise TimedOut("100ms did not answer.")
            return await super().list_peers(room_id, **more)

    room, torn = Unsteady([peer(1)]), threading.Event()
    feed = Feed(kit(room).gate, QUICK)
    broken(monkeypatch, torn.is_set)
    async with feed.running():
        told = await news(feed, lambda n: n["rooms"])
        assert "100ms did not answer" in told["rooms"][0]["trouble"]
        room.broken = False
        torn.set()
        told = await news(feed, lambda n: n["trouble"] and not n["rooms"][0]["trouble"])
        assert told["trouble"] == "The journal failed."
        torn.clear()
        await news(feed, lambda n: not n["trouble"])


async def test_a_bug_is_told_to_whoever_asks_and_the_reading_goes_on() -> None:
    class Broken(StandInRoom):
        broken = True

        async def list_peers(self, room_id: str, **more: Any) -> Any:
            if self.broken:
                raise RuntimeError("a bug")
            return await super().list_peers(room_id, **more)

    room = Broken([peer(1)])
    feed = Feed(kit(room).gate, QUICK)
    async with feed.running():
        with pytest.raises(RuntimeError, match="a bug"):
            await news(feed, lambda n: n["rooms"])
        room.broken = False
        await news(feed, lambda n: n["rooms"])


async def test_a_room_nobody_is_in_says_so() -> None:
    feed = Feed(kit(StandInRoom(session=None)).gate, QUICK)
    async with feed.running():
        told = await news(feed, lambda n: n["rooms"])
    assert told["rooms"][0] | {"trouble": "Nobody is in the room.", "total": 0} == told["rooms"][0]


async def test_names_that_look_alike_are_pointed_out() -> None:
    names = ("Alice Martin", "\u0410lice Martin", "Sam Lee")
    feed = Feed(kit(StandInRoom([peer(n, name) for n, name in enumerate(names)])).gate, QUICK)
    async with feed.running():
        told = await news(feed, lambda n: n["rooms"])
    assert [row["alike"] for row in told["rooms"][0]["rows"]] == [True, True, False]


async def test_other_rooms_are_neither_read_nor_shown() -> None:
    journal = Journal(":memory:")
    await propose(kit(students(), journal))
    feed = Feed(kit(students(), journal, rooms=("7" * 24,)).gate, QUICK)
    async with feed.running():
        told = await news(feed, lambda n: n["rooms"])
    assert told["waiting"] == []
    assert [room["room_id"] for room in told["rooms"]] == ["7" * 24]


async def test_any_room_means_those_of_the_newest_actions() -> None:
    toolkit = kit(students(), rooms=("*",))
    await propose(toolkit)
    feed = Feed(toolkit.gate, QUICK)
    async with feed.running():
        told = await news(feed, lambda n: n["rooms"])
    assert [room["room_id"] for room in told["rooms"]] == [ROOM]


async def test_the_news_are_bounded() -> None:
    many = MAX_WAITING + 5
    toolkit = kit(StandInRoom([peer(n, "n" * 10_000) for n in range(1, many + 1)]))
    for number in range(1, many + 1):
        await propose(toolkit, number)
    feed = Feed(toolkit.gate, QUICK)
    async with feed.running():
        told = await news(feed, lambda n: n["rooms"] and n["waiting"])
    assert (len(told["waiting"]), told["more"]) == (MAX_WAITING, 5)
    assert len(told["rooms"][0]["rows"]) == 50
    assert len(json.dumps(told)) < 200_000


async def test_what_waits_is_shown_whatever_else_is_in_the_journal() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    toolkit = kit(students(), journal)
    first = await propose(toolkit)
    row = await toolkit.gate.get(first)
    for number in range(600):
        await clock.sleep(0.1)
        elsewhere = row.call.model_copy(update={"room_id": "7" * 24})
        other: dict[str, Any] = {"call": elsewhere} if number % 2 else {"state": "rejected"}
        another = {"id": f"z{number}", "call_key": f"k{number}", "created_at": clock()}
        with journal.write() as tx:
            tx.insert(replace(row, **(other | another)))
    feed = Feed(toolkit.gate, QUICK)
    async with feed.running():
        told = await news(feed)
    assert [question["action_id"] for question in told["waiting"]] == [first]
    assert told["more"] == 0


async def test_the_oldest_questions_are_shown_and_the_rest_are_counted() -> None:
    clock = Clock()
    journal = Journal(":memory:", clock=clock)
    toolkit = kit(students(), journal)
    first = await propose(toolkit)
    row = await toolkit.gate.get(first)
    for number in range(600):
        await clock.sleep(0.1)
        other = replace(row, id=f"z{number:03}", call_key=f"k{number}", created_at=clock())
        with journal.write() as tx:
            tx.insert(other)
    feed = Feed(toolkit.gate, QUICK)
    async with feed.running():
        told = await news(feed)
    shown = [question["action_id"] for question in told["waiting"]]
    assert shown == [first, *(f"z{number:03}" for number in range(MAX_WAITING - 1))]
    assert told["more"] == 601 - MAX_WAITING


async def test_a_question_is_on_record_as_asked_once_it_is_shown_and_not_before() -> None:
    clock = Clock()
    toolkit = kit(
        StandInRoom([peer(n) for n in range(1, MAX_WAITING + 2)]), Journal(":memory:", clock=clock)
    )
    ids = []
    for number in range(1, MAX_WAITING + 2):
        ids.append(await propose(toolkit, number))
        await clock.sleep(0.1)

    def asked(action_id: str) -> int:
        return sum(e.kind == "asked" for e in toolkit.gate.journal.events(action_id))

    feed = Feed(toolkit.gate, QUICK)
    async with feed.running():
        await news(feed, lambda n: n["more"] == 1)
        assert [asked(action_id) for action_id in ids] == [1] * MAX_WAITING + [0]
        await decide_and_run(toolkit.gate, ids[0], {"type": "reject"}, by="bob", way="terminal")
        await news(feed, lambda n: n["more"] == 0)
        assert [asked(action_id) for action_id in ids] == [1] * (MAX_WAITING + 1)


async def test_no_picture_comes_before_the_journal_was_read() -> None:
    go_on = threading.Event()

    class Slow(Journal):
        watched = False

        @contextmanager
        def read(self) -> Iterator[Reading]:
            assert not self.watched or go_on.wait(WAIT_S)
            with super().read() as view:
                yield view

    journal = Slow(":memory:")
    toolkit = kit(students(), journal)
    await propose(toolkit)
    journal.watched = True
    feed = Feed(toolkit.gate, SLOW)
    async with feed.running():
        told = asyncio.create_task(news(feed))
        await turns()
        assert not told.done()
        go_on.set()
        assert len((await told)["waiting"]) == 1


async def test_a_room_that_takes_long_keeps_no_question_back() -> None:
    class Never(StandInRoom):
        waits = False

        async def list_peers(self, room_id: str, **more: Any) -> Any:
            if self.waits:
                await asyncio.Event().wait()
            return await super().list_peers(room_id, **more)

    room = Never([peer(1)])
    toolkit = kit(room)
    action_id = await propose(toolkit)
    room.waits = True
    feed = Feed(toolkit.gate, SLOW)
    async with feed.running():
        told = await news(feed)
        assert [question["action_id"] for question in told["waiting"]] == [action_id]
