"""The one path from a tool to a state-changing request.

Threat: a model, or a text that a peer wrote, asks for a harmful change. Or a restart, a replay or a
second copy of the program repeats a request. Invariant: `run` sends a call only if a person approved
exactly this call, or if the policy lets it run unasked. Only the journal decides whether that is so,
never an argument, a graph's state or a resume value.

    propose  records a call as an action: `proposed`, `approved` or `rejected`. The policy, or a
             grant (an earlier approval with the scope "session"), may approve it at once
    decide   records a person's decision about exactly the question that was shown
    run      reads the room again. If an answer to the question no longer fits the room, `run` makes
             a new revision of the action, to ask again. Else it claims the action (moves it to
             `sent`, which only one caller can), sends the request, and reads the room for its effect
    drive    asks, decides and runs until all actions have ended; the caller passes how to ask
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from hms_active_rooms import errors
from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.api.ids import parse_room_id, refuse_unstorable
from hms_active_rooms.api.models import ActiveRoom, Peer, unreadable
from hms_active_rooms.capability import capability
from hms_active_rooms.errors import ActiveRoomsError, ApiError, BrokenRecord, PolicyRefusal
from hms_active_rooms.gate import approval, sending
from hms_active_rooms.gate.actions.change import StateChange
from hms_active_rooms.gate.actions.impact import Drift, Room
from hms_active_rooms.gate.actions.result import Result, unanswered
from hms_active_rooms.gate.approval import ApprovalRequest, Decided, Reject
from hms_active_rooms.gate.journal import Journal, records
from hms_active_rooms.gate.journal.records import Action, Origin, Way, action_id
from hms_active_rooms.gate.journal.workers import this_worker, worker_may_live
from hms_active_rooms.gate.policy import Policy, gate_for
from hms_active_rooms.gate.sending import Sending, Waits, nobody_waits
from hms_active_rooms.gate.view import ASKED_ONLY_NOW, describe, sent_before
from hms_active_rooms.untrusted import storable

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal.store import Writing

Ask = Callable[[Sequence[ApprovalRequest]], Awaitable[Sequence[object] | None]]
"""Shows a person the questions, and returns one answer for each. None means that nobody has answered,
so nothing is decided. The answer `Refuse` means that nobody can be asked: the action is rejected."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Reread:
    """A read of the room before a claim. If `room` is None, nothing can be sent: see `change`."""

    at: datetime  # when the read began
    until: datetime  # after this time the read is too old to claim the action
    change: Drift
    room: Room | None = None


_Claim = tuple[bool, Action | None]
"""Whether this caller has claimed the action and must send it, and the action as it is now. If the
action is None, the room has to be read again: the last read is too old, or another destructive
request is under way."""

HELD = "held"  # kind of event: an approved action could not be sent, and its caller got an error

_MADE_BEFORE: Final = "A call with the same id and content was made in this conversation before."
_BROKEN_BEFORE: Final = (
    "The same call was made before. Its record is broken, so nobody knows whether it was sent."
)

# The reason of a rejection: another call has already asked in the same step of the graph.
ANOTHER_ASKS = "only one call can ask in one step of a graph, and another one did. Call again later"

_POLL_S = 0.2
# An action is claimed at most so long after the read of the room began, and after the read ended.
# Only a locked journal takes longer.
_REREAD_LASTS, _CLAIM_LASTS = timedelta(seconds=10), timedelta(seconds=2)
_LONGEST_LEASE = timedelta(hours=2)  # no worker's lease (see `records.Action`) is as long as this
_MOST_UNASKED: Final = 20  # if the room changes more often than this, a person is asked
_SLOW_REREADS: Final = 3
_TOO_SLOW: Final = (
    f"{_SLOW_REREADS} attempts were too slow: reading the room took over "
    f"{_REREAD_LASTS.total_seconds():.0f} s, or recording the request took over "
    f"{_CLAIM_LASTS.total_seconds():.0f} s. So nobody can tell who will be there when the request "
    "arrives."
)
_STILL_APPROVED: Final = (
    "The action is still approved and was not sent. Wait a minute. Then make the same call again, or "
    "use `approve` again, to send it."
)

REFUSED = (PolicyRefusal, errors.InvalidCall, errors.PeerNotFound, errors.NotActive)
"""If `propose` raises one of these errors, it has recorded the call as rejected."""


class Gate:
    """The only way to change a room. It lets a person decide, sends the request, and records each step."""

    def __init__(
        self,
        client: ActiveRoomsClient,
        policy: Policy,
        journal: Journal,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        # Validated again, since pydantic's `copy` and `model_construct` validate nothing.
        self.policy = policy = policy.model_copy()
        self.journal = journal
        self._client = client
        self._sleep = sleep
        self._sends_by = (client, journal, policy, sleep)

    # --- reading ---------------------------------------------------------------------------

    async def active_room(self, room_id: str) -> ActiveRoom:
        """Return the live room. Raises PolicyRefusal if the policy does not allow the room."""
        return await self._client.retrieve_active_room(self._allowed_room(room_id))

    async def peers(self, room_id: str) -> tuple[Peer, ...]:
        """Return everybody in the room. Raises PolicyRefusal if the policy does not allow the room."""
        return await self._client.list_peers(self._allowed_room(room_id))

    def _allowed_room(self, room_id: str) -> str:
        room_id = parse_room_id(room_id)
        self.policy.check_room(room_id)
        return room_id

    async def _read(self, room_id: str) -> Room:
        room, peers = await asyncio.gather(self.active_room(room_id), self.peers(room_id))
        before, listed = set(room.session.peers), {peer.id for peer in peers}
        if before != listed:
            # Somebody may have joined or left between the two requests, so both are made again. Whoever
            # is in both answers of one kind has stayed, and must be in those of the other kind, too.
            peers = await self.peers(room_id)
            room = await self.active_room(room_id)
            after, again = set(room.session.peers), {peer.id for peer in peers}
            staying = before & after, listed & again
            for there, short, what, where in (
                (staying[0], again.union(unreadable(peers)), "list of peers", "session"),
                (staying[1], before | after, "session", "list of peers"),
            ):
                if missing := there - short:
                    raise errors.BadResponse(
                        f"The {what} leaves out {len(missing)} of {len(there)} people in the {where}.",
                        hint="Nobody can tell who is there. Try again, and report this to 100ms.",
                    )
        return Room.read(room, peers)

    async def get(self, action_id: str) -> Action:
        """Return the action with this id, as it is now. Raises InvalidCall if there is none."""
        return _there(await asyncio.to_thread(self.journal.get, action_id))

    async def find(self, call: StateChange, origin: Origin) -> Action | None:
        """Return the newest action for this call from this `origin` (who called, and where), or None."""
        return await asyncio.to_thread(self.journal.latest, records.call_key(call, origin))

    async def latest(self, action_id: str) -> Action:
        """Return the newest action for the same call. An edit or a change in the room makes a new action."""
        return _there(await asyncio.to_thread(self.journal.newest, action_id))

    # --- propose ---------------------------------------------------------------------------

    async def propose(
        self,
        call: StateChange,
        origin: Origin,
        *,
        is_new: bool = False,
        shown: Way | None = None,
        place: str = "",
        always_ask: bool = False,
        mine: Collection[str] = (),
        admit: Callable[[Writing], None] | None = None,
        once: str = "",
    ) -> Action:
        """Record a call as an action, and return the action.

        A new action is `proposed` if a person must decide, else `approved`.
        If the same call from the same `origin` is on record, the recorded action is returned.

        Args:
            origin: Where the call was made: conversation, message, call id and requester.
            is_new: The caller knows that the journal has no action for this call.
            shown: How the caller will show the question, for the journal. With None, nothing is recorded.
            place: Names a step of a graph, in which a second call that wants to ask is rejected.
            always_ask: Ask a person even if the policy lets the tool run unasked.
            mine: Other names of this requester. If one of them sent the same call, the question says so.
            admit: Called before a question is recorded. Raises an error if too many questions wait.
            once: The call's id, or "". If a call with this id and content came before, a person is asked.

        Raises:
            PolicyRefusal, InvalidCall, PeerNotFound, NotActive: The call was refused. This is recorded.
            ApiError: The room could not be read.
            JournalError: The call could not be recorded.
        """
        if not is_new and (found := await self.find(call, origin)) is not None:
            return refused_again(found)
        key, content = records.call_key(call, origin), records.content_of(call)
        now = self.journal.now()
        row = Action(
            id=action_id(key, 1),
            call_key=key,
            revision=1,
            thread=origin.thread,
            requester=storable(origin.requester),
            call=call,
            impact=None,
            digest=content,
            gate="hard" if gate_for(capability().tool(call.tool).hints) == "hard" else "soft",
            state="proposed",
            created_at=now,
            expires_at=now + timedelta(seconds=self.policy.approval_ttl_s),
            content=content,
        )
        try:
            full, impact = call.assess(await self._read(call.room_id), self.policy)
        except REFUSED as error:
            by: Way = "policy" if isinstance(error, PolicyRefusal) else "gate"
            # `reason` is for people; `refused_again` makes the same error from `result`.
            result = Result(str(error), error=error.code, hint=error.own_hint)
            refused = row.decided("rejected", by, by, now, reason=str(error), result=result)
            await sending.write_in_thread(
                self.journal, lambda tx: tx.latest(key) or self._insert(tx, refused, key)
            )
            raise
        # The short and the full id of a peer make the same action.
        of_full = records.call_key(full, origin)
        bound = replace(row, id=action_id(of_full, 1), call_key=of_full).bound(full, impact)

        def insert(tx: Writing) -> Action:
            found = tx.latest(of_full)
            may = not always_ask
            new = found or self._insert(tx, bound, key, mine, admit, may_run_unasked=may, once=once)
            for called in (of_full, key):
                _lead(tx, called, new)
            if new.state != "proposed":
                return new
            if place and not tx.ask(place, [new.id, ""]) and found is None:
                return tx.move(new, "rejected", by="gate", way="gate", reason=ANOTHER_ASKS)
            if shown is not None:
                tx.note(new.id, "asked", way=shown, digest=new.digest)
            return new

        return refused_again(await sending.write_in_thread(self.journal, insert))

    def _insert(
        self,
        tx: Writing,
        action: Action,
        made_as: str,
        mine: Collection[str] = (),
        admit: Callable[[Writing], None] | None = None,
        may_run_unasked: bool = False,
        once: str = "",
    ) -> Action:
        """Insert the action and return it. If an action of the same call was approved and held back
        (`HELD`), return that instead. `made_as` is the `call_key` before a short id was made full."""
        if made_as != action.call_key:
            tx.refuse_deleted(action_id(made_as, 1))
        made = {"thread": action.thread, "by": action.requester, "call": once}
        # A digest, since PostgreSQL's index takes no long text, and some models give long call ids.
        same = records.KEPT + records.digest({**made, "content": action.content})
        if once and not tx.ask(same, [action.id]):
            may_run_unasked, action = False, replace(action, note=_MADE_BEFORE)
        before, sent = tx.same_call(action), tx.same_sent(action, {action.requester, *mine})
        if any(earlier and earlier.contradiction for earlier in (before, sent)):
            before, sent, may_run_unasked = None, None, False
            action = replace(action, note=_BROKEN_BEFORE)
        if before and action.state == "proposed" and _is_held_back(tx, before, action, self.policy):
            by, own = action.requester, action.call_key
            tx.note(before.id, records.CALLED_AGAIN, by=by, way="call", call_key=own)
            return before
        if sent is not None:
            action = replace(action, note=sent_before(sent, action, tx.now()))
            may_run_unasked &= not _may_have_arrived(sent)
        if may_run_unasked and action.state == "proposed":
            action = self._unasked(tx, action)
        if admit is not None and action.state == "proposed":
            admit(tx)
        return tx.insert(action)

    def _unasked(self, tx: Writing, action: Action) -> Action:
        if self.policy.runs_unasked(action.tool):
            way: Way = "unattended" if action.tool in self.policy.unattended else "relaxed"
            return action.decided("approved", "policy", way, tx.now())
        if granted := approval.grant_for(tx, action, self.policy):
            return action.decided("approved", granted.decided_by, "grant", tx.now())
        return action

    # --- ask and decide --------------------------------------------------------------------

    def request(self, action: Action, problem: str = "") -> ApprovalRequest:
        """Return the question about this action. `problem` says why an earlier answer did not count."""
        return ApprovalRequest(
            action_id=action.id,
            tool=action.tool,
            arguments=action.call.arguments(),
            impact=action.shown,
            digest=action.digest,
            deadline=action.expires_at,
            gate=action.gate,
            editable=tuple(sorted(action.call.editable)),
            text=describe(action),
            note=action.note,
            problem=problem,
        )

    async def check_allowed(self, action: Action) -> None:
        """Raise PolicyRefusal if the policy refuses the action now. Do nothing if the room is unreadable."""
        with suppress(ApiError):  # `run` will raise it
            change = (await self._reread(action)).change
            if change.verdict == "refused":
                raise PolicyRefusal(change.reason)

    async def asked(self, action: Action, way: Way) -> None:
        """Record that a person was shown the question about this action."""
        note = self.journal.note
        await asyncio.to_thread(note, action.id, "asked", way=way, digest=action.digest)

    async def decide(
        self,
        action_id: str,
        answer: object,
        *,
        by: str,
        way: Way,
        rooms: Collection[str] | None = None,
    ) -> Decided:
        """Record a decision about an action: approve, reject or edit.

        Args:
            answer: An `Approve`, `Reject`, `Edit` or `Refuse`, or a plain dict with the fields of
                `ApproveAnswer`, `RejectAnswer` or `EditAnswer`.
            by: Who decides. A name in `answer` takes precedence.
            way: How this person was asked.
            rooms: Only actions in these rooms may be decided. None allows any room.

        Raises:
            InvalidCall: There is no such action.
            BrokenRecord: The record of the action is broken.
        """
        return await sending.write_in_thread(
            self.journal,
            lambda tx: approval.record_decision(tx, action_id, answer, by=by, way=way, rooms=rooms),
        )

    async def drive(
        self,
        actions: Sequence[Action],
        ask: Ask,
        *,
        by: str,
        way: Way,
        on_record: Collection[str] | None = (),
        problems: Mapping[str, str] | None = None,
        approved: Collection[str] = (),
    ) -> list[Action | ActiveRoomsError]:
        """Ask about the actions, record the answers and run what is approved, until all have ended.

        If the room has changed, or an answer is not valid, ask again.

        Args:
            ask: Shows a person all open questions. Returns one answer for each, or None if nobody answers.
            by: Who answers. A name in an answer takes precedence.
            way: How this person is asked.
            on_record: Ids of actions whose question the journal has as shown. None: `ask` records that.
            problems: By action id, why the person's last answer did not count.
            approved: Ids of actions approved just now. They run even if somebody tried to edit them.

        Returns:
            For each action, its newest revision or the error that stopped it. If nobody answered, the
            revision is `proposed`. If somebody tried to edit an approved action, it stays `approved`.
        """
        ended: list[Action | ActiveRoomsError] = [*actions]
        problems = dict(problems or {})
        noted, just_approved = None if on_record is None else {*on_record}, {*approved}
        while True:
            ended = await asyncio.gather(*(self._driven(one, just_approved) for one in ended))
            rows = {one.id: one for one in ended if isinstance(one, Action)}
            waiting = [one for one in rows.values() if one.state == "proposed"]
            if not waiting:
                return ended
            for action in waiting:
                if noted is not None and action.id not in noted:
                    await self.asked(action, way)
                    noted.add(action.id)
            answers = await ask([self.request(one, problems.get(one.id, "")) for one in waiting])
            if answers is None:
                return ended
            for action, answer in zip(waiting, answers, strict=True):
                newest: Action | ActiveRoomsError
                try:
                    decided = await self.decide(action.id, answer, by=by, way=way)
                except BrokenRecord as error:
                    newest = error
                else:
                    newest = decided.newest
                    problems[newest.id] = decided.problem
                    just_approved.update([newest.id] if decided.counted else [])
                ended = [newest if getattr(e, "id", "") == action.id else e for e in ended]

    async def _driven(
        self, action: Action | ActiveRoomsError, just_approved: Collection[str]
    ) -> Action | ActiveRoomsError:
        if isinstance(action, ActiveRoomsError) or action.state in records.FINAL:
            return action
        try:
            if action.id not in just_approved and await self.needs_new_yes(action):
                return action
            return await self.run(action)
        except ActiveRoomsError as error:
            return error

    async def needs_new_yes(self, action: Action) -> bool:
        """Return whether somebody tried to edit this approved action. If so, ask a person before `run`."""
        if action.state != "approved":
            return False
        events = await asyncio.to_thread(self.journal.events, action.id)
        return any(event.kind == records.OTHER_WORDS for event in events)

    async def withdraw(self, thread: str, *, by: str = "person", reason: str = "") -> list[Action]:
        """Reject the actions of a conversation that are not sent yet, and return them.

        Approvals for further messages of the conversation end, too. Broken records are skipped.

        Args:
            thread: The conversation. For a graph, the thread id.
            by: Who withdraws, for the journal.
            reason: Told to the model.
        """

        def take_back(tx: Writing) -> list[Action]:
            no, taken = Reject(reason or "withdrawn"), list[Action]()
            tx.revoke_grants(thread, by=storable(by), way="message")
            for row in tx.actions(*records.UNSENT, thread=thread, limit=None):
                with skip_if_broken(row.id):
                    decided = approval.record_decision(tx, row.id, no, by=by, way="message")
                    taken.append(decided.action)
            return taken

        refuse_unstorable("thread id", thread)
        return await sending.write_in_thread(self.journal, take_back)

    # --- run -------------------------------------------------------------------------------

    async def run(self, wanted: Action | str, *, waits: Waits = nobody_waits) -> Action:
        """Send an approved action once, and return the action with its outcome.

        If the approval no longer fits the room, nothing is sent. Then the returned action is `expired`, or
        a new revision that is `proposed`. If another process has begun to send the action, `run` waits.

        Args:
            wanted: The action as just read or decided, or its id.
            waits: Returns whether the caller still waits. If so, the journal notes that the caller was told.

        Raises:
            InvalidCall: There is no action with this id.
            BrokenRecord: The record of the action is broken.
            PolicyRefusal: There were too many actions in this minute. The action stays approved.
            ApiError: The room could not be read. The action stays approved.
            OutcomeUnknown: An error came after the sending began. The call may have been executed.
        """
        action = await self.get(wanted) if isinstance(wanted, str) else wanted
        attempt, slow = 1, 0
        while True:
            action.check()
            if action.state == "proposed" or action.state in records.FINAL:
                return action
            if action.state in ("sent", "unknown"):
                try:
                    return await self._settle(action)
                except errors.JournalError as error:
                    raise errors.OutcomeUnknown(
                        f"The action {action.id} was sent. {error}"
                    ) from error
            try:
                reread = await self._reread(action)
                mine, row = await sending.run_to_its_end(
                    self._claim, action, reread, undo=self._give_back
                )
                if mine and self._is_old(reread):  # the commit took long, or the machine slept
                    await sending.run_to_its_end(self._give_back, (mine, row))
                    mine, row = False, None
                slow += row is None and self._is_old(reread)
                if slow == _SLOW_REREADS:
                    raise errors.TimedOut(_TOO_SLOW, hint=_STILL_APPROVED)
            except (ApiError, PolicyRefusal) as error:
                # The action stays approved. If the same call is made again, it runs this action.
                said: dict[str, Any] = {"by": this_worker(), "way": "claim", "reason": str(error)}
                await asyncio.to_thread(self.journal.note, action.id, HELD, **said)
                error.held = True
                raise
            if row is None:
                for other in await asyncio.to_thread(self.journal.rivals, action):
                    with skip_if_broken(other.id):
                        await self._settle(other)
            elif not mine:
                action = row
                continue
            else:
                sender = Sending(*self._sends_by, row, reread.change, reread.room, attempt, waits)
                outcome = await sender.send()
                if isinstance(outcome, Action):
                    return outcome
                attempt += 1
                await self._sleep(outcome)
            action = await self.get(action.id)

    async def _reread(self, action: Action) -> _Reread:
        at, room = self.journal.now(), None
        try:
            found = await self._read(action.room_id)
            change, room = drift(action, found, self.policy), found
        except PolicyRefusal as error:
            change = Drift("refused", str(error))
        except errors.NotActive:
            change = Drift("nothing_to_do", "The session is over.")
        until = min(at + _REREAD_LASTS, self.journal.now() + _CLAIM_LASTS)
        return _Reread(at, until, change, room)

    def _is_old(self, reread: _Reread) -> bool:
        # A clock can be set back. Then nobody knows how old the read is.
        return not reread.at <= self.journal.now() <= reread.until

    def _claim(self, action: Action, reread: _Reread) -> _Claim:
        """Move an approved action to `sent`. Only one caller succeeds, and must send it."""
        claim: _Claim = (False, None)
        try:
            with self.journal.write() as tx:
                claim = self._claimed(tx, action, reread)
        except errors.JournalError:
            self._give_back(claim)
            raise
        return claim

    def _give_back(self, claim: _Claim) -> None:
        """Undo a claim that will not be used, if it was committed."""
        mine, row = claim
        if mine and row is not None:
            with suppress(ActiveRoomsError):
                sending.give_back(self.journal, row, "the claim was not used")

    def _claimed(self, tx: Writing, action: Action, reread: _Reread) -> _Claim:
        change, room, policy = reread.change, reread.room, self.policy
        found, history = tx.story(action.id)
        row = _there(found)
        if row.state != "approved" or row.digest != action.digest:
            # Another caller may have made a new revision meanwhile: go on with that.
            return False, tx.expire_if_late(tx.newest(row.id) or row)
        if not row.is_as_shown():
            raise BrokenRecord(f"The action {row.id} is not what was approved.")
        row.check()
        if records.ran_unasked(row.decided_way) and not policy.runs_unasked(row.tool):
            change = Drift("refused", "This policy does not let the tool run without a question.")
        if change.verdict == "refused":
            by, why = "policy", change.reason
            result = Result(why, error=PolicyRefusal.code)
            return False, tx.move(row, "expired", by=by, way=by, reason=why, result=result)
        if change.verdict == "nothing_to_do" or room is None:
            reason = f"{change.reason} Nothing was sent."
            return False, tx.move(row, "expired", by="gate", way="claim", reason=reason)
        again = change.reason if change.verdict == "ask_again" else ""
        if row.decided_way == "grant" and approval.grant_for(tx, row, policy) is None:
            again = again or "The approval for the rest of the session no longer holds."
        unasked = not records.asked_a_person(row.decided_way)
        if unasked and (sent := tx.same_sent(row, {row.requester})) and _may_have_arrived(sent):
            unasked = False
            again = _BROKEN_BEFORE if sent.contradiction else sent_before(sent, row, tx.now())
        if tx.is_copy(history):
            unasked = False
            again = (
                again
                or "The journal was copied or moved, so the other copy may have sent this action."
            )
        if again:
            return False, self._ask_again(tx, row, again, room, unasked)
        _check_rate(tx, row, policy)
        rival = row.call.hits_on_arrival(row.shown) and tx.has_rival(action)
        if rival or self._is_old(reread):
            return False, None
        now, worker = tx.now(), this_worker()
        lease_until = now + timedelta(seconds=sending.lease_s(self._client, policy))
        taken: dict[str, Any] = {"sent_at": now, "worker": worker, "lease_until": lease_until}
        return True, tx.move(row, "sent", by=worker, way="claim", **taken)

    def _ask_again(
        self, tx: Writing, row: Action, reason: str, room: Room, may_run_unasked: bool
    ) -> Action:
        try:
            full, impact = row.call.assess(room, self.policy)
        except ActiveRoomsError as error:
            text = f"{reason} {error}"
            return tx.move(row, "expired", by="gate", way="claim", reason=text)
        note = reason
        if may_run_unasked and row.revision >= _MOST_UNASKED:
            may_run_unasked = False
            note = f"The room changed {row.revision} times before this could be sent. {reason}"
        if not records.asked_a_person(row.decided_way):
            note = f"{ASKED_ONLY_NOW}: {note}"
        deadline = tx.now() + timedelta(seconds=self.policy.approval_ttl_s)
        successor = approval.next_revision(row, full, impact, tx.now(), deadline)
        successor = replace(successor, note=note, edited_from=row.edited_from)
        if may_run_unasked:
            successor = self._unasked(tx, successor)
        text = f"{reason} The action {successor.id} replaces this one."
        tx.move(row, "expired", by="gate", way="claim", reason=text, data={"next": successor.id})
        return tx.insert(successor)

    async def _settle(self, action: Action) -> Action:
        """Wait while a worker may be sending the action. Then read the room, if it shows effects."""
        while action.state == "sent":
            if self._may_be_sending(action):
                await self._sleep(_POLL_S)
                action = await self.get(action.id)
            else:
                action = await asyncio.to_thread(self._give_up, action)
        if action.state != "unknown" or not action.call.visible:
            return action
        return await Sending(*self._sends_by, action).look()

    async def look_again(self) -> list[Action]:
        """Record what became of actions that an earlier process left unfinished, and return them.

        Call this when a program starts. Nothing is sent. Broken records and forbidden rooms are skipped.
        """
        find, rooms, looked = self.journal.actions, self.policy.only_rooms, list[Action]()
        for action in await asyncio.to_thread(find, "sent", "unknown", rooms=rooms, limit=None):
            with suppress(ActiveRoomsError), skip_if_broken(action.id):
                action.check()
                sent = action.state == "sent"
                if not self._may_be_sending(action) if sent else action.call.visible:
                    looked.append(await self._settle(action))
        return looked

    def _may_be_sending(self, action: Action) -> bool:
        now, lease_until = self.journal.now(), action.lease_until
        # A lease that ends much later is forged, or a wrong clock wrote it.
        in_time = lease_until is not None and now < lease_until < now + _LONGEST_LEASE
        return in_time and worker_may_live(action.worker)

    def _give_up(self, action: Action) -> Action:
        error = errors.OutcomeUnknown("The process that sent it recorded no answer of 100ms.")
        with self.journal.write() as tx:
            row = tx.get(action.id) or action
            if row.state != "sent" or row.lease_until != action.lease_until:
                return row
            state, result = unanswered(row.call, row.shown, error, None)
            return tx.move(row, state, by=this_worker(), way="stopped", result=result)


@contextmanager
def skip_if_broken(action_id: str) -> Iterator[None]:
    """Log a BrokenRecord that the `with` block raises about this action, and go on after the block."""
    try:
        yield
    except BrokenRecord as error:
        _log.warning("the action %s is left as it is: %s", action_id, error)


def _there(action: Action | None) -> Action:
    if action is None:
        raise approval.no_such_action()
    return action


def _lead(tx: Writing, key: str, row: Action) -> None:
    """Make a call with this `call_key` find the action `row`, unless it finds one already."""
    if key != row.call_key and tx.latest(key) is None:
        tx.note(action_id(key, 1), records.CALLED_AGAIN, by=row.requester, way="call", runs=row.id)


def _check_rate(tx: Writing, row: Action, policy: Policy) -> None:
    alike, whole = tx.sent_lately(row)
    for sent, most, where in (
        (alike, policy.actions_per_minute, "in one room"),
        (whole, policy.actions_per_minute_in_all, "in all"),
    ):
        if sent >= most:
            raise PolicyRefusal(
                f"The policy allows {most} actions per minute {where}.", hint=_STILL_APPROVED
            )


def _may_have_arrived(sent: Action) -> bool:
    """Whether nobody can know that the action did nothing. Then its call is not sent again unasked."""
    return bool(sent.contradiction) or (sent.executed == "maybe" and not sent.call.visible)


def _is_held_back(tx: Writing, row: Action, again: Action, policy: Policy) -> bool:
    """Whether the action is approved and held back (`HELD`). If so, the same call, made `again`, runs
    it without a question. For calls of other programs (REST, MCP), `serve` has rules of its own."""
    if row.state != "approved" or row.thread.startswith(records.OUTSIDE):
        return False
    if records.ran_unasked(row.decided_way) and not policy.runs_unasked(row.tool):
        return False
    kinds = {event.kind for event in tx.events(row.id)}
    held = HELD in kinds and records.OTHER_WORDS not in kinds
    return held and records.may_be_same(row.call, again.call)


def drift(action: Action, room: Room, policy: Policy) -> Drift:
    """Compare an approved action with `room`, as just read, and return what to do. Raises PolicyRefusal."""
    if room.session_id != action.shown.session_id:
        return Drift("ask_again", "The session that was shown is over; another one is running.")
    try:
        found = action.call.drift(action.shown, room, policy)
    except errors.PeerNotFound:
        found = Drift("nothing_to_do", "Nobody whom the call would affect is in the room now.")
    if found.verdict != "nothing_to_do":
        return found
    back = room.other_connections(action.shown.people, "is in the room again")
    return replace(found, reason=" ".join((found.reason, *back)))


def refused_again(action: Action) -> Action:
    """Return the action. If its call was refused at once, without a question, raise that error again."""
    if action.state == "rejected" and action.impact is None:
        known: dict[str, type[ActiveRoomsError]] = {error.code: error for error in REFUSED}
        told = action.result
        raise known.get(told.error, errors.InvalidCall)(told.text, hint=told.hint or None)
    return action
