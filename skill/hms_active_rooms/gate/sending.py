"""Sending a claimed action, once, and looking at the room for what became of it.

Whoever calls `send` has just won the claim and holds a lease on the row; before each further
request it checks that the row is still its own. An unclear outcome becomes `unknown` and is
looked at, never repeated. A request that was surely not executed, and may be worth a wait, gives
the row back: after the wait everything is looked at again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, TypeVarTuple, get_args

from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.api.wire import Backoff
from hms_active_rooms.errors import (
    ApiError,
    ConnectionFailed,
    JournalError,
    OutcomeUnknown,
    RateLimited,
)
from hms_active_rooms.gate.actions.impact import Drift, Impact, Person
from hms_active_rooms.gate.actions.result import Ended, Fate, Observation, failed, stopped
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action
from hms_active_rooms.gate.journal.workers import this_worker
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.untrusted import storable

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal.store import Writing

Sleep = Callable[[float], Awaitable[None]]

Given = TypeVarTuple("Given")
Found = TypeVar("Found")

Step = Literal["started", "before", "lost"]

LONGEST_WAIT_S: Final = 30.0
"""If the server asks for more, the person is told instead."""

_BACKOFF: Final = Backoff()
_FIRST_LOOK_S = 0.2
_LONGEST_PAUSE_S = 1.0
_LEASE_SLACK_S = 10.0


@dataclass
class Sending:
    """One claimed action, and what its tool may use while it sends.

    Attributes:
        change: who is hit now, and what to report besides.
        attempt: how many times this worker sends it with this one, from 1.
    """

    client: ActiveRoomsClient
    journal: Journal
    policy: Policy
    sleep: Sleep
    action: Action
    change: Drift = field(default_factory=lambda: Drift("go"))
    attempt: int = 1

    @property
    def shown(self) -> Impact:
        """What the person was shown."""
        return self.action.shown

    async def watch(self, people: Sequence[Person], *, wait: bool = True) -> Observation:
        """Look until the effect shows or `Policy.verify_s` passed: removals land a moment later,
        and peers who dropped off stay listed for 60 s. Without `wait`: look once."""
        left_s, pause_s = (self.policy.verify_s if wait else 0.0), _FIRST_LOOK_S
        until = self.journal.now() + timedelta(seconds=left_s)
        seen: Observation | None = None
        while True:
            try:
                # The first look may take its time; a later one ends about when the whole does.
                async with asyncio.timeout(None if seen is None else max(left_s, _LONGEST_PAUSE_S)):
                    seen = await self.action.call.seen(self.client, self.shown, people)
            except TimeoutError:
                pass  # what the look before showed
            except ApiError as error:
                still = frozenset(p.id for p in people)
                seen = Observation(gone=None, still=still, why=str(error))
            assert seen is not None
            # Both counts: reads take time, and a clock can be set back.
            left_s = min(left_s, (until - self.journal.now()).total_seconds())
            if seen.gone or left_s <= 0:
                return seen
            await self.sleep(min(pause_s, left_s))
            left_s -= pause_s
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def hold(self, *, in_time: bool = False, wait_s: float = 0.0) -> bool:
        """Prolong this worker's lease on the row by the time of a request and the wait before it.

        Args:
            in_time: only if the time of the approval is not over.
            wait_s: how long the wait before the request is.

        Returns:
            Whether it was prolonged. False: the row is another's by now, or it is too late.
        """

        def held(tx: Writing) -> bool:
            if in_time and tx.now() >= self.action.expires_at:
                return False
            lease = lease_s(self.client, self.policy) + wait_s
            return tx.renew(self.action.id, lease_s=lease)

        return await written(self.journal, held)

    async def may_try_again(self, error: ApiError, attempt: int) -> bool:
        """Wait for the next try of a request that was surely not executed, if there is one.
        Afterwards the row is still this worker's, and the approval's time is not over.

        Args:
            attempt: how many requests were sent so far, from 1.
        """
        pause_s = self._pause_s(error, attempt)
        if pause_s is None or not await self.hold(wait_s=pause_s):
            return False
        await self.sleep(pause_s)
        return await self.hold(in_time=True)

    def _pause_s(self, error: ApiError, attempt: int) -> float | None:
        """How long to wait before the next try, never less than the server asks; None: this was the
        last one, or no wait helps."""
        asked_s = error.retry_after_s or 0.0 if isinstance(error, RateLimited) else 0.0
        helps = error.executed == "no" and isinstance(error, (RateLimited, ConnectionFailed))
        if not helps or asked_s > LONGEST_WAIT_S or attempt >= _BACKOFF.attempts:
            return None
        pause_s = asked_s or _BACKOFF.ceiling_s(attempt)
        left_s = (self.action.expires_at - self.journal.now()).total_seconds()
        return pause_s if pause_s < left_s else None

    async def start_step(self, peer_id: str) -> Step:
        """Claim one person's request, and prolong the lease. "lost": the row was taken from this
        worker, so it must not send. "before": this request was started before."""

        def started(tx: Writing) -> Step:
            if not tx.renew(self.action.id, lease_s=lease_s(self.client, self.policy)):
                return "lost"
            return "started" if tx.start_step(self.action.id, peer_id) else "before"

        return await written(self.journal, started)

    async def end_step(self, peer_id: str, fate: Fate) -> None:
        """Record what became of one person's request."""
        await written(self.journal, lambda tx: tx.end_step(self.action.id, peer_id, fate))

    async def steps(self) -> dict[str, Fate]:
        """What is on record of each person's request; one that was started and not ended may have
        been executed."""
        found = await asyncio.to_thread(self.journal.steps, self.action.id)
        known: dict[str, Fate] = {str(fate): fate for fate in get_args(Fate)}
        return {peer: known.get(word, "unknown") for peer, word in found.items()}

    async def note(self, kind: str, *, way: str) -> None:
        """Append an event to the action."""
        await asyncio.to_thread(self.journal.note, self.action.id, kind, by=this_worker(), way=way)

    async def send(self) -> Action | float:
        """Send the action and record how it ended; or the seconds to wait before everything is
        looked at again, the row given back.

        Raises:
            OutcomeUnknown: it may have been executed, and could not be recorded or finished.
        """
        try:
            try:
                state, result = await self.action.call.send(self)
            except ApiError as error:
                pause_s = self._pause_s(error, self.attempt)
                if pause_s is not None and await to_the_end(
                    give_back, self.journal, self.action, str(error)
                ):
                    return pause_s
                state, result = failed(error) if error.executed == "no" else stopped(error)
            ended = state, result.noting(*self.change.notes)
            return await asyncio.to_thread(self._record, ended, "answer")
        except asyncio.CancelledError as error:
            await to_the_end(self._try_to_record, error)
            raise
        except Exception as error:
            await asyncio.to_thread(self._try_to_record, error)
            raise OutcomeUnknown(
                f"The action {self.action.id} was being sent when {type(error).__name__} "
                "stopped it."
            ) from error

    async def look(self) -> Action:
        """Look for what became of an `unknown` action; it is `done` when the room shows it."""
        ended = await self.action.call.look(self)
        return await asyncio.to_thread(self._record, ended, "look")

    def _record(self, ended: Ended, way: str) -> Action:
        (state, result), by = ended, this_worker()
        data = {"executed": result.executed, "verified": result.verified, "error": result.error}
        with self.journal.write() as tx:
            row = tx.get(self.action.id) or self.action
            sent = row.state == "sent" and _same_claim(row, self.action)
            if sent or (row.state == "unknown" and state != "unknown"):
                # Another worker may have called it unknown: a late answer still tells the truth.
                how = "late answer" if row.state == "unknown" and way == "answer" else way
                changes: dict[str, Any] = {"result": result, "finished_at": tx.now()}
                return tx.move(row, state, by=by, way=how, data=data, **changes)
            if row.state == "approved":
                return row  # given back before this task was cancelled
            kind = "looked" if way == "look" else "late_answer"
            tx.note(row.id, kind, by=by, way=way, text=result.text, **data)
        if row.state == "unknown" and way == "look":
            return replace(row, result=result)
        return row

    def _try_to_record(self, error: BaseException) -> None:
        with suppress(JournalError):
            self._record(stopped(error), "stopped")


async def written(journal: Journal, step: Callable[[Writing], Found]) -> Found:
    """What a step of the journal returns, run in a thread in a transaction of its own."""

    def write() -> Found:
        with journal.write() as tx:
            return step(tx)

    return await asyncio.to_thread(write)


async def to_the_end(call: Callable[[*Given], Found], *given: *Given) -> Found:
    """What a blocking call returns, from a thread. However often this task is cancelled, that
    comes after the call has ended."""
    running = asyncio.get_running_loop().run_in_executor(None, call, *given)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()  # taken note of
        raise cancelled
    return running.result()


def lease_s(client: ActiveRoomsClient, policy: Policy) -> float:
    """How long one request and the look after it take at most, in seconds."""
    return 2 * client.deadline_s + policy.verify_s + _LEASE_SLACK_S


def _same_claim(row: Action, action: Action) -> bool:
    """Whether the row is still held by the claim of `action`: after it was given back, somebody may
    have claimed it again."""
    return (row.worker, row.sent_at) == (action.worker, action.sent_at)


def give_back(journal: Journal, action: Action, reason: str) -> bool:
    """Take a row, as this worker claimed it, back to `approved`, its request surely not executed;
    False: it is not ours."""
    with journal.write() as tx:
        row = tx.get(action.id)
        if row is None or row.state != "sent" or not _same_claim(row, action):
            return False
        not_sent: dict[str, Any] = {"sent_at": None, "lease_until": None, "worker": ""}
        by, data = this_worker(), {"reason": storable(reason)}
        tx.move(row, "approved", by=by, way="answer", kind="returned", data=data, **not_sent)
        return True
