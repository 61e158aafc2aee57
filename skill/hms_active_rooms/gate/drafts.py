"""New rows: where a call was made, what identifies it, and what its digest covers. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hms_active_rooms.capability import capability
from hms_active_rooms.errors import (
    ActiveRoomsError,
    InvalidCall,
    NotActive,
    PeerNotFound,
    PolicyRefusal,
)
from hms_active_rooms.gate.calls import StateChange
from hms_active_rooms.gate.digest import digest, short_name
from hms_active_rooms.gate.impact import Impact
from hms_active_rooms.gate.policy import gate_for
from hms_active_rooms.gate.records import Action


@dataclass(frozen=True)
class Origin:
    """Where a call was made: the same place and the same call is the same action.

    Attributes:
        thread: conversation or process.
        message: the message or graph task that holds the call.
        call: the call's id in it.
        requester: who asks, for the record ("agent", "cli:ada").
    """

    thread: str
    message: str
    call: str
    requester: str


def draft(
    call: StateChange,
    *,
    key: str,
    revision: int,
    thread: str,
    requester: str,
    now: datetime,
    ttl_s: float,
) -> Action:
    """A new proposed row for a call, not yet bound to whom it hits."""
    return Action(
        id=short_name(key, str(revision)),
        call_key=key,
        revision=revision,
        thread=thread,
        requester=requester,
        tool=call.tool,
        room_id=call.room_id,
        arguments=call.arguments(),
        impact=None,
        digest=digest({"tool": call.tool, "arguments": call.arguments()}),
        gate=gate_for(capability().tool(call.tool).hints),
        state="proposed",
        note="",
        reason="",
        decided_by="",
        decided_way="",
        worker="",
        created_at=now,
        expires_at=now + timedelta(seconds=ttl_s),
        decided_at=None,
        sent_at=None,
        lease_until=None,
        finished_at=None,
        result={},
        edited_from=None,
    )


def call_key(call: StateChange, origin: Origin) -> str:
    """The identity of one call made at one place; its revisions share it."""
    return digest(
        {
            "thread": origin.thread,
            "message": origin.message,
            "call": origin.call,
            "digest": digest({"tool": call.tool, "arguments": call.arguments()}),
        }
    )


def bound(row: Action, call: StateChange, impact: Impact) -> Action:
    """The row bound to the full call and to who it hits."""
    shown = impact.as_json()
    content = {
        # The row itself, so that an answer to one of two identical calls is none to the other.
        "action": [row.call_key, row.revision],
        "tool": call.tool,
        "arguments": call.arguments(),
        "impact": shown,
    }
    return replace(row, arguments=call.arguments(), impact=shown, digest=digest(content))


def refused_again(action: Action) -> Action:
    """A call the gate refused on the spot is refused again in the same words."""
    if action.state == "rejected" and action.impact is None:
        errors: dict[str, type[ActiveRoomsError]] = {
            e.code: e for e in (PolicyRefusal, InvalidCall, PeerNotFound, NotActive)
        }
        error = errors.get(str(action.result.get("code")), InvalidCall)
        raise error(str(action.result.get("text")), hint=str(action.result.get("hint")))
    return action
