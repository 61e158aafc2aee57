"""Who a call hits, right now: computed from live data, shown to the person, part of the digest.

`assess` turns a call and what the room holds into an `Impact`, or refuses.
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
from hms_active_rooms.gate.digest import short_name
from hms_active_rooms.gate.policy import PER_PERSON_LIMIT, Policy
from hms_active_rooms.untrusted import lookalikes, quoted, resolve_short_id, short_ids

Kind = Literal["direct", "role", "everyone", "remove-peer", "remove-each", "remove-role", "end"]
"""`remove-each`: one request per person shown; `remove-role`: one request for the whole role."""


MAX_TEXT_CHARS = 200
"""Of a name, user id or role; longer ones are shortened before they are shown or recorded."""


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

    @property
    def names_nobody(self) -> bool:
        """Whether its request names neither person nor session: it hits what is there on arrival."""
        return self.kind in ("remove-role", "end")

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


def assess(
    call: StateChange, room: ActiveRoom, peers: Sequence[Peer], policy: Policy
) -> tuple[StateChange, Impact]:
    """The call with full ids, and who it hits.

    Raises:
        PeerNotFound: nobody has that id or role now.
        InvalidCall: a short id that fits several peers.
        PolicyRefusal: a protected peer or role, or more people than one action may hit.
    """
    people = people_of(peers)
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
        refuse_protected([person], policy)
        return call.with_peer_id(person.id), Impact(
            kind="remove-peer",
            session_id=session_id,
            total=1,
            people=(person,),
            by_role=((person.role, 1),),
            warnings=_lookalike_warnings(person, people),
        )
    role = call.role or ""
    if policy.protects(role=role, user_id="") == "role":
        raise PolicyRefusal(f"The policy protects the role {quoted(role)}.")
    hit = [p for p in people if p.role == call.role]
    if not hit:
        raise PeerNotFound(_nobody_with(call.role, people))
    refuse_protected(hit, policy)
    if len(hit) > policy.max_peers:
        raise PolicyRefusal(
            f"{len(hit)} people have the role {quoted(role)}; "
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


def people_of(peers: Sequence[Peer]) -> list[Person]:
    shorts = short_ids([p.id for p in peers])
    return [person_of(p, shorts[p.id]) for p in peers]


def person_of(peer: Peer, short_id: str = "") -> Person:
    """A peer as shown and recorded, each text bounded whatever its owner wrote."""
    texts = (_bounded(peer.name), _bounded(peer.user_id), _bounded(peer.role))
    return Person(peer.id, short_id or peer.id, *texts)


def _bounded(text: str) -> str:
    """The text, or its beginning and a hash of it all, so that two long ones stay two."""
    if len(text) <= MAX_TEXT_CHARS:
        return text
    return f"{text[:MAX_TEXT_CHARS]}…{short_name(text)}"


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


def refuse_protected(people: Sequence[Person], policy: Policy) -> None:
    for person in people:
        if what := policy.protects(role=person.role, user_id=person.user_id):
            raise PolicyRefusal(
                f"{quoted(person.name)}, role {quoted(person.role)}, user id "
                f"{quoted(person.user_id)}: the policy protects that {what}."
            )


def _lookalike_warnings(person: Person, people: Sequence[Person]) -> tuple[str, ...]:
    others = [p for p in people if p.id != person.id]
    shown = quoted(person.name)
    same = [p for p in others if p.name == person.name or quoted(p.name) == shown]
    alike = set(lookalikes(person.name, [p.name for p in others]))
    warnings = []
    twins = [*same, *(p for p in others if p.name in alike and p not in same)]
    for twin in twins[:5]:
        word = "has the same name" if twin.name == person.name else "looks alike"
        warnings.append(
            f"Another peer {word}: {quoted(twin.name)}, role {quoted(twin.role, 30)}, "
            f"id {twin.short_id}."
        )
    return tuple(warnings)
