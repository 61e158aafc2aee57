"""A signal makes the server do something, and never ends it."""

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


async def test_it_is_done_by_the_running_loop_and_ends_nothing() -> None:
    work = asyncio.Event()
    on_signal(work.set)
    for _ in range(2):
        send()
        await asyncio.wait_for(work.wait(), 30)
        work.clear()


def test_without_a_running_loop_nothing_is_done_and_nothing_ends() -> None:
    done = list[bool]()
    on_signal(lambda: done.append(True))
    send()
    assert not done
