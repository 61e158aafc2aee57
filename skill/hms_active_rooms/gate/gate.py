"""The one path from a tool to a state-changing request.

Threat: everything the model says, everything peers wrote, and every way a program can be re-run.
Invariant: `run` sends what a person approved (or the policy's code allows), as it was shown, and
nothing else; the journal's row decides, never an argument, a graph state or a resume value.

    propose  -> a row: proposed, or approved by a grant or the policy, or refused
    decide   -> approved | rejected | expired, for exactly the question that was shown
    run      -> reads the room again, claims, sends, looks; or a new revision to ask about
    drive    -> the three in turn, until the action has ended; a way in brings only how to ask
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.api.models import ActiveRoom, Peer, unreadable
from hms_active_rooms.capability import capability
from hms_active_rooms.errors import (
    ActiveRoomsError,
    BadResponse,
    BrokenRecord,
    InvalidCall,
    JournalError,
    NotActive,
    OutcomeUnknown,
    PeerNotFound,
    PolicyRefusal,
)
from hms_active_rooms.gate.actions.change import StateChange
from hms_active_rooms.gate.actions.impact import Drift, Room
from hms_active_rooms.gate.actions.result import Result
from hms_active_rooms.gate.approval import ApprovalRequest, Refuse, Reject
from hms_active_rooms.gate.deciding import (
    Decided,
    decide,
    find_grant,
    next_revision,
    no_such_action,
)
from hms_active_rooms.gate.journal.records import (
    FINAL,
    UNSENT,
    Action,
    Origin,
    Way,
    action_id,
    call_key,
    content_of,
    ran_unasked,
)
from hms_active_rooms.gate.journal.store import RATE_WINDOW, Journal, Writing
from hms_active_rooms.gate.journal.workers import this_worker, worker_may_live
from hms_active_rooms.gate.policy import Policy, gate_for
from hms_active_rooms.gate.sending import Sending, give_back, lease_s
from hms_active_rooms.gate.wording import describe
from hms_active_rooms.untrusted import storable

Ask = Callable[[ApprovalRequest], Awaitable[object]]
"""Shows a person a question and returns the answer. None: nobody answered, nothing is decided.
`Refuse`: nobody can be asked, the action is refused."""


@dataclass(frozen=True)
class Asking:
    """How the caller of `Gate.propose` shows the question at once.

    Attributes:
        way: by which way.
        place: a place of a graph at which one call may ask; "" for none.
        taken: why the call is refused if another one asks there.
    """

    way: Way
    place: str = ""
    taken: str = ""


_POLL_S = 0.2

_LOOK_LASTS = timedelta(seconds=10)
"""A look at the room that is older, because a read or a lock took long, claims nothing."""

_REFUSED = (PolicyRefusal, InvalidCall, PeerNotFound, NotActive)


class Gate:
    """Policy, impact, approval, journal and sending.

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

    async def _read(self, room_id: str) -> Room:
        """The room and everybody in it, from two answers of the API that agree.

        Raises:
            BadResponse: the roster leaves out people who are in the session.
        """
        self.policy.check_room(room_id)
        room, peers = await asyncio.gather(
            self._client.retrieve_active_room(room_id), self._client.list_peers(room_id)
        )
        if not set(room.session.peers) <= {peer.id for peer in peers}:
            # Somebody may have come in between. Whoever is in the session before and after a
            # roster has to be in it: else it is cut short, or has further pages.
            before, peers = set(room.session.peers), await self._client.list_peers(room_id)
            room = await self._client.retrieve_active_room(room_id)
            listed = {peer.id for peer in peers}.union(unreadable(peers))
            missing = before & set(room.session.peers) - listed
            if missing:
                raise BadResponse(
                    f"The list of peers leaves out {len(missing)} of {len(before)} people who are "
                    "in the session.",
                    hint="Who would be hit cannot be known; try again, and report it to 100ms.",
                )
        return Room.read(room, peers)

    async def get(self, action_id: str) -> Action:
        """The row with this id, as it is now.

        Raises:
            InvalidCall: there is none.
        """
        action = await asyncio.to_thread(self.journal.get, action_id)
        if action is None:
            raise no_such_action()
        return action

    async def find(self, call: StateChange, origin: Origin) -> Action | None:
        """The newest row of this call made at this place, if there is one."""
        return await asyncio.to_thread(self.journal.latest, call_key(call, origin))

    async def latest(self, wanted: Action | str) -> Action:
        """The newest revision of the same call, in one read.

        Args:
            wanted: a row of the call, or its id.

        Raises:
            InvalidCall: there is no row with this id.
        """
        known = None if isinstance(wanted, str) else wanted
        action_id = known.id if known else str(wanted)
        newest = await asyncio.to_thread(self.journal.newest, action_id) or known
        if newest is None:
            raise no_such_action()
        return newest

    async def open_actions(self, thread: str) -> list[Action]:
        """The thread's rows that could still be sent: proposed, or approved and not sent."""
        return await asyncio.to_thread(self._open_actions, thread)

    def _open_actions(self, thread: str) -> list[Action]:
        with self.journal.read() as view:
            found = [view.actions(state=s, thread=thread, limit=1000) for s in UNSENT]
        return [action for actions in found for action in actions]

    # --- propose ---------------------------------------------------------------------------

    async def propose(
        self,
        call: StateChange,
        origin: Origin,
        *,
        asking: Asking | None = None,
        always_ask: bool = False,
        looked: bool = False,
    ) -> Action:
        """The row for this call made at this place: a new one, or the one that is there.

        Args:
            call: what to do.
            origin: where the call was made.
            asking: the caller shows the question at once. The record says so in the same write,
                also of a row that another caller inserted meanwhile; with `looked`, of any row
                that is there. So nobody has to call `asked` for what comes back.
            always_ask: ask a person, whatever the policy lets run unasked.
            looked: the caller has just looked, and there was no row.

        Raises:
            PolicyRefusal, InvalidCall, PeerNotFound, NotActive: refused, on record.
            ApiError: the room could not be read; nothing was executed.
            JournalError: no record, so nothing goes on.
        """
        if not looked and (found := await self.find(call, origin)) is not None:
            return refused_again(found)
        row = self._draft(call, origin)
        try:
            full, impact = call.assess(await self._read(call.room_id), self.policy)
        except _REFUSED as error:
            by: Way = "policy" if isinstance(error, PolicyRefusal) else "gate"
            refused = replace(
                row,
                state="rejected",
                reason=error.for_model(),
                decided_by=by,
                decided_way=by,
                decided_at=row.created_at,
                result=Result(str(error), error=error.code, hint=error.hint),
            )
            await asyncio.to_thread(self._insert, refused, None, False)
            raise
        bound = row.bound(full, impact)
        return refused_again(await asyncio.to_thread(self._insert, bound, asking, not always_ask))

    def _draft(self, call: StateChange, origin: Origin) -> Action:
        """A new row for a call, not yet bound to whom it hits."""
        key, now = call_key(call, origin), self.journal.now()
        return Action(
            id=action_id(key, 1),
            call_key=key,
            revision=1,
            thread=origin.thread,
            requester=storable(origin.requester),
            call=call,
            impact=None,
            digest=content_of(call),
            gate="hard" if gate_for(capability().tool(call.tool).hints) == "hard" else "soft",
            state="proposed",
            created_at=now,
            expires_at=now + timedelta(seconds=self.policy.approval_ttl_s),
            content=content_of(call),
        )

    def _insert(self, action: Action, asking: Asking | None, may_run_unasked: bool) -> Action:
        """Insert a row; whoever comes second gets the first one's."""
        with self.journal.write() as tx:
            found = tx.latest(action.call_key)
            if found is not None:
                if asking is not None and found.state == "proposed":
                    tx.note(found.id, "asked", way=asking.way, digest=found.digest)
                return found
            if may_run_unasked and action.state == "proposed":
                action = self._unasked(tx, action)
            action = tx.insert(action)
            if asking is None or action.state != "proposed":
                return action
            items = [action.call_key, action.id, ""]
            if asking.place and not tx.ask(asking.place, items):
                reason = asking.taken
                return tx.move(action, "rejected", by="gate", way="gate", reason=reason)
            tx.note(action.id, "asked", way=asking.way, digest=action.digest)
        return action

    def _unasked(self, tx: Writing, action: Action) -> Action:
        """The row approved by the policy or by a grant, if one of them allows it."""
        way: Way = "grant"
        if self.policy.runs_unasked(action.tool):
            way = "unattended" if action.tool in self.policy.unattended else "relaxed"
            by = "policy"
        elif (grant := find_grant(tx, action, self.policy)) is not None:
            by = grant.granted_by
        else:
            return action
        return replace(
            action, state="approved", decided_by=by, decided_way=way, decided_at=tx.now()
        )

    # --- ask and decide --------------------------------------------------------------------

    def request(self, action: Action, problem: str = "") -> ApprovalRequest:
        """What a person is shown about this row, everywhere the same."""
        return ApprovalRequest(
            action_id=action.id,
            tool=action.tool,
            arguments=action.call.arguments(),
            impact=action.shown,
            digest=action.digest,
            deadline=action.expires_at,
            gate=action.gate,
            editable=tuple(sorted(action.call.words)),
            text=describe(action),
            note=action.note,
            problem=problem,
        )

    async def asked(self, action: Action, way: Way) -> None:
        """Record that a person was shown this row."""
        await asyncio.to_thread(
            self.journal.note, action.id, "asked", way=way, digest=action.digest
        )

    async def decide(
        self,
        action_id: str,
        answer: object,
        *,
        by: str,
        way: Way,
        shown: str = "",
        rooms: Collection[str] | None = None,
    ) -> Decided:
        """Write a person's decision: the one door for yes, no and edited words.

        Args:
            action_id: the row that was shown.
            answer: a `Decision`, or a plain dict that matches an answer of `gate.approval`.
            by: who decides, unless the answer says.
            way: how they were asked.
            shown: the question's text, where it was kept outside the journal; it has to be that
                of the row.
            rooms: the rooms whose actions may be decided; None: any.

        Raises:
            InvalidCall: there is no such action.
        """

        def write() -> Decided:
            with self.journal.write() as tx:
                return decide(
                    tx,
                    action_id,
                    answer,
                    by=by,
                    way=way,
                    policy=self.policy,
                    shown=shown,
                    rooms=rooms,
                )

        return await asyncio.to_thread(write)

    async def drive(
        self,
        action: Action,
        ask: Ask,
        *,
        by: str,
        way: Way,
        shown: bool = False,
        problem: str = "",
    ) -> Action:
        """Ask, decide and run until the action has ended; asked again if the room changed.

        Args:
            action: a row.
            ask: how a person is shown a question and gives an answer.
            by: who answers, unless the answer says.
            way: how they are asked.
            shown: the record says already that this row's question was shown.
            problem: why the last answer was none.

        Returns:
            The newest row; `proposed` when nobody answered.

        Raises:
            See `run`.
        """
        while True:
            if action.state in ("approved", "sent", "unknown"):
                action, shown = await self.run(action), False
            if action.state != "proposed":
                return action
            if not shown:
                await self.asked(action, way)
            shown = True
            answer = await ask(self.request(action, problem))
            if answer is None:
                return action
            if isinstance(answer, Refuse):
                refusal = Reject(answer.reason)
                decided = await self.decide(action.id, refusal, by="gate", way="gate")
            else:
                decided = await self.decide(action.id, answer, by=by, way=way)
            problem, shown = decided.problem, decided.action.id == action.id
            action = decided.action

    # --- run -------------------------------------------------------------------------------

    async def run(self, wanted: Action | str) -> Action:
        """Send an approved row, once, and return the row as it is then.

        `proposed` comes back when what the person saw changed: a new revision, to be asked.
        A row another worker has sent is waited for, then looked at; never sent again.

        Args:
            wanted: the row, as it was just read or decided, or its id.

        Raises:
            InvalidCall: no such action.
            PolicyRefusal: actions per minute; still approved, nothing was executed.
            ApiError: the room could not be read; still approved, nothing was executed.
            OutcomeUnknown: it may have been executed, and the sending broke off.
        """
        action = await self.get(wanted) if isinstance(wanted, str) else wanted
        attempt = 1
        while True:
            action.check()
            if action.state == "proposed" or action.state in FINAL:
                return action
            if action.state in ("sent", "unknown"):
                try:
                    return await self._settle(action)
                except JournalError as error:
                    raise OutcomeUnknown(f"The action {action.id} was sent. {error}") from error
            read_at, room = self.journal.now(), None
            try:
                room = await self._read(action.room_id)
                change = drift(action, room, self.policy)
            except PolicyRefusal as error:
                change = Drift("refused", error.for_model())
            except NotActive:
                change = Drift("nothing_to_do", "The session is over.")
            row, claimed = await self._uninterrupted_claim(action, change, room, read_at)
            if row is None:
                await self._let_others_end(action)
                action = await self.get(action.id)
            elif not claimed:
                action = row
            else:
                outcome = await self._sending(row, change, attempt).send()
                if isinstance(outcome, Action):
                    return outcome
                attempt += 1
                await self._sleep(outcome)
                action = await self.get(action.id)

    def _sending(self, action: Action, change: Drift, attempt: int = 1) -> Sending:
        return Sending(
            self._client, self.journal, self.policy, self._sleep, action, change, attempt
        )

    async def _uninterrupted_claim(
        self, action: Action, change: Drift, room: Room | None, read_at: datetime
    ) -> tuple[Action | None, bool]:
        """`_claim`; if this task is cancelled meanwhile, a claim that went through is given back."""
        claim = asyncio.create_task(asyncio.to_thread(self._claim, action, change, room, read_at))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            # Shielded, and waited for again: a second cancellation must not lose the claim.
            await asyncio.wait([claim])
            with suppress(ActiveRoomsError):
                row, claimed = claim.result()
                if row is not None and claimed:
                    await asyncio.to_thread(give_back, self.journal, row, "cancelled")
            raise

    def _claim(
        self, action: Action, change: Drift, room: Room | None, read_at: datetime
    ) -> tuple[Action | None, bool]:
        """Move an approved row to `sent`: true for exactly one caller, who holds a lease on it.

        Returns:
            The row by now (None: the room as it was read may be over, because it was read long ago
            or another destructive request to it is under way), and whether this caller is to
            send it.

        Raises:
            PolicyRefusal: too many actions in this minute; nothing moved.
            JournalError: call or impact are not those that were approved.
        """
        with self.journal.write() as tx:
            row = tx.get(action.id)
            if row is None:
                raise JournalError("The action vanished from the journal.")
            if row.state != "approved" or row.digest != action.digest:
                return tx.expire_if_late(row), False
            if not row.is_as_shown():
                raise BrokenRecord(f"The action {row.id} is not what was approved.")
            if fault := tx.history_fault(row):
                raise BrokenRecord(f"The record of the action {row.id} {fault}.")
            if ran_unasked(row.decided_way) and not self.policy.runs_unasked(row.tool):
                reason = "This policy does not let it run unasked."
                return tx.move(row, "expired", by="policy", way="policy", reason=reason), False
            if change.verdict == "refused":
                reason = change.reason
                return tx.move(row, "rejected", by="policy", way="policy", reason=reason), False
            if change.verdict == "nothing_to_do" or room is None:
                reason = f"{change.reason} Nothing was sent."
                return tx.move(row, "expired", by="gate", way="claim", reason=reason), False
            again = change.reason if change.verdict == "ask_again" else ""
            if row.decided_way == "grant" and find_grant(tx, row, self.policy) is None:
                again = again or "What was allowed for the session is not allowed any more."
            if again:
                return self._ask_again(tx, row, again, room), False
            if tx.now() - read_at > _LOOK_LASTS:
                return None, False
            if tx.sent_since(tx.now() - RATE_WINDOW) >= self.policy.actions_per_minute:
                raise PolicyRefusal(
                    f"The policy allows {self.policy.actions_per_minute} actions per minute.",
                    hint="Wait a minute; the action is still approved and was not sent.",
                )
            if row.call.hits_on_arrival(row.shown) and tx.has_rival(action):
                return None, False
            now, worker = tx.now(), this_worker()
            lease_until = now + timedelta(seconds=lease_s(self._client, self.policy))
            taken: dict[str, Any] = {"sent_at": now, "worker": worker, "lease_until": lease_until}
            return tx.move(row, "sent", by=worker, way="claim", **taken), True

    def _ask_again(self, tx: Writing, row: Action, reason: str, room: Room) -> Action:
        """End a row and insert its next revision, about the room as it is."""
        try:
            full, impact = row.call.assess(room, self.policy)
        except ActiveRoomsError as error:
            text = f"{reason} {error.for_model()}"
            return tx.move(row, "expired", by="gate", way="claim", reason=text)
        successor = next_revision(row, full, tx.now(), ttl_s=self.policy.approval_ttl_s)
        successor = replace(successor.bound(full, impact), note=reason, edited_from=row.edited_from)
        if row.decided_way in ("grant", "relaxed", "unattended"):
            successor = self._unasked(tx, successor)
        text = f"{reason} Asked again as action {successor.id}."
        data = {"next": successor.id}
        tx.move(row, "expired", by="gate", way="claim", reason=text, data=data)
        return tx.insert(successor)

    async def _let_others_end(self, action: Action) -> None:
        """Wait for other destructive requests to this room to finish."""
        sent = await asyncio.to_thread(
            self.journal.actions, state="sent", room_id=action.room_id, limit=1000
        )
        for other in sent:
            if other.id != action.id and other.gate == "hard":
                await self._settle(other)

    async def _settle(self, action: Action) -> Action:
        """Wait while whoever sent it may still be at it; then call it unknown, and look."""
        while action.state == "sent":
            late = action.lease_until is None or self.journal.now() >= action.lease_until
            if late or not worker_may_live(action.worker):
                action = await asyncio.to_thread(self._give_up, action)
                break
            await self._sleep(_POLL_S)
            action = await self.get(action.id)
        if action.state != "unknown":
            return action
        return await self._sending(action, Drift("go")).look()

    def _give_up(self, action: Action) -> Action:
        text = (
            "The process that was sending it stopped before 100ms answered; "
            "it may have been executed. Look at the room."
        )
        with self.journal.write() as tx:
            row = tx.get(action.id) or action
            if row.state != "sent" or row.lease_until != action.lease_until:
                return row
            result = Result(text, "maybe")
            return tx.move(row, "unknown", by=this_worker(), way="look", result=result)


def drift(action: Action, room: Room, policy: Policy) -> Drift:
    """What the changes since a person was shown an action mean for its claim. Pure.

    Raises:
        PolicyRefusal: somebody who would be hit is protected now, or they are too many.
    """
    if room.session_id != action.shown.session_id:
        reason = "The session that was shown is over; another one is running."
        return Drift("ask_again", reason)
    try:
        return action.call.drift(action.shown, room, policy)
    except PeerNotFound:
        return Drift("nothing_to_do", "They are no longer in the room.")


def refused_again(action: Action) -> Action:
    """Raise the stored refusal if the call was refused on the spot; otherwise return the row."""
    if action.state == "rejected" and action.impact is None:
        refusal = action.result
        errors: dict[str, type[ActiveRoomsError]] = {error.code: error for error in _REFUSED}
        raise errors.get(refusal.error, InvalidCall)(refusal.text, hint=refusal.hint)
    return action
