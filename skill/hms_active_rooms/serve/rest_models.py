"""What REST takes and sends, as pydantic models; the OpenAPI document is made of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from hms_active_rooms.gate.approval import ReasonText, Scope
from hms_active_rooms.gate.calls import RoomId
from hms_active_rooms.gate.states import State
from hms_active_rooms.serve.answers import ActionData, PeersData, RoomData
from hms_active_rooms.serve.decisions import MAX_LISTED

ACTION_ID: Final = r"^[A-Za-z2-7]{12}$"
DIGEST: Final = r"^[0-9a-f]{64}$"
KEY: Final = r"^[!-~]([ -~]{0,198}[!-~])?$"
"""Of an idempotency key: 1 to 200 printable ASCII characters, no space at either end."""

MAX_EVENTS: Final = 200


class _Taken(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Sent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


# --- taken -------------------------------------------------------------------------------------


class NoQuery(_Taken):
    """No query parameters."""


class ActionsQuery(_Taken):
    """Filters of the list of actions."""

    state: State | None = Field(default=None, description="Only actions in this state.")
    room_id: RoomId | None = Field(default=None, description="Only actions of this room.")
    limit: int = Field(
        default=50, ge=1, le=MAX_LISTED, description="At most so many, newest first."
    )


class Approval(_Taken):
    """A yes to exactly what was shown."""

    digest: str = Field(pattern=DIGEST, description="The request's: what is approved.")
    scope: Scope = Field(
        default="once",
        description='"session": also the next messages like this one; only without words, and '
        "never for what was asked for over REST or MCP.",
    )
    words: dict[Literal["message", "type", "reason"], str] | None = Field(
        default=None,
        min_length=1,
        description="Run it with these words instead; see the request's `editable`.",
    )


class Rejection(_Taken):
    """A no."""

    reason: ReasonText = Field(default="", max_length=2000, description="Told to whoever asked.")
    digest: str | None = Field(default=None, pattern=DIGEST, description="May be left out.")


# --- sent --------------------------------------------------------------------------------------


class ToolHints(_Sent):
    """What a tool does to a room."""

    read_only: bool = Field(alias="readOnly")
    destructive: bool
    idempotent: bool


class ToolData(_Sent):
    """One tool of the contract."""

    name: str
    title: str
    description: str
    hints: ToolHints
    input_schema: dict[str, Any] = Field(description="JSON schema of the request's body.")
    output_schema: dict[str, Any] = Field(description="JSON schema of the answer's `data`.")


class ToolsData(_Sent):
    """The tools."""

    tools: list[ToolData]


class RoomAnswer(_Sent):
    """What hms-retrieve-active-room answers."""

    text: str = Field(description="For a model.")
    data: RoomData


class PeersAnswer(_Sent):
    """What hms-list-peers answers."""

    text: str = Field(description="For a model.")
    data: PeersData


class ActionAnswer(_Sent):
    """What a state-changing tool answers: what is known about the action by now."""

    text: str = Field(description="For a model.")
    data: ActionData
    repeated: bool = Field(
        description="It is the outcome of the same call made before, which had ended already: "
        "nothing was sent for this one."
    )


ANSWERS: Final[dict[str, type[BaseModel]]] = {
    "hms-retrieve-active-room": RoomAnswer,
    "hms-list-peers": PeersAnswer,
    "hms-send-message": ActionAnswer,
    "hms-remove-peers": ActionAnswer,
    "hms-end-active-room": ActionAnswer,
}
"""Tool name of the contract to its answer; a test holds that the names agree."""


class ActionsData(_Sent):
    """Actions, newest first."""

    actions: list[ActionData]


class RequestData(_Sent):
    """What a person decides on."""

    text: str = Field(description="Who is hit and how, as every way of asking shows it.")
    digest: str = Field(description="Goes into the approval.")
    deadline: datetime
    gate: Literal["soft", "hard"]
    editable: list[str] = Field(description="Arguments an approver may give other words.")


class EventData(_Sent):
    """One thing that happened to an action."""

    at: datetime
    kind: str
    by: str
    way: str
    data: dict[str, Any]


class ShownAction(_Sent):
    """One action and what happened to it."""

    action: ActionData
    request: RequestData | None = Field(
        description="None when it was refused on the spot: nobody was asked."
    )
    events: list[EventData] = Field(description=f"Oldest first; the last {MAX_EVENTS}.")
    newest_id: str = Field(
        description="The newest revision of the same call: another id once it was edited or is "
        "asked about again."
    )


class Decided(_Sent):
    """What became of a decision that counts."""

    text: str
    action: ActionData
