"""The page on a real server in a thread, for tests that block: browsers, and plain HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.gate.journal.records import Action
from hms_active_rooms.serve.app import create_app
from hms_active_rooms.serve.callers import Caller
from hms_active_rooms.serve.calls import call_tool
from hms_active_rooms.serve.guard import guard_settings
from hms_active_rooms.serve.page.feed import PageSettings
from hms_active_rooms.serve.page.routes import PATH, Page
from serve.people import remove, serving

T = TypeVar("T")

QUICK = PageSettings(journal_s=0.05, room_s=0.05, hold_s=0.2)
WAIT_S = 30.0


@dataclass
class Served:
    """A running server with the page.

    Attributes:
        url: its base.
        toolkit: whose gate it is.
        page: the page.
    """

    url: str
    toolkit: ActiveRoomsToolkit
    page: Page
    _loop: asyncio.AbstractEventLoop = field(repr=False)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it in the server's loop, to its end."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    def link(self, name: str = "") -> str:
        return self.page.login_link(self.url, name)

    def waiting(self, tool: str = "hms-remove-peers", **arguments: Any) -> Action:
        """A call that a person has to decide on."""
        call = call_tool(
            self.toolkit, tool, arguments or remove(), caller=Caller("test", "mcp:assistant")
        )
        action = self.do(call).action
        assert action
        return action

    def row(self, action: Action) -> Action:
        return self.do(self.toolkit.gate.get(action.id))


@contextmanager
def running_page(
    toolkit: ActiveRoomsToolkit, settings: PageSettings = QUICK, token: str = ""
) -> Iterator[Served]:
    """The page on a free port while the block runs."""
    page = Page(toolkit, settings)
    guard = guard_settings("127.0.0.1", callers={"": token} if token else None, own_login=(PATH,))
    app = create_app(toolkit, page.entry, guard=guard)
    loop = asyncio.new_event_loop()
    ready: asyncio.Future[str] = loop.create_future()
    over = asyncio.Event()

    async def serve() -> None:
        async with serving(app) as url:
            ready.set_result(url)
            await over.wait()
        await toolkit.aclose()

    thread = threading.Thread(target=_run, args=(loop, serve), name="page")
    thread.start()

    async def wait() -> str:
        return await asyncio.wait_for(ready, WAIT_S)

    url = asyncio.run_coroutine_threadsafe(wait(), loop).result(WAIT_S)
    try:
        yield Served(url, toolkit, page, loop)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(WAIT_S)


def _run(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        loop.run_until_complete(work())
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
