"""Work that the operator asks a running server for by a signal. Never ends the process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

ASKED: Final[signal.Signals | None] = getattr(signal, "SIGUSR1", None)
"""None where the system has no such signal (Windows)."""


class OnSignal:
    """Does the work whenever `ASKED` comes, in the server's loop between its tasks. It catches the
    signal as soon as it is made: one that nobody catches ends the process."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._early = False
        if ASKED is not None:
            signal.signal(ASKED, self._too_early)

    def _too_early(self, *_: Any) -> None:
        self._early = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen while the block runs; what came before is done first."""
        if ASKED is None:
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(ASKED, self._work)
        if self._early:
            self._work()
        try:
            yield
        finally:
            loop.remove_signal_handler(ASKED)
            signal.signal(ASKED, signal.SIG_IGN)  # a server that stops finishes its work
