"""The sets of labelled sentences, and which of them the offline model gets right.

- `independent`: `sentences.yaml`, written from the README alone, before looking at the grammar.
- `table`: lines of a table, written by people who had not seen the grammar; `plain.tsv` tells
  the format.
- `never`: sentences that must not become a change, whatever else comes of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from evals.sentences import CHANGING, CLASSROOM, Person, calls, changes, play, roster, said, whom

_HERE: Final = Path(__file__).parent
INDEPENDENT: Final = _HERE / "sentences.yaml"
_SETS: Final = _HERE.parent / "tests" / "moderator" / "offline"
NEVER: Final = _SETS / "never.yaml"
TABLES: Final = {
    name: _SETS / f"{name}.tsv"
    for name in (
        "plain",
        "near",
        "blind",
        "second",
        "third",
        "fourth",
        "fifth",
        "sixth",
        "seventh",
        "eighth",
        "ninth",
    )
}


@dataclass(frozen=True)
class Graded:
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


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Should(_Part):
    """One thing that should happen; exactly one of the first six fields."""

    look: Literal["people", "room"] | None = None
    remove: str | None = None
    remove_role: str | None = None
    tell: str | None = None
    tell_role: str | None = None
    end: Literal["open", "locked"] | None = None
    only: str = ""
    saying: str = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = self.model_dump(exclude={"only", "saying"}, exclude_none=True)
        if len(given) != 1 or (self.only and not self.look):
            raise ValueError("give one thing; `only` is for looking")
        if bool(self.saying) != (self.tell is not None or self.tell_role is not None):
            raise ValueError("messages, and only they, have `saying`")
        return self

    def change(self) -> tuple[str, str] | None:
        """Kind and whom, as in `_proposed`; None for a look."""
        if self.look:
            return None
        if self.end:
            return "end", "locked" if self.end == "locked" else ""
        kind = "remove" if self.remove or self.remove_role else "send"
        role = self.remove_role or self.tell_role
        if role:
            return kind, role if role == "everyone" else f"role {role}"
        return kind, self.remove or self.tell or ""


class Sentence(_Part):
    """A sentence and what should come of it, in order."""

    say: str
    should: tuple[Should, ...]
    why: str = ""

    @property
    def kind(self) -> str:
        if not self.should:
            return "must change nothing"
        if len(self.should) > 1:
            return "several orders at once"
        [only] = self.should
        change = only.change()
        return {None: "look", "send": "message", "remove": "removal", "end": "end"}[
            change and change[0]
        ]


class Show(_Part):
    """A room with its people by role, and what its moderator says."""

    name: str
    people: dict[str, tuple[str, ...]]
    sentences: tuple[Sentence, ...]

    def roster(self) -> tuple[Person, ...]:
        pairs = [(role, name) for role, names in self.people.items() for name in names]
        return tuple((name, role, f"user-{place}") for place, (role, name) in enumerate(pairs))


def shows() -> tuple[Show, ...]:
    data: Any = yaml.safe_load(INDEPENDENT.read_text(encoding="utf-8"))
    return tuple(Show.model_validate(show) for show in data["shows"])


@cache
def independent() -> tuple[Graded, ...]:
    return tuple(grade(sentence, show.roster()) for show in shows() for sentence in show.sentences)


def grade(sentence: Sentence, people: Sequence[Person]) -> Graded:
    history = play(sentence.say, people=people)
    proposed = _proposed(changes(history), people)
    wanted = [should for should in sentence.should if should.change()]
    fits = [_fits(got, should) for got, should in zip(proposed, wanted, strict=False)]
    looked = [tool for tool, _ in calls(history)]
    looks = [should for should in sentence.should if should.look]
    return Graded(
        say=sentence.say,
        kind=sentence.kind,
        wanted="; ".join(_told(should) for should in sentence.should) or "no change",
        got="; ".join(f"{kind} {to}".strip() for kind, to, _ in proposed) or _quiet(looked),
        right=len(proposed) == len(wanted)
        and all(fits)
        and all(_seen(should, looked, said(history), people) for should in looks),
        wrong_change=any(not any(_fits(got, should) for should in wanted) for got in proposed),
    )


def _proposed(
    changed: Sequence[tuple[str, dict[str, Any]]], people: Sequence[Person]
) -> list[tuple[str, str, str]]:
    found = []
    for tool, arguments in changed:
        if tool == "hms-end-active-room":
            found.append(("end", "locked" if arguments.get("lock") else "", ""))
        elif tool == "hms-send-message":
            found.append(("send", whom(arguments, people), str(arguments["message"])))
        else:
            found.append(("remove", whom(arguments, people), ""))
    return found


def _fits(got: tuple[str, str, str], should: Should) -> bool:
    kind, to, message = got
    return (kind, to) == should.change() and should.saying.lower() in message.lower()


def _told(should: Should) -> str:
    change = should.change()
    return f"look at the {should.look}" if change is None else " ".join(change).strip()


def _quiet(looked: Sequence[str]) -> str:
    return "only looked" if looked else "nothing"


def _seen(should: Should, looked: Sequence[str], reply: str, people: Sequence[Person]) -> bool:
    """Whether it read the right thing and the reply holds the answer: the names, or how many."""
    if should.look == "room":
        return "hms-retrieve-active-room" in looked
    names = [name for name, role, _ in people if should.only in ("", name, role)]
    named = all(name in reply for name in names)
    counted = re.search(rf"\b{len(names)} (?:person|people)\b", reply) is not None
    return "hms-list-peers" in looked and (named or counted)


@cache
def table(path: Path) -> tuple[Graded, ...]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(grade_line(line) for line in lines if line and not line.startswith("# "))


def grade_line(line: str) -> Graded:
    """Play one line of a table and compare its last turn: tools, arguments and reply."""
    say, wanted, fragment, _, kind = (*line.split("\t"), "", "", "", "")[:5]
    history = play(*(part.strip() for part in say.split(" // ")))
    made, changed = calls(history), changes(history)
    reply = said(history).lower()
    right = any(
        _as_wanted(way.strip(), made, changed, fragment.strip().lower(), reply)
        for way in wanted.split("|")
    )
    got = " + ".join(tool for tool, _ in changed) or _quiet([tool for tool, _ in made])
    return Graded(say, kind.strip(), wanted, got, right, bool(changed) and not right)


def _as_wanted(
    way: str,
    made: Sequence[tuple[str, dict[str, Any]]],
    changed: Sequence[tuple[str, dict[str, Any]]],
    fragment: str,
    reply: str,
) -> bool:
    told = [part.removeprefix("reply:") for part in fragment.split(" & ") if "reply:" in part]
    if not all(part in reply for part in told):
        return False
    if way == "none":
        return not changed
    tools = way.split(" + ")
    if tools[0] in CHANGING:
        held = [part for part in fragment.split(" & ") if part and "reply:" not in part]
        fits = all(
            (part.removeprefix("!") in _text_of(arguments)) != part.startswith("!")
            for _, arguments in changed
            for part in held
        )
        return [tool for tool, _ in changed] == tools and fits
    # What a look was narrowed by may stand in the call or in the reply.
    seen = f"{made} {reply}".lower()
    return (
        not changed and tools[0] in [tool for tool, _ in made] and (bool(told) or fragment in seen)
    )


def _text_of(arguments: dict[str, Any]) -> str:
    row: dict[str, Any] = next(
        (r for r in roster()["peers"] if r["id"] == arguments.get("peer_id")), {}
    )
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
