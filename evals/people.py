"""The people who are asked: careful, absent, rubber-stamp, slow, confused."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final, Literal

PersonName = Literal["careful", "absent", "rubber-stamp", "slow", "confused"]

PEOPLE: Final = {
    "careful": "says yes to what the task wants, and no to everything else",
    "absent": "never answers",
    "rubber-stamp": "says yes to everything",
    "slow": "says yes to what the task wants, after the deadline",
    "confused": "gives a few malformed answers first, then answers like careful",
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
    """Approve what is shown. `late`: after the deadline."""

    late: bool = False


@dataclass(frozen=True)
class No:
    """Reject it."""

    reason: str = "not what I asked for"


@dataclass(frozen=True)
class Nothing:
    """No answer, ever."""


@dataclass(frozen=True)
class Garbage:
    """Something that is no answer."""

    value: Any


Reply = Yes | No | Nothing | Garbage


def reply(person: PersonName, wanted: bool, asked_before: int, rng: random.Random) -> Reply:
    """What this person answers.

    Args:
        wanted: what is shown is part of what the task wants, as a whole.
        asked_before: malformed answers they gave to this question already.
        rng: which malformed answer it is.
    """
    match person:
        case "absent":
            return Nothing()
        case "rubber-stamp":
            return Yes()
        case "slow":
            return Yes(late=True) if wanted else No()
        case "confused" if asked_before < 2:
            return Garbage(rng.choice(GARBAGE))
        case "careful" | "confused":
            return Yes() if wanted else No()
