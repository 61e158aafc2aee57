"""A message history as turns: what the person said, and what the tools answered to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from hms_active_rooms.gate.actions.end_room import EndRoom
from hms_active_rooms.gate.actions.remove_peers import RemovePeers
from hms_active_rooms.gate.actions.send_message import SendMessage

RETRIEVE_ROOM: Final = "hms-retrieve-active-room"
LIST_PEERS: Final = "hms-list-peers"
CHANGING: Final = frozenset({SendMessage.tool, RemovePeers.tool, EndRoom.tool})
TOOLS: Final = CHANGING | {RETRIEVE_ROOM, LIST_PEERS}

_ROOM_LINE: Final = re.compile(r"Room: ([0-9a-f]{24})")


@dataclass(frozen=True)
class Result:
    """One tool call, and its answer if there is one."""

    tool: str
    arguments: Mapping[str, Any]
    answer: ToolMessage | None

    @property
    def failed(self) -> bool:
        """Whether the tool says it failed."""
        return self.answer is not None and self.answer.status == "error"


@dataclass(frozen=True)
class Turn:
    """A message of the person, and everything up to their next one."""

    human: HumanMessage
    rest: tuple[BaseMessage, ...]

    @property
    def said(self) -> str | None:
        """The person's text; None when the message holds something that is not text."""
        content = self.human.content
        texts = [
            block if isinstance(block, str) else block.get("type") == "text" and block.get("text")
            for block in ([content] if isinstance(content, str) else content)
        ]
        known = [text for text in texts if isinstance(text, str)]
        # A line between blocks keeps two texts from being read as one sentence.
        return "\n".join(filter(None, known)) if len(known) == len(texts) else None

    @property
    def results(self) -> tuple[Result, ...]:
        """The calls of this turn, in their order, with their answers."""
        answers = {m.tool_call_id: m for m in self.rest if isinstance(m, ToolMessage)}
        return tuple(
            Result(call["name"], call["args"], answers.get(call["id"] or ""))
            for message in self.rest
            if isinstance(message, AIMessage)
            for call in message.tool_calls
        )

    @property
    def changed(self) -> tuple[str, str] | None:
        """The tool of the last change of this turn, and the state it got."""
        done = [result for result in self.results if result.tool in CHANGING]
        if not done:
            return None
        artifact = done[-1].answer.artifact if done[-1].answer else None
        told = artifact.get("state") if isinstance(artifact, dict) else None
        return done[-1].tool, str(told or ("failed" if done[-1].failed else "done"))

    @property
    def rounds(self) -> int:
        """Model messages of this turn that called tools."""
        return sum(isinstance(m, AIMessage) and bool(m.tool_calls) for m in self.rest)

    @property
    def closing(self) -> str | None:
        """The last text of the model in this turn, if it called nothing with it."""
        spoken = [m for m in self.rest if isinstance(m, AIMessage)]
        return str(spoken[-1].text) if spoken and not spoken[-1].tool_calls else None


def turns(messages: Sequence[BaseMessage]) -> tuple[Turn, ...]:
    """The history, cut at each message of the person. What stands before the first is left out."""
    starts = [i for i, message in enumerate(messages) if isinstance(message, HumanMessage)]
    found = []
    for start, end in pairwise([*starts, len(messages)]):
        human = messages[start]
        assert isinstance(human, HumanMessage)
        found.append(Turn(human, tuple(messages[start + 1 : end])))
    return tuple(found)


def room_of_system(messages: Sequence[BaseMessage]) -> str | None:
    """The room named by a line "Room: <id>" of the system messages; None if there are two."""
    rooms = {
        match[1]
        for message in messages
        if isinstance(message, SystemMessage)
        for line in str(message.text).splitlines()
        if (match := _ROOM_LINE.fullmatch(line.strip(" ")))
    }
    return rooms.pop() if len(rooms) == 1 else None
