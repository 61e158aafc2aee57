"""Run a coroutine to its end from synchronous code, on one background event loop per process.

A loop per call would open new connections each time, and `asyncio.run` is refused
inside a running loop (a notebook, a synchronous tool in an async agent). So one
daemon thread keeps one loop; it starts at the first call, starts anew after a
fork, and stops before the interpreter does.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

GRACE_S: Final = 5.0
"""How long an interrupted call, or the end of the process, waits for clean-up."""


def run(work: Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Result of a coroutine (or of a function that makes one), run on the background loop.

    The coroutine sees a copy of the caller's context variables. If waiting is
    interrupted (Ctrl-C, a signal handler that raises), the coroutine is cancelled
    first and the interruption goes on.

    Raises:
        RuntimeError: called from a coroutine on the background loop, which would
            wait for itself for ever.
    """
    try:
        background = _current()
    except RuntimeError:
        # Some Python versions start no thread once the interpreter is ending.
        return asyncio.run(_coroutine(work))
    if background.thread is threading.current_thread():
        if isinstance(work, Coroutine):
            work.close()
        raise RuntimeError(
            "blocking.run was called on its own event loop and would wait for itself;"
            " await the coroutine there instead."
        )
    job = _Job(work)
    try:
        background.loop.call_soon_threadsafe(job.start, contextvars.copy_context())
        job.finished.wait()
    except BaseException:
        background.loop.call_soon_threadsafe(job.cancel)
        job.finished.wait(GRACE_S)
        raise
    return job.result()


def _coroutine(
    work: Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]],
) -> Coroutine[Any, Any, T]:
    return work if isinstance(work, Coroutine) else work()


class _Job(Generic[T]):
    """One coroutine on the background loop and the event its caller waits for."""

    def __init__(self, work: Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._task: asyncio.Task[T | _Exit] | None = None
        self.finished = threading.Event()

    def start(self, context: contextvars.Context) -> None:
        task = asyncio.get_running_loop().create_task(self._main(), context=context)
        task.add_done_callback(lambda _: self.finished.set())
        self._task = task

    async def _main(self) -> T | _Exit:
        try:
            return await _coroutine(self._work)
        except (KeyboardInterrupt, SystemExit) as stop:
            # A task lets these two through and the loop would end under everybody else.
            return _Exit(stop)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            return
        # The interruption came before the start.
        if isinstance(self._work, Coroutine):
            self._work.close()
        self.finished.set()

    def result(self) -> T:
        assert self._task is not None
        outcome = self._task.result()
        if isinstance(outcome, _Exit):
            raise outcome.stop
        return outcome


class _Exit:
    """KeyboardInterrupt or SystemExit on its way to the caller."""

    def __init__(self, stop: KeyboardInterrupt | SystemExit) -> None:
        self.stop = stop


class _Background:
    """A daemon thread that runs one event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(
            target=self._serve, name="hms-active-rooms-blocking", daemon=True
        )
        try:
            self.thread.start()
        except RuntimeError:
            self.loop.close()
            raise

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            # Stopped on purpose: end what still runs, as `asyncio.run` does.
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            # This also closes the connection pools that live on this loop.
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(GRACE_S)


_lock = threading.Lock()
_background: _Background | None = None
_left_behind: list[_Background] = []


def _current() -> _Background:
    global _background
    with _lock:
        if _background is None or not _background.thread.is_alive():
            _background = _Background()
        return _background


def _stop() -> None:
    global _background
    with _lock:
        background, _background = _background, None
    if background is not None and background.thread.is_alive():
        background.stop()


def _after_fork() -> None:
    """The child has neither the thread nor a right to the loop's file descriptors."""
    global _lock, _background
    # Another thread of the parent may have held the lock at the fork.
    _lock = threading.Lock()
    if _background is not None:
        # Kept, not closed: closing would touch what parent and child share.
        _left_behind.append(_background)
        _background = None


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
