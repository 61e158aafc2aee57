"""Things that happen a moment later, without a background task: they land when somebody looks."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(order=True, slots=True)
class _Due:
    at: datetime
    seq: int
    happens: Callable[[datetime], None] = field(compare=False)
    requested: bool = field(compare=False)


class Schedule:
    """A queue of dated happenings. Not thread-safe: the world's lock guards it."""

    def __init__(self) -> None:
        self._queue: list[_Due] = []
        self._seq = 0

    def add(
        self, at: datetime, happens: Callable[[datetime], None], *, requested: bool = True
    ) -> None:
        """Let `happens(at)` run at the first look after `at`.

        Args:
            requested: somebody asked for it through the API (a removal, an ending);
                False for what comes by itself (a ghost that times out).
        """
        self._seq += 1
        heapq.heappush(self._queue, _Due(at, self._seq, happens, requested))

    def land(self, now: datetime) -> None:
        """Run what is due, in order, each with its own moment."""
        while self._queue and self._queue[0].at <= now:
            due = heapq.heappop(self._queue)
            due.happens(due.at)

    def last_requested(self) -> datetime | None:
        """When the last thing somebody asked for will have landed; None when nothing waits."""
        return max((due.at for due in self._queue if due.requested), default=None)

    def clear(self) -> None:
        """Forget everything."""
        self._queue.clear()

    def __len__(self) -> int:
        return len(self._queue)
