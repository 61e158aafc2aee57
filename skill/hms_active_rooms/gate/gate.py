"""The one path from a tool to a state-changing request.

Threat: everything the model says, everything peers wrote, and every way a program can
be re-run. Invariant: `run` sends what a person approved (or the policy's code allows),
as it was shown, and nothing else; the journal's row decides, never an argument, a graph
state or a resume value.

    propose  -> a row: proposed, or approved by a grant or the policy, or refused
    decide   -> approved | rejected | expired, for exactly the digest that was shown
    run      -> reads the room again, claims, sends, looks; or a new revision to ask about
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.api.models import ActiveRoom, Peer
from hms_active_rooms.errors import (
    ActiveRoomsError,
    InvalidCall,
    JournalError,
    NotActive,
    PeerNotFound,
    PolicyRefusal,
)
from hms_active_rooms.gate.approval import ApprovalRequest, Approve, Edit, Reject
from hms_active_rooms.gate.calls import StateChange, parse_call
from hms_active_rooms.gate.drafts import Origin, bound, call_key, draft, refused_again
from hms_active_rooms.gate.impact import Drift, Impact, assess, drift
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.gate.records import Action, Ask, Grant, decided
from hms_active_rooms.gate.sending import Sender
from hms_active_rooms.gate.states import FINAL, State
from hms_active_rooms.gate.wording import describe
from hms_active_rooms.gate.workers import this_worker, worker_may_live

_POLL_S = 0.2
_LEASE_SLACK_S = 10.0


class Gate:
    """Policy, impact, approval, journal and sending behind three verbs.

    Args:
        client: the API client. Only the gate calls its write methods.
        policy: what is allowed at all, and unasked.
        journal: the record and the authority.
        sleep: waits that many seconds; tests pass their own.
    """

    def __init__(
        self,
        client: ActiveRoomsClient,
        policy: Policy,
        journal: Journal,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.policy = policy
        self.journal = journal
        self._client = client
        self._sleep = sleep
        self._sender = Sender(client, journal, policy, sleep)

    # --- reading ---------------------------------------------------------------------------

    async def active_room(self, room_id: str) -> ActiveRoom:
        """The live room, if the policy allows it."""
        return await self._client.retrieve_active_room(self._allowed_room(room_id))

    async def peers(self, room_id: str) -> tuple[Peer, ...]:
        """Everybody in the room now, if the policy allows it."""
        return await self._client.list_peers(self._allowed_room(room_id))

    def _allowed_room(self, room_id: str) -> str:
        room_id = parse_room_id(room_id)
        self.policy.check_room(room_id)
        return room_id

    # --- propose ---------------------------------------------------------------------------

    async def propose(self, call: StateChange, origin: Origin) -> Action:
        """The row for this call made at this place: a new one, or the one that is there.

        Raises:
            PolicyRefusal, InvalidCall, PeerNotFound, NotActive: refused, on record.
            ApiError: the room could not be read; nothing was executed.
            JournalError: no record, so nothing goes on.
        """
        key = call_key(call, origin)
        found = await self.find(call, origin)
        if found is not None:
            return refused_again(found)
        row = self._draft(call, key, 1, origin.thread, origin.requester)
        try:
            self.policy.check_room(call.room_id)
            full, impact = assess(call, *await self._read(call.room_id), self.policy)
        except (PolicyRefusal, InvalidCall, PeerNotFound, NotActive) as error:
            way = "policy" if isinstance(error, PolicyRefusal) else "gate"
            stored = {"code": error.code, "text": str(error), "hint": error.hint}
            refusal = replace(
                row,
                state="rejected",
                reason=error.for_model(),
                decided_by=way,
                decided_way=way,
                decided_at=self.journal.now(),
                result=stored,
            )
            await asyncio.to_thread(self.journal.propose, refusal)
            raise
        action = await asyncio.to_thread(self.journal.propose, bound(row, full, impact))
        return await self._approve_unasked(action, impact)

    async def find(self, call: StateChange, origin: Origin) -> Action | None:
        """The newest row of this call made at this place, if there is one."""
        found = await asyncio.to_thread(self.journal.latest, call_key(call, origin))
        return None if found is None else await self._expire_if_late(found)

    async def _read(self, room_id: str) -> tuple[ActiveRoom, tuple[Peer, ...]]:
        room, peers = await asyncio.gather(
            self._client.retrieve_active_room(room_id), self._client.list_peers(room_id)
        )
        return room, peers

    def _draft(
        self, call: StateChange, key: str, revision: int, thread: str, requester: str
    ) -> Action:
        return draft(
            call,
            key=key,
            revision=revision,
            thread=thread,
            requester=requester,
            now=self.journal.now(),
            ttl_s=self.policy.approval_ttl_s,
        )

    def _next_revision(self, action: Action, call: StateChange) -> Action:
        return self._draft(
            call, action.call_key, action.revision + 1, action.thread, action.requester
        )

    async def _approve_unasked(self, action: Action, impact: Impact) -> Action:
        if action.state != "proposed":
            return action
        if self.policy.runs_unasked(action.tool):
            way = "unattended" if action.tool in self.policy.unattended else "relaxed"
            return await self._move(action, "approved", by="policy", way=way)
        if action.gate == "soft":
            grant = await asyncio.to_thread(
                self.journal.find_grant,
                action.tool,
                action.room_id,
                impact.session_id,
                action.thread,
                impact.kind,
            )
            if grant is not None:
                way = f"grant of {grant.action_id}"
                return await self._move(action, "approved", by=grant.granted_by, way=way)
        return action

    # --- decide ----------------------------------------------------------------------------

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

    async def place_ask(self, place: str, items: Sequence[str]) -> Ask:
        """Record what is asked at a place of a graph; the first record there stays."""
        return await asyncio.to_thread(self.journal.ask, place, items)

    async def bad_answer(self, action: Action, reason: str, *, way: str) -> None:
        """Record an answer that was none; nothing moves."""
        await asyncio.to_thread(self.journal.note, action.id, "bad_answer", way=way, reason=reason)

    async def withdraw(self, action_id: str, reason: str, *, by: str, way: str) -> Action:
        """Take back an action that was not sent yet, approved or not."""
        action = await self.get(action_id)
        if action.state in ("proposed", "approved"):
            return await self._move(action, "rejected", by=by, way=way, reason=reason)
        return action

    async def decide(self, action_id: str, decision: object, *, by: str, way: str) -> Action:
        """Write a person's decision. The first one counts; the row says which it was.

        Anything that is not a `Decision` on exactly this digest rejects the action.

        Raises:
            InvalidCall: no such action.
        """
        action = await self._expire_if_late(await self.get(action_id))
        if action.state != "proposed":
            return action
        match decision:
            case Reject():
                return await self._reject(action, decision.reason[:2000], decision.by or by, way)
            case Approve() | Edit() if decision.digest != action.digest:
                reason = "the answer was for another request than the one that is pending"
                return await self._reject(action, reason, decision.by or by, way)
            case Approve(scope="session") if action.gate != "soft":
                reason = "a destructive action cannot be approved for the rest of the session"
                return await self._reject(action, reason, decision.by or by, way)
            case Approve(scope="once" | "session"):
                action = await self._move(action, "approved", by=decision.by or by, way=way)
                if decision.scope == "session" and action.state == "approved":
                    await self._grant(action)
                return action
            case Edit():
                return await self._edit(action, decision, decision.by or by, way)
            case _:
                return await self._reject(action, "the answer was not understood", by, way)

    async def _edit(self, action: Action, edit: Edit, by: str, way: str) -> Action:
        try:
            call = parse_call(action.tool, action.arguments).edited(dict(edit.changes))
        except InvalidCall as error:
            return await self._reject(action, f"the edit was refused: {error}", by, way)
        impact = Impact.from_json(action.impact or {})
        row = self._next_revision(action, call)
        successor = replace(
            bound(row, call, impact), edited_from=action.id, expires_at=action.expires_at
        )
        reason = f"edited by the person into action {successor.id}"
        await asyncio.to_thread(
            self.journal.replace, action, successor, state="rejected", reason=reason, by=by, way=way
        )
        latest = await self._latest(action)
        if latest.id != successor.id or latest.state != "proposed":
            return latest
        return await self._move(latest, "approved", by=by, way=way)

    async def _grant(self, action: Action) -> None:
        impact = Impact.from_json(action.impact or {})
        expires = self.journal.now() + timedelta(seconds=self.policy.grant_ttl_s)
        await asyncio.to_thread(
            self.journal.add_grant,
            Grant(
                tool=action.tool,
                room_id=action.room_id,
                session_id=impact.session_id,
                thread=action.thread,
                kind=impact.kind,
                granted_by=action.decided_by,
                action_id=action.id,
                expires_at=expires,
            ),
        )

    async def _reject(self, action: Action, reason: str, by: str, way: str) -> Action:
        return await self._move(action, "rejected", by=by, way=way, reason=reason)

    async def _expire_if_late(self, action: Action) -> Action:
        if action.state in ("proposed", "approved") and self.journal.now() >= action.expires_at:
            word = "answered" if action.state == "proposed" else "used"
            reason = f"The approval was not {word} in time. Ask again if it is still wanted."
            return await self._move(action, "expired", by="gate", way="gate", reason=reason)
        return action

    # --- run -------------------------------------------------------------------------------

    async def run(self, action_id: str) -> Action:
        """Send an approved row, once, and return the row as it is then.

        `proposed` comes back when what the person saw changed: a new revision, to be asked.
        A row another worker has sent is waited for, then looked at; never sent again.

        Raises:
            InvalidCall: no such action.
            PolicyRefusal: actions per minute; still approved, nothing was executed.
            ApiError: the room could not be read; still approved, nothing was executed.
        """
        while True:
            action = await self._expire_if_late(await self.get(action_id))
            if action.state == "proposed" or action.state in FINAL:
                return action
            if action.state in ("sent", "unknown"):
                return await self._settle(action)
            try:
                change = await self._drift(action)
            except PolicyRefusal as error:
                return await self._move(
                    action, "rejected", by="policy", way="policy", reason=error.for_model()
                )
            if change.verdict == "nothing_to_do":
                reason = f"{change.reason} Nothing was sent."
                return await self._move(action, "expired", by="gate", way="claim", reason=reason)
            if change.verdict == "ask_again":
                successor = await self._ask_again(action, change.reason)
                if successor.id == action.id or successor.state != "approved":
                    return successor
                action_id = successor.id
                continue
            claimed = await asyncio.to_thread(
                self.journal.claim, action, per_minute=self.policy.actions_per_minute
            )
            if claimed is None:
                raise PolicyRefusal(
                    f"The policy allows {self.policy.actions_per_minute} actions per minute.",
                    hint="Wait a minute; the action is still approved and was not sent.",
                )
            if claimed:
                return await self._sender.send(await self.get(action_id), change)

    async def _drift(self, action: Action) -> Drift:
        call = parse_call(action.tool, action.arguments)
        self.policy.check_room(call.room_id)
        try:
            room, peers = await self._read(call.room_id)
        except NotActive:
            return Drift("nothing_to_do", "The session is over.")
        return drift(call, Impact.from_json(action.impact or {}), room, peers, self.policy)

    async def _ask_again(self, action: Action, reason: str) -> Action:
        call = parse_call(action.tool, action.arguments)
        row = self._next_revision(action, call)
        try:
            full, impact = assess(call, *await self._read(call.room_id), self.policy)
        except ActiveRoomsError as error:
            text = f"{reason} {error.for_model()}"
            return await self._move(action, "expired", by="gate", way="claim", reason=text)
        successor = replace(bound(row, full, impact), note=reason, edited_from=action.edited_from)
        await asyncio.to_thread(
            self.journal.replace,
            action,
            successor,
            state="expired",
            reason=f"{reason} Asked again as action {successor.id}.",
            by="gate",
            way="claim",
        )
        return await self._approve_unasked(await self._latest(action), impact)

    async def _settle(self, action: Action) -> Action:
        """Wait while whoever sent it may still be at it; then call it unknown, and look."""
        lease = timedelta(seconds=self._client.deadline_s + self.policy.verify_s + _LEASE_SLACK_S)
        while action.state == "sent":
            late = action.sent_at is None or self.journal.now() >= action.sent_at + lease
            if late or not worker_may_live(action.worker):
                result = {"text": "Whoever sent it stopped before the answer.", "executed": "maybe"}
                action = await self._move(
                    action, "unknown", by=this_worker(), way="look", result=result
                )
                break
            await self._sleep(_POLL_S)
            action = await self.get(action.id)
        return await self._sender.look(action) if action.state == "unknown" else action

    # --- rows ------------------------------------------------------------------------------

    async def get(self, action_id: str) -> Action:
        """The row with this id.

        Raises:
            InvalidCall: there is none.
        """
        action = await asyncio.to_thread(self.journal.get, action_id)
        if action is None:
            raise InvalidCall("There is no such action.", hint="List them with: actions.")
        return action

    async def _latest(self, action: Action) -> Action:
        return await asyncio.to_thread(self.journal.latest, action.call_key) or action

    async def _move(
        self, action: Action, after: State, *, by: str, way: str, **columns: object
    ) -> Action:
        if after in ("approved", "rejected", "expired"):
            columns |= decided(by, way, self.journal.now())
        data = {"reason": columns["reason"]} if "reason" in columns else {}
        await asyncio.to_thread(
            self.journal.move,
            action,
            after,
            by=by,
            way=way,
            data=data,
            **columns,
        )
        moved = await asyncio.to_thread(self.journal.get, action.id)
        if moved is None:
            raise JournalError("The action vanished from the journal.")
        return moved
