"""Sends a claimed action once, and reads the room to see its effect.

The caller has claimed the action: it moved the action to `sent`, with a lease. Until the lease ends
no other worker takes the action over. Before each further request, `Sending` checks that the claim
still holds. If the outcome is unclear, the action becomes `unknown`, and the request is not repeated.
If the request was surely not executed and may succeed later, the claim is given back: the action
becomes `approved` again. Then the caller waits, and makes another attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple, get_args

from hms_active_rooms import errors
from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.api.wire import Backoff
from hms_active_rooms.capability import capability
from hms_active_rooms.errors import ApiError, RateLimited
from hms_active_rooms.gate.actions import result as outcomes
from hms_active_rooms.gate.actions.change import GONE, StateChange
from hms_active_rooms.gate.actions.impact import Drift, Person, Room, person_of
from hms_active_rooms.gate.actions.result import Ended, Fate, Observation, Result
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action
from hms_active_rooms.gate.journal.workers import this_worker
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.untrusted import short_ids, storable

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal.store import Writing

Given = TypeVarTuple("Given")
Found = TypeVar("Found")

Waits = Callable[[], bool]
"""Returns whether the program that made a call still waits for the outcome, and so will be told."""

# If 100ms asks to wait for more seconds than this, the action fails, and its outcome says so.
LONGEST_WAIT_S: Final = 30.0

_BACKOFF: Final = Backoff()
_TRIES: Final = 3  # how often to try to record that the sending was stopped
_FIRST_LOOK_S = 0.2
_LONGEST_PAUSE_S = 1.0
_LEASE_SLACK_S = 10.0
_NEVER = datetime.min.replace(tzinfo=UTC)
_GO = Drift("go")

_ABORTS_THE_REST = (
    errors.Unauthorized,
    errors.Forbidden,
    RateLimited,
    errors.ConnectionFailed,
    errors.TimedOut,
)
"""After one of these errors no request is sent for the remaining people, since it would fail, too."""


def nobody_waits() -> bool:
    return False


@dataclass
class Sending:
    """Sends one action that only this process may send, and records how the sending ended."""

    client: ActiveRoomsClient
    journal: Journal
    policy: Policy
    sleep: Callable[[float], Awaitable[None]]
    action: Action
    change: Drift = _GO  # who is affected now, and what else to report
    room: Room | None = None  # as last read before the request
    attempt: int = 1  # the number of this attempt to send the action
    waits: Waits = nobody_waits  # whether the caller still waits for the outcome
    # These are set while sending:
    present: frozenset[str] = frozenset()  # who is in the room after the request, by peer id
    looked: datetime = _NEVER  # when the last read of the room ended
    began: bool = False  # whether a request may have left
    accepted: bool = False  # whether 100ms has accepted the one request

    async def _watch(self, people: Sequence[Person], *, wait: bool = True) -> Observation:
        """Read the room until it shows the effect, for at most `Policy.verify_s` seconds. (100ms
        shows a removal late, and lists lost connections for 60 s.) Without `wait`, read it once."""
        left_s, pause_s = (self.policy.verify_s if wait else 0.0), _FIRST_LOOK_S
        until = self.journal.now() + timedelta(seconds=left_s)
        seen: Observation | None = None
        while True:
            try:
                # Only the first read may take as long as it needs.
                async with asyncio.timeout(None if seen is None else max(left_s, _LONGEST_PAUSE_S)):
                    seen = await self.action.call.seen(self.client, self.action.shown, people)
                self.looked = self.journal.now()
            except TimeoutError:
                pass  # keep what the read before showed
            except ApiError as error:
                still = frozenset(p.id for p in people)
                seen = Observation(gone=None, still=still, why=str(error))
                if wait and isinstance(error, GONE):  # this server had the room a moment before
                    seen = Observation(gone=True)
            assert seen is not None
            self.present = seen.there
            # Go by the clock, since reads take time, and by the pauses, since a clock can be set back.
            left_s = min(left_s, (until - self.journal.now()).total_seconds())
            if seen.gone or left_s <= 0:
                late = f"the effect is not visible after {self.policy.verify_s:g} s"
                return replace(seen, why=late) if seen.gone is False else seen
            await self.sleep(min(pause_s, left_s))
            left_s -= pause_s
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _hold(
        self, *, in_time: bool = False, wait_s: float = 0.0, again: datetime | None = None
    ) -> bool:
        """Prolong the lease for one request after `wait_s` seconds. Return False if this worker must
        not send it: it lost the claim or, with `in_time`, the deadline has passed. Before a second
        request, `again` is when the room was last read; that must be recent, too."""

        def held(tx: Writing) -> bool:
            if in_time and tx.now() >= self.action.expires_at:
                return False
            if again and self._waited(again):  # the room may have changed
                return False
            lease = lease_s(self.client, self.policy) + wait_s
            mine = tx.renew(self.action.id, lease_s=lease)
            if mine and again:
                tx.note(self.action.id, "sent_again", by=this_worker(), way="idempotent")
            return mine

        return await write_in_thread(self.journal, held)

    def _waited(self, since: datetime) -> bool:
        return abs(self.journal.now() - since).total_seconds() > _LONGEST_PAUSE_S

    def _pause_s(self, error: ApiError, attempt: int) -> float | None:
        asked_s = error.retry_after_s or 0.0 if isinstance(error, RateLimited) else 0.0
        passing = isinstance(error, (RateLimited, errors.ConnectionFailed))
        renewed = isinstance(error, errors.Unauthorized) and error.renewed
        helps = error.executed == "no" and (passing or renewed)
        if not helps or asked_s > LONGEST_WAIT_S or attempt >= _BACKOFF.attempts:
            return None
        pause_s = asked_s or _BACKOFF.ceiling_s(attempt)
        left_s = (self.action.expires_at - self.journal.now()).total_seconds()
        return pause_s if pause_s < left_s else None

    async def send(self) -> Action | float:
        """Send the action, and return it. If another attempt may help, return the seconds to wait."""
        try:
            try:
                state, result = await self.carry_out()
            except ApiError as error:
                pause_s = self._pause_s(error, self.attempt)
                if pause_s is not None and await run_to_its_end(
                    give_back, self.journal, self.action, str(error)
                ):
                    return pause_s  # nothing was executed, and the action is `approved` again
                state, result = outcomes.failed(error)
            notes = (*self.change.notes, *result.notes, *await self._back())
            result = replace(result, notes=notes)
            return await in_thread(self._record, (state, result), "answer")
        except asyncio.CancelledError as error:
            await run_to_its_end(self._record_stop, error)
            raise
        except Exception as error:
            with suppress(RuntimeError):  # no thread can be started
                await in_thread(self._record_stop, error)
            so_far = "accepted by 100ms" if self.accepted else "sent"
            why = error if isinstance(error, errors.ActiveRoomsError) else type(error).__name__
            text = f"An error came after the action {self.action.id} was {so_far}: {why}"
            raise errors.OutcomeUnknown(f"{text.removesuffix('.')}.") from error

    async def _back(self) -> tuple[str, ...]:
        """Return notes about people shown who are in the room again, by a new connection."""
        people, before = self.action.shown.people, self.room.people if self.room else ()
        new = self.present - {p.id for p in before}
        if not people or not new:
            return ()
        try:
            async with asyncio.timeout(_LEASE_SLACK_S / 2):
                peers = await self.client.list_peers(self.action.room_id)
        except (ApiError, TimeoutError):
            return ()
        shorts = short_ids([peer.id for peer in peers])
        came = tuple(person_of(peer, shorts[peer.id]) for peer in peers if peer.id in new)
        return Room("", "", came).other_connections(people, "is in the room again")

    async def look(self) -> Action:
        """Read what the room shows about an action of unknown outcome, record it, and return the action."""
        return await asyncio.to_thread(self._record, await self.look_for_it(), "look")

    async def carry_out(self) -> Ended:
        """Send the request. Return state and `Result`. Raises ApiError if the request surely did nothing."""
        call, shown, total = self.action.call, self.action.shown, self.change.total
        if parts := call.per_person(shown):
            return await self._send_each(parts)
        lost: ApiError | None = None
        while True:
            error: ApiError | None = None
            try:
                self.began = True
                await call.request(self.client)
                self.accepted = True
            except ApiError as failure:
                if call.gone_text and isinstance(failure, GONE):
                    if lost is not None:
                        return "done", Result(call.condition(shown), "maybe", verified=True)
                    return "done", Result(call.gone_text, verified=True, error=failure.code)
                if failure.executed == "no" and lost is None:
                    raise
                error = failure
            seen = await self._watch(self.change.people) if call.visible else None
            if error is None:
                return outcomes.answered(call, shown, total, seen)
            # The request is sent once more only if all of this is true, and nobody has taken over.
            # `gone is False`: the same session still runs, so the first request had no effect.
            same = seen is not None and seen.gone is False and lost is None
            again = same and capability().tool(call.tool).hints.idempotent
            # Reading the room may have taken long, so the deadline is checked again.
            if not again or not await self._hold(in_time=True, again=self.looked):
                return outcomes.unanswered(call, shown, error, seen)
            lost = error

    async def look_for_it(self) -> Ended:
        """Read the room once. Return state and `Result` of an action whose outcome was unknown until now."""
        call, people = self.action.call, self.action.shown.people
        if call.per_person(self.action.shown):
            fates = await asyncio.to_thread(self._fates)
            return await self._summed_up(fates, None, wait=False)
        seen = await self._watch(people, wait=False)
        return outcomes.unanswered(call, self.action.shown, None, seen)

    def _fates(self) -> dict[str, Fate]:
        known: dict[str, Fate] = {str(fate): fate for fate in get_args(Fate)}
        steps = self.journal.steps(self.action.id)
        # A request that began and has no recorded end may have been executed.
        at = {p.id: steps.get(p.id, "not sent") for p in self.action.shown.people}
        return {peer_id: known.get(step, "unknown") for peer_id, step in at.items()}

    async def _send_each(self, parts: Sequence[StateChange]) -> Ended:
        going = {p.id for p in self.change.people}
        fates: dict[str, Fate] = {}
        last: ApiError | None = None
        self.looked = self.journal.now()
        for person, part in zip(self.action.shown.people, parts, strict=True):
            fate: Fate | None = "not sent"
            if not isinstance(last, _ABORTS_THE_REST):
                fate = await self._step(person.id)
            if fate is None:
                fate = "skipped"
                if person.id in going:
                    fate, error = await self._send_to(person, part)
                    last = error or last
                await self._step(person.id, fate)
            fates[person.id] = fate
        await self._hold()  # reading the room takes time, too
        return await self._summed_up(fates, last, wait=True)

    async def _step(self, peer_id: str, ended: Fate | None = None) -> Fate | None:
        """Record that one person's request is about to be sent or, with `ended`, how it ended.
        Returns the person's `Fate` if the request must not be sent, else None."""

        def step(tx: Writing) -> Fate | None:
            row, lease = self.action.id, lease_s(self.client, self.policy)
            if ended is None and not tx.renew(row, lease_s=lease):
                return "not sent"  # the claim was lost
            return None if tx.step(row, peer_id, ended or "sending") else "unknown"

        return await write_in_thread(self.journal, step)

    async def _send_to(self, person: Person, part: StateChange) -> tuple[Fate, ApiError | None]:
        """Send one person's request, each time only if a read just before shows the same person."""
        attempt = 1
        try:
            while person.same_person(await self._read(part.room_id, person.id)):
                try:
                    self.began = True
                    await part.request(self.client)
                    return "removed", None
                except ApiError as error:
                    pause_s = self._pause_s(error, attempt)
                    if pause_s is None or not await self._hold(wait_s=pause_s):
                        raise
                    await self.sleep(pause_s)
                    if not await self._hold(in_time=True):
                        raise
                    attempt += 1
        except GONE:
            return "gone", None
        except ApiError as error:
            return "failed" if error.executed == "no" else "unknown", error
        return "skipped", None

    async def _read(self, room_id: str, peer_id: str) -> Person:
        """Read the peer. If 100ms or the journal made this worker wait, check the claim. Raises TimedOut
        if the deadline has passed, or another worker has the action."""
        while True:
            before = self.looked
            peer = await self.client.retrieve_peer(room_id, peer_id)
            self.looked = self.journal.now()
            if self._waited(before) and not await self._hold(in_time=True):
                raise errors.TimedOut("100ms or the journal was so slow that the deadline passed.")
            if not self._waited(self.looked):
                return person_of(peer)
            self.looked = self.journal.now()  # the journal was locked: read the peer again

    async def _summed_up(
        self, fates: dict[str, Fate], error: ApiError | None, *, wait: bool
    ) -> Ended:
        people = self.action.shown.people
        sent = [p for p in people if fates[p.id] in ("removed", "unknown")]
        seen = await self._watch(sent, wait=wait) if sent else Observation(gone=True)
        if seen.gone is not None:
            for person in sent:
                if person.id not in seen.still and fates[person.id] != "removed":
                    fates[person.id] = "no longer there"
        return outcomes.for_each(people, fates, error, seen)

    def _record(self, ended: Ended, way: str) -> Action:
        (state, result), by = ended, this_worker()
        data = {"executed": result.executed, "verified": result.verified, "error": result.error}
        with self.journal.write() as tx:
            row = tx.get(self.action.id) or self.action
            sent = row.state == "sent" and _same_claim(row, self.action)
            if sent or (row.state == "unknown" and state != "unknown"):
                # Another worker may have made the action `unknown`; a late answer still ends it.
                how = "late answer" if row.state == "unknown" and way == "answer" else way
                changes: dict[str, Any] = {"result": result, "finished_at": tx.now()}
                row = tx.move(row, state, by=by, way=how, data=data, **changes)
                if way == "answer" and self.waits():
                    row = replace(row, told_at=row.told_at or tx.told(row.id))
                return row
            if row.state == "approved":
                return row  # given back before this task was cancelled
            kind = "looked" if way == "look" else "late_answer"
            tx.note(row.id, kind, by=by, way=way, text=result.text, **data)
        if row.state == "unknown" and way == "look":
            return replace(row, result=result)
        return row

    def _record_stop(self, error: BaseException) -> None:
        for _ in range(_TRIES):
            with suppress(errors.JournalError):
                if self.began or not isinstance(error, asyncio.CancelledError):
                    self._record(self._stopped_by(error), "stopped")
                else:
                    give_back(self.journal, self.action, "stopped before the first request")
                return

    def _stopped_by(self, error: BaseException) -> Ended:
        call, shown = self.action.call, self.action.shown
        cancelled = isinstance(error, asyncio.CancelledError)
        what = "interrupted" if cancelled else f"stopped by {type(error).__name__}"
        stopped = errors.OutcomeUnknown(f"The sending was {what}.")
        unseen = Observation(gone=None, why=str(stopped))
        if call.per_person(shown):
            return outcomes.for_each(shown.people, self._fates(), stopped, unseen)
        if self.accepted:
            return outcomes.answered(call, shown, self.change.total, unseen)
        return outcomes.unanswered(call, shown, stopped, None)


async def write_in_thread(journal: Journal, step: Callable[[Writing], Found]) -> Found:
    """Run `step` in a thread, in one writing transaction of the journal, and return its result."""

    def write() -> Found:
        with journal.write() as tx:
            return step(tx)

    return await in_thread(write)


def in_thread(call: Callable[[*Given], Found], *given: *Given) -> asyncio.Future[Found]:
    """Run a blocking call in a thread, and return its future."""
    loop = asyncio.get_running_loop()
    try:
        return loop.run_in_executor(None, call, *given)
    except RuntimeError as error:
        # While Python ends, no thread takes calls: then what was sent is recorded here.
        # "can't start new thread": the call is queued, and a thread that is idle later may run it.
        if "thread" in str(error):
            raise
    ended: asyncio.Future[Found] = loop.create_future()
    try:
        ended.set_result(call(*given))
    except Exception as error:  # noqa: BLE001 - whoever waits gets it
        ended.set_exception(error)
    return ended


async def run_to_its_end(
    call: Callable[[*Given], Found], *given: *Given, undo: Callable[[Found], None] | None = None
) -> Found:
    """Run a blocking call in a thread to its end. If this task is cancelled, pass the result to `undo`."""
    if undo is None:
        running = in_thread(call, *given)
    else:  # what can be undone begins something, and nothing new begins while Python ends
        running = asyncio.get_running_loop().run_in_executor(None, call, *given)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return running.result()
    if running.exception() is None and undo is not None:
        with suppress(asyncio.CancelledError):
            await run_to_its_end(undo, running.result())
    raise cancelled


def lease_s(client: ActiveRoomsClient, policy: Policy) -> float:
    """Return how many seconds one request and the reads of the room after it take at most."""
    return 2 * client.deadline_s + policy.verify_s + _LEASE_SLACK_S


def _same_claim(row: Action, action: Action) -> bool:
    return (row.worker, row.sent_at) == (action.worker, action.sent_at)


def give_back(journal: Journal, action: Action, reason: str) -> bool:
    """Make a `sent` action that was not executed `approved` again. Return False if another process has it."""
    with journal.write() as tx:
        row = tx.get(action.id)
        if row is None or row.state != "sent" or not _same_claim(row, action):
            return False
        for peer_id in tx.steps(action.id):  # recorded as "sending", but not executed
            tx.step(action.id, peer_id, "not sent")
        not_sent: dict[str, Any] = {"sent_at": None, "lease_until": None, "worker": ""}
        by, data = this_worker(), {"reason": storable(reason)}
        tx.move(row, "approved", by=by, way="answer", kind="returned", data=data, **not_sent)
        return True
