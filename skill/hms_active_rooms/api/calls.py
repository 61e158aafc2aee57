"""One call: attempts, a new token after a 401, waits between, and one deadline over all."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pydantic import SecretStr

from hms_active_rooms.api.answers import Answer, Failure, NoAnswer, deadline_passed, judge
from hms_active_rooms.api.auth import TokenSource
from hms_active_rooms.api.models import Document
from hms_active_rooms.api.retry import Backoff, Effect, Wait, decide, executed
from hms_active_rooms.errors import RateLimited

M = TypeVar("M", bound=Document)


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, without the token.

    Attributes:
        method: HTTP method.
        url: with its path already percent-encoded.
        query: not encoded.
        body: JSON, None for no body.
    """

    method: str
    url: str
    query: Mapping[str, str]
    body: bytes | None

    @property
    def effect(self) -> Effect:
        """A GET changes nothing."""
        return "read" if self.method == "GET" else "write"


@dataclass(slots=True)
class Flight:
    """How far a request got, readable while it is under way and after a cancellation."""

    sent: bool = False


class Sender(Protocol):
    """What a call needs of the transport."""

    async def send(self, request: Request, token: SecretStr, flight: Flight) -> Answer | NoAnswer:
        """One exchange."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Runs calls for one client; its parts are the client's own arguments."""

    auth: TokenSource
    transport: Sender
    backoff: Backoff
    sleep: Callable[[float], Awaitable[None]]
    rng: Callable[[], float]
    clock: Callable[[], float]

    async def run(self, request: Request, model: type[M], deadline_s: float) -> M:
        """The typed answer.

        Raises:
            ApiError: see `errors.py`.
        """
        flight = Flight()
        outcome: M | Failure | None = None
        timer = asyncio.timeout(deadline_s)
        try:
            async with timer:
                outcome = await self._attempts(request, model, flight, timer)
        except TimeoutError:
            if not timer.expired():
                raise
        # Raised here, outside any except block: no library exception hangs on to ours.
        if outcome is None:
            done = executed("timeout" if flight.sent else "not_sent", request.effect)
            raise deadline_passed(deadline_s, done, request.effect)
        if isinstance(outcome, Failure):
            raise outcome.error
        return outcome

    async def _attempts(
        self, request: Request, model: type[M], flight: Flight, timer: asyncio.Timeout
    ) -> M | Failure:
        attempt, refreshed = 1, False
        while True:
            token = self.auth.token()
            reply = await self.transport.send(request, token, flight)
            outcome = judge(reply, model, request.effect, token=token, now=self.clock())
            if not isinstance(outcome, Failure):
                return outcome
            error = outcome.error
            decision = decide(
                outcome.cause,
                request.effect,
                attempt=attempt,
                remaining_s=_remaining(timer),
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


def _remaining(timer: asyncio.Timeout) -> float:
    ends = timer.when()
    return math.inf if ends is None else ends - asyncio.get_running_loop().time()
