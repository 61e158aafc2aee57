"""What changed since a person was shown an impact, and what that means for the claim.

| what changed since it was shown          | what happens                                    |
|------------------------------------------|-------------------------------------------------|
| the session                              | ask again                                       |
| direct, one peer: role or user id        | ask again                                       |
| one peer: name only                      | goes on, reported (the peer id is the person)   |
| the peer, or all of them, gone           | nothing to do                                   |
| role removal: newcomers with the role    | stay in the room, reported                      |
| role removal: leavers, role changed      | skipped, reported                               |
| role removal by one request: newcomers   | ask again                                       |
| message: audience grown over the limit   | ask again (`Policy.audience_growth`)            |
| end: people joined or left               | goes on, the session is the same                |

Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hms_active_rooms.api.models import ActiveRoom, Peer
from hms_active_rooms.errors import PeerNotFound
from hms_active_rooms.gate.calls import StateChange
from hms_active_rooms.gate.impact import Impact, Person, assess, people_of, refuse_protected
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.untrusted import quoted


@dataclass(frozen=True)
class Drift:
    """What to do at the claim, given what changed since the person was shown the impact.

    Attributes:
        verdict: "go", "ask_again" or "nothing_to_do".
        reason: one sentence for "ask_again" and "nothing_to_do".
        notes: sentences to report with the outcome.
        people: who is removed now, never more than was shown.
        total: how many are hit now.
    """

    verdict: Literal["go", "ask_again", "nothing_to_do"]
    reason: str = ""
    notes: tuple[str, ...] = ()
    people: tuple[Person, ...] = ()
    total: int = 0


def drift(
    call: StateChange, shown: Impact, room: ActiveRoom, peers: Sequence[Peer], policy: Policy
) -> Drift:
    """What the changes since the person was shown `shown` mean for the claim.

    Raises:
        PolicyRefusal: somebody who would be hit is protected now, or they are too many.
    """
    session_id = room.session.id
    if session_id != shown.session_id:
        return Drift("ask_again", "The session that was shown is over; another one is running.")
    if shown.kind == "remove-each":
        return _drift_each(shown, people_of(peers), policy)
    try:
        _, now = assess(call, room, peers, policy)
    except PeerNotFound:
        return Drift("nothing_to_do", "They are no longer in the room.")
    match shown.kind:
        case "direct" | "remove-peer":
            return _drift_one(shown, now)
        case "remove-role":
            return _drift_role(shown, now)
        case "role" | "everyone":
            return _drift_audience(shown, now, policy)
        case "end":
            return Drift("go", total=now.total)


def _drift_one(shown: Impact, now: Impact) -> Drift:
    before, after = shown.people[0], now.people[0]
    if not before.same_person(after):
        return Drift("ask_again", f"{quoted(after.name)} now has another role or user id.")
    notes: tuple[str, ...] = ()
    if before.name != after.name:
        notes = (f"{quoted(before.name)} now goes by {quoted(after.name)}.",)
    return Drift("go", notes=notes, people=(after,), total=1)


def _drift_each(shown: Impact, people: Sequence[Person], policy: Policy) -> Drift:
    current = {p.id: p for p in people}
    still = tuple(p for p in shown.people if p.id in current and p.same_person(current[p.id]))
    if not still:
        return Drift("nothing_to_do", "None of the people shown has the role any more.")
    refuse_protected(still, policy)
    known = {p.id for p in shown.people}
    role = shown.people[0].role
    newcomers = [p for p in people if p.role == role and p.id not in known]
    notes = []
    if skipped := len(shown.people) - len(still):
        notes.append(f"{skipped} of the people shown left or changed role; they were skipped.")
    if newcomers:
        names = ", ".join(quoted(p.name, 30) for p in newcomers[:5])
        more = f" and {len(newcomers) - 5} more" if len(newcomers) > 5 else ""
        notes.append(
            f"{len(newcomers)} took the role after the approval and stay in the room: {names}{more}."
        )
    return Drift("go", notes=tuple(notes), people=still, total=len(still))


def _drift_role(shown: Impact, now: Impact) -> Drift:
    known = {p.id for p in shown.people}
    if newcomers := sum(p.id not in known for p in now.people):
        return Drift("ask_again", f"{newcomers} more people took the role.")
    if now.kind != shown.kind:
        return Drift("ask_again", "The role is now small enough to be removed person by person.")
    return Drift("go", people=now.people, total=now.total)


def _drift_audience(shown: Impact, now: Impact, policy: Policy) -> Drift:
    if shown.people and now.people:
        known = {p.id for p in shown.people}
        newcomers = sum(p.id not in known for p in now.people)
    else:
        newcomers = now.total - shown.total
    if newcomers > shown.total * policy.audience_growth:
        return Drift(
            "ask_again", f"The audience grew from {shown.total} to {now.total} people since then."
        )
    notes: tuple[str, ...] = ()
    if now.total != shown.total:
        notes = (f"{now.total} people were there when it was sent, {shown.total} when shown.",)
    return Drift("go", notes=notes, total=now.total)
