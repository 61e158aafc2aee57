"""One call: attempts, a new token after a 401, waits between, and one deadline over all."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from hms_active_rooms.api.answers import Failure, Reader, deadline_passed, judge
from hms_active_rooms.api.auth import TokenSource
from hms_active_rooms.api.per_loop import PerLoop
from hms_active_rooms.api.retry import Backoff, Wait, decide, executed
from hms_active_rooms.api.wire import Flight, Pool, Request
from hms_active_rooms.errors import RateLimited

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Calls:
    """Runs calls for one client; its parts are the client's own arguments."""

    auth: TokenSource
    pools: PerLoop[Pool]
    backoff: Backoff
    sleep: Callable[[float], Awaitable[None]]
    rng: Callable[[], float]
    clock: Callable[[], float]

    async def run(self, request: Request, read: Reader[T], deadline_s: float) -> T:
        """The typed answer.

        Raises:
            ApiError: see `errors.py`.
        """
        flight = Flight()
        outcome: list[T | Failure] = []
        timer = asyncio.timeout(deadline_s)
        try:
            async with await self.pools.here() as pool, timer:
                outcome.append(await self._attempts(pool, request, read, flight, timer))
        except TimeoutError:
            if not timer.expired():
                raise
        # Raised here, outside any except block: no library exception hangs on to ours.
        if not outcome:
            done = executed("timeout" if flight.sent else "not_sent", request.effect)
            raise deadline_passed(deadline_s, done, request)
        answer = outcome[0]
        if isinstance(answer, Failure):
            raise answer.error
        return answer

    async def _attempts(
        self,
        pool: Pool,
        request: Request,
        read: Reader[T],
        flight: Flight,
        timer: asyncio.Timeout,
    ) -> T | Failure:
        attempt, refreshed = 1, False
        while True:
            token = self.auth.token()
            reply = await pool.send(request, token, flight)
            outcome = judge(reply, request, read, token=token, now=self.clock())
            if not isinstance(outcome, Failure):
                return outcome
            error, ends = outcome.error, timer.when()
            decision = decide(
                outcome.cause,
                request.effect,
                attempt=attempt,
                remaining_s=math.inf if ends is None else ends - asyncio.get_running_loop().time(),
                random=self.rng(),
                retry_after_s=error.retry_after_s if isinstance(error, RateLimited) else None,
                refreshed=refreshed,
                backoff=self.backoff,
            )
            if decision == "stop":
                return outcome
            if isinstance(decision, Wait):
                attempt += 1
                await self.sleep(decision.seconds)
            elif self.auth.refresh(after=token) is None:
                return outcome
            else:
                refreshed = True


def is_duration(value: object) -> bool:
    """Whether it is a finite number of seconds above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
