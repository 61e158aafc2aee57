"""hms-send-message: one message to a peer, to a role or to everyone.

| what changed since the question   | what happens                                        |
|-----------------------------------|-----------------------------------------------------|
| the peer's role or user id is new | a person is asked again                             |
| the peer has only a new name      | the message is sent; the outcome tells the name     |
| the peer, or everyone, has left   | nothing is sent                                     |
| the audience grew over the limit  | a person is asked again (`Policy.audience_growth`)  |
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from hms_active_rooms.gate.actions import impact as impacts
from hms_active_rooms.gate.actions.change import Label, PeerRef, StateChange
from hms_active_rooms.gate.actions.impact import Drift, Impact, Room
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from hms_active_rooms.api.client import ActiveRoomsClient
    from hms_active_rooms.gate.policy import Policy

# 100ms documents 4 KB for a client's custom event. We assume the same limit for send-message.
MAX_MESSAGE_BYTES = 4096

_SHOWN_CHARS = 5000  # longer than any message, so that a person reads the whole message


def _message(value: str) -> str:
    size = len(value.encode())
    if size > MAX_MESSAGE_BYTES:
        raise ValueError(f"the message has {size} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
    return value


class SendMessage(StateChange):
    """Send one message to a peer, to a role or to everyone."""

    tool: ClassVar[str] = "hms-send-message"
    noun: ClassVar[str] = "message"
    editable: ClassVar[frozenset[str]] = frozenset({"message", "type"})
    visible: ClassVar[bool] = False

    message: Annotated[
        str, Field(min_length=1, description="At most 4096 bytes."), AfterValidator(_message)
    ]
    peer_id: PeerRef | None = Field(
        default=None, description="To this peer only; an id from hms-list-peers, short or full."
    )
    role: Label | None = Field(
        default=None,
        description="To everyone with this role. Without peer_id and role: to everyone.",
    )
    type: Label = Field(default="chat", description='Default "chat": shown in chat panels.')

    @model_validator(mode="after")
    def _one_audience(self) -> Self:
        if self.peer_id is not None and self.role is not None:
            raise ValueError("give peer_id or role, not both")
        return self

    def assess(self, room: Room, policy: Policy) -> tuple[Self, Impact]:
        if self.peer_id is not None:
            person = room.person(self.peer_id)
            impact = room.impact("direct", (person,), *room.doubles(person, policy))
            return self.model_copy(update={"peer_id": person.id}), impact
        hit = room.holders(self.role)
        impact = room.impact("everyone" if self.role is None else "role", hit)
        if len(hit) > impacts.SHOWN_PEOPLE:
            impact = replace(impact, people=(), receivers=impacts.fingerprint(p.id for p in hit))
        return self, impact

    def drift(self, shown: Impact, room: Room, policy: Policy) -> Drift:
        _, now = self.assess(room, policy)
        if shown.kind == "direct":
            return shown.people[0].drift(now.people[0], room)
        hit, known = room.holders(self.role), {p.id for p in shown.people}
        newcomers = sum(p.id not in known for p in hit)
        if shown.receivers:
            newcomers = impacts.strangers(shown.receivers, (p.id for p in hit))
        elif not known:  # recorded by a release that kept no fingerprint
            newcomers = now.total - shown.total
        if newcomers > shown.total * policy.audience_growth:
            grew = f"grew from {shown.total} to {now.total} people after the question"
            if now.total <= shown.total:
                grew = f"has {newcomers} people who came after the question"
            return Drift("ask_again", f"The audience {grew}.")
        notes: tuple[str, ...] = ()
        if now.total != shown.total:
            notes = (
                f"The message was approved for {shown.total} people, and sent to {now.total}.",
            )
        return Drift("go", notes=notes, total=now.total)

    def question(self, impact: Impact) -> list[str]:
        kind = "" if self.type == "chat" else f" of type {quoted(self.type, 100)}"
        room, count = impact.room(self.room_id), impacts.people_count(impact.total)
        text = f"Message: {quoted(self.message, _SHOWN_CHARS)}"
        if impact.kind == "direct":
            head = f"Send a message{kind} to {impact.people[0].called()} in {room}:"
            return [head, *impact.lines(), text]
        if impact.kind == "role":
            role = quoted(self.role or "", 100)
            head = f"Send a message{kind} to everyone with the role {role} in {room} ({count})."
        else:
            head = f"Send a message{kind} to EVERYONE in {room} ({count}: {impact.roles()})."
        return [head, text]

    def audience(self, impact: Impact) -> tuple[str, ...]:
        """Return the target and type of the message; for one peer also the peer's role and user id."""
        of = [text for p in impact.people[:1] for text in (p.role, p.user_id) if self.peer_id]
        return (impact.kind, self.peer_id or self.role or "", self.type, *of)

    async def request(self, client: ActiveRoomsClient) -> None:
        await client.send_message(
            self.room_id, self.message, peer_id=self.peer_id, role=self.role, type=self.type
        )

    def effect(self, impact: Impact, total: int) -> str:
        if impact.kind == "direct":
            return f"Message sent to {quoted(impact.people[0].name)}."
        if impact.kind == "role":
            return f"Message sent to {total} with the role {quoted(self.role or '', 30)}."
        return f"Message sent to everyone ({total})."
