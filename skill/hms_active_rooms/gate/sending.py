"""Sending a claimed action, once, and looking at the room for what became of it.

Only this module calls the client's write methods. Whoever calls `send` has just won the
claim and holds a lease on the row; before each further request it checks that the row is
still its own. An unclear outcome becomes `unknown` and is looked at, never repeated; the
one exception follows from the hints: an end is idempotent, so it is sent a second time
after a look that showed the very same session still running. What surely was not executed
and is worth a wait is given back: the row is approved again, and whoever runs it looks at
everything again after the wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.capability import capability
from hms_active_rooms.errors import (
    ActiveRoomsError,
    ApiError,
    JournalError,
    NotActive,
    OutcomeUnknown,
    PeerNotFound,
)
from hms_active_rooms.gate import outcome
from hms_active_rooms.gate.calls import EndRoom, RemovePeers, SendMessage, StateChange, parse_call
from hms_active_rooms.gate.drift import Drift
from hms_active_rooms.gate.impact import Impact, Person, person_of
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.outcome import Result, Sight
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.gate.records import Action
from hms_active_rooms.gate.waiting import asked_wait_s, wait_s
from hms_active_rooms.gate.workers import this_worker

Sleep = Callable[[float], Awaitable[None]]

_FIRST_LOOK_S = 0.2
_LONGEST_WAIT_S = 1.0
_LEASE_SLACK_S = 10.0

_ABORTS_THE_REST = frozenset(
    {"unauthorized", "forbidden", "rate_limited", "connection_failed", "timed_out", "not_active"}
)
"""Errors after which the next person's request would meet the same fate."""


class Sender:
    """Sends claimed actions and looks at what they did."""

    def __init__(
        self, client: ActiveRoomsClient, journal: Journal, policy: Policy, sleep: Sleep
    ) -> None:
        self._client = client
        self._journal = journal
        self._policy = policy
        self._sleep = sleep

    @property
    def lease_s(self) -> float:
        """How long one request and the look after it take at most, in seconds."""
        looks_s = self._policy.verify_s + self._client.deadline_s
        return self._client.deadline_s + looks_s + _LEASE_SLACK_S

    async def send(self, action: Action, change: Drift, *, attempt: int) -> Action:
        """Send a row that this caller just moved to `sent`, and record how it ended.

        `approved` comes back when it surely was not executed: the wait is over, and the row
        has to go through every check again before its next try.

        Args:
            action: the row.
            change: what the look at the room showed.
            attempt: how many times this caller sends it with this one, from 1.

        Raises:
            OutcomeUnknown: it may have been executed, and could not be recorded or finished.
        """
        try:
            result = await self._carry_out(action, change)
            pause_s = self._pause_s(action, result.asked_wait_s, attempt)
            if pause_s is None:
                return await asyncio.to_thread(self._record, action, result.noting(*change.notes))
        except asyncio.CancelledError as error:
            await asyncio.shield(asyncio.to_thread(self._try_to_record, action, error))
            raise
        except Exception as error:
            await asyncio.to_thread(self._try_to_record, action, error)
            raise OutcomeUnknown(
                f"The action {action.id} was being sent when {type(error).__name__} stopped it."
            ) from error
        return await self._give_back(action, result, pause_s)

    async def _give_back(self, action: Action, result: Result, pause_s: float) -> Action:
        """Approved again, then the wait; whoever is stopped in it leaves an approved row."""
        try:
            mine = await asyncio.to_thread(self._journal.give_back, action.id, reason=result.text)
        except JournalError as error:
            raise OutcomeUnknown(f"The action {action.id} was sent. {error}") from error
        if not mine:
            return await asyncio.to_thread(self._record, action, result)
        await self._sleep(pause_s)
        return replace(action, state="approved")

    def _pause_s(self, action: Action, asked_s: float | None, attempt: int) -> float | None:
        left_s = (action.expires_at - self._journal.now()).total_seconds()
        return wait_s(asked_s, attempt=attempt, left_s=left_s)

    async def look(self, action: Action) -> Action:
        """Look for what became of an `unknown` action; it becomes `done` when the room shows it."""
        call = parse_call(action.tool, action.arguments)
        impact = Impact.from_json(action.impact or {})
        if isinstance(call, SendMessage):
            return action
        if impact.kind == "remove-each":
            steps = await asyncio.to_thread(self._journal.steps, action.id)
            fate = {p.id: steps.get(p.id, "not sent") for p in impact.people}
            fate = {p: "unknown" if state == "sending" else state for p, state in fate.items()}
            result = await self._sum_up(call, impact, fate, None, wait=False)
        else:
            ids = frozenset(p.id for p in impact.people)
            sight = await self._watch(call.room_id, impact.session_id, ids, wait=False)
            if sight.gone:
                result = outcome.seen_later(call, impact)
            else:
                text = f"{outcome.unsure(call)} A look {sight.words()}."
                result = Result("unknown", text, "maybe", verified=False)
        if result.state == "unknown":
            await asyncio.to_thread(
                self._journal.note, action.id, "looked", by=this_worker(), way="look"
            )
            return replace(action, result=result.as_json())
        return await asyncio.to_thread(self._record, action, result, "look")

    # --- recording ---------------------------------------------------------------------------

    def _record(self, action: Action, result: Result, way: str = "answer") -> Action:
        data = {"executed": result.executed, "verified": result.verified, "error": result.error}
        plain, by = result.as_json(), this_worker()
        if self._journal.move(action, result.state, by=by, way=way, data=data, result=plain):
            return self._journal.get(action.id) or action
        # Another worker called it unknown meanwhile: a late answer still tells the truth.
        now = self._journal.get(action.id) or action
        if now.state == "unknown" and result.state != "unknown":
            self._journal.move(now, result.state, by=by, way="late answer", data=data, result=plain)
        else:
            self._journal.note(action.id, "late_answer", by=by, way=way, text=result.text, **data)
        return self._journal.get(action.id) or now

    def _try_to_record(self, action: Action, error: BaseException) -> None:
        with suppress(JournalError):
            self._record(action, outcome.stopped(error), "stopped")

    # --- one request ---------------------------------------------------------------------------

    async def _carry_out(self, action: Action, change: Drift) -> Result:
        call = parse_call(action.tool, action.arguments)
        impact = Impact.from_json(action.impact or {})
        match call:
            case SendMessage():
                return await self._message(call, impact, change)
            case RemovePeers() if impact.kind == "remove-each":
                return await self._remove_each(action, call, impact, change)
            case RemovePeers():
                return await self._remove(call, impact, change)
            case EndRoom():
                return await self._end(action, call, impact, change)
        raise AssertionError(f"no way to send {call.tool}")

    async def _message(self, call: SendMessage, impact: Impact, change: Drift) -> Result:
        try:
            await self._client.send_message(
                call.room_id, call.message, peer_id=call.peer_id, role=call.role, type=call.type
            )
        except ActiveRoomsError as error:
            if error.executed == "no":
                return outcome.failed(error)
            text = f"{outcome.unsure(call)} ({error}) A message cannot be looked up."
            return Result("unknown", text, "maybe", error=error.code)
        return Result("done", outcome.effect(call, impact, change.total), "yes")

    async def _remove(self, call: RemovePeers, impact: Impact, change: Drift) -> Result:
        lost: ActiveRoomsError | None = None
        try:
            await self._client.remove_peers(
                call.room_id, peer_id=call.peer_id, role=call.role, reason=call.reason
            )
        except (PeerNotFound, NotActive):
            return Result("done", "100ms says that they had already left.", "no")
        except ActiveRoomsError as error:
            if error.executed == "no":
                return outcome.failed(error)
            lost = error
        ids = frozenset(p.id for p in change.people)
        sight = await self._watch(call.room_id, impact.session_id, ids, wait=True)
        if lost is not None:
            return outcome.no_answer(call, impact, lost, sight)
        return outcome.accepted(call, impact, change.total, sight, self._policy.verify_s)

    async def _end(self, action: Action, call: EndRoom, impact: Impact, change: Drift) -> Result:
        idempotent = capability().tool(call.tool).hints.idempotent
        lost: ActiveRoomsError | None = None
        while True:
            second = lost is not None
            try:
                await self._client.end_room(call.room_id, reason=call.reason, lock=call.lock)
                error = None
            except NotActive:
                text = outcome.condition(call, impact) if second else "It was already over."
                return Result("done", text, "maybe" if second else "no", verified=True)
            except ActiveRoomsError as failure:
                if failure.executed == "no" and not second:
                    return outcome.failed(failure)
                error = failure
            sight = await self._watch(call.room_id, impact.session_id, frozenset(), wait=True)
            if error is None:
                return outcome.accepted(call, impact, change.total, sight, self._policy.verify_s)
            lost = error
            # `gone is False`: the look saw the very same session, so the first end had no effect.
            again = idempotent and not second and sight.gone is False
            # The look may have waited, so the deadline counts for this request too.
            if not again or not await self._mine(action, in_time=True):
                return outcome.no_answer(call, impact, lost, sight)
            await asyncio.to_thread(
                self._journal.note, action.id, "sent_again", by=this_worker(), way="idempotent"
            )

    async def _mine(self, action: Action, *, in_time: bool = False, wait_s: float = 0.0) -> bool:
        """Whether this worker still holds the row; prolongs the lease, beyond a wait."""
        return await asyncio.to_thread(
            self._journal.renew, action.id, lease_s=wait_s + self.lease_s, in_time=in_time
        )

    # --- one request per person ------------------------------------------------------------------

    async def _remove_each(
        self, action: Action, call: RemovePeers, impact: Impact, change: Drift
    ) -> Result:
        going = {p.id for p in change.people}
        fate: dict[str, str] = {}
        last: ActiveRoomsError | None = None
        for person in impact.people:
            if last is not None and last.code in _ABORTS_THE_REST:
                fate[person.id] = "not sent"
                continue
            step = await asyncio.to_thread(
                self._journal.start_step, action.id, person.id, lease_s=self.lease_s
            )
            if step != "started":
                fate[person.id] = "not sent" if step == "lost" else "unknown"
                continue
            try:
                here = person.id in going
                fate[person.id] = (
                    await self._remove_one(action, call, person) if here else "skipped"
                )
            except PeerNotFound:
                fate[person.id] = "gone"
            except ActiveRoomsError as error:
                last = error
                fate[person.id] = "failed" if error.executed == "no" else "unknown"
            await asyncio.to_thread(self._journal.end_step, action.id, person.id, fate[person.id])
        await self._mine(action)  # the look takes its time too
        return await self._sum_up(call, impact, fate, last, wait=True)

    async def _unchanged(self, room_id: str, person: Person) -> bool:
        """Whether they still are who was shown: a role can change while others are removed."""
        now = person_of(await self._client.retrieve_peer(room_id, person.id))
        return person.same_person(now)

    async def _remove_one(self, action: Action, call: RemovePeers, person: Person) -> str:
        attempt = 1
        while await self._unchanged(call.room_id, person):
            try:
                await self._client.remove_peers(call.room_id, peer_id=person.id, reason=call.reason)
                return "removed"
            except ApiError as error:
                if not await self._waited(action, error, attempt):
                    raise
                attempt += 1
        return "skipped"

    async def _waited(self, action: Action, error: ApiError, attempt: int) -> bool:
        """Wait for the next try, if there is one; whether the row is still ours and in time."""
        pause_s = self._pause_s(action, asked_wait_s(error), attempt)
        if pause_s is None or not await self._mine(action, wait_s=pause_s):
            return False
        await self._sleep(pause_s)
        return await self._mine(action, in_time=True)

    async def _sum_up(
        self,
        call: StateChange,
        impact: Impact,
        fate: dict[str, str],
        error: ActiveRoomsError | None,
        *,
        wait: bool,
    ) -> Result:
        sent = frozenset(peer for peer, word in fate.items() if word in ("removed", "unknown"))
        sight = Sight(gone=True)
        if sent:
            sight = await self._watch(call.room_id, impact.session_id, sent, wait=wait)
        if sight.gone is not None:
            for peer in sent - sight.still:
                fate[peer] = "removed" if fate[peer] == "removed" else "no longer there"
        return outcome.role_removal(impact.people, fate, error, sight)

    # --- looking -----------------------------------------------------------------------------------

    async def _watch(
        self, room_id: str, session_id: str, ids: frozenset[str], *, wait: bool
    ) -> Sight:
        """Poll until gone or `verify_s` passed (removals land a moment later, ghosts stay 60 s).

        With ids: whether these peers are gone; without: whether the session is.
        """
        left_s, pause_s = (self._policy.verify_s if wait else 0.0), _FIRST_LOOK_S
        while True:
            try:
                room = await self._client.retrieve_active_room(room_id)
            except NotActive:
                return Sight(gone=True)
            except ApiError as error:
                sight = Sight(gone=None, still=ids, why=str(error))
            else:
                still = ids & set(room.session.peers)
                if room.session.id != session_id or (ids and not still):
                    return Sight(gone=True)
                sight = Sight(gone=False, still=still)
            if left_s <= 0:
                return sight
            await self._sleep(min(pause_s, left_s))
            left_s -= pause_s
            pause_s = min(pause_s * 2, _LONGEST_WAIT_S)
