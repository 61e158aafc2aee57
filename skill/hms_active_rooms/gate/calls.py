"""The three state-changing calls: what the gate judges, shows and sends.

Frozen pydantic models, unknown fields refused. The field descriptions are what a
model reads. A target (room, peer, role, lock) is part of a call's identity; only
the `words` may be edited by the person who approves.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hms_active_rooms.api.ids import parse_peer_ref, parse_room_id
from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.untrusted import quoted

MAX_MESSAGE_BYTES = 4096
"""100ms documents 4 KB for a client's custom event; assumed to hold for send-message too."""

MAX_REASON_CHARS = 500
"""Our choice: a reason is one sentence other peers read. The API documents no limit."""

MAX_LABEL_CHARS = 100
"""Our choice for roles and message types. The API documents no limit."""


def _room_id(value: str) -> str:
    try:
        return parse_room_id(value)
    except InvalidCall as error:
        raise ValueError(str(error)) from None


def _peer_ref(value: str) -> str:
    try:
        return parse_peer_ref(value)
    except InvalidCall as error:
        raise ValueError(str(error)) from None


def _message(value: str) -> str:
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > MAX_MESSAGE_BYTES:
        raise ValueError(f"the message has {size} bytes; at most {MAX_MESSAGE_BYTES} are sent")
    return value


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds a lone surrogate, which cannot be sent") from None
    return value


Text = Annotated[str, AfterValidator(_encodable)]
RoomId = Annotated[
    str,
    AfterValidator(_room_id),
    Field(description="Room id: 24 hex characters."),
]
PeerRef = Annotated[str, AfterValidator(_peer_ref)]
Role = Annotated[Text, Field(min_length=1, max_length=MAX_LABEL_CHARS)]
Reason = Annotated[
    Text,
    Field(
        min_length=1, max_length=MAX_REASON_CHARS, description="Shown to the others in the room."
    ),
]


def _slim(schema: dict[str, Any]) -> None:
    """The schema as short as a model needs it, a third fewer tokens: an optional field is the
    plain type it has when given, and lengths are left to the check, whose error names them."""
    dropped = ("anyOf", "title", "minLength", "maxLength")
    for name, field in schema.get("properties", {}).items():
        options = [o for o in field.get("anyOf", ()) if o.get("type") != "null"]
        full = {**options[0], **field} if len(options) == 1 else field
        kept = {k: v for k, v in full.items() if k not in dropped and (k, v) != ("default", None)}
        schema["properties"][name] = kept


class Arguments(BaseModel):
    """Base of every tool's arguments: frozen, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, json_schema_extra=_slim)

    room_id: RoomId


class StateChange(Arguments):
    """Base of the three calls that change a room."""

    tool: ClassVar[str]
    words: ClassVar[frozenset[str]]
    """Fields the approving person may edit: text others read, never a target."""

    def with_peer_id(self, peer_id: str) -> StateChange:
        """This call with a short peer id replaced by the full one."""
        return self.model_copy(update={"peer_id": peer_id})

    def edited(self, changes: dict[str, object]) -> StateChange:
        """This call with other words, checked like any call.

        Raises:
            InvalidCall: a field that is not words, or a value the model refuses.
        """
        if foreign := sorted(set(changes) - self.words):
            raise InvalidCall(
                f"Only {', '.join(sorted(self.words))} may be edited, not {', '.join(foreign)}."
            )
        return parse_call(self.tool, {**self.arguments(), **changes})

    def arguments(self) -> dict[str, object]:
        """The arguments that are set, as plain JSON values."""
        return self.model_dump(exclude_none=True)


class SendMessage(StateChange):
    """Send one message to a peer, to a role or to everyone."""

    tool: ClassVar[str] = "hms-send-message"
    words: ClassVar[frozenset[str]] = frozenset({"message", "type"})

    message: Annotated[
        Text,
        AfterValidator(_message),
        Field(min_length=1, description="The text, at most 4096 bytes."),
    ]
    peer_id: PeerRef | None = Field(
        default=None,
        description="Send to this peer only; an id from hms-list-peers, short or full.",
    )
    role: Role | None = Field(
        default=None,
        description="Send to everyone with this role. Without peer_id and role: to everyone.",
    )
    type: Annotated[Text, Field(min_length=1, max_length=MAX_LABEL_CHARS)] = Field(
        default="chat", description='Message type; "chat" shows in chat panels.'
    )

    @model_validator(mode="after")
    def _one_audience(self) -> SendMessage:
        if self.peer_id is not None and self.role is not None:
            raise ValueError("give peer_id or role, not both")
        return self


class RemovePeers(StateChange):
    """Remove one peer, or everyone who holds a role now."""

    tool: ClassVar[str] = "hms-remove-peers"
    words: ClassVar[frozenset[str]] = frozenset({"reason"})

    peer_id: PeerRef | None = Field(
        default=None,
        description="Remove this peer; an id from hms-list-peers, short or full.",
    )
    role: Role | None = Field(default=None, description="Remove everyone who has this role now.")
    reason: Reason | None = None

    @model_validator(mode="after")
    def _one_target(self) -> RemovePeers:
        if (self.peer_id is None) == (self.role is None):
            raise ValueError("give exactly one of peer_id and role")
        return self


class EndRoom(StateChange):
    """End the running session for everyone."""

    tool: ClassVar[str] = "hms-end-active-room"
    words: ClassVar[frozenset[str]] = frozenset({"reason"})

    reason: Reason | None = None
    lock: bool = Field(
        default=False, description="true also disables the room: nobody can join until re-enabled."
    )


CALLS: dict[str, type[StateChange]] = {c.tool: c for c in (SendMessage, RemovePeers, EndRoom)}


def parse_call(tool: str, arguments: dict[str, object]) -> StateChange:
    """Checked call of a state-changing tool from plain arguments.

    Raises:
        InvalidCall: no such state-changing tool, or wrong arguments.
    """
    try:
        model = CALLS[tool]
    except KeyError:
        raise InvalidCall(f"{quoted(tool)} is not a state-changing tool.") from None
    try:
        return model.model_validate(arguments)
    except ValidationError as error:
        raise InvalidCall(explain(error)) from None


def explain(error: ValidationError) -> str:
    """One line for a model or a person: which argument is wrong and why, values capped."""
    parts = []
    for problem in error.errors(include_url=False, include_input=False)[:5]:
        place = ".".join(quoted(str(p), 40)[1:-1] for p in problem["loc"]) or "arguments"
        if problem["type"] == "extra_forbidden":
            parts.append(f"{place}: there is no such argument")
        else:
            parts.append(f"{place}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts) + "."
