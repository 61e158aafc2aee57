"""How the sending of an action ended, as values and in sentences. If no answer came, the sentences do
not say that the request caused what the room shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from hms_active_rooms.errors import ActiveRoomsError, NotFound, PeerNotFound
from hms_active_rooms.gate.actions.impact import Impact, Person, names, people_count

if TYPE_CHECKING:
    from hms_active_rooms.gate.actions.change import StateChange

CHECKED = "Checked in the room."

Ending = Literal["done", "failed", "unknown"]

Executed = Literal["no", "maybe", "partly", "yes"]

Fate = Literal["removed", "no longer there", "gone", "skipped", "failed", "unknown", "not sent"]
"""What became of one person when a role was removed. `gone`: 100ms answered that the person had
left. `no longer there`: the answer was lost, and the room does not list the person any more.
`skipped`: the person left or changed role before the request was sent."""


@dataclass(frozen=True)
class PersonResult:
    """What became of one person in a role removal. `outcome` is, for example, "removed" or "not sent"."""

    id: str
    name: str
    outcome: Fate


@dataclass(frozen=True)
class Result:
    """How the sending ended, or why a call was refused when it was proposed."""

    text: str = ""  # one or two sentences with facts, no advice for a model
    executed: Executed = "no"  # whether the room was changed
    verified: bool | None = None  # whether the room showed the effect; None: it was not read
    notes: tuple[str, ...] = ()  # more sentences for the outcome
    people: tuple[PersonResult, ...] = ()  # for a role removal: what became of each person
    error: str = ""  # the error's code, if there was an error
    hint: str = ""  # what to do next, if the error itself says it, not only its class


Ended = tuple[Ending, Result]


@dataclass(frozen=True)
class Observation:
    """What one read of the room showed after the request."""

    gone: bool | None  # whether the room showed the effect; None if it could not be read
    still: frozenset[str] = frozenset()  # peer ids of people still there
    there: frozenset[str] = frozenset()  # peer ids of everybody in the room
    why: str = ""  # why the room was not read, or how long it showed no effect

    def words(self) -> str:
        """Return a clause that says that the room could not be read, or does not show the effect."""
        if self.gone is None:
            return f"the room could not be read: {self.why.rstrip('.')}"
        return "the room does not show the effect yet"


def answered(call: StateChange, shown: Impact, total: int, seen: Observation | None) -> Ended:
    """Return state and `Result` of an accepted request. `seen` is None if the room cannot show the effect."""
    text = call.effect(shown, total)
    if seen is None or not call.visible:
        return "done", Result(text, "yes")
    if seen.gone:
        return "done", Result(f"{text} {call.checked}", "yes", verified=True)
    why = seen.why if seen.gone is False else seen.words()
    text = f"{text} 100ms accepted the call, but {why}. Look at the room again."
    return "done", Result(text, "yes", verified=False)


def unanswered(
    call: StateChange, shown: Impact, error: ActiveRoomsError | None, seen: Observation | None
) -> Ended:
    """Return state and `Result` of a request to which 100ms gave no clear answer. `error` came instead."""
    code = error.code if error else ""  # None: an earlier process sent the request
    if seen is not None and seen.gone:
        lost = f" The answer was lost ({code})." if code else ""
        return "done", Result(f"{call.condition(shown)}{lost}", "maybe", verified=True, error=code)
    may, look = f"The {call.noun} may have reached the room", f"A {call.noun} cannot be looked up"
    if call.visible:
        look = f"But {seen.words()}" if seen else "Look at the room"
        may = "The request may have been executed"
    why = f": {str(error).rstrip('.')}" if error else ", since no answer came"
    text = f"The outcome is unknown{why}. {may}. {look}."
    verified = None if seen is None else False
    return "unknown", Result(text, "maybe", verified=verified, error=code)


def failed(error: ActiveRoomsError) -> Ended:
    """Return state and `Result` of a request that was surely not executed."""
    if isinstance(error, NotFound):  # the room was there a moment before
        error = PeerNotFound(f"100ms answered {error.status}: the person, or everybody, has left.")
    text = f"{error.for_person()} {error.own_hint}".strip()
    return "failed", Result(text, error=error.code, hint=error.own_hint)


def for_each(
    people: tuple[Person, ...],
    fates: Mapping[str, Fate],
    error: ActiveRoomsError | None,
    seen: Observation,
) -> Ended:
    """Return state and `Result` of a removal person by person. `fates` has peer ids as keys."""
    rows = tuple(PersonResult(p.id, p.name, fates[p.id]) for p in people)
    count = Counter(fates.values())
    parts = [f"{count[word]} {word}" for word in get_args(Fate) if count[word]]
    text = f"Removal of {people_count(len(people))}: {', '.join(parts)}."
    if error is not None:
        text += f" The last error: {error}"
    left = count["failed"] + count["not sent"] + count["unknown"]
    for word, those in (("Not removed", ("failed", "not sent")), ("Perhaps removed", ("unknown",))):
        if told := [row.name for row in rows if row.outcome in those]:
            text += f" {word}: {names(told, 10)}."
    executed: Executed = "yes" if count["removed"] else "no"
    verified: bool | None = None
    if count["unknown"] or count["no longer there"]:
        executed = "maybe"
    elif left and count["removed"]:
        executed = "partly"
    if count["unknown"]:
        verified = False
    elif executed != "no" and not left:
        verified = seen.gone is True
        look = f"{len(seen.still)} still listed (this can take 60 s)."
        if seen.gone is None:
            look = f"But {seen.words()}."
        text += f" {CHECKED if verified else look}"
    state: Ending = "unknown" if count["unknown"] else "failed" if left else "done"
    code, hint = (error.code, error.own_hint) if error else ("", "")
    return state, Result(text, executed, verified=verified, people=rows, error=code, hint=hint)
