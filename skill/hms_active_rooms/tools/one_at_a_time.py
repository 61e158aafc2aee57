"""The same call made twice at once: the second waits until the first is through."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

POLL_S: Final = 0.02

_running: dict[tuple[int, str], object] = {}


@asynccontextmanager
async def one_at_a_time(key: str) -> AsyncIterator[None]:
    """Run the block while no other block with this key runs in this process.

    Not a lock: the two may be on different event loops, or in a child after a fork. What
    keeps a request from being sent twice is the journal; this keeps two questions about
    one call from being asked.
    """
    place, mine = (os.getpid(), key), object()
    # One step under the interpreter's lock: whoever's object is in there has the turn.
    while _running.setdefault(place, mine) is not mine:  # noqa: ASYNC110 - maybe on another loop
        await asyncio.sleep(POLL_S)
    try:
        yield
    finally:
        del _running[place]
