"""A moderator that lives long: what a turn costs and what stays behind do not grow with its age."""

from __future__ import annotations

import gc
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

from hms_active_rooms import ActiveRoomsToolkit, Policy
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.moderator import build_moderator
from scripted import ScriptedModel, calls, text
from stand_in import ROOM, Clock, StandInRoom, peer

CONFIG: Any = {"configurable": {"thread_id": "t", "approver": "ada"}}
WINDOW = 10
KEPT_OBJECTS = 300
"""Of Python, that caches may keep between two windows."""


class Life:
    """Turn after turn: the room is read, a message proposed, and approved or rejected."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.clock = Clock()
        self.turns = self.commits = 0
        self.room = StandInRoom([peer(n) for n in range(200)])
        self.seen: list[BaseMessage] = []
        kit = ActiveRoomsToolkit(
            self.room,  # type: ignore[arg-type]
            Policy(rooms=(ROOM,), verify_s=0),
            journal=Journal(":memory:", clock=self.clock, on_commit=self.commit),
        )
        saver = SqliteSaver(sqlite3.connect(file, check_same_thread=False))
        model = ScriptedModel(script=self.script)
        self.graph = build_moderator(model, kit, room_id=ROOM, checkpointer=saver)

    def commit(self, when: str) -> None:
        self.commits += when == "after"

    def script(self, history: list[BaseMessage]) -> AIMessage:
        self.seen = history
        results = 0
        for message in reversed(history):
            if isinstance(message, HumanMessage):
                break
            results += isinstance(message, ToolMessage)
        send = ("hms-send-message", {"room_id": ROOM, "message": f"hello {self.turns:04}"})
        said = [calls(("hms-list-peers", {"room_id": ROOM})), calls(send), text("done")]
        return said[results]

    def turn(self) -> None:
        """One, of which every second is rejected."""
        self.turns += 1
        self.clock.now = self.clock.now.replace(minute=self.turns % 60, hour=self.turns // 60 % 24)
        out = self.graph.invoke({"messages": [HumanMessage(f"say {self.turns:04}")]}, CONFIG)
        [asked] = out["__interrupt__"]
        [request] = asked.value["action_requests"]
        yes = {"type": "approve", "digest": request["digest"]}
        answer = yes if self.turns % 2 else {"type": "reject", "message": "no"}
        self.graph.invoke(Command(resume={asked.id: {"decisions": [answer]}}), CONFIG)

    def window(self) -> dict[str, int]:
        """What some turns cost, and what there is after them."""
        written, commits, posts = self.written(), self.commits, len(self.room.posts)
        for _ in range(WINDOW):
            self.turn()
        gc.collect()
        return {
            "bytes of checkpoints": self.written() - written,
            "transactions": self.commits - commits,
            "requests": len(self.room.posts) - posts,
            "messages for the model": len(self.seen),
            "characters for the model": sum(len(m.text) for m in self.seen),
            "messages in the thread": len(self.graph.get_state(CONFIG).values["messages"]),
            "objects": len(gc.get_objects()) - len(self.room.posts),  # the room keeps its requests
        }

    def written(self) -> int:
        """All that the checkpoints hold."""
        with sqlite3.connect(self.file) as db:
            tables = {
                "checkpoints": "length(checkpoint) + length(metadata)",
                "writes": "length(value)",
            }
            return sum(
                db.execute(f"select coalesce(sum({size}), 0) from {table}").fetchone()[0]
                for table, size in tables.items()
            )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("turns", [60, pytest.param(1000, marks=pytest.mark.nightly)])
def test_a_turn_of_a_long_life_costs_no_more_than_an_early_one_and_leaves_no_more_behind(
    turns: int, tmp_path: Path
) -> None:
    life = Life(tmp_path / "checkpoints.sqlite")
    for _ in range(30):  # until the thread has as many turns as it keeps, and caches are warm
        life.turn()
    early = life.window()
    while life.turns < turns - WINDOW:
        life.turn()
    late = life.window()
    kept = early.pop("objects") + KEPT_OBJECTS, late.pop("objects")
    size = "bytes of checkpoints"
    assert late.pop(size) == pytest.approx(early.pop(size), rel=0.01)
    assert late == early
    assert kept[1] <= kept[0]
    assert len(life.room.posts) == turns // 2
