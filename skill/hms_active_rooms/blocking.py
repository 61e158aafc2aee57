"""Runs coroutines from synchronous code, on one background event loop per process.

`asyncio.run` makes a new loop for each call, so each call would open new connections. It also fails
where a loop already runs, as in a notebook or in a synchronous tool of an async agent.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, Final, TypeVar

T = TypeVar("T")

GRACE_S: Final = 5.0
"""How many seconds an interrupted call, or the end of the process, waits for clean-up."""

Work = Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]]


def run(work: Work[T]) -> T:
    """Run a coroutine on this package's event loop, in a background thread, and return its result. Ctrl-C
    during the wait cancels the coroutine.

    Args:
        work: the coroutine, or a function that makes it.

    Raises:
        RuntimeError: called from that event loop, which would wait for itself.
    """
    try:
        background = _current()
    except RuntimeError:
        # Some Python versions start no thread while the interpreter ends.
        return asyncio.run(_coroutine(work))
    if background.thread is threading.current_thread():
        if isinstance(work, Coroutine):
            work.close()
        raise RuntimeError(
            "blocking.run was called on its own event loop, and would wait for itself. "
            "Await the coroutine instead."
        )
    loop, result, tasks = background.loop, Future[T](), list[asyncio.Task[None]]()
    # The wait is for a lock, not for the Future: Ctrl-C between two lines of its methods can leave the
    # Future's own lock taken, and then the loop would wait for that lock for ever.
    ended = threading.Lock()
    ended.acquire()

    async def main() -> None:
        try:
            result.set_result(await _coroutine(work))
        except BaseException as error:  # noqa: BLE001 - the caller gets it, whatever it is
            result.set_exception(error)
        finally:
            ended.release()

    def cancel() -> None:
        if tasks:
            tasks[0].cancel()
        else:
            result.cancel()
            ended.release()

    try:
        # This call copies the context variables. An interruption may come before it returns.
        loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(main())))
        while not ended.acquire(timeout=0.5):
            pass  # on Windows, Ctrl-C is only noticed between two waits
        return result.result()
    except BaseException:
        if not result.done():
            # Cancel two turns of the loop later, when the task has begun.
            loop.call_soon_threadsafe(loop.call_soon, cancel)
            ended.acquire(timeout=GRACE_S)
        raise


async def in_own_thread(call: Callable[[], T]) -> T:
    """Run `call` in a new thread, and return its result. Meanwhile the event loop goes on."""
    result, context = Future[T](), copy_context()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(context.run(call))
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it, whatever it is
            result.set_exception(error)

    # A daemon, so that Python can end while `call` still waits for a person to type.
    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)


def _coroutine(work: Work[T]) -> Coroutine[Any, Any, T]:
    return work if isinstance(work, Coroutine) else work()


class _Background:
    def __init__(self) -> None:
        loop = Future[asyncio.AbstractEventLoop]()
        self._stopped = asyncio.Event()
        self.thread = threading.Thread(
            target=lambda: asyncio.run(self._main(loop)),
            name="hms-active-rooms-blocking",
            daemon=True,
        )
        self.thread.start()
        self.loop = loop.result()

    async def _main(self, loop: Future[asyncio.AbstractEventLoop]) -> None:
        loop.set_result(asyncio.get_running_loop())
        await self._stopped.wait()

    def stop(self) -> None:
        """Stop the loop. This cancels its tasks and closes its connection pools."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self._stopped.set)
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


def stop() -> None:
    """Stop the event loop that `run` uses, and cancel its coroutines. The next `run` starts a new loop."""
    global _background
    with _lock:
        background, _background = _background, None
    if background is not None:
        background.stop()


def _after_fork() -> None:
    global _lock, _background
    # Another thread of the parent may have held the lock at the fork.
    _lock = threading.Lock()
    if _background is not None:
        # The loop is not closed, since parent and child share its file descriptors.
        _left_behind.append(_background)
        _background = None


atexit.register(stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
