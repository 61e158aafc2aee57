"""One connection pool for each event loop, closed with the loop it was opened on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from weakref import WeakKeyDictionary, finalize

from hms_active_rooms.api.wire import Pool
from hms_active_rooms.errors import InvalidCall


class Held:
    """A pool and how many use it: one that is closed under a request loses the connection
    the request has just opened.

    A loop ends the asynchronous generators started on it before it closes (`asyncio.run`
    and `asyncio.Runner` see to that). So a client that nobody closed leaves no open
    socket behind.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.keeper = self._keep()
        self._users, self._closing = 0, False

    async def _keep(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.pool.aclose()

    async def __aenter__(self) -> Pool:
        self._users += 1
        return self.pool

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._closing:
            await self.close()

    async def close(self) -> None:
        """Close it now, or when nobody uses it any more."""
        self._closing = True
        if not self._users:
            await self.keeper.aclose()


class PerLoop:
    """The pools of one client, each made on the loop that will use it. Safe from any thread."""

    def __init__(self, make: Callable[[], Pool]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._closed = False
        self._held: WeakKeyDictionary[asyncio.AbstractEventLoop, Held] = WeakKeyDictionary()
        # A client that is dropped without closing: `finalize` keeps the pools out of
        # the garbage with it, so that they are closed and don't just vanish.
        finalize(self, _close_all, self._held).atexit = False

    async def here(self) -> Held:
        """The running loop's, which is not closed while it is entered; InvalidCall after `aclose`."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise InvalidCall("The client is closed.", hint="Make a new client.")
            held = self._held.get(loop)
            if held is not None:
                return held
            # A pool refers to its loop by its sockets, so weak keys alone do not end it.
            for ended in [other for other in self._held if other.is_closed()]:
                del self._held[ended]
            held = self._held[loop] = Held(self._make())
        await anext(held.keeper)
        return held

    async def aclose(self) -> None:
        """Close them all and refuse further use; those of other loops without waiting for it."""
        with self._lock:
            self._closed = True
            here = self._held.pop(asyncio.get_running_loop(), None)
        _close_all(self._held)
        if here is not None:
            await here.close()


def _close_all(held: WeakKeyDictionary[asyncio.AbstractEventLoop, Held]) -> None:
    """Ask each loop to close its pool; called from any thread, and by the garbage collector."""
    while held:
        loop, one = held.popitem()
        # RuntimeError: that loop is closed, and its pool was closed with it.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_close_soon, loop, one)


def _close_soon(loop: asyncio.AbstractEventLoop, held: Held) -> None:
    loop.create_task(held.close())
