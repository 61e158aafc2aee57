"""hms-remove-peers: remove one peer, or everyone who holds a role now.

A role of up to `PER_PERSON_LIMIT` people is removed by one request for each person, so that only
the people who were shown are removed. A larger role is removed by one request for the role.

| what changed since the question          | what happens                                    |
|------------------------------------------|-------------------------------------------------|
| one peer has a new role or user id       | a person is asked again                         |
| one peer has only a new name             | the peer is removed; the outcome tells the name |
| the peer, or everyone shown, has left    | nothing is sent                                 |
| person by person: others took the role   | they stay in the room; the outcome tells it     |
| person by person: some left the role     | they are skipped; the outcome tells it          |
| by one request: others took the role     | a person is asked again                         |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from hms_active_rooms.errors import PolicyRefusal
from hms_active_rooms.gate.actions import impact as impacts
from hms_active_rooms.gate.actions.change import Label, PeerRef, Reason, StateChange, reason_lines
from hms_active_rooms.gate.actions.impact import Drift, Impact, Room
from hms_active_rooms.gate.policy import PER_PERSON_LIMIT, Policy
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from hms_active_rooms.api.client import ActiveRoomsClient

_ALL_AT_ONCE = (
    f"More than {PER_PERSON_LIMIT} people are removed by one request for the whole role. "
    "Whoever takes the role in that instant is removed, too."
)


class RemovePeers(StateChange):
    """Remove one peer, or everyone who holds a role now."""

    tool: ClassVar[str] = "hms-remove-peers"
    noun: ClassVar[str] = "removal"
    editable: ClassVar[frozenset[str]] = frozenset({"reason"})
    gone_text: ClassVar[str] = "100ms answered that nobody was left to remove."

    peer_id: PeerRef | None = Field(
        default=None, description="An id from hms-list-peers, short or full."
    )
    role: Label | None = Field(default=None, description="Everyone who has this role now.")
    reason: Reason | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.peer_id is None) == (self.role is None):
            raise ValueError("give exactly one of peer_id and role")
        return self

    def assess(self, room: Room, policy: Policy) -> tuple[Self, Impact]:
        if self.peer_id is not None:
            person = room.person(self.peer_id)
            impacts.refuse_protected([person], policy)
            warnings = room.doubles(person, policy) + room.nearly_protected(person.role, policy)
            impact = room.impact("remove-peer", (person,), *warnings)
            return self.model_copy(update={"peer_id": person.id}), impact
        role = self.role or ""
        if policy.protects(role=role, user_id="") == "role":
            raise PolicyRefusal(f"The policy protects the role {quoted(role)}.")
        hit = room.holders(role)
        impacts.refuse_protected(hit, policy)
        if len(hit) > policy.max_peers:
            raise PolicyRefusal(
                f"{len(hit)} people have the role {quoted(role)}; "
                f"the policy allows at most {policy.max_peers} in one removal."
            )
        each = len(hit) <= PER_PERSON_LIMIT
        warnings = () if each else (_ALL_AT_ONCE,)
        warnings += (*room.other_connections(hit), *room.nearly_protected(role, policy))
        return self, room.impact("remove-each" if each else "remove-role", hit, *warnings)

    def drift(self, shown: Impact, room: Room, policy: Policy) -> Drift:
        if shown.kind == "remove-each":
            room.must_be_readable()
            return _drift_each(shown, room, policy)
        if shown.kind == "remove-peer":
            person = room.person(self.peer_id or "")
            impacts.refuse_protected([person], policy)
            return shown.people[0].drift(person, room)
        _, now = self.assess(room, policy)
        known = {p.id for p in shown.people}
        if newcomers := sum(p.id not in known for p in now.people):
            return Drift("ask_again", f"{newcomers} more people took the role.")
        if now.kind != shown.kind:
            reason = "The role is now small enough to be removed person by person."
            return Drift("ask_again", reason)
        return Drift("go", people=now.people, total=now.total)

    def hits_on_arrival(self, impact: Impact) -> bool:
        return impact.kind == "remove-role"

    def question(self, impact: Impact) -> list[str]:
        if impact.kind == "remove-peer":
            head = f"Remove {impact.people[0].called()} from {impact.room(self.room_id)}:"
        else:
            head = (
                f"Remove everyone who has the role {quoted(self.role or '', 100)} now "
                f"from {impact.room(self.room_id)} ({impacts.people_count(impact.total)}):"
            )
        return [head, *impact.lines(), *reason_lines(self.reason)]

    async def request(self, client: ActiveRoomsClient) -> None:
        await client.remove_peers(
            self.room_id, peer_id=self.peer_id, role=self.role, reason=self.reason
        )

    def per_person(self, impact: Impact) -> list[Self]:
        """If `impact.kind` is "remove-each", return one call for each person shown. Else return []."""
        # People who get the role later stay in the room.
        people = impact.people if impact.kind == "remove-each" else ()
        return [self.model_copy(update={"peer_id": p.id, "role": None}) for p in people]

    def effect(self, impact: Impact, total: int) -> str:
        if impact.kind == "remove-peer":
            person = impact.people[0]
            return f"Removed {quoted(person.name)} (id {person.short_id})."
        return f"Removed everyone with the role {quoted(self.role or '', 30)}."

    def condition(self, impact: Impact) -> str:
        one = impact.kind == "remove-peer"
        who = f"{quoted(impact.people[0].name)} is" if one else "Those shown are"
        return f"{who} no longer in the room. Whether this request removed them is not known."


def _drift_each(shown: Impact, room: Room, policy: Policy) -> Drift:
    people = room.people
    current = {p.id: p for p in people}
    still = tuple(p for p in shown.people if p.id in current and p.same_person(current[p.id]))
    if not still:
        return Drift("nothing_to_do", "None of the people shown has the role any more.")
    impacts.refuse_protected(still, policy)
    if len(still) > policy.max_peers:
        raise PolicyRefusal(
            f"The policy now allows at most {policy.max_peers} people in one removal."
        )
    known = {p.id for p in shown.people}
    role = shown.people[0].role
    newcomers = [p for p in people if p.role == role and p.id not in known]
    notes = [*room.other_connections(shown.people)]
    if skipped := len(shown.people) - len(still):
        notes.append(f"{skipped} of the people shown left or changed role; they were skipped.")
    if newcomers:
        who = impacts.names([p.name for p in newcomers], 5)
        notes.append(
            f"{len(newcomers)} took the role after the question and stay in the room: {who}."
        )
    return Drift("go", notes=tuple(notes), people=still, total=len(still))
