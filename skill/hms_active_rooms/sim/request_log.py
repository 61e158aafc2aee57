"""Records the requests to the simulated API, for tests. Without headers, so without tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

from hms_active_rooms.sim.records import Json


@dataclass(slots=True)
class LoggedRequest:
    """A request to the simulated API.

    Args:
        status: the HTTP status; None until it is answered.
        executed: whether the operation succeeded, whatever the answer said.
        fault: the kind of the fault that hit it, or "".
    """

    seq: int  # 1, 2, 3 in the order of arrival
    at: str  # the world's time
    operation: str  # its name; "" for an unknown path or method
    method: str
    path: str
    query: str  # undecoded
    body: Json  # parsed JSON, else text; None for an empty body
    status: int | None = None  # of the answer; None before it is sent
    executed: bool = False  # whether the operation succeeded, even if a fault changed the answer
    fault: str = ""  # the kind of the fault that hit the request, or ""


class RequestLog:
    """The requests since the start or the last `clear`. Any thread may call these methods."""

    def __init__(self) -> None:
        self._entries: list[LoggedRequest] = []
        self._changed = threading.Condition()

    def begin(self, **arrived: Any) -> LoggedRequest:
        """Add a request, and return it. `arrived` has the fields that are known when a request arrives."""
        with self._changed:
            self._entries.append(LoggedRequest(len(self._entries) + 1, **arrived))
            self._changed.notify_all()
            return self._entries[-1]

    def note(self, entry: LoggedRequest, **known: Any) -> None:
        """Set fields of an entry that became known later."""
        with self._changed:
            for name, value in known.items():
                setattr(entry, name, value)
            self._changed.notify_all()

    def entries(self) -> tuple[LoggedRequest, ...]:
        """Return copies of the requests so far, oldest first."""
        with self._changed:
            return tuple(map(copy, self._entries))

    def wait_until(
        self, wanted: Callable[[tuple[LoggedRequest, ...]], bool], timeout_s: float = 10.0
    ) -> tuple[LoggedRequest, ...]:
        """Wait until `wanted(all requests so far)` is true, and return these requests. Raises
        TimeoutError after `timeout_s` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: wanted(self.entries()), timeout_s):
                raise TimeoutError(f"the wanted requests did not come within {timeout_s:g} s")
            return self.entries()

    def clear(self) -> None:
        """Delete all requests. The next one has `seq` 1 again."""
        with self._changed:
            self._entries.clear()
