"""Whether a request that failed may be sent again, and after how long: pure decisions.

The rule, from what may have happened at the server:

| what happened                              | executed (a write) | sent again            |
|--------------------------------------------|--------------------|-----------------------|
| not_sent: no connection, so no request     | no                 | reads                 |
| rate_limited: 429                          | no                 | reads                 |
| unauthorized: 401                          | no                 | both, once, at once   |
| refused: 400, 403, 404 and other 4xx       | no                 | never                 |
| timeout: sent, no answer in time           | maybe              | reads                 |
| cut_off: reset or truncated                | maybe              | reads                 |
| malformed: a whole answer that is no JSON  | maybe              | reads                 |
| contradicts: JSON that was not asked for   | maybe              | never                 |
| server_error: 5xx                          | maybe              | reads                 |
| redirected: 3xx, too_large                 | maybe              | never                 |

A read executes nothing, whatever happens. 100ms documents no idempotency key, so a
write that may have been executed is never sent a second time. A write that surely was
not is not waited for either: meanwhile the room may change, and only the caller can look
at it again. The one repeat of a write is the one after a 401, with a new token and
without a wait.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from hms_active_rooms.errors import Executed

Effect = Literal["read", "write"]
"""A GET is a read, anything else a write."""

Cause = Literal[
    "not_sent",
    "rate_limited",
    "unauthorized",
    "refused",
    "timeout",
    "cut_off",
    "malformed",
    "contradicts",
    "server_error",
    "redirected",
    "too_large",
]


_NOT_EXECUTED: Final[frozenset[Cause]] = frozenset(
    {"not_sent", "rate_limited", "unauthorized", "refused"}
)
_READ_AGAIN: Final[frozenset[Cause]] = frozenset(
    {"not_sent", "rate_limited", "timeout", "cut_off", "malformed", "server_error"}
)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often and how fast.

    Attributes:
        attempts: requests in all, the first one included.
        base_s: upper bound of the first wait; it doubles with each further one.
        cap_s: upper bound of any wait we choose ourselves.
    """

    attempts: int = 4
    base_s: float = 0.5
    cap_s: float = 8.0

    def ceiling_s(self, attempt: int) -> float:
        """The longest wait of our own choice after so many attempts."""
        # The exponent is bounded: 2.0 ** 1024 is an OverflowError.
        return min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 64))


@dataclass(frozen=True, slots=True)
class Wait:
    """Send again after `seconds`."""

    seconds: float


Decision = Wait | Literal["refresh_token", "stop"]


def executed(cause: Cause, effect: Effect) -> Executed:
    """What a failure says about whether the request changed anything."""
    return "no" if effect == "read" or cause in _NOT_EXECUTED else "maybe"


def decide(
    cause: Cause,
    effect: Effect,
    *,
    attempt: int,
    remaining_s: float,
    random: float,
    retry_after_s: float | None = None,
    refreshed: bool = False,
    backoff: Backoff = Backoff(),
) -> Decision:
    """What to do after a failed attempt.

    Args:
        cause: what happened.
        effect: what the request was.
        attempt: how many requests were sent so far, from 1; a repeat after 401 not counted.
        remaining_s: seconds until the call's deadline.
        random: in [0, 1), for the jitter.
        retry_after_s: what the server asked for; never undercut. If it does not fit
            into the deadline, waiting is the caller's decision.
        refreshed: whether this call already got a new token.
        backoff: how often and how fast.
    """
    if cause == "unauthorized":
        return "stop" if refreshed else "refresh_token"
    if effect == "write" or cause not in _READ_AGAIN or attempt >= backoff.attempts:
        return "stop"
    wait = random * backoff.ceiling_s(attempt) + (retry_after_s or 0.0)
    return Wait(wait) if wait < remaining_s else "stop"


MAX_RETRY_AFTER_S: Final = 86_400.0
"""A longer Retry-After is reported as one day: nobody waits for it in a call."""

_SECONDS: Final = re.compile(r"[0-9]{1,20}")
# The text of the one 429 that the 100ms docs show (analytics); no header is documented.
_IN_TEXT: Final = re.compile(r"retry after ([0-9]{1,20}) seconds?")


def retry_after_s(header: str | None, message: str, *, now: float) -> float | None:
    """Seconds to wait by a Retry-After header (seconds or HTTP date) or by the error text.

    Args:
        header: the header's value, None when it was not sent.
        message: the error's text.
        now: Unix time, for an HTTP date.
    """
    value = (header or "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), MAX_RETRY_AFTER_S)
    if value:
        try:
            moment = parsedate_to_datetime(value)
            wait = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
        except (ValueError, TypeError, OverflowError, IndexError):
            wait = math.nan
        if not math.isnan(wait):
            return min(max(wait, 0.0), MAX_RETRY_AFTER_S)
    if match := _IN_TEXT.search(message):
        return min(float(match[1]), MAX_RETRY_AFTER_S)
    return None
