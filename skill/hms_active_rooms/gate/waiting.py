"""Whether a request that surely was not executed is worth another try, and after how long. Pure.

Only the gate waits for a write, since only it looks again at all that the wait may have
changed: the row, the deadline, the policy, the room.
"""

from __future__ import annotations

from typing import Final

from hms_active_rooms.api.wire import Backoff
from hms_active_rooms.errors import ActiveRoomsError, ConnectionFailed, RateLimited

LONGEST_WAIT_S: Final = 30.0
"""If the server asks for more, the person is told instead."""

_BACKOFF: Final = Backoff()


def asked_wait_s(error: ActiveRoomsError) -> float | None:
    """How long the server asks to wait, 0 if it does not say; None: no wait helps."""
    if error.executed == "no" and isinstance(error, RateLimited):
        return error.retry_after_s or 0.0
    return 0.0 if error.executed == "no" and isinstance(error, ConnectionFailed) else None


def wait_s(asked_s: float | None, *, attempt: int, left_s: float) -> float | None:
    """How long to wait before the next try; None: this was the last one.

    Args:
        asked_s: see `asked_wait_s`; never undercut.
        attempt: how many requests were sent so far, from 1.
        left_s: seconds until the action's deadline.
    """
    if asked_s is None or asked_s > LONGEST_WAIT_S or attempt >= _BACKOFF.attempts:
        return None
    wait = asked_s or _BACKOFF.ceiling_s(attempt)
    return wait if wait < left_s else None
