"""What a model reads in tool results: people, strings, and what the offline model needs of them.

Takes our roster's text, and the plain JSON that plain tools answer with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage

from evals.models.stateless import Situation
from hms_active_rooms.moderator.offline.roster import Peer, read_roster
from hms_active_rooms.moderator.offline.turns import LIST_PEERS, RETRIEVE_ROOM, Result, Turn

_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_NEXT: Final = re.compile(r"\bNext: offset=([0-9]+)")
_TOTAL: Final = re.compile(r"^([0-9,]+) in the room\b", re.MULTILINE)
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
    """Read the text of a tool result."""
    if (value := _json(content)) is not None:
        page = value if isinstance(value, dict) and "peers" in value else {}
        return Reading(
            tuple(_people_in(value)),
            tuple(_strings_in(value)),
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
    """The four cells of a roster's row."""
    value = _json(line) if line.startswith('["') else None
    if isinstance(value, list) and len(value) == 4 and all(isinstance(v, str) for v in value):
        return [str(v).removesuffix("…") for v in value]
    return None


def _people_in(value: Any) -> Iterator[Peer]:
    if isinstance(value, list):
        for item in value:
            yield from _people_in(item)
    elif isinstance(value, dict):
        if all(isinstance(value.get(key), str) for key in _PEER_KEYS):
            yield Peer(value["id"], value["name"], value["user_id"], value["role"])
        else:
            for item in value.values():
                yield from _people_in(item)


def _strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings_in(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings_in(item)


def reading_of(result: Result) -> Reading:
    """What a result says; nothing without an answer."""
    return Reading() if result.answer is None else read(str(result.answer.text))


def people_seen(turn: Turn) -> tuple[Peer, ...]:
    """Everyone on the pages that were read in a turn, in their order, once."""
    found: dict[str, Peer] = {}
    for result in turn.results:
        if result.tool == LIST_PEERS:
            for person in reading_of(result).people:
                found.setdefault(person.id, person)
    return tuple(found.values())


def as_read(situation: Situation) -> list[BaseMessage]:
    """The history as the offline model needs it: its turns with what was read, no changes.

    A roster without an artifact (an ungated tool, another program in between) gets one
    rebuilt from its text. So a model that does other things too can still ask the offline
    model what the person's sentence comes to.
    """
    history: list[BaseMessage] = []
    for number, turn in enumerate(situation.turns):
        history.append(turn.human)
        looks = [*_room(turn), *_rosters(turn, situation.room_id)]
        calls = [
            ToolCall(name=tool, args=dict(args), id=f"read-{number}-{place}", type="tool_call")
            for place, (tool, args, _) in enumerate(looks)
        ]
        if calls:
            history.append(AIMessage("", tool_calls=calls))
        for call, (_, _, answer) in zip(calls, looks, strict=True):
            history.append(answer.model_copy(update={"tool_call_id": call["id"]}))
        if number < len(situation.turns) - 1 and turn.closing is not None:
            history.append(AIMessage(turn.closing))
    return history


Look = tuple[str, Mapping[str, Any], ToolMessage]


def _last(turn: Turn, tool: str) -> ToolMessage | None:
    """The last good answer of a tool in a turn, else the last one."""
    answers = [r.answer for r in turn.results if r.tool == tool and r.answer is not None]
    good = [answer for answer in answers if answer.status != "error"]
    return next(reversed(good or answers), None)


def _room(turn: Turn) -> list[Look]:
    answer = _last(turn, RETRIEVE_ROOM)
    if answer is None:
        return []
    if not isinstance(answer.artifact, dict):
        answer = answer.model_copy(update={"artifact": _json(str(answer.text))})
    return [(RETRIEVE_ROOM, {}, answer)]


def _rosters(turn: Turn, room_id: str) -> list[Look]:
    """The rosters as they were read; if one has no artifact, all of them as one."""
    answer = _last(turn, LIST_PEERS)
    if answer is None:
        return []
    read: list[Look] = [
        (LIST_PEERS, result.arguments, result.answer)
        for result in turn.results
        if result.tool == LIST_PEERS and result.answer is not None
    ]
    if answer.status == "error" or all(read_roster(a.artifact, room_id) for _, _, a in read):
        return read
    artifact = rebuilt(people_seen(turn), read_total(answer), room_id)
    return [(LIST_PEERS, {}, answer.model_copy(update={"artifact": artifact}))]


def read_total(answer: ToolMessage) -> int | None:
    """People in the room, if the answer says so."""
    return read(str(answer.text)).total


def rebuilt(people: Sequence[Peer], total: int | None, room_id: str) -> dict[str, Any]:
    """A roster's artifact from the rows that were read; `total` tells whether they are all."""
    rows = [{"id": p.id, "name": p.name, "user_id": p.user_id, "role": p.role} for p in people]
    return {"room_id": room_id, "total": len(rows) if total is None else total, "peers": rows}
