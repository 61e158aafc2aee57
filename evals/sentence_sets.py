"""The sets of labelled sentences, and which of them the offline model gets right.

- `independent`: `sentences.tsv`, of three shows, written from the README alone, before looking at
  the grammar.
- the other tables: written by people who had not seen the grammar; `plain.tsv` tells the format.
- `never`: sentences that must not become a change, whatever else comes of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from evals.sentences import CHANGING, CLASSROOM, Person, calls, changes, play, roster, said

_HERE: Final = Path(__file__).parent
INDEPENDENT: Final = _HERE / "sentences.tsv"
_SETS: Final = _HERE.parent / "tests" / "moderator" / "offline"
NEVER: Final = _SETS / "never.yaml"
_NAMES: Final = "plain near blind second third fourth fifth sixth seventh eighth ninth"
TABLES: Final = {name: _SETS / f"{name}.tsv" for name in _NAMES.split()}

_Call = tuple[str, dict[str, Any]]


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


def never() -> tuple[Graded, ...]:
    groups: dict[str, list[str]] = yaml.safe_load(NEVER.read_text(encoding="utf-8"))
    return tuple(
        Graded(say, kind, "no change", "a change" if changed else "no change", not changed, changed)
        for kind, sentences in groups.items()
        for say in sentences
        for changed in [bool(changes(play(say, people=CLASSROOM)))]
    )
