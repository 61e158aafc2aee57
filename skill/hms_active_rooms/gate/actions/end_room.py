"""hms-end-active-room: end the running session for everyone, and lock the room if `lock` is set.

People who join or leave after the question do not matter. If another session runs by then, the person
is asked again. The request names no session and ends the one that runs when it arrives. So the gate
first waits for other destructive requests to end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field

from hms_active_rooms.gate.actions.change import Reason, StateChange, reason_lines
from hms_active_rooms.gate.actions.impact import Drift, Impact, Room, people_count
from hms_active_rooms.gate.actions.result import CHECKED
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from hms_active_rooms.api.client import ActiveRoomsClient
    from hms_active_rooms.gate.policy import Policy

_LOCK_WARNING = (
    "The room gets locked: nobody can join until it is enabled again in the dashboard or by API."
)

_UNKNOWN_LOCK = " It is also not known whether the room is locked."


class EndRoom(StateChange):
    """End the running session for everyone."""

    tool: ClassVar[str] = "hms-end-active-room"
    noun: ClassVar[str] = "end"
    editable: ClassVar[frozenset[str]] = frozenset({"reason"})

    reason: Reason | None = None
    lock: bool = Field(default=False, description="true also locks the room until re-enabled.")

    def assess(self, room: Room, policy: Policy) -> tuple[Self, Impact]:
        impact = room.impact("end", room.people, *((_LOCK_WARNING,) if self.lock else ()))
        return self, replace(impact, total=room.total, people=(), lock=self.lock)

    def drift(self, shown: Impact, room: Room, policy: Policy) -> Drift:
        return Drift("go", total=room.total)

    def question(self, impact: Impact) -> list[str]:
        then = "END the session and LOCK the room" if self.lock else "END the session"
        count = f"{people_count(impact.total)}: {impact.roles()}"
        return [
            f"{then} for everyone in {impact.room(self.room_id)} ({count}).",
            f"Session: {quoted(impact.session_id, 40)}",
            *reason_lines(self.reason),
        ]

    def hits_on_arrival(self, impact: Impact) -> bool:
        return True

    async def request(self, client: ActiveRoomsClient) -> None:
        await client.end_room(self.room_id, reason=self.reason, lock=self.lock)

    def effect(self, impact: Impact, total: int) -> str:
        lock = " and the room was locked" if self.lock else ""
        return f"The session was ended for {people_count(total)}{lock}."

    def condition(self, impact: Impact) -> str:
        return (
            "The session that was shown is over. Whether this request ended it is not known."
            f"{_UNKNOWN_LOCK * self.lock}"
        )

    @property
    def gone_text(self) -> str:
        return f"The session was already over.{_UNKNOWN_LOCK * self.lock}"

    @property
    def checked(self) -> str:
        return "Checked: the session is over. The lock cannot be checked." if self.lock else CHECKED
