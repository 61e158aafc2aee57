"""Random games: a model that calls anything, people who answer anything at two doors, a room that
changes and an API that fails, in any order. Whatever happens, the promise holds."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from hms_active_rooms import ActiveRoomsToolkit, Policy
from hms_active_rooms.api.models import ActiveRoom
from hms_active_rooms.errors import (
    ActiveRoomsError,
    ConnectionFailed,
    RateLimited,
    ServerError,
    TimedOut,
)
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.moderator import build_moderator
from hms_active_rooms.serve.decisions import decide_and_run
from scripted import ScriptedModel, calls, text
from stand_in import ROOM, Clock, StandInRoom, peer

CONFIG: Any = {"configurable": {"thread_id": "t", "approver": "ada"}}
PAUSES = 40


@dataclass
class Answer:
    """What a person said to a question."""

    action_id: str
    says: str
    by: str


@dataclass
class FaultyRoom(StandInRoom):
    """A room whose answers fail now and then: before anything was done, or after."""

    chance: Random = field(default_factory=Random)
    rate: float = 0.0

    def fails(self) -> bool:
        return self.chance.random() < self.rate

    async def retrieve_active_room(self, room_id: str) -> ActiveRoom:
        if self.fails():
            raise self.chance.choice([ServerError("500", status=500), TimedOut("late")])
        return await super().retrieve_active_room(room_id)

    def refuse(self) -> None:
        if self.fails():
            refused = RateLimited("429", status=429, retry_after_s=2)
            raise self.chance.choice([refused, ConnectionFailed("refused")])

    def lose_the_answer(self, _: str) -> None:
        if self.fails():
            raise TimedOut("lost", executed="maybe")

    def changes(self, clock: Clock) -> None:
        what = self.chance.randrange(4)
        if what == 0 and self.peers:
            self.peers.pop(self.chance.randrange(len(self.peers)))
        elif what == 1 and self.session:
            self.session = self.chance.choice("123456789") * 24
        elif what == 2 and not any(p.id == peer(9).id for p in self.peers):
            self.peers = [*self.peers, peer(9, role="host")]
        else:
            clock.now += self.chance.choice([1, 5, 61, 700]) * (clock.now.resolution * 1_000_000)


class Game:
    """One thread of a graph, from its first message until it has nothing more to ask."""

    def __init__(self, chance: Random, kind: str) -> None:
        self.chance, self.clock, self.answers = chance, Clock(), list[Answer]()
        people = [peer(n, role="host" if n == 4 else "student") for n in (1, 2, 3, 4)]
        self.room = room = FaultyRoom(people, chance=chance)
        room.before, room.after = self.about_to_be_sent, room.lose_the_answer
        self.journal = Journal(":memory:", clock=self.clock)
        self.said_before = dict[str, list[Answer]]()
        policy = Policy(rooms=[ROOM], verify_s=0, actions_per_minute=chance.choice([1, 20]))
        kit = ActiveRoomsToolkit(room, policy, journal=self.journal)  # type: ignore[arg-type]
        self.gate, self.shown = kit.gate, dict[str, dict[str, Any]]()
        turns = [
            calls(*self.some_calls(), prefix=f"turn {n} ") for n in range(chance.randint(1, 3))
        ]
        model, saver = ScriptedModel.saying(*turns, text("done")), InMemorySaver()
        build: Any = build_moderator if kind == "moderator" else create_agent
        tools = kit if kind == "moderator" else kit.get_tools()
        self.graph: Any = build(model, tools, checkpointer=saver)

    def about_to_be_sent(self, _: str) -> None:
        for row in self.journal.actions(state="sent"):
            self.said_before.setdefault(row.id, list(self.answers))
        self.room.refuse()

    def some_calls(self) -> list[tuple[str, dict[str, Any]]]:
        pick = self.chance.choice
        made: list[tuple[str, dict[str, Any]]] = []
        for _ in range(pick([1, 2, 2, 3])):
            who = pick([{"peer_id": peer(pick([1, 2])).id}, {"role": "host"}])
            remove, send = ("hms-remove-peers", who), ("hms-send-message", {"message": pick("ab")})
            name, given_ = pick([remove, remove, send, send, ("hms-end-active-room", {})])
            made.append((name, {"room_id": ROOM, **given_}))
        return made

    def answer(self, question: dict[str, Any], by: str) -> dict[str, Any]:
        """Any answer a person or a broken interface might give, noted for the judge."""
        digest, says = question["digest"], self.chance.choice(["yes", "yes", "no", "edit", "bad"])
        answer: dict[str, Any] = {"type": "approve", "digest": digest}
        if says == "no":
            answer = {"type": "reject", "message": "no", "digest": digest}
        elif says == "edit" and "message" in question["editable"]:
            edited = {"name": question["name"], "args": {**question["args"], "message": "edited"}}
            answer = {"type": "edit", "edited_action": edited, "digest": digest}
        elif says != "yes":
            says, others = "bad", [d for d in self.shown if d != digest]
            answer = {"type": "approve", "digest": self.chance.choice(others or ["0" * 64])}
        self.answers.append(Answer(question["action_id"], says, by))
        return answer

    def answers_to(self, interrupt: Any) -> Any:
        value = interrupt.value
        questions = value.get("action_requests", [value])
        given_ = [self.answer(question, "ada") for question in questions]
        if "action_requests" not in value:
            return given_[0]
        if any(answer.says == "bad" for answer in self.answers[-len(given_) :]):
            # One answer that names another question spoils the whole of a turn.
            for answer in self.answers[-len(given_) :]:
                answer.says = "bad"
        return {"decisions": given_}

    async def elsewhere(self) -> None:
        question = self.chance.choice(list(self.shown.values()))
        decide: Any = self.chance.choice([self.gate.decide, partial(decide_and_run, self.gate)])
        with suppress(ActiveRoomsError):
            await decide(question["action_id"], self.answer(question, "bob"), by="bob", way="page")

    async def play(self) -> None:
        value: Any = {"messages": [HumanMessage("go")]}
        for _ in range(PAUSES):
            self.room.rate = self.chance.choice([0, 0, 0.2])
            with suppress(ActiveRoomsError):  # the graph goes on from its checkpoint
                await self.graph.ainvoke(value, CONFIG)
            state, value = await self.graph.aget_state(CONFIG), None
            if not state.next:
                return
            for each in state.interrupts:
                for question in each.value.get("action_requests", [each.value]):
                    self.shown[question["digest"]] = question
            if self.chance.random() < 0.3:
                self.room.changes(self.clock)
            if self.shown and self.chance.random() < 0.2:
                await self.elsewhere()
            if state.interrupts and self.chance.random() < 0.9:
                value = Command(resume={i.id: self.answers_to(i) for i in state.interrupts})
        raise AssertionError("the graph goes on asking")

    def judge(self) -> None:
        rows = {row.id: row for row in self.journal.actions(limit=1000)}
        started = [kind for row in rows for kind in self.kinds(row) if kind.startswith("sent")]
        steps = sum(len(self.journal.steps(row)) for row in rows)
        assert len(self.room.posts) <= len(started) + steps
        for row in rows.values():
            assert row.state != "sent"
            assert not row.contradiction
        for action_id, answers in self.said_before.items():
            row = rows[action_id]
            said = {a.says for a in answers if a.action_id == (row.edited_from or row.id)}
            assert row.decided_way == "grant" or said & {"yes", "edit"}, (row, answers)
            assert "no" not in said, (row, answers)
        for answer in self.answers:
            related = [r for r in rows.values() if r.call_key == rows[answer.action_id].call_key]
            by = {event.by for row in related for event in self.journal.events(row.id)}
            assert answer.by in by, answer

    def kinds(self, action_id: str) -> list[str]:
        return [event.kind for event in self.journal.events(action_id)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["moderator", "agent"])
@settings(phases=[Phase.generate], max_examples=settings().max_examples // 5)
@given(chance=st.randoms(use_true_random=False))
def test_whatever_happens_in_whatever_order_only_what_a_person_approved_is_sent_once(
    kind: str, chance: Random
) -> None:
    game = Game(chance, kind)
    asyncio.run(game.play())
    game.judge()
    game.journal.close()
