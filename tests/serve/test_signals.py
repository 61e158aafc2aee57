"""A signal makes the server do something, at any moment, and never ends it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from hms_active_rooms.serve.app import ASKED, on_signal

pytestmark = pytest.mark.skipif(ASKED is None, reason="this system has no SIGUSR1")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    assert ASKED
    before = signal.getsignal(ASKED)
    yield
    signal.signal(ASKED, before)


def send() -> None:
    assert ASKED
    os.kill(os.getpid(), ASKED)


async def done(work: asyncio.Event) -> None:
    await asyncio.wait_for(work.wait(), 30)


async def test_it_is_done_while_the_server_runs() -> None:
    work = asyncio.Event()
    async with on_signal(work.set)():
        send()
        await done(work)
        work.clear()
        send()
        await done(work)


async def test_asked_for_before_the_server_runs_it_is_done_when_it_does() -> None:
    work = asyncio.Event()
    asked = on_signal(work.set)
    send()
    assert not work.is_set()
    async with asked():
        await done(work)


async def test_a_server_that_stops_goes_on_stopping() -> None:
    work = asyncio.Event()
    async with on_signal(work.set)():
        pass
    assert ASKED
    assert signal.getsignal(ASKED) is signal.SIG_IGN  # else the next line ends these tests
    send()
    await asyncio.sleep(0)
    assert not work.is_set()
