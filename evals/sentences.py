"""Sentences played to the offline model, the labelled sets of them, and which it gets right.

The tools are not run: their answers are what they would say of a roster. So this measures what
the model makes of a sentence, and nothing else.

- `independent`: `sentences.tsv`, of three shows, written from the README alone, before looking at
  the grammar.
- the other tables: written by people who had not seen the grammar; `plain.tsv` tells the format.
- `attacks`: sentences near to orders; each is refused, asked back, or done exactly as its line says.
- `never`: sentences that must not become a change, whatever else comes of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import yaml
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from hms_active_rooms.moderator.offline import next_step
from hms_active_rooms.moderator.offline.turns import CHANGING
from hms_active_rooms.sim.scenes import load_scene

ROOM: Final = "631a0f990e6ffae22efa610c"
SESSION: Final = "633c22b420636a0cb361dea0"

_HERE: Final = Path(__file__).parent
INDEPENDENT: Final = _HERE / "sentences.tsv"
_SETS: Final = _HERE.parent / "tests" / "moderator" / "offline"
NEVER: Final = _SETS / "never.yaml"
_ORDINALS: Final = (
    "second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth twenty-first "
    "twenty-second twenty-third twenty-fourth twenty-fifth twenty-sixth "
    "twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first thirty-second thirty-third "
    "thirty-fourth thirty-fifth thirty-sixth thirty-seventh thirty-eighth thirty-ninth "
    "fortieth forty-first forty-second forty-third forty-fourth forty-fifth forty-sixth "
    "forty-seventh forty-eighth forty-ninth fiftieth fifty-first"
)
_NAMES: Final = ("plain", "near", "attacks", "blind", *_ORDINALS.split())
TABLES: Final = {name: _SETS / f"{name}.tsv" for name in _NAMES}

Person = tuple[str, str, str]
"""Name, role and user id."""

CLASSROOM: Final[tuple[Person, ...]] = tuple(
    (person.name, person.role, person.user_id) for person in load_scene("classroom").people
)

_Call = tuple[str, dict[str, Any]]


def peer(place: int, name: str, role: str, user_id: str, metadata: str = "") -> dict[str, Any]:
    return {
        "id": str(uuid5(NAMESPACE_URL, f"{place}")),
        "name": name,
        "user_id": user_id,
        "role": role,
        "metadata": metadata,
        "joined_at": "2026-11-24T10:00:00Z",
    }


def roster(people: Sequence[Person] = CLASSROOM, room: str = ROOM) -> dict[str, Any]:
    peers = [peer(place, *person) for place, person in enumerate(people)]
    return {
        "room_id": room,
        "total": len(peers),
        "matching": len(peers),
        "by_role": dict(Counter(row["role"] for row in peers)),
        "offset": 0,
        "left_out": 0,
        "peers": peers,
    }


def peer_id(name: str, people: Sequence[Person] = CLASSROOM) -> str:
    found: str = next(row["id"] for row in roster(people)["peers"] if row["name"] == name)
    return found


def answer(call: Any, people: Sequence[Person] = CLASSROOM) -> ToolMessage:
    room = call["args"]["room_id"]
    artifact: dict[str, Any]
    match call["name"]:
        case "hms-list-peers":
            text, artifact = "[...]", roster(people, room)
        case "hms-retrieve-active-room":
            session = {"id": SESSION, "created_at": "2026-11-24T09:30:00Z"}
            artifact = {"id": room, "name": "Algebra", "session": session, "total": len(people)}
            text = "..."
        case _:
            text, artifact = "Done. (action 7)", {"state": "done", "action_id": "7"}
    return ToolMessage(text, tool_call_id=call["id"], name=call["name"], artifact=artifact)


def play(
    *sentences: str,
    people: Sequence[Person] = CLASSROOM,
    room_id: str | None = ROOM,
    before: Sequence[BaseMessage] = (),
) -> list[BaseMessage]:
    history = list(before)
    for place, sentence in enumerate(sentences):
        history.append(HumanMessage(sentence, id=f"h{len(before)}-{place}"))
        for _ in range(4):
            step = next_step(history, room_id)
            history.append(step)
            if not step.tool_calls:
                break
            history += [answer(call, people) for call in step.tool_calls]
        else:
            raise AssertionError("the turn did not end")
    return history


def calls(history: Sequence[BaseMessage]) -> list[_Call]:
    last = max(i for i, m in enumerate(history) if isinstance(m, HumanMessage))
    return [
        (call["name"], {k: v for k, v in call["args"].items() if k != "room_id"})
        for message in history[last:]
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    ]


def changes(history: Sequence[BaseMessage]) -> list[_Call]:
    return [call for call in calls(history) if call[0] in CHANGING]


def said(history: Sequence[BaseMessage]) -> str:
    return str(history[-1].text)


class Graded(NamedTuple):
    """What one sentence should come to and what it did.

    Attributes:
        kind: what sort of sentence it is.
        right: all that should happen was proposed, and nothing else.
        wrong_change: a change was proposed that should not be.
    """

    say: str
    kind: str
    wanted: str
    got: str
    right: bool
    wrong_change: bool


def shows(path: Path) -> Iterator[tuple[Sequence[Person], list[str]]]:
    """The lines of a table by the people they are said of: the simulator's classroom, or those named."""
    people, lines = CLASSROOM, list[str]()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# people of "):
            yield people, lines
            rows = (row.split(" ", 2) for row in line.split(": ", 1)[1].split("; "))
            people, lines = tuple((name, role, user) for user, role, name in rows), []
        elif line and not line.startswith("# "):
            lines.append(line)
    yield people, lines


@cache
def table(path: Path) -> tuple[Graded, ...]:
    return tuple(grade(line, people) for people, lines in shows(path) for line in lines)


def grade(line: str, people: Sequence[Person] = CLASSROOM) -> Graded:
    """Play one line of a table and compare its last turn: tools, arguments and reply."""
    say, wanted, fragments, _, kind = (*line.split("\t"), "", "", "", "")[:5]
    history = play(*(part.strip() for part in say.split(" // ")), people=people)
    made, changed = calls(history), changes(history)
    right = any(
        _as_wanted(*way, made, changed, said(history).lower(), people)
        for way in product(wanted.split("|"), fragments.lower().split(" | "))
    )
    quiet = "only looked" if made else "nothing"
    got = " + ".join(tool for tool, _ in changed) or quiet
    return Graded(say, kind.strip(), wanted, got, right, bool(changed) and not right)


def _as_wanted(
    way: str,
    fragments: str,
    made: Sequence[_Call],
    changed: Sequence[_Call],
    reply: str,
    people: Sequence[Person],
) -> bool:
    parts = [
        [part.strip() for part in call.split(" & ") if part.strip()]
        for call in fragments.split(" + ")
    ]
    told = [part.removeprefix("reply:") for call in parts for part in call if "reply:" in part]
    held = [[part for part in call if "reply:" not in part] for call in parts]
    if not all(part in reply for part in told):
        return False
    tools = way.strip().split(" + ")
    if tools == ["none"]:
        return not changed
    if tools[0] in CHANGING:
        # One list of fragments is for each of the calls.
        wanted = held * len(tools) if len(held) == 1 else held
        return [tool for tool, _ in changed] == tools and all(
            (part.removeprefix("!") in text) != part.startswith("!")
            for (_, arguments), each in zip(changed, wanted, strict=True)
            for text in [_text_of(arguments, people)]
            for part in each
        )
    # What a look was narrowed by may stand in the call or in the reply.
    seen = f"{made} {reply}".lower()
    looked = tools[0] in [tool for tool, _ in made]
    return not changed and looked and (bool(told) or fragments.strip() in seen)


def _text_of(arguments: dict[str, Any], people: Sequence[Person]) -> str:
    rows = roster(people)["peers"]
    row: dict[str, Any] = next((r for r in rows if r["id"] == arguments.get("peer_id")), {})
    known = " ".join(str(row.get(key, "")) for key in ("id", "name", "user_id", "role"))
    return f"{json.dumps(arguments, ensure_ascii=False)} {known}".lower()


@cache
def never(path: Path = NEVER) -> tuple[Graded, ...]:
    groups: dict[str, list[str]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(
        Graded(say, kind, "no change", "a change" if changed else "no change", not changed, changed)
        for kind, sentences in groups.items()
        for say in sentences
        for changed in [bool(changes(play(say, people=CLASSROOM)))]
    )
