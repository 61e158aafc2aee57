"""The scripted server and clients for it, on both transports."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from api.wire import FixedToken, Sleeps, Wire, reply
from hms_active_rooms.api import ActiveRoomsClient, Timeouts


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """A server on this test's loop."""
    wire = Wire(answers=[reply(200, {"message": "ok"})])
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2"
    yield wire
    server.close()
    await asyncio.gather(*wire.stop(), return_exceptions=True)
    await server.wait_closed()


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture(params=["httpx", "aiohttp"])
def transport(request: pytest.FixtureRequest) -> str:
    """The tests that use it run on both transports."""
    name: str = request.param
    return name


@pytest.fixture
async def make_client(
    wire: Wire, transport: Any, sleeps: Sleeps
) -> AsyncIterator[Callable[..., ActiveRoomsClient]]:
    """Makes clients for the scripted server and closes them."""
    async with AsyncExitStack() as stack:

        def make(**settings: Any) -> ActiveRoomsClient:
            settings = {
                "auth": FixedToken(),
                "base_url": wire.base_url,
                "transport": transport,
                "sleep": sleeps,
                "rng": lambda: 0.5,
                "timeouts": Timeouts(read_s=20.0),
            } | settings
            client = ActiveRoomsClient(settings.pop("auth"), **settings)
            stack.push_async_exit(client)
            return client

        yield make


@pytest.fixture
def client(make_client: Callable[..., ActiveRoomsClient]) -> ActiveRoomsClient:
    return make_client()


@pytest.fixture
def unused_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
