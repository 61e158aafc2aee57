"""Keeps one connection pool for each event loop, and closes the pool when the loop ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable
from weakref import WeakKeyDictionary, finalize

from hms_active_rooms.api.wire import Pool
from hms_active_rooms.errors import InvalidCall


class Held:
    """Gives a connection pool to `async with`. The pool is closed when `asyncio.run` ends."""

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
        """Close the pool, now or when the last request that uses it has ended."""
        self._closing = True
        if not self._users:
            await self.keeper.aclose()


class PerLoop:
    """Makes and keeps the connection pools of one client, one for each event loop. Any thread may use it."""

    def __init__(self, make: Callable[[], Pool]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._closed = False
        self._held: WeakKeyDictionary[asyncio.AbstractEventLoop, Held] = WeakKeyDictionary()
        # If nobody closes the client, the pools close when the client is garbage-collected.
        finalize(self, _close_all, self._held).atexit = False

    async def here(self) -> Held:
        """Return the running loop's pool for an `async with`. Raises InvalidCall after `aclose`."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise InvalidCall("The toolkit or client was closed.", hint="Make a new one.")
            held = self._held.get(loop)
            if held is not None:
                return held
            # A pool's sockets refer to their loop, so the weak key alone does not free an ended loop.
            for ended in [other for other in self._held if other.is_closed()]:
                del self._held[ended]
            held = self._held[loop] = Held(self._make())
        await anext(held.keeper)
        return held

    async def renew(self) -> None:
        """Close the running loop's pool as soon as no request uses it. The next request gets a new pool."""
        with self._lock:
            here = self._held.pop(asyncio.get_running_loop(), None)
        if here is not None:
            await here.close()

    async def aclose(self) -> None:
        """Close all pools. Do not wait for requests, or for other loops. Later, `here` raises InvalidCall."""
        with self._lock:
            self._closed = True
        await self.renew()
        _close_all(self._held)


def _close_all(held: WeakKeyDictionary[asyncio.AbstractEventLoop, Held]) -> None:
    """Ask each loop to close its pool. Any thread, and the garbage collector, may call this."""
    while held:
        loop, one = held.popitem()
        # RuntimeError: that loop is closed, and its pool was closed with it.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_close_soon, loop, one)


def _close_soon(loop: asyncio.AbstractEventLoop, held: Held) -> None:
    loop.create_task(held.close())
