"""The people who are asked, and what each answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

PersonName = Literal[
    "reader", "hasty", "tired", "rubber-stamp", "absent", "slow", "confused", "session", "editor"
]

PEOPLE: Final[dict[PersonName, str]] = {
    "reader": "decides from the words of the question alone, by the rules in evals/reader.py",
    "hasty": "reads the first line",
    "tired": "reads two questions, of the next two the first line, and then the kind of change",
    "rubber-stamp": "says yes to everything",
    "absent": "never answers",
    "slow": "reads, and says yes after the deadline",
    "confused": "gives malformed answers first, some of them nearly right, then answers like reader",
    "session": "like reader, but says yes for the rest of the session",
    "editor": "tries to point it at somebody else first, then says yes to it in other words",
}
"""Who can be asked, and what they do."""

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


def reply(
    person: PersonName,
    wants: Callable[[], bool],
    asked_before: int,
    rng: random.Random,
    *,
    bound: bool,
) -> Reply:
    """What this person answers."""
    match person:
        case "absent":
            return Nothing()
        case "rubber-stamp":
            return Yes()
        case "slow":
            return Yes(late=True) if wants() else No()
        case "confused" if asked_before < 1:
            return Garbage(rng.choice(GARBAGE))
        case "confused" if asked_before < 4 and bound:
            return NearMiss(rng.choice(NEAR_MISSES[:-1]))
        case "session":
            return Yes(session=True) if wants() else No()
        case "editor" if asked_before < 1 and bound:
            return NearMiss(NEAR_MISSES[-1])
        case "editor":
            return Yes(edited=True) if wants() else No()
        case "reader" | "hasty" | "tired" | "confused":
            return Yes() if wants() else No()
