"""Chat models that are a function of the history, a seed and the bound tools, nothing else.

The same history and seed give the same answer, in any process, so that such a model can
be resumed after a crash and can stand behind any other program's model interface.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, InvalidToolCall, ToolCall
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from evals.chat import Tool, ToolChat, Tools
from hms_active_rooms.gate.actions.end_room import EndRoom
from hms_active_rooms.gate.actions.remove_peers import RemovePeers
from hms_active_rooms.gate.actions.send_message import SendMessage
from hms_active_rooms.moderator.offline.turns import CHANGING, TOOLS, Turn, turns

END, REMOVE, SEND = EndRoom.tool, RemovePeers.tool, SendMessage.tool


@dataclass(frozen=True)
class Proposal:
    """One tool call a model makes. Without an id it gets one that nothing had before."""

    tool: str
    arguments: dict[str, Any]
    id: str | None = None

    @property
    def changes(self) -> bool:
        return self.tool in CHANGING


def proposals(message: BaseMessage, *, ids: bool = False) -> list[Proposal]:
    """The calls of a message; without their ids, unless they are wanted."""
    made = message.tool_calls if isinstance(message, AIMessage) else []
    return [Proposal(call["name"], call["args"], call["id"] if ids else None) for call in made]


@dataclass(frozen=True)
class Move:
    """What a model says: calls, or the text that ends its turn.

    `unreadable` are calls whose arguments are no JSON: (tool, what was written).
    """

    text: str = ""
    calls: tuple[Proposal, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Situation:
    """What a model knows when it is asked: the history, its room, its seed, its tools.

    Attributes:
        others: the tools that are not ours, with what is said of each.
    """

    messages: tuple[BaseMessage, ...]
    room_id: str
    seed: int
    tools: frozenset[str] = TOOLS
    others: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        return turns(self.messages)

    @property
    def turn(self) -> Turn:
        return self.turns[-1]

    @property
    def said(self) -> str:
        return self.turn.said or ""

    @property
    def turn_random(self) -> random.Random:
        return random.Random(f"{self.seed}|{len(self.turns)}|{self.said}")

    @property
    def step_random(self) -> random.Random:
        # Not of the last message's text: that holds ids which no seed decides.
        return random.Random(f"{self.seed}|{len(self.messages)}|{self.said}")

    @property
    def _step(self) -> str:
        last = self.messages[-1].text if self.messages else ""
        return f"{self.seed}|{len(self.messages)}|{self.said}|{last}"

    def message(self, move: Move) -> AIMessage:
        """The move as a chat message; calls without an id get one made of the step and place."""

        def fresh(place: int) -> str:
            digest = sha256(f"{self._step}|{place}".encode("utf-8", "surrogatepass"))
            return f"call_{digest.hexdigest()[:24]}"

        calls = [
            ToolCall(name=c.tool, args=c.arguments, id=c.id or fresh(place), type="tool_call")
            for place, c in enumerate(move.calls)
        ]
        unreadable = [
            InvalidToolCall(
                name=tool,
                args=written,
                id=fresh(len(calls) + place),
                error="not JSON",
                type="invalid_tool_call",
            )
            for place, (tool, written) in enumerate(move.unreadable)
        ]
        return AIMessage(move.text, tool_calls=calls, invalid_tool_calls=unreadable)


Step = Callable[[Situation], Move]


class StatelessModel(ToolChat):
    """A chat model around a step function.

    Without `bind_tools` it has the five tools; with it, those bound.
    """

    step: Step
    room_id: str
    seed: int = 0

    def say(self, messages: list[BaseMessage], tools: Tools | None) -> AIMessage:
        shown = dict(map(_name_and_words, tools or ()))
        here = TOOLS if tools is None else frozenset(shown)
        others = {name: words for name, words in shown.items() if name not in TOOLS}
        situation = Situation(tuple(messages), self.room_id, self.seed, here, others)
        return situation.message(
            self.step(situation) if situation.turns else Move("What shall I do?")
        )


def _name_and_words(tool: Tool) -> tuple[str, str]:
    if isinstance(tool, BaseTool):
        return tool.name, tool.description
    function = convert_to_openai_tool(tool)["function"]
    return function["name"], function.get("description", "")
