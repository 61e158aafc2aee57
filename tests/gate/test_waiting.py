"""What happens between the look at the room and the request: after each wait, everything is looked at again.

The client and the gate of these tests share one `sleep`: nobody waits, and at the first
wait the room, the clock or the row change.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hms_active_rooms.api import ActiveRoomsClient, SignedTokens
from hms_active_rooms.errors import ConnectionFailed, PolicyRefusal
from hms_active_rooms.gate.actions import parse_call
from hms_active_rooms.gate.approval import Approve, Reject
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action, Origin
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.gate.view import for_model, outcome
from hms_active_rooms.sim.faults import Fault
from hms_active_rooms.sim.server import Simulation, running_sim
from stand_in import ROOM, Clock, StandInRoom, gate_on, peer

TTL_S = 600.0


def nothing() -> None:
    """Happens while somebody waits."""


@dataclass
class Waits:
    """The shared `sleep`."""

    clock: Clock = field(default_factory=lambda: Clock(datetime.now(UTC)))
    meanwhile: Callable[[], object] = nothing
    waited: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.clock.now += timedelta(seconds=seconds)
        happens, self.meanwhile = self.meanwhile, nothing
        await asyncio.to_thread(happens)


@dataclass
class Lesson:
    """A simulated room, a gate on it, and what was executed in it."""

    sim: Simulation
    gate: Gate
    waits: Waits
    client: ActiveRoomsClient

    async def approved(self, tool: str, call: str = "call", **arguments: Any) -> Action:
        asked = await self.gate.propose(
            parse_call(tool, {"room_id": self.sim.room_id, **arguments}),
            Origin("thread", "message", call, "agent"),
        )
        yes = Approve(asked.digest)
        return (await self.gate.decide(asked.id, yes, by="ada", way="page")).action

    def too_many(self, operation: str, **more: Any) -> None:
        """The next request of this operation is answered 429, "Retry-After: 20"."""
        fault = {"kind": "status", "status": 429, "retry_after_s": 20, "operation": operation}
        self.sim.faults.add(Fault.model_validate({**fault, **more}))

    def sent(self, operation: str) -> int:
        return sum(r.operation == operation for r in self.sim.requests)

    def executed(self, operation: str) -> int:
        return sum(r.executed for r in self.sim.requests if r.operation == operation)

    def who(self, name: str) -> Any:
        return next(p for p in self.sim.world.peers(self.sim.room_id) if p.name == name)

    def new_session(self) -> None:
        """Everybody leaves, and three others start again."""
        for person in self.sim.world.peers(self.sim.room_id):
            self.sim.world.leave(self.sim.room_id, person.id)
        self.join(3)

    def join(self, number: int) -> None:
        for n in range(number):
            self.sim.world.join(self.sim.room_id, name=f"Newcomer {n}", role="student")

    def promote(self, peer_id: str) -> None:
        asyncio.run(self.client.update_peer(self.sim.room_id, peer_id, role="teacher"))

    def kinds(self, action: Action) -> list[str]:
        return [event.kind for event in self.gate.journal.events(action.id)]


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def sim(waits: Waits) -> Iterator[Simulation]:
    with running_sim("classroom", clock=waits.clock) as sim:
        yield sim


@pytest.fixture
async def lesson(sim: Simulation, waits: Waits) -> AsyncIterator[Lesson]:
    async with ActiveRoomsClient(
        SignedTokens(sim.access_key, sim.secret),
        base_url=sim.base_url,
        sleep=waits,
        rng=lambda: 0.5,
    ) as client:
        policy = Policy(rooms=(sim.room_id,), protected_roles={"teacher"}, approval_ttl_s=TTL_S)
        gate = Gate(client, policy, Journal(":memory:", clock=waits.clock), sleep=waits)
        yield Lesson(sim, gate, waits, client)


# --- A whole request that was refused for now --------------------------------------------------


@pytest.mark.parametrize("status", [400, 403])
async def test_a_request_that_was_refused_for_good_is_not_sent_again(
    lesson: Lesson, status: int
) -> None:
    action = await lesson.approved("hms-end-active-room")
    fault = {"kind": "status", "status": status, "operation": "end_active_room"}
    lesson.sim.faults.add(Fault.model_validate(fault))
    ended = await lesson.gate.run(action.id)
    assert (ended.state, ended.executed) == ("failed", "no")
    assert lesson.sent("end_active_room") == 1
    assert lesson.waits.waited == []


async def test_a_session_that_began_during_the_wait_is_asked_about_and_not_ended(
    lesson: Lesson,
) -> None:
    action = await lesson.approved("hms-end-active-room", lock=True)
    lesson.too_many("end_active_room")
    lesson.waits.meanwhile = lesson.new_session
    again = await lesson.gate.run(action.id)
    assert (again.state, again.revision) == ("proposed", 2)
    assert "another one is running" in again.note
    assert lesson.executed("end_active_room") == 0
    assert lesson.sim.world.room(lesson.sim.room_id).enabled
    assert lesson.waits.waited[0] >= 20


async def test_after_a_401_the_room_is_looked_at_again_before_the_request_with_a_new_token(
    lesson: Lesson,
) -> None:
    refused = Fault(kind="unauthorized", operation="end_active_room")
    lesson.sim.faults.add(refused)
    action = await lesson.approved("hms-end-active-room", lock=True)
    lesson.waits.meanwhile = lesson.new_session
    again = await lesson.gate.run(action.id)
    assert (again.state, again.revision) == ("proposed", 2)
    assert lesson.executed("end_active_room") == 0

    lesson.sim.faults.add(refused)
    await lesson.gate.decide(again.id, Approve(again.digest), by="ada", way="page")
    assert (await lesson.gate.run(again.id)).state == "done"
    assert lesson.executed("end_active_room") == 1


async def test_a_message_to_an_audience_that_grew_during_the_wait_is_asked_about(
    lesson: Lesson,
) -> None:
    action = await lesson.approved("hms-send-message", message="hello")
    lesson.too_many("send_message")
    lesson.waits.meanwhile = lambda: lesson.join(40)
    again = await lesson.gate.run(action.id)
    assert (again.state, again.revision) == ("proposed", 2)
    assert "grew from 15 to 55" in again.note
    assert lesson.executed("send_message") == 0


async def test_somebody_who_took_a_protected_role_during_the_wait_stays(lesson: Lesson) -> None:
    spam = lesson.who("Spam Bot").id
    action = await lesson.approved("hms-remove-peers", peer_id=spam)
    lesson.too_many("remove_peers")
    lesson.waits.meanwhile = lambda: lesson.promote(spam)
    ended = await lesson.gate.run(action.id)
    assert (ended.state, ended.reason.count("protects")) == ("expired", 1)
    assert lesson.executed("remove_peers") == 0


async def test_what_is_over_its_deadline_after_the_wait_is_expired(lesson: Lesson) -> None:
    action = await lesson.approved("hms-send-message", message="hello")
    lesson.too_many("send_message")

    def later() -> None:
        lesson.waits.clock.now = action.expires_at

    lesson.waits.meanwhile = later
    assert (await lesson.gate.run(action.id)).state == "expired"
    assert lesson.sent("send_message") == 1
    assert lesson.executed("send_message") == 0


async def test_a_persons_no_is_in_time_during_the_wait(lesson: Lesson) -> None:
    action = await lesson.approved("hms-send-message", message="hello")
    lesson.too_many("send_message")
    no = lesson.gate.decide(action.id, Reject("stop"), by="bob", way="page")
    lesson.waits.meanwhile = lambda: asyncio.run(no)
    ended = await lesson.gate.run(action.id)
    assert (ended.state, ended.decided_by, ended.reason) == ("rejected", "bob", "stop")
    assert lesson.executed("send_message") == 0


async def test_what_is_unchanged_after_the_wait_is_sent_once_and_all_of_it_is_on_record(
    lesson: Lesson,
) -> None:
    action = await lesson.approved("hms-send-message", message="hello")
    lesson.too_many("send_message")
    done = await lesson.gate.run(action.id)
    assert done.state == "done"
    assert (lesson.sent("send_message"), lesson.executed("send_message")) == (2, 1)
    assert lesson.kinds(action) == ["proposed", "approved", "sent", "returned", "sent", "done"]
    [returned] = [e for e in lesson.gate.journal.events(action.id) if e.kind == "returned"]
    assert "429" in returned.data["reason"]
    assert done.sent_at
    assert done.sent_at - returned.at >= timedelta(seconds=20)
    assert (done.decided_by, done.decided_way) == ("ada", "page")


async def test_a_refusal_without_end_is_failed_after_a_few_requests(lesson: Lesson) -> None:
    action = await lesson.approved("hms-end-active-room")
    lesson.too_many("end_active_room", times=None, retry_after_s=1)
    failed = await lesson.gate.run(action.id)
    assert failed.state == "failed"
    assert failed.executed == "no"
    assert "Nothing was executed" in outcome(failed)
    assert lesson.sent("end_active_room") == 4
    assert len(lesson.waits.waited) == 3


@pytest.mark.parametrize("asked_s", [31, 3600])
async def test_a_wait_that_is_too_long_is_said_and_not_waited_for(
    lesson: Lesson, asked_s: int
) -> None:
    action = await lesson.approved("hms-send-message", message="hello")
    lesson.too_many("send_message", retry_after_s=asked_s)
    failed = await lesson.gate.run(action.id)
    assert failed.state == "failed"
    assert f"Wait {asked_s} seconds" in outcome(failed)
    assert for_model(failed).count("try again") == 1
    assert lesson.waits.waited == []


async def test_a_wait_that_does_not_fit_before_the_deadline_is_not_waited_for(
    lesson: Lesson,
) -> None:
    action = await lesson.approved("hms-send-message", message="hello")
    lesson.waits.clock.now = action.expires_at - timedelta(seconds=15)
    lesson.too_many("send_message")
    assert (await lesson.gate.run(action.id)).state == "failed"
    assert lesson.waits.waited == []


async def test_what_was_given_back_counts_once_in_a_minute(lesson: Lesson) -> None:
    one_a_minute = lesson.gate.policy.model_copy(update={"actions_per_minute": 1})
    gate = Gate(lesson.client, one_a_minute, lesson.gate.journal, sleep=lesson.waits)
    first = await lesson.approved("hms-send-message", message="hello")
    second = await lesson.approved("hms-send-message", "call 2", message="hello")
    lesson.too_many("send_message")
    assert (await gate.run(first.id)).state == "done"
    with pytest.raises(PolicyRefusal, match="1 actions per minute"):
        await gate.run(second.id)


async def test_whoever_is_stopped_during_the_wait_leaves_it_approved(lesson: Lesson) -> None:
    action = await lesson.approved("hms-send-message", message="hello")
    lesson.too_many("send_message")

    async def stopped(seconds: float) -> None:
        raise asyncio.CancelledError

    waiting = Gate(lesson.client, lesson.gate.policy, lesson.gate.journal, sleep=stopped)
    with pytest.raises(asyncio.CancelledError):
        await waiting.run(action.id)
    row = await lesson.gate.get(action.id)
    assert (row.state, row.sent_at, row.worker) == ("approved", None, "")
    assert lesson.kinds(action)[-1] == "returned"
    assert (await lesson.gate.run(action.id)).state == "done"
    assert lesson.executed("send_message") == 1


async def test_what_another_worker_sent_during_the_wait_is_not_sent_again(lesson: Lesson) -> None:
    action = await lesson.approved("hms-send-message", message="hello")
    lesson.too_many("send_message")
    lesson.waits.meanwhile = lambda: asyncio.run(lesson.gate.run(action.id))
    assert (await lesson.gate.run(action.id)).state == "done"
    assert lesson.executed("send_message") == 1


async def test_a_refused_connection_is_waited_for_and_the_room_looked_at_again() -> None:
    room, clock = StandInRoom([peer(1), peer(2)]), Clock()
    gate = gate_on(room, clock=clock)
    action = await gate.propose(
        parse_call("hms-end-active-room", {"room_id": ROOM}), Origin("t", "m", "c", "agent")
    )
    await gate.decide(action.id, Approve(action.digest), by="ada", way="page")

    def refuse(_: str) -> None:
        room.session = "4" * 24
        raise ConnectionFailed("Refused.")

    room.before = refuse
    assert (await gate.run(action.id)).state == "proposed"
    assert room.posts == []


# --- A removal person by person ----------------------------------------------------------------


async def test_a_role_removal_looks_at_the_person_again_after_each_wait(lesson: Lesson) -> None:
    action = await lesson.approved("hms-remove-peers", role="student")
    shown = action.shown.people
    lesson.too_many("remove_peers", after=1)
    lesson.waits.meanwhile = lambda: lesson.promote(shown[1].id)
    ended = await lesson.gate.run(action.id)
    fates = [person.outcome for person in ended.result.people]
    assert fates == ["removed", "skipped"] + ["removed"] * (len(shown) - 2)
    assert ended.state == "done"
    assert lesson.executed("remove_peers") == len(shown) - 1


@pytest.mark.parametrize(("operation", "sent"), [("remove_peers", 2), ("retrieve_peer", 1)])
async def test_a_role_removal_ends_when_its_deadline_passes_during_a_wait(
    lesson: Lesson, operation: str, sent: int
) -> None:
    action = await lesson.approved("hms-remove-peers", role="student")
    lesson.too_many(operation, after=1)

    def later() -> None:
        lesson.waits.clock.now = action.expires_at

    lesson.waits.meanwhile = later
    ended = await lesson.gate.run(action.id)
    assert ended.state == "failed"
    assert [p.outcome for p in ended.result.people][:3] == ["removed", "failed", "not sent"]
    assert lesson.sent("remove_peers") == sent


async def test_a_role_removal_that_lost_its_row_during_a_wait_sends_nothing_more(
    lesson: Lesson,
) -> None:
    action = await lesson.approved("hms-remove-peers", role="student")
    lesson.too_many("remove_peers", after=1)

    def lose() -> None:
        with lesson.gate.journal.write() as tx:
            row = tx.get(action.id)
            assert row
            tx.move(row, "unknown", by="another", way="look")

    lesson.waits.meanwhile = lose
    await lesson.gate.run(action.id)
    assert lesson.sent("remove_peers") == 2


async def test_a_role_removal_keeps_its_lease_while_it_waits(lesson: Lesson) -> None:
    action = await lesson.approved("hms-remove-peers", role="student")
    lesson.too_many("remove_peers", after=1, retry_after_s=29)
    leases: list[timedelta] = []

    def look() -> None:
        row = lesson.gate.journal.get(action.id)
        assert row
        assert row.lease_until
        leases.append(row.lease_until - lesson.waits.clock())

    lesson.waits.meanwhile = look
    assert (await lesson.gate.run(action.id)).state == "done"
    # The clock stands after the wait: what is left covers a request and two reads of the room.
    covered_s = 2 * lesson.client.deadline_s + lesson.gate.policy.verify_s
    assert leases[0] >= timedelta(seconds=covered_s)


# --- Other waits between the look and the request ------------------------------------------------


@pytest.mark.parametrize("operation", ["list_peers", "retrieve_active_room"])
async def test_a_look_that_waited_itself_is_made_again(lesson: Lesson, operation: str) -> None:
    action = await lesson.approved("hms-end-active-room")
    lesson.too_many(operation)
    lesson.waits.meanwhile = lesson.new_session
    again = await lesson.gate.run(action.id)
    assert (again.state, again.revision) == ("proposed", 2)
    assert lesson.sent("end_active_room") == 0
