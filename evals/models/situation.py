"""What a model knows when it is asked, what it may say, and a chat model around such a step.

A model is a function of the history, a seed and the bound tools, nothing else. The same history and
seed give the same answer, in any process, so that it can be resumed after a crash and can stand
behind any other program's model interface. Tool results are read from our roster's text, and from
the plain JSON that plain tools answer with.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, InvalidToolCall, ToolCall, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from evals import effects
from evals.chat import Tool, ToolChat, Tools
from hms_active_rooms.moderator.offline import next_step
from hms_active_rooms.moderator.offline.roster import Peer, read_roster
from hms_active_rooms.moderator.offline.turns import (
    CHANGING,
    LIST_PEERS,
    RETRIEVE_ROOM,
    TOOLS,
    Result,
    Turn,
    turns,
)

REMOVE, SEND, END = effects.TOOLS

_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_NEXT: Final = re.compile(r"\bNext: offset=([0-9]+)")
_TOTAL: Final = re.compile(r"^([0-9,]+) in the room\b", re.MULTILINE)
_REFUSED: Final = re.compile(
    r"not executed|nothing was|not done|not approved|reject|refus|denied|declin|expired"
    r"|unknown|time(?:d )?-?out|may have|failed",
    re.IGNORECASE,
)
_PEER_KEYS: Final = ("id", "name", "role", "user_id")


@dataclass(frozen=True)
class Reading:
    """One tool result, read.

    Attributes:
        people: rows of a roster; ids are short where the text has short ones.
        texts: strings that other people wrote, or may have: cells, quoted words, values.
        lines: the text around them, without them.
        total: people in the room, if it says so.
        next_offset: where the next page begins, if there is one.
    """

    people: tuple[Peer, ...] = ()
    texts: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    total: int | None = None
    next_offset: int | None = None


@lru_cache(maxsize=64)
def read(content: str) -> Reading:
    if (value := _json(content)) is not None:
        page = value if isinstance(value, dict) and "peers" in value else {}
        parts = list(_parts(value))
        return Reading(
            tuple(
                Peer(part["id"], part["name"], part["user_id"], part["role"])
                for part in parts
                if isinstance(part, dict)
                and all(isinstance(part.get(key), str) for key in _PEER_KEYS)
            ),
            tuple(part for part in parts if isinstance(part, str)),
            total=page.get("total"),
            next_offset=page.get("next_offset"),
        )
    found: list[Peer] = []
    texts: list[str] = []
    lines: list[str] = []
    for line in content.splitlines():
        if (cells := _cells(line)) is not None:
            identity, name, role, user_id = cells
            found.append(Peer(identity, name, user_id, role))
            texts += [name, role, user_id]
        else:
            texts += [s for s in (_json(q[0]) for q in _QUOTED.finditer(line)) if s]
            lines.append(_QUOTED.sub("", line))
    total, following = _TOTAL.search(content), _NEXT.search(content)
    return Reading(
        tuple(found),
        tuple(texts),
        tuple(lines),
        int(total[1].replace(",", "")) if total else None,
        int(following[1]) if following else None,
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _cells(line: str) -> list[str] | None:
    value = _json(line) if line.startswith('["') else None
    if isinstance(value, list) and len(value) == 4 and all(isinstance(v, str) for v in value):
        return [str(v).removesuffix("…") for v in value]
    return None


def _parts(value: Any) -> Iterator[Any]:
    """A JSON value, and all that is in it, keys included."""
    yield value
    inner = [part for pair in value.items() for part in pair] if isinstance(value, dict) else value
    for part in inner if isinstance(inner, list) else ():
        yield from _parts(part)


def reading_of(result: Result) -> Reading:
    """What a result says; nothing without an answer."""
    return Reading() if result.answer is None else read(str(result.answer.text))


def told(results: Iterable[Result]) -> list[str]:
    """What the tools answered, as a model repeats it to the person."""
    return [str(r.answer.text)[:500] for r in results if r.answer is not None]


def refused(answer: ToolMessage | None) -> bool:
    if answer is None:
        return False
    return answer.status == "error" or bool(_REFUSED.search(str(answer.text)))


@dataclass(frozen=True)
class Proposal:
    """One tool call a model makes. Without an id it gets one that nothing had before."""

    tool: str
    arguments: dict[str, Any]
    id: str | None = None

    @property
    def changes(self) -> bool:
        return self.tool in CHANGING

    @property
    def key(self) -> str:
        """What tells it from other calls; not its id."""
        return f"{self.tool} {json.dumps(self.arguments, sort_keys=True)}"


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


def changing(turn: Turn) -> list[list[Proposal]]:
    made = [[c for c in proposals(message, ids=True) if c.changes] for message in turn.rest]
    return [calls for calls in made if calls]


def _seen(turn: Turn) -> tuple[Peer, ...]:
    found: dict[str, Peer] = {}
    for result in turn.results:
        for person in reading_of(result).people if result.tool == LIST_PEERS else ():
            found.setdefault(person.id, person)
    return tuple(found.values())


Look = tuple[str, Mapping[str, Any], ToolMessage]


def _looks(turn: Turn, people: Iterable[Peer], room_id: str) -> list[Look]:
    """What was read in a turn: the room, and the rosters. Without an artifact (an ungated tool,
    another program in between) they get one rebuilt from their text, all rosters as one."""

    def answers(tool: str) -> list[Look]:
        made = [r for r in turn.results if r.tool == tool]
        return [(tool, r.arguments, r.answer) for r in made if r.answer is not None]

    def last(looks: list[Look]) -> ToolMessage:
        """The last good answer, else the last one."""
        found = [answer for *_, answer in looks]
        return ([answer for answer in found if answer.status != "error"] or found)[-1]

    def rebuilt(looks: list[Look], data: Any) -> list[Look]:
        return [(looks[0][0], {}, last(looks).model_copy(update={"artifact": data}))]

    rooms, rosters = answers(RETRIEVE_ROOM), answers(LIST_PEERS)
    if rooms:
        room = last(rooms)
        kept = isinstance(room.artifact, dict)
        rooms = rebuilt(rooms, room.artifact if kept else _json(str(room.text)))
    readable = all(read_roster(answer.artifact, room_id) for *_, answer in rosters)
    if not readable and last(rosters).status != "error":
        rows = [asdict(person) for person in people]
        total = read(str(last(rosters).text)).total
        page = {"room_id": room_id, "total": len(rows) if total is None else total, "peers": rows}
        rosters = rebuilt(rosters, page)
    return rooms + rosters


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

    @cached_property
    def people(self) -> tuple[Peer, ...]:
        """Everyone on the pages that were read in this turn, in their order, once."""
        return _seen(self.turn)

    @cached_property
    def rounds(self) -> list[list[Proposal]]:
        """The changing calls of this turn, by message, where there are any."""
        return changing(self.turn)

    @cached_property
    def reply(self) -> AIMessage:
        """What the offline model makes of the person's words, and of what was read.

        It gets the turns with what was read, no changes: so a model that does other things too
        can still ask it what the person's sentence comes to.
        """
        history: list[BaseMessage] = []
        for number, turn in enumerate(self.turns):
            history.append(turn.human)
            looks = _looks(turn, _seen(turn), self.room_id)
            ids = [f"read-{number}-{place}" for place in range(len(looks))]
            calls = [
                ToolCall(name=tool, args=dict(args), id=identity, type="tool_call")
                for identity, (tool, args, _) in zip(ids, looks, strict=True)
            ]
            history += [AIMessage("", tool_calls=calls)] if calls else []
            for identity, (_, _, answer) in zip(ids, looks, strict=True):
                history.append(answer.model_copy(update={"tool_call_id": identity}))
            if number < len(self.turns) - 1 and turn.closing is not None:
                history.append(AIMessage(turn.closing))
        return next_step(history, self.room_id, self.tools)

    @property
    def turn_random(self) -> random.Random:
        return random.Random(f"{self.seed}|{len(self.turns)}|{self.said}")

    @property
    def step_random(self) -> random.Random:
        # Not of the last message's text: that holds ids which no seed decides.
        return random.Random(f"{self.seed}|{len(self.messages)}|{self.said}")

    def message(self, move: Move) -> AIMessage:
        """The move as a chat message; calls without an id get one made of the step and place."""

        def fresh(place: int) -> str:
            step = f"{self.seed}|{len(self.messages)}|{self.said}|{self.messages[-1].text}|{place}"
            digest = sha256(step.encode("utf-8", "surrogatepass"))
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
