"""A message history as turns: what the person said, and what the tools answered to it."""

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
    """One tool call, and its answer if there is one."""

    tool: str
    arguments: Mapping[str, Any]
    answer: ToolMessage | None

    @property
    def failed(self) -> bool:
        return self.answer is not None and self.answer.status == "error"

    @property
    def state(self) -> str:
        """The state of a change as the gate tells it. If it tells none: whether the tool failed."""
        artifact = self.answer and self.answer.artifact
        told = artifact.get("state") if isinstance(artifact, dict) else None
        return str(told or ("failed" if self.failed else "done"))

    @property
    def told(self) -> str:
        """What came of the call, in the tool's own words, and whether nothing was done.

        What our tools wrote comes out unchanged, but bounded, with nothing that acts in a terminal,
        and without what is for a model only.
        """
        if self.answer is None:
            return say("no_answer")
        told = str(self.answer.text).removesuffix(NOT_AGAIN)[:_MAX_CHARS].splitlines()
        lines = [re.sub(r'[^"\\]+', lambda match: escaped(match[0]), one) for one in told]
        text = "\n".join(lines[:_MAX_LINES]) or ("" if self.failed else say("no_outcome"))
        refused = not self.failed and self.state in ("rejected", "expired", "refused")
        return f"Nothing was done.\n{text}" if refused else text


@dataclass(frozen=True)
class Turn:
    """A message of the person, and everything up to their next one."""

    human: HumanMessage
    rest: tuple[BaseMessage, ...]

    @property
    def said(self) -> str | None:
        """The person's text; None when the message holds something that is not text."""
        blocks = self.human.content_blocks
        texts = [block["text"] for block in blocks if block["type"] == "text"]
        # A line between blocks keeps two texts from being read as one sentence.
        return "\n".join(filter(None, texts)) if len(texts) == len(blocks) else None

    @property
    def spoken(self) -> list[AIMessage]:
        return [message for message in self.rest if isinstance(message, AIMessage)]

    @property
    def results(self) -> tuple[Result, ...]:
        """The calls of this turn, in their order, with their answers."""
        answers = {m.tool_call_id: m for m in self.rest if isinstance(m, ToolMessage)}
        calls = [call for message in self.spoken for call in message.tool_calls]
        return tuple(Result(c["name"], c["args"], answers.get(c["id"] or "")) for c in calls)

    @property
    def changes(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.tool in CHANGING)

    @property
    def rounds(self) -> int:
        """Model messages of this turn that called tools."""
        return sum(bool(message.tool_calls) for message in self.spoken)

    @property
    def closing(self) -> str | None:
        """The last text of the model in this turn, if it called nothing with it."""
        last = self.spoken[-1:]
        return str(last[0].text) if last and not last[0].tool_calls else None


def turns(messages: Sequence[BaseMessage]) -> tuple[Turn, ...]:
    """The history, cut at each message of the person. What stands before the first is left out."""
    starts = [i for i, message in enumerate(messages) if isinstance(message, HumanMessage)]
    cuts = [messages[start:end] for start, end in pairwise([*starts, len(messages)])]
    return tuple(Turn(cut[0], tuple(cut[1:])) for cut in cuts if isinstance(cut[0], HumanMessage))


def room_of_system(messages: Sequence[BaseMessage]) -> str:
    """The room that system messages name in a line "Room: <id>". Empty if they name none or two."""
    told = "\n".join(str(m.text) for m in messages if isinstance(m, SystemMessage))
    rooms = set(re.findall(r"(?m)^ *Room: ([0-9a-f]{24}) *$", told))
    return rooms.pop() if len(rooms) == 1 else ""
