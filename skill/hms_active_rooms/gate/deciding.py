"""A person's decision: written into the row once, for exactly what was shown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from datetime import timedelta
from typing import Self

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.approval import ApprovalRequest, Approve, Edit, Reject
from hms_active_rooms.gate.calls import StateChange, parse_call
from hms_active_rooms.gate.digest import canonical
from hms_active_rooms.gate.drafts import bound, draft
from hms_active_rooms.gate.impact import Impact
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.gate.records import Action, Ask, Grant
from hms_active_rooms.gate.rows import Rows
from hms_active_rooms.gate.states import State
from hms_active_rooms.gate.wording import describe
from hms_active_rooms.gate.workers import this_worker
from hms_active_rooms.untrusted import storable

_MAX_REASON_CHARS = 2000


class Deciding(Rows):
    """Asks and decides. Whatever way a person is asked by, the decision ends up here."""

    def __init__(self, journal: Journal, policy: Policy) -> None:
        super().__init__(journal)
        self.policy = policy

    def asking(self) -> Self:
        """The same gate under a policy that lets nothing run unasked."""
        strict = copy(self)
        strict.policy = self.policy.model_copy(
            update={"relaxed": frozenset(), "unattended": frozenset()}
        )
        return strict

    def request(self, action: Action) -> ApprovalRequest:
        """What a person is shown about this row, everywhere the same."""
        call = parse_call(action.tool, action.arguments)
        impact = Impact.from_json(action.impact or {})
        return ApprovalRequest(
            action_id=action.id,
            tool=action.tool,
            arguments=action.arguments,
            impact=impact,
            digest=action.digest,
            deadline=action.expires_at,
            gate="soft" if action.gate == "soft" else "hard",
            editable=tuple(sorted(call.words)),
            text=describe(call, impact, action.note),
            note=action.note,
        )

    async def asked(self, action: Action, way: str) -> None:
        """Record that a person was shown this row."""
        await asyncio.to_thread(
            self.journal.note, action.id, "asked", way=way, digest=action.digest
        )

    async def place_ask(self, place: tuple[str, ...], items: Sequence[str]) -> Ask:
        """Record what is asked at a place of a graph; the first record there stays."""
        return await asyncio.to_thread(self.journal.ask, place, items)

    async def bad_answer(self, action: Action, reason: str, *, way: str) -> None:
        """Record an answer that was none; nothing moves."""
        await asyncio.to_thread(
            self.journal.note, action.id, "bad_answer", way=way, reason=storable(reason)
        )

    async def open_actions(self, thread: str) -> list[Action]:
        """The thread's rows that could still be sent: proposed, or approved and not sent."""
        states: tuple[State, ...] = ("proposed", "approved")
        found = [
            await asyncio.to_thread(self.journal.actions, state=state, thread=thread, limit=1000)
            for state in states
        ]
        return [action for actions in found for action in actions]

    async def withdraw(self, action_id: str, reason: str, *, by: str, way: str) -> Action:
        """Take back an action that was not sent yet, approved or not, and its thread's grants."""
        by = storable(by)
        action = await self.expire_if_late(await self.get(action_id))
        while action.state in ("proposed", "approved"):
            action = await self.expire_if_late(await self._reject(action, reason, by, way))
        # Last, so that no grant given in between outlives it.
        await asyncio.to_thread(self.journal.revoke_grants, action.thread)
        return action

    async def decide(self, action_id: str, decision: object, *, by: str, way: str) -> Action:
        """Write a person's decision. The first one counts; the row says which it was.

        A person's no counts until it is sent, also after another's yes. Anything that is not
        a `Decision` on exactly this digest rejects the action.

        Raises:
            InvalidCall: no such action.
        """
        action = await self.expire_if_late(await self.get(action_id))
        by = storable(str(getattr(decision, "by", "") or by))
        unsent = action.state in ("proposed", "approved")
        # The gate's own refusals say nothing about what a person wants.
        if isinstance(decision, Reject) and way != "gate" and unsent:
            return await self.withdraw(action.id, decision.reason, by=by, way=way)
        if action.state != "proposed":
            return action
        match decision:
            case Reject():
                return await self._reject(action, decision.reason, by, way)
            case Approve() | Edit() if decision.digest != action.digest:
                reason = "the answer was for another request than the one that is pending"
                return await self._reject(action, reason, by, way)
            case Approve(scope="session") if action.gate != "soft":
                reason = "a destructive action cannot be approved for the rest of the session"
                return await self._reject(action, reason, by, way)
            case Approve(scope="once" | "session"):
                approved = await self.move(action, "approved", by=by, way=way)
                if decision.scope == "session" and approved.state == "approved":
                    grant = replace(self.grant_for(approved), granted_by=by, action_id=action.id)
                    await asyncio.to_thread(self.journal.add_grant, grant)
                return approved
            case Edit():
                return await self._edit(action, decision, by, way)
            case _:
                return await self._reject(action, "the answer was not understood", by, way)

    async def _reject(self, action: Action, reason: str, by: str, way: str) -> Action:
        reason = storable(str(reason))[:_MAX_REASON_CHARS]
        return await self.move(action, "rejected", by=by, way=way, reason=reason)

    async def _edit(self, action: Action, edit: Edit, by: str, way: str) -> Action:
        try:
            call = parse_call(action.tool, action.arguments).edited(dict(edit.changes))
        except InvalidCall as error:
            return await self._reject(action, f"the edit was refused: {error}", by, way)
        impact = Impact.from_json(action.impact or {})
        row = bound(self._next_revision(action, call), call, impact)
        successor = replace(row, edited_from=action.id, expires_at=action.expires_at)
        reason = f"edited by the person into action {successor.id}"
        await asyncio.to_thread(
            self.journal.replace, action, successor, state="rejected", reason=reason, by=by, way=way
        )
        latest = await self.latest(action)
        if latest.id != successor.id or latest.state != "proposed":
            return latest
        return await self.move(latest, "approved", by=by, way=way)

    def grant_for(self, action: Action) -> Grant:
        """What "for the rest of the session" means for this row: so much, and no more."""
        impact = Impact.from_json(action.impact or {})
        arguments = action.arguments
        target = arguments.get("peer_id") or arguments.get("role") or ""
        return Grant(
            tool=action.tool,
            room_id=action.room_id,
            session_id=impact.session_id,
            thread=action.thread,
            requester=action.requester,
            worker=this_worker(),
            audience=canonical([impact.kind, target, arguments.get("type", "")]),
            most=int(impact.total * (1 + self.policy.audience_growth)),
            granted_by="",
            action_id="",
            expires_at=self.journal.now() + timedelta(seconds=self.policy.grant_ttl_s),
        )

    def _next_revision(self, action: Action, call: StateChange) -> Action:
        return draft(
            call,
            key=action.call_key,
            revision=action.revision + 1,
            thread=action.thread,
            requester=action.requester,
            now=self.journal.now(),
            ttl_s=self.policy.approval_ttl_s,
        )
