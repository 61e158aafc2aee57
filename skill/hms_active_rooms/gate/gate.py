"""The one path from a tool to a state-changing request.

Threat: everything the model says, everything peers wrote, and every way a program can
be re-run. Invariant: `run` sends what a person approved (or the policy's code allows),
as it was shown, and nothing else; the journal's row decides, never an argument, a graph
state or a resume value.

    propose  -> a row: proposed, or approved by a grant or the policy, or refused
    decide   -> approved | rejected | expired, for exactly the digest that was shown
    run      -> reads the room again, claims, sends, looks; or a new revision to ask about;
                after a request that was refused for now: waits, and begins again
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.api.models import ActiveRoom, Peer
from hms_active_rooms.errors import (
    ActiveRoomsError,
    InvalidCall,
    JournalError,
    NotActive,
    OutcomeUnknown,
    PeerNotFound,
    PolicyRefusal,
)
from hms_active_rooms.gate.calls import StateChange, parse_call
from hms_active_rooms.gate.deciding import Deciding
from hms_active_rooms.gate.drafts import Origin, bound, call_key, draft, refused_again
from hms_active_rooms.gate.drift import Drift, drift
from hms_active_rooms.gate.impact import Impact, assess
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.gate.records import Action, Grant
from hms_active_rooms.gate.sending import Sender
from hms_active_rooms.gate.states import FINAL
from hms_active_rooms.gate.workers import this_worker, worker_may_live

_POLL_S = 0.2
_BY_GRANT = "grant of "


class Gate(Deciding):
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
        super().__init__(journal, policy)
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

    async def _read(self, room_id: str) -> tuple[ActiveRoom, tuple[Peer, ...]]:
        room, peers = await asyncio.gather(
            self._client.retrieve_active_room(room_id), self._client.list_peers(room_id)
        )
        return room, peers

    # --- propose ---------------------------------------------------------------------------

    async def find(self, call: StateChange, origin: Origin) -> Action | None:
        """The newest row of this call made at this place, if there is one."""
        found = await asyncio.to_thread(self.journal.latest, call_key(call, origin))
        return None if found is None else await self.expire_if_late(found)

    async def propose(self, call: StateChange, origin: Origin) -> Action:
        """The row for this call made at this place: a new one, or the one that is there.

        Raises:
            PolicyRefusal, InvalidCall, PeerNotFound, NotActive: refused, on record.
            ApiError: the room could not be read; nothing was executed.
            JournalError: no record, so nothing goes on.
        """
        found = await self.find(call, origin)
        if found is not None:
            return refused_again(found)
        row = draft(
            call,
            key=call_key(call, origin),
            revision=1,
            thread=origin.thread,
            requester=origin.requester,
            now=self.journal.now(),
            ttl_s=self.policy.approval_ttl_s,
        )
        try:
            self.policy.check_room(call.room_id)
            full, impact = assess(call, *await self._read(call.room_id), self.policy)
        except (PolicyRefusal, InvalidCall, PeerNotFound, NotActive) as error:
            await asyncio.to_thread(self.journal.insert, self._refusal(row, error))
            raise
        action = await asyncio.to_thread(self.journal.insert, bound(row, full, impact))
        return await self._approve_unasked(refused_again(action))

    def _refusal(self, row: Action, error: ActiveRoomsError) -> Action:
        way = "policy" if isinstance(error, PolicyRefusal) else "gate"
        return replace(
            row,
            state="rejected",
            reason=error.for_model(),
            decided_by=way,
            decided_way=way,
            decided_at=self.journal.now(),
            result={"code": error.code, "text": str(error), "hint": error.hint},
        )

    async def _approve_unasked(self, action: Action) -> Action:
        if action.state != "proposed":
            return action
        if self.policy.runs_unasked(action.tool):
            way = "unattended" if action.tool in self.policy.unattended else "relaxed"
            return await self.move(action, "approved", by="policy", way=way)
        if action.gate == "soft" and (grant := await self._grant(action)) is not None:
            way = f"{_BY_GRANT}{grant.action_id}"
            return await self.move(action, "approved", by=grant.granted_by, way=way)
        return action

    async def _grant(self, action: Action) -> Grant | None:
        """What a person allowed for the rest of this session, if it covers this row now."""
        # The grant's own limit already holds the room for growth.
        total = Impact.from_json(action.impact or {}).total
        wanted = replace(self.grant_for(action), most=total)
        return await asyncio.to_thread(self.journal.find_grant, wanted)

    # --- run -------------------------------------------------------------------------------

    async def run(self, action_id: str) -> Action:
        """Send an approved row, once, and return the row as it is then.

        `proposed` comes back when what the person saw changed: a new revision, to be asked.
        A row another worker has sent is waited for, then looked at; never sent again.
        A request that surely was not executed (429, no connection) is tried a few times;
        between them it is approved and not sent, and before each everything is checked again.

        Raises:
            InvalidCall: no such action.
            PolicyRefusal: actions per minute; still approved, nothing was executed.
            ApiError: the room could not be read; still approved, nothing was executed.
            OutcomeUnknown: it may have been executed, and the sending broke off.
        """
        attempt = 1
        while True:
            action = await self.expire_if_late(await self.get(action_id))
            if action.state == "proposed" or action.state in FINAL:
                return action
            if action.state in ("sent", "unknown"):
                try:
                    return await self._settle(action)
                except JournalError as error:
                    raise OutcomeUnknown(f"The action {action.id} was sent. {error}") from error
            if action.decided_way in ("unattended", "relaxed") and not self.policy.runs_unasked(
                action.tool
            ):
                reason = "This policy does not let it run unasked."
                return await self.move(action, "expired", by="policy", way="policy", reason=reason)
            read_at = self.journal.now()
            try:
                change = await self._drift(action)
            except PolicyRefusal as error:
                reason = error.for_model()
                return await self.move(action, "rejected", by="policy", way="policy", reason=reason)
            if change.verdict == "nothing_to_do":
                reason = f"{change.reason} Nothing was sent."
                return await self.move(action, "expired", by="gate", way="claim", reason=reason)
            again = change.reason if change.verdict == "ask_again" else ""
            if action.decided_way.startswith(_BY_GRANT) and await self._grant(action) is None:
                again = again or "What was allowed for the session is not allowed any more."
            if again:
                successor = await self._ask_again(action, again)
                if successor.id == action.id or successor.state != "approved":
                    return successor
                action_id = successor.id
                continue
            names_nobody = Impact.from_json(action.impact or {}).names_nobody
            claimed = await asyncio.to_thread(
                self.journal.claim,
                action,
                per_minute=self.policy.actions_per_minute,
                lease_s=self._sender.lease_s,
                alone_since=read_at if names_nobody else None,
                looked_at=read_at,
            )
            if claimed is None:
                raise PolicyRefusal(
                    f"The policy allows {self.policy.actions_per_minute} actions per minute.",
                    hint="Wait a minute; the action is still approved and was not sent.",
                )
            if claimed:
                sent = replace(action, state="sent")
                ended = await self._sender.send(sent, change, attempt=attempt)
                if ended.state != "approved":
                    return ended
                attempt += 1
                continue
            await self._let_others_end(action)

    async def _let_others_end(self, action: Action) -> None:
        """Wait for what is being sent in this room: an end or a whole role hits what it leaves."""
        sent = await asyncio.to_thread(
            self.journal.actions, state="sent", room_id=action.room_id, limit=1000
        )
        for other in sent:
            if other.id != action.id and other.gate == "hard":
                await self._settle(other)

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
        try:
            full, impact = assess(call, *await self._read(call.room_id), self.policy)
        except ActiveRoomsError as error:
            text = f"{reason} {error.for_model()}"
            return await self.move(action, "expired", by="gate", way="claim", reason=text)
        row = bound(self._next_revision(action, call), full, impact)
        successor = replace(row, note=reason, edited_from=action.edited_from)
        await asyncio.to_thread(
            self.journal.replace,
            action,
            successor,
            state="expired",
            reason=f"{reason} Asked again as action {successor.id}.",
            by="gate",
            way="claim",
        )
        return await self._approve_unasked(await self.latest(action))

    async def _settle(self, action: Action) -> Action:
        """Wait while whoever sent it may still be at it; then call it unknown, and look."""
        while action.state == "sent":
            late = action.lease_until is None or self.journal.now() >= action.lease_until
            if late or not worker_may_live(action.worker):
                result = {"text": "Whoever sent it stopped before the answer.", "executed": "maybe"}
                action = await self.move(
                    action, "unknown", by=this_worker(), way="look", result=result
                )
                break
            await self._sleep(_POLL_S)
            action = await self.get(action.id)
        return await self._sender.look(action) if action.state == "unknown" else action
