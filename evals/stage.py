"""The simulated room of a run and who is who in it: set up, changed at the scenario's moments, read at the end."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from evals.effects import Change, Post, changes_in, post_of
from evals.scenario import OTHER_ROOM, Event, Scenario, State
from hms_active_rooms.sim import Fault, RefusedError, Role, Settings, Simulation, running_sim
from hms_active_rooms.sim.operations import update
from hms_active_rooms.sim.records import Peer
from hms_active_rooms.sim.request_log import LoggedRequest
from hms_active_rooms.sim.scenes import ScenePerson


class Cast:
    """Labels ("Spam Bot", "Chen Wei#2", "user:guest-1") and the peer ids behind them.

    A label stays with the person: a new name doesn't move it, a new peer id does.
    """

    def __init__(self, peers: Iterable[Peer]) -> None:
        self._ids: dict[str, str] = {}
        self._earlier: dict[str, str] = {}
        for peer in peers:
            self.joined(peer)

    def joined(self, peer: Peer) -> None:
        number = 2
        label = peer.name
        while label in self._ids:
            label, number = f"{peer.name}#{number}", number + 1
        self._ids[label] = peer.id
        self._ids.setdefault(f"user:{peer.user_id}", peer.id)

    def rejoined(self, before: str, now: str) -> None:
        self._ids = {label: now if i == before else i for label, i in self._ids.items()}
        self._earlier[before] = now

    def __contains__(self, label: str) -> bool:
        return label in self._ids

    @property
    def names(self) -> set[str]:
        return {i.partition("#")[0] for i in self._ids if not i.startswith("user:")}

    def names_by_id(self) -> dict[str, str]:
        now = {i: k.partition("#")[0] for k, i in self._ids.items() if k[:5] != "user:"}
        before = {self.person(old): old for old in self._earlier}
        return now | {before[i]: name for i, name in now.items() if i in before}

    def id(self, label: str) -> str:
        """The peer id of a person now."""
        return self._ids[label]

    def person(self, peer_id: str) -> str:
        """The peer id that the person with this one, present or former, has now."""
        while peer_id in self._earlier:
            peer_id = self._earlier[peer_id]
        return peer_id

    def full(self, ref: str) -> str:
        """The peer id that a short or full one means; itself when nobody's, or several fit."""
        ids = {*self._ids.values(), *self._earlier}
        fitting = [i for i in ids if i.startswith(ref.lower())] if ref else []
        return fitting[0] if len(fitting) == 1 else ref


_SETTINGS: Final = Settings(removal_delay_s=0.02, ending_delay_s=0.02)
_PLACEHOLDER: Final = re.compile(r"\{(count|id):?([^{}]*)\}")
_BEGIN: Final = datetime(2026, 3, 2, 10, tzinfo=UTC)
_HELD_UP_S: Final = 0.05
"""How long a request waits while something happens at "sent N"."""


class RunClock:
    """The time of a run, for the gate and for whoever scores it: it goes on only as the scenario
    says, however long the run takes."""

    def __init__(self) -> None:
        self._now = _BEGIN

    def now(self) -> datetime:
        """Aware UTC. A microsecond later at each look, so that what was written down has an order."""
        self._now += timedelta(microseconds=1)
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class Stage:
    """One scenario's room while it runs.

    Attributes:
        sim: the simulator.
        cast: who is who.
        clock: for the journal.
        moved: who got another role, with the number of requests that were there by then.
    """

    def __init__(self, scenario: Scenario, sim: Simulation, rng: random.Random, seed: int) -> None:
        self.sim = sim
        self.clock = RunClock()
        self._scenario = scenario
        if scenario.other_room:
            _add_other_room(sim)
        self.cast = Cast(sim.world.peers(sim.room_id))
        self._due: dict[str, list[Event]] = defaultdict(list)
        for event in scenario.events:
            vary = seed and scenario.suite == "disturbed"
            moment = rng.choice(event.moments) if vary else event.moments[0]
            self._due[moment].append(event)
        self.moved: list[tuple[int, str]] = []
        self._passed: list[tuple[int, float]] = []
        self._over = threading.Event()
        self._watcher: threading.Thread | None = None

    def words(self, text: str) -> str:
        def found(match: re.Match[str]) -> str:
            kind, name = match.groups()
            if kind == "id":
                return self.cast.id(name)
            return str(len(self.by_role().get(name, ()) if name else self.here()))

        return _PLACEHOLDER.sub(found, text)

    def here(self) -> list[Peer]:
        return self.sim.world.peers(self.sim.room_id)

    def by_role(self) -> dict[str, list[str]]:
        holders: dict[str, list[str]] = defaultdict(list)
        for peer in self.here():
            holders[peer.role].append(peer.id)
        return holders

    def session_id(self) -> str:
        world = self.sim.world
        with world.lock:
            session = world.room(self.sim.room_id).session
            return session.id if session else ""

    def posts(self) -> list[Post]:
        return [
            post for entry in self.sim.requests if (post := post_of(entry, self.time_s(entry.seq)))
        ]

    def time_s(self, seq: int | None = None) -> float:
        """How much time had passed in the scenario by this request; None: by now."""
        return sum(s for before, s in self._passed if seq is None or before < seq)

    def changes(self) -> list[Change]:
        self.sim.world.settle()
        return changes_in(self.sim.world.webhooks, self.sim.world.deliveries)

    def is_in(self, state: State) -> bool:
        world, room_id = self.sim.world, self.sim.room_id
        world.settle()
        here = {self.cast.person(peer.id) for peer in world.peers(room_id)}

        def present(label: str) -> bool:
            return label in self.cast and self.cast.person(self.cast.id(label)) in here

        return (
            all(present(label) for label in state.here)
            and not any(present(label) for label in state.gone)
            and state.session in (None, "running" if world.room(room_id).session else "over")
            and state.locked in (None, not world.room(room_id).enabled)
            and state.messages in (None, len(world.deliveries))
        )

    def reach(self, moment: str) -> None:
        for event in self._due.pop(moment, ()):
            before = len(self.sim.requests)
            # What the agent did meanwhile may have made it impossible, or its people never came.
            with suppress(RefusedError, KeyError):
                self._happen(event)
            # While a request is under way nobody can look again: no yes ends by that.
            if event.role is not None and not moment.startswith("sent "):
                self.moved.append((before, self.cast.id(event.role.who)))
        if moment == "start":
            self._watch_requests()

    def pass_time(self, seconds: float) -> None:
        self._passed.append((len(self.sim.requests), seconds))
        self.sim.world.advance(seconds)
        self.clock.advance(seconds)

    def close(self) -> None:
        self._over.set()
        if self._watcher is not None:
            self._watcher.join()

    def _watch_requests(self) -> None:
        numbers = sorted(int(m.removeprefix("sent ")) for m in self._due if m.startswith("sent "))
        if not numbers:
            return
        for number in numbers:
            self.sim.faults.add(
                Fault(kind="latency", method="POST", after=number - 1, latency_s=_HELD_UP_S)
            )
        self._watcher = threading.Thread(target=self._at_requests, args=(numbers,), daemon=True)
        self._watcher.start()

    def _at_requests(self, numbers: list[int]) -> None:
        def arrived(entries: Sequence[LoggedRequest]) -> bool:
            return sum(entry.method == "POST" for entry in entries) >= numbers[0]

        while numbers and not self._over.is_set():
            with suppress(TimeoutError):
                self.sim.log.wait_until(arrived, timeout_s=0.1)
                self.reach(f"sent {numbers.pop(0)}")

    def _happen(self, event: Event) -> None:
        world, room_id = self.sim.world, self.sim.room_id
        if event.join is not None:
            self._join(event.join)
        for who, abrupt in ((event.leave, False), (event.drop, True)):
            if who is not None:
                world.leave(room_id, self.cast.id(who), abrupt=abrupt)
        if event.rejoin is not None:
            self._rejoin([self.peer_ever(self.cast.id(event.rejoin))])
        if event.rename is not None:
            update(world, room_id, self.cast.id(event.rename.who), name=event.rename.to)
        if event.role is not None:
            update(world, room_id, self.cast.id(event.role.who), role=event.role.to)
        if event.restart:
            self._rejoin(world.peers(room_id))
        if event.over:
            for peer in world.peers(room_id):
                world.leave(room_id, peer.id)
        if event.fault is not None:
            self.sim.faults.add(event.fault)
        if event.pass_s:
            self.pass_time(event.pass_s)

    def _join(self, person: ScenePerson) -> None:
        for number in range(1, person.count + 1):
            name, user_id = (t.replace("{n}", str(number)) for t in (person.name, person.user_id))
            self.cast.joined(self._enter(name, person.role, user_id, person.metadata))

    def _enter(self, name: str, role: str, user_id: str, metadata: str) -> Peer:
        join, room_id = self.sim.world.join, self.sim.room_id
        return join(room_id, name=name, role=role, user_id=user_id, metadata=metadata)

    def peer_ever(self, peer_id: str) -> Peer:
        with self.sim.world.lock:
            room = self.sim.world.room(self.sim.room_id)
            sessions = [*room.past_sessions, *([room.session] if room.session else [])]
            everyone = [p for s in sessions for p in (*s.peers.values(), *s.left)]
        return next(peer for peer in everyone if peer.id == peer_id)

    def _rejoin(self, peers: list[Peer]) -> None:
        world, room_id = self.sim.world, self.sim.room_id
        here = {peer.id for peer in world.peers(room_id)}
        for peer in peers:
            if peer.id in here:
                world.leave(room_id, peer.id)
        for peer in peers:
            back = self._enter(peer.name, peer.role, peer.user_id, peer.metadata)
            self.cast.rejoined(peer.id, back.id)


@asynccontextmanager
async def staged(scenario: Scenario, rng: random.Random, seed: int) -> AsyncIterator[Stage]:
    """The simulator starts and stops in a thread, so that other runs go on meanwhile."""
    room = running_sim(scenario.built_scene(), settings=_SETTINGS)
    sim = await asyncio.to_thread(room.__enter__)
    try:
        stage = Stage(scenario, sim, rng, seed)
        try:
            stage.reach("start")
            yield stage
        finally:
            await asyncio.to_thread(stage.close)
    finally:
        await asyncio.to_thread(room.__exit__, None, None, None)


def _add_other_room(sim: Simulation) -> None:
    world = sim.world
    roles = (Role("host", ("audio", "video")), Role("guest"))
    world.add_room(name="Board meeting", id=OTHER_ROOM, roles=roles)
    world.join(OTHER_ROOM, name="Vera Lindqvist", role="host", user_id="vera")
    world.join(OTHER_ROOM, name="Ben Osei", role="guest", user_id="ben")
