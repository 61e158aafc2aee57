"""Whatever people and the API do, in any order, the world stays one that could be."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hms_active_rooms.sim import RefusedError, Role, Settings, World
from hms_active_rooms.sim.operations import end, remove, send, update
from hms_active_rooms.sim.records import IdSource

ROLES = (Role("host", ("audio", "video"), 2), Role("guest", ("audio",)), Role("viewer"))
ROLE_NAMES = st.sampled_from([role.name for role in ROLES])
START = datetime(2026, 3, 1, tzinfo=UTC)


class Rooms(RuleBasedStateMachine):
    """One room, with a clock that moves only when told."""

    @initialize()
    def open(self) -> None:
        self.time = START
        self.world = World(
            lambda world: self._set_up(world),
            clock=lambda: self.time,
            ids=IdSource("test"),
            settings=Settings(),
        )

    def _set_up(self, world: World) -> None:
        self.room_id = world.add_room(name="Room", roles=ROLES).id

    def _somebody(self, data: st.DataObject) -> str:
        peers = [peer.id for peer in self.world.peers(self.room_id)]
        return data.draw(st.sampled_from(peers))

    def _active(self) -> bool:
        return bool(self.world.peers(self.room_id))

    @rule(role=ROLE_NAMES)
    def join(self, role: str) -> None:
        before = len(self.world.peers(self.room_id))
        ending = self._active() and self.world.session(self.room_id).ending is not None
        try:
            peer = self.world.join(self.room_id, name="Ann", role=role)
        except RefusedError as refused:
            problem = refused.message
            peer = None
        if peer is None:
            assert problem in ("room not active", "role limit reached")
            return
        after = self.world.peers(self.room_id)
        assert peer.id in {listed.id for listed in after}
        assert len(after) == (1 if ending else before + 1)

    @precondition(_active)
    @rule(data=st.data(), abrupt=st.booleans())
    def leave(self, data: st.DataObject, abrupt: bool) -> None:
        self.world.leave(self.room_id, self._somebody(data), abrupt=abrupt)

    @precondition(_active)
    @rule(data=st.data())
    def kick(self, data: st.DataObject) -> None:
        remove(self.world, self.room_id, peer_id=self._somebody(data))

    @precondition(_active)
    @rule(role=ROLE_NAMES)
    def kick_role(self, role: str) -> None:
        remove(self.world, self.room_id, role=role)

    @precondition(_active)
    @rule(data=st.data(), role=ROLE_NAMES)
    def promote(self, data: st.DataObject, role: str) -> None:
        peer_id = self._somebody(data)
        before = self.world.peer(self.room_id, peer_id).joined_at
        held = [peer.role for peer in self.world.peers(self.room_id)]
        if role == "host" and held.count("host") == 2:
            full = self.world.peer(self.room_id, peer_id).role != "host"
            with pytest.raises(RefusedError, match="limit") if full else nullcontext():
                update(self.world, self.room_id, peer_id, role=role)
        else:
            peer = update(self.world, self.room_id, peer_id, role=role)
            assert (peer.role, peer.joined_at) == (role, before)

    @precondition(_active)
    @rule(role=st.sampled_from(["", "host", "guest"]))
    def say(self, role: str) -> None:
        delivery = send(self.world, self.room_id, message="hi", role=role)
        listed = {peer.id: peer for peer in self.world.peers(self.room_id)}
        heard = {peer_id for peer_id, peer in listed.items() if role in ("", peer.role)}
        assert heard == {*delivery.recipients, *delivery.missed}
        assert all(listed[peer_id].ghost for peer_id in delivery.missed)

    @precondition(_active)
    @rule(lock=st.booleans())
    def end(self, lock: bool) -> None:
        end(self.world, self.room_id, lock=lock)

    @rule(enabled=st.booleans())
    def enable(self, enabled: bool) -> None:
        self.world.set_enabled(self.room_id, enabled)

    @rule(seconds=st.sampled_from([0.1, 0.3, 1.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    @rule()
    def settle(self) -> None:
        self.world.settle()
        assert not self._active() or self.world.session(self.room_id).ending is None

    @invariant()
    def a_session_runs_exactly_while_somebody_is_in(self) -> None:
        assert self._active() == bool(self.world.peers(self.room_id))

    @invariant()
    def no_role_is_overfull(self) -> None:
        held = Counter(peer.role for peer in self.world.peers(self.room_id))
        assert held["host"] <= 2

    @invariant()
    def tracks_are_what_the_role_publishes(self) -> None:
        media = {role.name: sorted(role.publishes) for role in ROLES}
        for peer in self.world.peers(self.room_id):
            assert sorted(track.type for track in peer.tracks) == media[peer.role]
            assert len({track.stream_id for track in peer.tracks}) <= 1

    @invariant()
    def nobody_is_in_two_places(self) -> None:
        room = self.world.room(self.room_id)
        sessions = [*room.past_sessions, *([room.session] if room.session else [])]
        seen = [
            peer_id
            for session in sessions
            for peer_id in [*session.peers, *(peer.id for peer in session.left)]
        ]
        assert len(seen) == len(set(seen))
        assert all(not session.peers and session.ended_at for session in room.past_sessions)

    @invariant()
    def events_tell_the_same_story(self) -> None:
        self.world.rooms()
        kinds = Counter(event["type"] for event in self.world.webhooks)
        joined, left = kinds["peer.join.success"], kinds["peer.leave.success"]
        assert joined - left == len(self.world.peers(self.room_id))
        opened, closed = kinds["session.open.success"], kinds["session.close.success"]
        assert opened - closed == self._active()


TestRooms = Rooms.TestCase
TestRooms.settings = hypothesis_settings(
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_what_is_asked_for_lands_at_its_own_time_however_late_one_looks() -> None:
    time = START
    world = World(lambda world: None, clock=lambda: time, ids=IdSource("test"))
    room = world.add_room(name="Room", roles=ROLES)
    peer = world.join(room.id, name="Ann", role="guest")
    world.join(room.id, name="Bea", role="guest")
    remove(world, room.id, peer_id=peer.id)
    end(world, room.id)
    time += timedelta(hours=2)
    assert not world.peers(room.id)
    left = [e["data"] for e in world.webhooks if e["type"] == "peer.leave.success"]
    assert [data["left_at"] for data in left if isinstance(data, dict)] == [
        "2026-03-01T00:00:00.3Z",
        "2026-03-01T00:00:00.3Z",
    ]


def test_settling_moves_time_no_further_than_needed_and_leaves_ghosts() -> None:
    world = World(lambda world: None, clock=lambda: START, ids=IdSource("test"))
    room = world.add_room(name="Room", roles=ROLES)
    ghost = world.join(room.id, name="Ann", role="guest")
    kicked = world.join(room.id, name="Bea", role="guest")
    world.leave(room.id, ghost.id, abrupt=True)
    remove(world, room.id, peer_id=kicked.id)
    world.settle()
    assert world.now() == START + timedelta(seconds=0.3)
    assert [peer.id for peer in world.peers(room.id)] == [ghost.id]
    world.settle()
    assert world.now() == START + timedelta(seconds=0.3)
