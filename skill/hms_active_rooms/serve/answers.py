"""What a program is told about a call: a text for a model, and data with a schema. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import BaseModel

from hms_active_rooms.gate.actions import CALLS
from hms_active_rooms.gate.journal.records import Action
from hms_active_rooms.gate.view import ActionView, view
from hms_active_rooms.gate.wording import for_model
from hms_active_rooms.tools.read_data import PeersData, PeersTable, RoomData

DATA: Final[dict[str, type[BaseModel]]] = {
    "hms-retrieve-active-room": RoomData,
    "hms-list-peers": PeersData,
    **dict.fromkeys(CALLS, ActionView),
}
"""Tool name of the contract to what `Answer.data` holds; a test holds that the names agree."""

MCP_DATA: Final[dict[str, type[BaseModel]]] = {**DATA, "hms-list-peers": PeersTable}
"""The same for MCP, whose clients show a model the text, the data, or both."""


@dataclass(frozen=True)
class Answer:
    """What a call came to.

    Attributes:
        text: for a model.
        data: plain values, by `DATA`.
        action: the journal's row of a state-changing call; None for a reader.
        repeated: it is the outcome of the same call before; this one sent nothing.
    """

    text: str
    data: dict[str, Any]
    action: Action | None = None
    repeated: bool = False

    def saying(self, text: str) -> Answer:
        """The same in other words."""
        return replace(self, text=text, data={**self.data, "text": text})

    @property
    def failed(self) -> bool:
        """It was approved and tried, and surely not executed."""
        row = self.action
        return row is not None and row.state == "failed" and row.executed == "no"


def where_to_approve(action_id: str, page: str = "") -> str:
    """What a person does elsewhere to decide. `page`: address of the approvals page, if any."""
    terminal = f"in a terminal: hms-active-rooms approve {action_id}"
    return f"on the page {page}, or {terminal}" if page else terminal


def action_answer(action: Action, page: str = "") -> Answer:
    """The answer about a state-changing call, from its row."""
    text, approve_at = for_model(action), where_to_approve(action.id, page)
    if action.state == "proposed":
        note = f"It is asked again: {action.note} " if action.note else ""
        text = (
            f"{text} {note}A person decides on it {approve_at}, "
            f"until {action.expires_at:%Y-%m-%d %H:%M:%S} UTC. Do not approve it for them. "
            "The same call with the same arguments tells what came of it."
        )
    data = view(action, approve_at=approve_at, text=text).model_dump(mode="json")
    return Answer(text, data, action)
