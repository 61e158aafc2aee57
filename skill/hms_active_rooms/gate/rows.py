"""The journal's rows from asynchronous code: read one, move one, end one that is late."""

from __future__ import annotations

import asyncio

from hms_active_rooms.errors import InvalidCall, JournalError
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.records import Action
from hms_active_rooms.gate.states import State


class Rows:
    """Base of what decides about rows. The journal blocks, so each step takes a thread."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    async def get(self, action_id: str) -> Action:
        """The row with this id.

        Raises:
            InvalidCall: there is none.
        """
        action = await asyncio.to_thread(self.journal.get, action_id)
        if action is None:
            raise InvalidCall("There is no such action.", hint="List them with: actions.")
        return action

    async def latest(self, action: Action) -> Action:
        """The newest revision of the same call."""
        return await asyncio.to_thread(self.journal.latest, action.call_key) or action

    async def move(
        self, action: Action, after: State, *, by: str, way: str, **columns: object
    ) -> Action:
        """Move a row if nobody was first, and return it as it is then.

        What would be approved too late is expired.
        """
        data = {"reason": columns["reason"]} if "reason" in columns else {}
        await asyncio.to_thread(
            self.journal.move, action, after, by=by, way=way, data=data, **columns
        )
        moved = await asyncio.to_thread(self.journal.get, action.id)
        if moved is None:
            raise JournalError("The action vanished from the journal.")
        return await self.expire_if_late(moved) if after == "approved" else moved

    async def expire_if_late(self, action: Action) -> Action:
        """The row, `expired` once its time is over."""
        if action.state != "expired" and action.state_at(self.journal.now()) == "expired":
            word = "answered" if action.state == "proposed" else "used"
            reason = f"The approval was not {word} in time. Ask again if it is still wanted."
            return await self.move(action, "expired", by="gate", way="gate", reason=reason)
        return action
