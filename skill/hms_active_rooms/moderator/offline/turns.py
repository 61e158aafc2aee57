"""Splits a message history into turns: what the person said, and what model and tools answered."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from hms_active_rooms.gate.actions import CALLS
from hms_active_rooms.gate.view import NOT_AGAIN
from hms_active_rooms.moderator.offline.words import say
from hms_active_rooms.untrusted import escaped

RETRIEVE_ROOM: Final = "hms-retrieve-active-room"
LIST_PEERS: Final = "hms-list-peers"
CHANGING: Final = frozenset(CALLS)
TOOLS: Final = CHANGING | {RETRIEVE_ROOM, LIST_PEERS}
_MAX_LINES: Final = 8
_MAX_CHARS: Final = 2000


@dataclass(frozen=True)
class Result:
    """One tool call of the model, and the tool's `answer`: None if there is none yet."""

    tool: str
    arguments: Mapping[str, Any]
    answer: ToolMessage | None

    @property
    def failed(self) -> bool:
        return self.answer is not None and self.answer.status == "error"

    @property
    def state(self) -> str:
        """The state of the call's action, such as "done" or "rejected". A call without an action is "done"
        or "failed"."""
        artifact = self.answer and self.answer.artifact
        told = artifact.get("state") if isinstance(artifact, dict) else None
        return str(told or ("failed" if self.failed else "done"))

    @property
    def told(self) -> str:
        """The outcome of the call in a few lines, safe to show in a terminal."""
        if self.answer is None:
            return say("no_answer")
        told = str(self.answer.text).removesuffix(NOT_AGAIN)[:_MAX_CHARS].splitlines()
        lines = [re.sub(r'[^"\\`]+', lambda match: escaped(match[0]), one) for one in told]
        text = "\n".join(lines[:_MAX_LINES]) or ("" if self.failed else say("no_outcome"))
        refused = self.state in ("rejected", "expired", "refused")
        refused = refused and "Nothing was executed." not in text
        return f"Nothing was done.\n{text}" if refused else text


@dataclass(frozen=True)
class Turn:
    """A message of the person (`human`), and all messages up to the person's next one (`rest`)."""

    human: HumanMessage
    rest: tuple[BaseMessage, ...]

    @property
    def said(self) -> str | None:
        """The person's text; None if a part of the message is not text."""
        blocks = self.human.content_blocks
        texts = [block["text"] for block in blocks if block["type"] == "text"]
        # A line between blocks keeps two texts from being read as one sentence.
        return "\n".join(filter(None, texts)) if len(texts) == len(blocks) else None

    @property
    def spoken(self) -> list[AIMessage]:
        return [message for message in self.rest if isinstance(message, AIMessage)]

    @property
    def results(self) -> tuple[Result, ...]:
        answers = {m.tool_call_id: m for m in self.rest if isinstance(m, ToolMessage)}
        calls = [call for message in self.spoken for call in message.tool_calls]
        return tuple(Result(c["name"], c["args"], answers.get(c["id"] or "")) for c in calls)

    @property
    def changes(self) -> tuple[Result, ...]:
        """Those of `results` that are calls of a tool which can change the room."""
        return tuple(result for result in self.results if result.tool in CHANGING)

    @property
    def rounds(self) -> int:
        """How many messages of the model in this turn called a tool."""
        return sum(bool(message.tool_calls) for message in self.spoken)

    @property
    def closing(self) -> str | None:
        """The text of the model's last message in this turn. None if it calls a tool, or there is none."""
        last = self.spoken[-1:]
        return str(last[0].text) if last and not last[0].tool_calls else None


def turns(messages: Sequence[BaseMessage]) -> tuple[Turn, ...]:
    """Split the history into turns. Each begins with a message of the person. Messages before the
    person's first one are dropped."""
    starts = [i for i, message in enumerate(messages) if isinstance(message, HumanMessage)]
    cuts = [messages[start:end] for start, end in pairwise([*starts, len(messages)])]
    return tuple(Turn(cut[0], tuple(cut[1:])) for cut in cuts if isinstance(cut[0], HumanMessage))


def room_of_system(messages: Sequence[BaseMessage]) -> str:
    """Return the room id that the system messages name. Return "" if they name none or several."""
    told = "\n".join(str(m.text) for m in messages if isinstance(m, SystemMessage))
    rooms = set(re.findall(r"(?m)^ *Room: ([0-9a-f]{24}) *$", told))
    return rooms.pop() if len(rooms) == 1 else ""
