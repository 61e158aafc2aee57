"""A tool that nobody thought of: its one file says what it does and how its effect is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import pytest

from hms_active_rooms.errors import ApiError, PeerNotFound, TimedOut
from hms_active_rooms.gate.actions import CALLS
from hms_active_rooms.gate.actions.change import Label, PeerRef, StateChange
from hms_active_rooms.gate.actions.impact import Drift, Impact, Person, Room
from hms_active_rooms.gate.actions.result import Observation
from hms_active_rooms.gate.approval import Approve
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Origin
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.gate.sending import Sending
from stand_in import ROOM, Clock, StandInRoom, gate_on, peer, row


class GiveRole(StateChange):
    """Give one peer another role: nobody goes, and the session stays."""

    tool: ClassVar[str] = "hms-end-active-room"  # of the contract, whose hints it has
    noun: ClassVar[str] = "role change"
    editable: ClassVar[frozenset[str]] = frozenset({"reason"})

    peer_id: PeerRef
    role: Label
    reason: str | None = None

    def assess(self, room: Room, policy: Policy) -> tuple[Self, Impact]:
        return self, room.impact("give-role", (room.person(self.peer_id),))

    def drift(self, shown: Impact, room: Room, policy: Policy) -> Drift:
        return Drift("go", people=shown.people, total=1)

    def question(self, impact: Impact) -> list[str]:
        return [f"Give one person in {impact.room(self.room_id)} the role {self.role}."]

    async def request(self, client: Any) -> None:
        client.give(self.peer_id, self.role)

    async def seen(self, client: Any, shown: Impact, people: Sequence[Person]) -> Observation:
        return Observation(
            (await client.retrieve_peer(self.room_id, self.peer_id)).role == self.role
        )

    def effect(self, impact: Impact, total: int) -> str:
        return "They have the role."


class Roles(StandInRoom):
    """A room in which roles can be given; `works` says whether they are, `errors` what the first
    requests come to."""

    works = True
    errors: tuple[ApiError, ...] = ()
    requests = 0

    def give(self, peer_id: str, role: str) -> None:
        self.requests += 1
        if self.requests <= len(self.errors):
            raise self.errors[self.requests - 1]
        if self.works:
            self.peers = [p.model_copy(update={"role": role}) for p in self.peers]


@pytest.mark.parametrize("works", [True, False])
async def test_a_tool_with_another_effect_overrides_one_look(works: bool) -> None:
    client, clock = Roles([peer(1)]), Clock()
    client.works = works
    call = GiveRole(room_id=ROOM, peer_id=peer(1).id, role="host")
    room = Room.read(await client.retrieve_active_room(ROOM), await client.list_peers(ROOM))
    _, impact = call.assess(room, Policy())
    action = row(clock()).bound(call, impact)
    change = call.drift(impact, room, Policy())
    sending = Sending(client, Journal(":memory:"), Policy(), clock.sleep, action, change)  # type: ignore[arg-type]
    state, result = await sending.carry_out()
    assert (state, result.executed, result.verified) == ("done", "yes", works)
    later, seen = await sending.look_for_it()
    assert later == ("done" if works else "unknown")
    assert ("the room shows the effect" in seen.text.lower()) == works


async def test_a_yes_for_the_session_covers_other_words_and_no_other_target() -> None:
    client = Roles([peer(1), peer(2)])
    room = Room.read(await client.retrieve_active_room(ROOM), await client.list_peers(ROOM))

    def audience(number: int, role: str, reason: str) -> tuple[str, ...]:
        call = GiveRole(room_id=ROOM, peer_id=peer(number).id, role=role, reason=reason)
        _, impact = call.assess(room, Policy())
        return call.audience(impact)

    allowed = audience(1, "host", "a")
    assert audience(1, "host", "b") == allowed
    assert allowed not in (audience(2, "host", "a"), audience(1, "guest", "a"))


async def test_a_404_after_a_lost_answer_does_not_show_the_effect_of_a_tool_that_makes_nobody_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CALLS, GiveRole.tool, GiveRole)
    client = Roles([peer(1)])
    lost = TimedOut("No answer.", executed="maybe")
    client.errors = (lost, PeerNotFound("No such peer.", status=404))
    gate = gate_on(client)
    call = GiveRole(room_id=ROOM, peer_id=peer(1).id, role="host")
    action = await gate.propose(call, Origin("thread", "message", "call", "agent"))
    await gate.decide(action.id, Approve(action.digest), by="ada", way="callback")
    ended = await gate.run(action.id)
    assert (ended.state, ended.executed) == ("unknown", "maybe")
    assert client.requests == 2
    assert ended.result.verified is False
