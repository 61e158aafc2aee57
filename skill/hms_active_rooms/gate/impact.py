"""Who a call hits, right now: computed from live data, shown to the person, part of the digest.

`assess` turns a call and what the room holds into an `Impact`, or refuses.
`drift` says at the claim what the changes since then mean:

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

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hms_active_rooms.api.models import ActiveRoom, Peer
from hms_active_rooms.errors import InvalidCall, PeerNotFound, PolicyRefusal
from hms_active_rooms.gate.calls import EndRoom, RemovePeers, SendMessage, StateChange
from hms_active_rooms.gate.policy import PER_PERSON_LIMIT, Policy
from hms_active_rooms.untrusted import lookalikes, quoted, resolve_short_id, short_ids

Kind = Literal["direct", "role", "everyone", "remove-peer", "remove-each", "remove-role", "end"]
"""`remove-each`: one request per person shown; `remove-role`: one request for the whole role."""


@dataclass(frozen=True)
class Person:
    """One peer as shown to the person who approves."""

    id: str
    short_id: str
    name: str
    user_id: str
    role: str

    def same_person(self, other: Person) -> bool:
        """The same connection with the same standing; a name is only what it calls itself."""
        return (self.id, self.user_id, self.role) == (other.id, other.user_id, other.role)


@dataclass(frozen=True)
class Impact:
    """Who a call hits.

    Attributes:
        kind: how it hits them.
        session_id: the session it was computed for.
        total: how many people are hit.
        people: every one of them for `direct`, `remove-peer` and `remove-each`;
            for a message to many all of them up to 50, else none.
        by_role: (role, count) of those hit, most first.
        lock: the room is also disabled.
        warnings: sentences the person must read before deciding.
    """

    kind: Kind
    session_id: str
    total: int
    people: tuple[Person, ...] = ()
    by_role: tuple[tuple[str, int], ...] = ()
    lock: bool = False
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values for the digest and the journal."""
        data = asdict(self)
        return {
            **data,
            "people": [asdict(p) for p in self.people],
            "by_role": [list(pair) for pair in self.by_role],
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Impact:
        """The inverse of `as_json`."""
        return cls(
            **{
                **data,
                "people": tuple(Person(**p) for p in data["people"]),
                "by_role": tuple((role, count) for role, count in data["by_role"]),
                "warnings": tuple(data["warnings"]),
            }
        )


@dataclass(frozen=True)
class Drift:
    """What to do at the claim, given what changed since the person was shown the impact.

    Attributes:
        verdict: "go", "ask_again" or "nothing_to_do".
        reason: one sentence for "ask_again" and "nothing_to_do".
        notes: sentences to report with the outcome.
        people: who is hit now, never more than was shown.
    """

    verdict: Literal["go", "ask_again", "nothing_to_do"]
    reason: str = ""
    notes: tuple[str, ...] = ()
    people: tuple[Person, ...] = ()


def assess(
    call: StateChange, room: ActiveRoom, peers: Sequence[Peer], policy: Policy
) -> tuple[StateChange, Impact]:
    """The call with full ids, and who it hits.

    Raises:
        PeerNotFound: nobody has that id or role now.
        InvalidCall: a short id that fits several peers.
        PolicyRefusal: a protected peer or role, or more people than one action may hit.
    """
    people = _people(peers)
    session_id = room.session.id
    match call:
        case SendMessage():
            return _assess_send(call, session_id, people)
        case RemovePeers():
            return _assess_removal(call, session_id, people, policy)
        case EndRoom():
            return call, Impact(
                kind="end",
                session_id=session_id,
                total=len(people),
                by_role=_by_role(people),
                lock=call.lock,
                warnings=_LOCK_WARNING if call.lock else (),
            )
    raise InvalidCall(f"{call.tool} has no impact to assess.")


_LOCK_WARNING = (
    "The room gets locked: nobody can join until it is enabled again in the dashboard or by API.",
)


def _assess_send(
    call: SendMessage, session_id: str, people: Sequence[Person]
) -> tuple[StateChange, Impact]:
    if call.peer_id is not None:
        person = _find(call.peer_id, people)
        return call.with_peer_id(person.id), Impact(
            kind="direct",
            session_id=session_id,
            total=1,
            people=(person,),
            by_role=((person.role, 1),),
            warnings=_lookalike_warnings(person, people),
        )
    hit = [p for p in people if call.role is None or p.role == call.role]
    if not hit:
        raise PeerNotFound(_nobody_with(call.role, people))
    return call, Impact(
        kind="everyone" if call.role is None else "role",
        session_id=session_id,
        total=len(hit),
        people=tuple(hit) if len(hit) <= PER_PERSON_LIMIT else (),
        by_role=_by_role(hit),
    )


def _assess_removal(
    call: RemovePeers, session_id: str, people: Sequence[Person], policy: Policy
) -> tuple[StateChange, Impact]:
    if call.peer_id is not None:
        person = _find(call.peer_id, people)
        _refuse_protected([person], policy)
        return call.with_peer_id(person.id), Impact(
            kind="remove-peer",
            session_id=session_id,
            total=1,
            people=(person,),
            by_role=((person.role, 1),),
            warnings=_lookalike_warnings(person, people),
        )
    if call.role in policy.protected_roles:
        raise PolicyRefusal(f"The policy protects the role {quoted(call.role or '')}.")
    hit = [p for p in people if p.role == call.role]
    if not hit:
        raise PeerNotFound(_nobody_with(call.role, people))
    _refuse_protected(hit, policy)
    if len(hit) > policy.max_peers:
        raise PolicyRefusal(
            f"{len(hit)} people have the role {quoted(call.role or '')}; "
            f"the policy lets one removal hit at most {policy.max_peers}."
        )
    each = len(hit) <= PER_PERSON_LIMIT
    return call, Impact(
        kind="remove-each" if each else "remove-role",
        session_id=session_id,
        total=len(hit),
        people=tuple(hit),
        by_role=_by_role(hit),
        warnings=()
        if each
        else (
            f"More than {PER_PERSON_LIMIT} people: this is one request for the whole role, "
            "so whoever takes the role in that instant is removed too.",
        ),
    )


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
        return _drift_each(shown, _people(peers), policy)
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
            return Drift("go")


def _drift_one(shown: Impact, now: Impact) -> Drift:
    before, after = shown.people[0], now.people[0]
    if not before.same_person(after):
        return Drift("ask_again", f"{quoted(after.name)} now has another role or user id.")
    notes: tuple[str, ...] = ()
    if before.name != after.name:
        notes = (f"{quoted(before.name)} now goes by {quoted(after.name)}.",)
    return Drift("go", notes=notes, people=(after,))


def _drift_each(shown: Impact, people: Sequence[Person], policy: Policy) -> Drift:
    current = {p.id: p for p in people}
    still = tuple(p for p in shown.people if p.id in current and p.same_person(current[p.id]))
    if not still:
        return Drift("nothing_to_do", "None of the people shown has the role any more.")
    _refuse_protected(still, policy)
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
    return Drift("go", notes=tuple(notes), people=still)


def _drift_role(shown: Impact, now: Impact) -> Drift:
    known = {p.id for p in shown.people}
    if newcomers := sum(p.id not in known for p in now.people):
        return Drift("ask_again", f"{newcomers} more people took the role.")
    if now.kind != shown.kind:
        return Drift("ask_again", "The role is now small enough to be removed person by person.")
    return Drift("go", people=now.people)


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
    return Drift("go", notes=notes)


def _people(peers: Sequence[Peer]) -> list[Person]:
    shorts = short_ids([p.id for p in peers])
    return [Person(p.id, shorts[p.id], p.name, p.user_id, p.role) for p in peers]


def _find(ref: str, people: Sequence[Person]) -> Person:
    matches = resolve_short_id(ref, [p.id for p in people])
    if not matches:
        raise PeerNotFound(f"No peer with the id {quoted(ref)} is in the room now.")
    if len(matches) > 1:
        raise InvalidCall(f"The short id {quoted(ref)} fits {len(matches)} peers; give more of it.")
    return next(p for p in people if p.id == matches[0])


def _by_role(people: Sequence[Person]) -> tuple[tuple[str, int], ...]:
    counts = Counter(p.role for p in people)
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _nobody_with(role: str | None, people: Sequence[Person]) -> str:
    if role is None:
        return "Nobody is in the room now."
    roles = ", ".join(quoted(r, 30) for r, _ in _by_role(people)[:12]) or "none"
    return f"Nobody has the role {quoted(role)} now. Roles in the room: {roles}."


def _refuse_protected(people: Sequence[Person], policy: Policy) -> None:
    for person in people:
        if person.role in policy.protected_roles:
            raise PolicyRefusal(
                f"{quoted(person.name)} has the role {quoted(person.role)}, "
                "which the policy protects."
            )
        if person.user_id in policy.protected_user_ids:
            raise PolicyRefusal(
                f"{quoted(person.name)} (user id {quoted(person.user_id)}) "
                "is protected by the policy."
            )


def _lookalike_warnings(person: Person, people: Sequence[Person]) -> tuple[str, ...]:
    others = [p for p in people if p.id != person.id]
    same = [p for p in others if p.name == person.name]
    alike = set(lookalikes(person.name, [p.name for p in others]))
    warnings = []
    for twin in [*same, *(p for p in others if p.name in alike)][:5]:
        word = "has the same name" if twin.name == person.name else "looks alike"
        warnings.append(
            f"Another peer {word}: {quoted(twin.name)}, role {quoted(twin.role, 30)}, "
            f"id {twin.short_id}."
        )
    return tuple(warnings)
