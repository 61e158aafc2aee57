"""How sending an action ended, in values and in words. Pure.

The words claim only what is known: what 100ms answered, and what the room showed
afterwards. A room that shows the effect does not prove that our request was its cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from hms_active_rooms.errors import ActiveRoomsError
from hms_active_rooms.gate.calls import EndRoom, RemovePeers, SendMessage, StateChange
from hms_active_rooms.gate.impact import Impact, Person
from hms_active_rooms.gate.waiting import asked_wait_s
from hms_active_rooms.untrusted import quoted

_CHECKED = "Checked: the room shows it."

Ending = Literal["done", "failed", "unknown"]

FATES = ("removed", "no longer there", "gone", "skipped", "failed", "unknown", "not sent")
"""What can become of one person of a role removal. `no longer there`: the answer was lost, and
a look does not see them; `gone`: 100ms said so."""


@dataclass(frozen=True)
class Result:
    """How sending ended; becomes the row's `result`.

    Attributes:
        state: the row's state.
        text: one or two sentences.
        executed: "yes", "no", "maybe" or "partly".
        verified: the room showed the effect; None: not looked, or nothing to see.
        notes: sentences to report besides.
        people: for a role removal, what became of each.
        error: code of the error that came, if one came.
        asked_wait_s: if another try is worth a wait, what the server asks for; see `waiting.py`.
    """

    state: Ending
    text: str
    executed: str
    verified: bool | None = None
    notes: tuple[str, ...] = ()
    people: tuple[dict[str, str], ...] = ()
    error: str = ""
    asked_wait_s: float | None = None

    def noting(self, *notes: str) -> Result:
        """The same with notes before its own."""
        return replace(self, notes=(*notes, *self.notes))

    def as_json(self) -> dict[str, Any]:
        """Plain values for the journal."""
        data = asdict(self)
        del data["state"], data["asked_wait_s"]
        return {**data, "notes": list(self.notes), "people": list(self.people)}


@dataclass(frozen=True)
class Sight:
    """What a look at the room showed.

    Attributes:
        gone: everybody (or the session) is gone; None: the room could not be read.
        still: ids of those still there.
        why: what kept the room from being read.
    """

    gone: bool | None
    still: frozenset[str] = frozenset()
    why: str = ""

    def words(self) -> str:
        """For "A look ...": what was seen, when the effect was not."""
        return f"failed: {self.why}" if self.gone is None else "shows no effect yet"


def failed(error: ActiveRoomsError) -> Result:
    """Surely not executed."""
    wait_s = asked_wait_s(error)
    return Result("failed", error.for_model(), "no", error=error.code, asked_wait_s=wait_s)


def accepted(
    call: StateChange, impact: Impact, total: int, sight: Sight, waited_s: float
) -> Result:
    """100ms said yes."""
    text = effect(call, impact, total)
    if sight.gone:
        lock = isinstance(call, EndRoom) and call.lock
        checked = "Checked: the session is over. The lock cannot be seen." if lock else _CHECKED
        return Result("done", f"{text} {checked}", "yes", verified=True)
    seen = (
        f"the look {sight.words()}" if sight.gone is None else f"not visible after {waited_s:g} s"
    )
    return Result(
        "done", f"{text} Accepted by 100ms, but {seen}; look again.", "yes", verified=False
    )


def no_answer(call: StateChange, impact: Impact, error: ActiveRoomsError, sight: Sight) -> Result:
    """The answer was lost; the room was looked at."""
    if sight.gone:
        text = f"{condition(call, impact)} The answer was lost ({error.code})."
        return Result("done", text, "maybe", verified=True, error=error.code)
    text = f"{unsure(call)} ({error}) A look {sight.words()}."
    return Result("unknown", text, "maybe", verified=False, error=error.code)


def seen_later(call: StateChange, impact: Impact) -> Result:
    """An unknown outcome, and the room shows the effect now."""
    return Result("done", condition(call, impact), "maybe", verified=True)


def stopped(error: BaseException) -> Result:
    """Something else than an answer ended the sending: nobody knows how far it came."""
    what = type(error).__name__
    return Result("unknown", f"Interrupted while it was being sent ({what}).", "maybe")


def role_removal(
    people: tuple[Person, ...],
    fate: Mapping[str, str],
    error: ActiveRoomsError | None,
    sight: Sight,
) -> Result:
    """One request per person: what became of each, and of the whole."""
    rows = tuple({"id": p.id, "name": p.name, "outcome": fate[p.id]} for p in people)
    count = {word: sum(v == word for v in fate.values()) for word in FATES}
    parts = [f"{number} {word}" for word, number in count.items() if number]
    who = "1 person" if len(people) == 1 else f"{len(people)} people"
    text = f"Removal of {who}: {', '.join(parts)}."
    if error is not None:
        text += f" The last error: {error}"
    left = [r["name"] for r in rows if r["outcome"] in ("failed", "unknown", "not sent")]
    if left:
        more = f" and {len(left) - 10} more" if len(left) > 10 else ""
        text += f" Not removed: {' and '.join(quoted(name, 30) for name in left[:10])}{more}."
    code = error.code if error else ""
    if count["unknown"]:
        return Result("unknown", text, "maybe", False, people=rows, error=code)
    if count["no longer there"]:
        executed = "maybe"
    elif count["removed"]:
        executed = "partly" if left else "yes"
    else:
        executed = "no"
    if left:
        return Result("failed", text, executed, people=rows, error=code)
    if executed == "no":
        return Result("done", text, "no", people=rows, error=code)
    if sight.gone:
        text += f" {_CHECKED}"
    else:
        text += f" {len(sight.still) or 'Some'} still listed ({sight.why or 'this can take 60 s'})."
    return Result("done", text, executed, verified=sight.gone is True, people=rows, error=code)


def effect(call: StateChange, impact: Impact, total: int) -> str:
    """What an accepted call did."""
    match call:
        case SendMessage():
            who = {
                "direct": f"to {quoted(impact.people[0].name)}" if impact.people else "",
                "role": f"to {total} with the role {quoted(call.role or '', 30)}",
                "everyone": f"to everyone ({total})",
            }[impact.kind]
            return f"Message sent {who}."
        case RemovePeers() if impact.kind == "remove-peer":
            person = impact.people[0]
            return f"Removed {quoted(person.name)} (id {person.short_id})."
        case RemovePeers():
            return f"Removed everyone with the role {quoted(call.role or '', 30)}."
    lock = " and the room was locked" if isinstance(call, EndRoom) and call.lock else ""
    return f"The session was ended for {total} people{lock}."


def condition(call: StateChange, impact: Impact) -> str:
    """The state of the room, without saying whose doing it is."""
    cause = "Whether by this request is not known."
    if isinstance(call, EndRoom):
        lock = " Nor whether the room is locked." if call.lock else ""
        return f"The session that was shown is over: the room shows it. {cause}{lock}"
    if impact.kind == "remove-peer":
        who = f"{quoted(impact.people[0].name)} is"
    else:
        who = "Those shown are"
    return f"{who} no longer in the room: the room shows it. {cause}"


def unsure(call: StateChange) -> str:
    """For an outcome nobody knows."""
    what = {"hms-send-message": "message", "hms-remove-peers": "removal"}.get(call.tool, "end")
    return f"The outcome is unknown: the {what} was sent and may have been executed."
