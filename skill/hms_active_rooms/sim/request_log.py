"""Records every API request: what came in, whether it was executed, what went out.

It never holds a header, so no token. Tests and evals read from it what was really sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hms_active_rooms.sim.records import Json


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    seq: int  # 1, 2, 3 in the order of arrival
    at: str  # the world's time
    operation: str  # its name, empty for an unknown path or method
    method: str
    path: str
    query: str  # undecoded
    body: Json  # parsed; as text if it is not JSON; None if there is none
    status: int | None = None  # of the answer; None while there is none, or if none is sent
    executed: bool = False  # the world did what was asked, whatever answer the client got
    fault: str = ""  # the kind of fault that hit it, empty for none


class RequestLog:
    """All requests since the start or the last clear. Safe from any thread."""

    def __init__(self) -> None:
        self._entries: dict[int, LoggedRequest] = {}
        self._changed = threading.Condition()

    def begin(self, **arrived: Any) -> LoggedRequest:
        """Add a request that has arrived; `arrived`: its fields except `seq`."""
        with self._changed:
            entry = LoggedRequest(len(self._entries) + 1, **arrived)
            self._entries[entry.seq] = entry
            self._changed.notify_all()
            return entry

    def note(self, entry: LoggedRequest, **known: Any) -> LoggedRequest:
        """Add fields that are known now to a request, unless the log was cleared meanwhile."""
        with self._changed:
            newer = replace(entry, **known)
            if self._entries.get(entry.seq) is entry:
                self._entries[entry.seq] = newer
                self._changed.notify_all()
            return newer

    def entries(self) -> tuple[LoggedRequest, ...]:
        """What was logged so far, oldest first."""
        with self._changed:
            return tuple(self._entries.values())

    def wait_until(
        self, wanted: Callable[[tuple[LoggedRequest, ...]], bool], timeout_s: float = 10.0
    ) -> tuple[LoggedRequest, ...]:
        """The entries, once they are as `wanted`. Raises TimeoutError if they are not in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: wanted(self.entries()), timeout_s):
                raise TimeoutError(f"no such requests within {timeout_s:g} s")
            return self.entries()

    def clear(self) -> None:
        """Forget everything; the next request is number 1 again."""
        with self._changed:
            self._entries.clear()
