"""The people who are asked, and what each answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

PersonName = Literal[
    "reader", "hasty", "tired", "rubber-stamp", "absent", "slow", "confused", "session", "editor"
]

GARBAGE: Final[tuple[Any, ...]] = (
    True,
    "yes",
    "approve ",
    1,
    [],
    {},
    {"decisions": []},
    {"decisions": "approve"},
    {"decisions": [{"type": "approved"}]},
    {"decision": "approve"},
    {"approved": True},
    [{"type": "APPROVE"}],
)
"""Answers that mean nothing in any of the shapes that are asked for."""


@dataclass(frozen=True)
class Yes:
    """Approve what is shown.

    Attributes:
        late: after the deadline.
        session: for what is alike in the rest of the session too, where that can be said.
        edited: in other words, where there are words.
    """

    late: bool = False
    session: bool = False
    edited: bool = False


@dataclass(frozen=True)
class No:
    reason: str = "not what I asked for"


@dataclass(frozen=True)
class Nothing:
    """No answer, ever."""


@dataclass(frozen=True)
class Garbage:
    value: Any


@dataclass(frozen=True)
class NearMiss:
    """What only looks like an answer to this question; `kind` says how it is off."""

    kind: str


Reply = Yes | No | Nothing | Garbage | NearMiss

NEAR_MISSES: Final = (
    "no digest",
    "the digest of another question",
    "something besides",
    "one decision too many",
    "no decision",
    "an action that is not the one asked about",
)
"""Answers in the right shape that are not to this question. Only for questions with a digest:
in LangChain's own shape some of them are a yes."""


Reads = Literal["all", "the first line", "the kind of change", "nothing"]


@dataclass(frozen=True)
class Person:
    """Everybody is somebody who reads, with settings.

    Attributes:
        about: what they do, in words.
        yes: what they say to what they want; None: nothing, to anything.
        reads: what of their first question, of the second, and so on; the last is for all after it.
        first: what they answer before anything else, in this order.
    """

    about: str
    yes: Yes | None = Yes()
    reads: tuple[Reads, ...] = ("all",)
    first: tuple[Literal["garbage", "nearly", "elsewhere"], ...] = ()

    def reading(self, number: int) -> Reads:
        """What they read of this question, counted from 1."""
        return self.reads[min(number, len(self.reads)) - 1]


PEOPLE: Final[dict[PersonName, Person]] = {
    "reader": Person(
        "decides from the words of the question alone, by the rules in evals/reader.py"
    ),
    "hasty": Person("reads the first line", reads=("the first line",)),
    "tired": Person(
        "reads two questions, of the next two the first line, and then the kind of change",
        reads=("all", "all", "the first line", "the first line", "the kind of change"),
    ),
    "rubber-stamp": Person("says yes to everything", reads=("nothing",)),
    "absent": Person("never answers", yes=None),
    "slow": Person("reads, and says yes after the deadline", yes=Yes(late=True)),
    "confused": Person(
        "gives malformed answers first, some of them nearly right, then answers like reader",
        first=("garbage", "nearly", "nearly", "nearly"),
    ),
    "session": Person(
        "like reader, but says yes for the rest of the session", yes=Yes(session=True)
    ),
    "editor": Person(
        "tries to point it at somebody else first, then says yes to it in other words",
        yes=Yes(edited=True),
        first=("elsewhere",),
    ),
}
"""Who can be asked."""


def reply(
    person: PersonName,
    wants: Callable[[], bool],
    asked_before: int,
    rng: random.Random,
    *,
    bound: bool,
) -> Reply:
    """What this person answers; what is nearly an answer only where answers are bound to a question."""
    who = PEOPLE[person]
    if who.yes is None:
        return Nothing()
    match who.first[asked_before : asked_before + 1]:
        case ("garbage",):
            return Garbage(rng.choice(GARBAGE))
        case ("nearly",) if bound:
            return NearMiss(rng.choice(NEAR_MISSES[:-1]))
        case ("elsewhere",) if bound:
            return NearMiss(NEAR_MISSES[-1])
    return who.yes if who.reads == ("nothing",) or wants() else No()
