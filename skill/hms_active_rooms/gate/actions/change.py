"""What the gate asks of a state-changing tool: the interface of the files in this folder.

A tool is one subclass of `StateChange` in one file. Its fields are the tool's arguments; its
methods say who is hit, what a change since then means, the words a person decides on, the
request, the look afterwards, and the words of the outcome. The gate knows tools only by this.

A target (room, peer, role, lock) is part of a call's identity; the person who approves may
edit `words` only.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hms_active_rooms.api.ids import parse_peer_ref, parse_room_id
from hms_active_rooms.errors import InvalidCall, NotActive, NotFound, PeerNotFound
from hms_active_rooms.gate.actions.result import CHECKED, Observation
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from hms_active_rooms.api.client import ActiveRoomsClient
    from hms_active_rooms.gate.actions.impact import Drift, Impact, Person, Room
    from hms_active_rooms.gate.policy import Policy

MAX_REASON_CHARS = 500
"""Our choice: a reason is one sentence other peers read. The API documents no limit."""

MAX_LABEL_CHARS = 100
"""Our choice for roles and message types. The API documents no limit."""

GONE = (NotActive, PeerNotFound, NotFound)
"""A 404, whatever its text: who was read a moment before is gone."""


def _checked(parse: Callable[[str], str]) -> AfterValidator:
    def check(value: str) -> str:
        try:
            return parse(value)
        except InvalidCall as error:
            raise ValueError(str(error)) from None

    return AfterValidator(check)


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds a lone surrogate, which cannot be sent") from None
    return value


Text = Annotated[str, AfterValidator(_encodable)]
RoomId = Annotated[str, _checked(parse_room_id), Field(description="Room id: 24 hex characters.")]
PeerRef = Annotated[str, _checked(parse_peer_ref)]
Role = Annotated[Text, Field(min_length=1, max_length=MAX_LABEL_CHARS)]
Reason = Annotated[
    Text, Field(min_length=1, max_length=MAX_REASON_CHARS, description="Shown to the others.")
]


def _slim(schema: dict[str, Any]) -> None:
    """Shorten the schema to what all providers take, strict mode or not: an optional field is its
    type or null. Limits and defaults are told in words; validation enforces and reports them."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        options = [o for o in field.get("anyOf", ()) if o.get("type") != "null"]
        full = {**options[0], **field} if options else field
        kind = {"type": full["type"]}
        types = kind if name in required else {"anyOf": [kind, {"type": "null"}]}
        told = {"description": full["description"]} if "description" in full else {}
        schema["properties"][name] = {**types, **told}


class Arguments(BaseModel):
    """Base of every tool's arguments: frozen, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, json_schema_extra=_slim)

    room_id: RoomId

    @classmethod
    def parse(cls, given: object) -> Self:
        """These arguments, or InvalidCall, which says what is wrong with them."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise InvalidCall(explain(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, given: object) -> object:
        """Of an optional argument null and "" mean absent: some strict modes send every one."""
        if not isinstance(given, Mapping):
            return given
        if "body" in given:
            raise ValueError("give the members of body beside room_id, without body")
        required = {name for name, field in cls.model_fields.items() if field.is_required()}
        return {k: v for k, v in given.items() if v not in (None, "") or k in required}


class StateChange(Arguments, ABC):
    """A call that changes a room. Subclasses are the tools; see the module's docstring."""

    tool: ClassVar[str]
    """Its name in the contract."""
    noun: ClassVar[str]
    """What is sent, in one word: "the message may have reached the room"."""
    words: ClassVar[frozenset[str]]
    """Fields the approving person may edit: text others read, never a target."""
    visible: ClassVar[bool] = True
    """Whether the room shows the effect."""

    @abstractmethod
    def assess(self, room: Room, policy: Policy) -> tuple[Self, Impact]:
        """This call with full ids, and who it hits.

        Raises:
            PeerNotFound: nobody has that id or role now.
            InvalidCall: a short id that fits several peers.
            PolicyRefusal: a protected peer or role, or more people than one action may hit.
        """

    @abstractmethod
    def drift(self, shown: Impact, room: Room, policy: Policy) -> Drift:
        """What changed since `shown`, in the same session, and what that means for the claim; it
        raises as `assess` does."""

    @abstractmethod
    def question(self, impact: Impact) -> list[str]:
        """What would happen, to whom; the whole message or reason. A person decides on this."""

    def hits_on_arrival(self, impact: Impact) -> bool:
        """Whether the request carries no peer id and no session id, so that 100ms applies it to
        whoever is in the room when it arrives."""
        return False

    def audience(self, impact: Impact) -> tuple[str, ...]:
        """What calls under one "for the rest of this session" have in common, the tool and the room
        besides: the kind, and every argument but `words`."""
        alike = sorted(self.model_dump(exclude=set(self.words)).items())
        return (impact.kind, *(json.dumps(pair) for pair in alike))

    @abstractmethod
    async def request(self, client: ActiveRoomsClient) -> None:
        """Send the one request.

        Raises:
            ApiError: `executed` says whether it may have changed the room.
        """

    def apart(self, impact: Impact) -> Sequence[StateChange]:
        """One call for each of the people shown, if each gets a request of their own. What became
        of them is told as of people who were removed."""
        return ()

    async def seen(
        self, client: ActiveRoomsClient, shown: Impact, people: Sequence[Person]
    ) -> Observation:
        """One look at the room: the people should be gone; if none is named, the session should be
        over. A tool with another effect overrides this, and says in `gone` whether the room shows
        it: False only of the very same session, since the request may then be sent again.

        Raises:
            ApiError: the room could not be read.
        """
        try:
            room = await client.retrieve_active_room(self.room_id)
        except NotActive:
            return Observation(gone=True)
        still = {p.id for p in people} & set(room.session.peers)
        over = room.session.id != shown.session_id
        return Observation(over or bool(people and not still), frozenset(still))

    @abstractmethod
    def effect(self, impact: Impact, total: int) -> str:
        """What an accepted call did."""

    def condition(self, impact: Impact) -> str:
        """The state of the room that shows the effect, without saying whose doing it is."""
        return "The room shows it. Whether by this request is not known."

    @property
    def checked(self) -> str:
        """What a look that saw the effect adds to it."""
        return CHECKED

    gone_text: ClassVar[str] = ""
    """The result when the request is answered by a 404: the effect was there before. Empty: a 404
    shows no effect, and the request failed."""

    def edited(self, changes: dict[str, object]) -> StateChange:
        """This call with other words, checked like any call.

        Raises:
            InvalidCall: a field that is not `words`, or a wrong value.
        """
        if foreign := sorted(set(changes) - self.words):
            raise InvalidCall(
                f"Only {' and '.join(sorted(self.words)) or 'nothing'} may be edited, not "
                f"{quoted(foreign[0], 40)}."
            )
        return self.parse({**self.arguments(), **changes})

    def arguments(self) -> dict[str, Any]:
        """The arguments that are set, as plain JSON values."""
        return self.model_dump(exclude_none=True)


def reason_lines(reason: str | None) -> list[str]:
    """What a question says of a reason that others will read."""
    return [f"Reason shown to the others: {quoted(reason, 600)}"] if reason else []


def explain(error: ValidationError) -> str:
    """One line: which argument is wrong and why, values capped."""
    return explain_all(error.errors(include_url=False, include_input=False))


def explain_all(problems: Sequence[Mapping[str, Any]]) -> str:
    """As `explain`, from pydantic's list of problems."""
    parts = []
    for problem in problems[:5]:
        place = ".".join(quoted(str(p), 40)[1:-1] for p in problem["loc"]) or "arguments"
        if problem["type"] == "extra_forbidden":
            parts.append(f"{place}: there is no such argument")
        elif problem["type"] in ("too_short", "string_too_short"):
            parts.append(f"{place}: it is empty")
        else:
            parts.append(f"{place}: {problem['msg'].removeprefix('Value error, ').rstrip('.')}")
    return "; ".join(parts) + "."
