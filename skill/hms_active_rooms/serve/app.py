"""One ASGI application from the ways in: MCP, and REST and the page when they are given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from hms_active_rooms.serve.decisions import run_approved
from hms_active_rooms.serve.guard import Guard
from hms_active_rooms.serve.limits import refusals_of
from hms_active_rooms.serve.problems import HANDLERS, LastResort
from hms_active_rooms.serve.running import all_ended

if TYPE_CHECKING:
    from starlette.requests import Request

    from hms_active_rooms.gate.gate import Gate
    from hms_active_rooms.serve.guard import GuardSettings
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

LAST_SENDS_S = 30.0
"""How long the end of the server waits for what is being sent."""

Lifespan = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Entry:
    """One way in: its routes, and what must run around them."""

    routes: Sequence[BaseRoute]
    lifespan: Lifespan | None = None


def create_app(
    toolkit: ActiveRoomsToolkit,
    *,
    guard: GuardSettings,
    mcp: Entry | None = None,
    rest: Sequence[BaseRoute] = (),
    page: Sequence[BaseRoute] = (),
    lifespans: Sequence[Lifespan] = (),
) -> Guard:
    """The application, behind the guard.

    Args:
        toolkit: one gate for all ways in; closed by whoever made it.
        guard: who may speak to it.
        mcp: from `serve.mcp.entry`.
        rest: the REST routes, `/v1/...`.
        page: the approvals page's routes.
        lifespans: what else runs while it serves.
    """
    refusals = refusals_of(toolkit.gate.journal)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        every = [*lifespans, *([mcp.lifespan] if mcp and mcp.lifespan else [])]
        async with at_work(toolkit.gate, every):
            yield

    # MCP's own path "/" comes last: the page and REST have longer ones.
    routes = [Route("/healthz", _healthz), *rest, *page, *(mcp.routes if mcp else ())]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False  # behind a proxy, it would name this server by http://
    return Guard(LastResort(app), guard, refusals)


@asynccontextmanager
async def at_work(gate: Gate, lifespans: Sequence[Lifespan]) -> AsyncIterator[None]:
    """What runs while a server serves, by any transport. At its start, actions that were approved
    earlier are sent; at its end, requests that are on their way get time to finish. `lifespans` are
    entered before and left last.

    Several servers may share the journal. Each approved row is claimed by one of them, and a row
    that is being sent is nobody else's.
    """
    async with AsyncExitStack() as stack:
        for start in lifespans:
            await stack.enter_async_context(start())
        resumed = asyncio.create_task(run_approved(gate))
        try:
            yield
        finally:
            await asyncio.gather(resumed, return_exceptions=True)
            await all_ended(LAST_SENDS_S)
            await refusals_of(gate.journal).ended()


async def _healthz(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"}, headers={"cache-control": "no-store"})
