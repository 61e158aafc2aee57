"""How sending an action ended, in values and in words. Pure.

The words claim only what is known: what 100ms answered, and what the room showed
afterwards. A room that shows the effect does not prove that our request was its cause.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from hms_active_rooms.errors import ActiveRoomsError

if TYPE_CHECKING:
    from hms_active_rooms.gate.actions.change import StateChange
    from hms_active_rooms.gate.actions.impact import Impact

CHECKED = "Checked: the room shows it."

Ending = Literal["done", "failed", "unknown"]

Executed = Literal["no", "maybe", "partly", "yes"]

Fate = Literal["removed", "no longer there", "gone", "skipped", "failed", "unknown", "not sent"]
"""What became of one person of a role removal. `gone`: 100ms said so. `no longer there`: the
answer was lost, and a look does not see them. `skipped`: left or changed role before."""


@dataclass(frozen=True)
class PersonResult:
    """What became of one person."""

    id: str
    name: str
    outcome: Fate


@dataclass(frozen=True)
class Result:
    """How sending ended, or why a call was refused on the spot.

    Attributes:
        text: one or two sentences.
        executed: whether the room was changed.
        verified: the room showed the effect; None: nobody looked, or there is nothing to see.
        notes: sentences to report besides.
        people: for a role removal, what became of each.
        error: code of the error that came, if one came.
    """

    text: str = ""
    executed: Executed = "no"
    verified: bool | None = None
    notes: tuple[str, ...] = ()
    people: tuple[PersonResult, ...] = ()
    error: str = ""

    def noting(self, *notes: str) -> Result:
        """The same with notes before its own."""
        return replace(self, notes=(*notes, *self.notes))


Ended = tuple[Ending, Result]
"""The state an action ends in, and its result."""


@dataclass(frozen=True)
class Observation:
    """What a look at the room showed.

    Attributes:
        gone: everybody looked for (or the session) is gone; None: the room could not be read.
        still: ids of those still there.
        why: what kept the room from being read.
    """

    gone: bool | None
    still: frozenset[str] = frozenset()
    why: str = ""

    def words(self) -> str:
        """Completes the sentence "A look ..." when the effect is not visible."""
        return f"failed: {self.why}" if self.gone is None else "shows no effect yet"


def failed(error: ActiveRoomsError) -> Ended:
    """It was surely not executed."""
    # A hint of its own tells a fact, as how long to wait; the usual one speaks to a model.
    own = error.hint if error.hint != error.default_hint else ""
    return "failed", Result(f"{error.for_person()} {own}".strip(), error=error.code)


def accepted(
    call: StateChange, impact: Impact, total: int, seen: Observation, waited_s: float
) -> Ended:
    """100ms said yes, and the room was looked at."""
    text = call.effect(impact, total)
    if seen.gone:
        return "done", Result(f"{text} {call.checked}", "yes", verified=True)
    look = f"the look {seen.words()}" if seen.gone is None else f"not visible after {waited_s:g} s"
    text = f"{text} Accepted by 100ms, but {look}; look again."
    return "done", Result(text, "yes", verified=False)


def no_answer(
    call: StateChange, impact: Impact, error: ActiveRoomsError, seen: Observation
) -> Ended:
    """The answer was lost, and the room was looked at."""
    if seen.gone:
        text = f"{call.condition(impact)} The answer was lost ({error.code})."
        return "done", Result(text, "maybe", verified=True, error=error.code)
    text = f"{unsure(call)} ({error}) A look {seen.words()}."
    return "unknown", Result(text, "maybe", verified=False, error=error.code)


def seen_later(call: StateChange, impact: Impact, seen: Observation) -> Ended:
    """A later look for the effect of an action whose outcome was unknown."""
    if seen.gone:
        return "done", Result(call.condition(impact), "maybe", verified=True)
    return "unknown", Result(f"{unsure(call)} A look {seen.words()}.", "maybe", verified=False)


def stopped(error: BaseException) -> Ended:
    """Something else than an answer ended the sending."""
    what = type(error).__name__
    text = f"The sending was interrupted ({what}); it may have been executed. Look at the room."
    return "unknown", Result(text, "maybe")


def unsure(call: StateChange) -> str:
    """For an outcome nobody knows."""
    return f"The outcome is unknown: the {call.noun} was sent and may have been executed."
