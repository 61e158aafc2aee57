"""The interface of a state-changing tool: what the gate needs from the files in this folder.

Each file has one subclass of `StateChange`. Its fields are the tool's arguments. Its methods do all
that differs between tools, from the question to the words of the outcome.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hms_active_rooms.api.ids import parse_peer_ref, parse_room_id
from hms_active_rooms.errors import InvalidCall, NotActive, NotFound, PeerNotFound
from hms_active_rooms.gate.actions.result import CHECKED, Observation
from hms_active_rooms.plain import explain
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from hms_active_rooms.api.client import ActiveRoomsClient
    from hms_active_rooms.gate.actions.impact import Drift, Impact, Person, Room
    from hms_active_rooms.gate.policy import Policy

MAX_REASON_CHARS = 500  # our limit; the API documents none
MAX_LABEL_CHARS = 100  # our limit for a role or a message type; the API documents none

# The errors of a 404. The room was read before, so a 404 means that the session or peer has gone.
GONE = (NotActive, PeerNotFound, NotFound)


RoomId = Annotated[
    str, AfterValidator(parse_room_id), Field(description="Room id: 24 hex characters.")
]
PeerRef = Annotated[str, AfterValidator(parse_peer_ref)]
Label = Annotated[str, Field(min_length=1, max_length=MAX_LABEL_CHARS)]
Reason = Annotated[
    str, Field(min_length=1, max_length=MAX_REASON_CHARS, description="Shown to the others.")
]


def _slim(schema: dict[str, Any]) -> None:
    """Reduce a JSON schema to what every model provider accepts: no limits and no defaults (validation
    enforces them, descriptions may tell them). An optional field may be null."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        options = [o for o in field.get("anyOf", ()) if o.get("type") != "null"]
        full = {**options[0], **field} if options else field
        kind = {"type": full["type"]}
        types = kind if name in required else {"anyOf": [kind, {"type": "null"}]}
        told = {"description": full["description"]} if "description" in full else {}
        schema["properties"][name] = {**types, **told}


class Arguments(BaseModel):
    """Base class of every tool's arguments. Unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, json_schema_extra=_slim)

    room_id: RoomId

    @classmethod
    def parse(cls, given: object) -> Self:
        """Return the arguments in the dict `given`, checked. Raises InvalidCall, which says what is wrong."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise InvalidCall(f"{explain(error)}.") from None

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, given: object) -> object:
        """Drop optional arguments that are null or "", since models in strict mode send them. If one has
        only spaces, raise an error. Without its audience, a message would go to everyone."""
        if not isinstance(given, Mapping):
            return given
        if "body" in given:
            raise ValueError("give the arguments beside room_id, not inside body")
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        for name in sorted(optional):
            if isinstance(value := given.get(name), str) and value.isspace():
                raise ValueError(f"{name} has only spaces")
        return {k: v for k, v in given.items() if v not in (None, "") or k not in optional}


class StateChange(Arguments, ABC):
    """A call that changes a room. The approver may edit only the arguments in `editable`."""

    tool: ClassVar[str]  # the tool's name in capability.yaml
    noun: ClassVar[str]  # what is sent, as in "the message may have reached the room"
    editable: ClassVar[frozenset[str]]  # arguments that may be edited: texts for others
    visible: ClassVar[bool] = True  # whether reading the room can show the effect

    @abstractmethod
    def assess(self, room: Room, policy: Policy) -> tuple[Self, Impact]:
        """Return this call with full ids, and its impact. Raises ActiveRoomsError if the call is refused."""

    @abstractmethod
    def drift(self, shown: Impact, room: Room, policy: Policy) -> Drift:
        """Return whether an approved call still fits `room`. `shown` is what the approver saw."""

    @abstractmethod
    def question(self, impact: Impact) -> list[str]:
        """Return the question in lines: what would happen, to whom, and the message or reason in full."""

    def hits_on_arrival(self, impact: Impact) -> bool:
        """Return whether the request affects whoever is there when it arrives, not only people shown."""
        return False

    def audience(self, impact: Impact) -> tuple[str, ...]:
        """Return the target. An approval for further messages covers calls with an equal target."""
        # By default: `impact.kind` and all arguments that cannot be edited.
        alike = sorted(self.model_dump(exclude=set(self.editable)).items())
        return (impact.kind, *(json.dumps(pair) for pair in alike))

    @abstractmethod
    async def request(self, client: ActiveRoomsClient) -> None:
        """Send the request. Raises ApiError, which says whether the room may have been changed."""

    def per_person(self, impact: Impact) -> Sequence[StateChange]:
        """Return one call for each person if each needs a request; () if one request is enough."""
        return ()

    async def seen(
        self, client: ActiveRoomsClient, shown: Impact, people: Sequence[Person]
    ) -> Observation:
        """Read the room once, and return what the room shows of the effect on `people`."""
        # An override may set `gone` to False only if the session of `shown` still runs, since the gate
        # may then send the request again.
        try:
            room = await client.retrieve_active_room(self.room_id)
        except NotActive:
            return Observation(gone=True)
        there = frozenset(room.session.peers)
        still = there & {p.id for p in people}
        over = room.session.id != shown.session_id
        return Observation(over or bool(people and not still), still, there)

    @abstractmethod
    def effect(self, impact: Impact, total: int) -> str:
        """Return a sentence that says what the accepted call did to `total` people."""

    def condition(self, impact: Impact) -> str:
        """Return a sentence for this case: 100ms's answer was lost, but the room shows the effect."""
        # The words must not claim that this call caused the effect.
        return "The room shows the effect. Whether this request caused it is not known."

    @property
    def checked(self) -> str:
        """The sentence in an outcome that says that the room was read and shows the effect."""
        return CHECKED

    @property
    def gone_text(self) -> str:
        """The outcome after a 404, which means that nobody was left to affect; "" if a 404 is a failure."""
        return ""

    def edited(self, changes: dict[str, object]) -> StateChange:
        """Return the changed call. Raises InvalidCall for a wrong value, or an argument not in `editable`."""
        edited = self.parse({**self.arguments(), **changes})
        old, new = self.model_dump(), edited.model_dump()
        if foreign := [k for k in sorted(old) if old[k] != new[k] and k not in self.editable]:
            raise InvalidCall(
                f"Only {' and '.join(sorted(self.editable)) or 'nothing'} may be edited, not "
                f"{quoted(foreign[0], 40)}."
            )
        return edited

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that are set, as plain JSON values."""
        return self.model_dump(exclude_none=True)


def reason_lines(reason: str | None) -> list[str]:
    return [f"Reason shown to the others: {quoted(reason, 600)}"] if reason else []
