"""Coroutines from synchronous code: one background loop, cancelled and ended properly."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from hms_active_rooms import blocking


async def whoami() -> tuple[int, asyncio.AbstractEventLoop]:
    return threading.get_ident(), asyncio.get_running_loop()


def test_a_coroutine_or_its_function_gives_its_result() -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    assert blocking.run(add(1, 2)) == 3
    assert blocking.run(lambda: add(3, 4)) == 7


def test_every_call_runs_on_the_same_loop_in_a_thread_of_its_own() -> None:
    here, there = blocking.run(whoami), blocking.run(whoami)
    assert here == there
    assert here[0] != threading.get_ident()


def test_an_error_reaches_the_caller() -> None:
    async def fail() -> None:
        raise LookupError("here")

    with pytest.raises(LookupError, match="here"):
        blocking.run(fail)


def test_a_function_that_cannot_make_its_coroutine_reaches_the_caller() -> None:
    def fail() -> None:
        raise LookupError("before")

    with pytest.raises(LookupError, match="before"):
        blocking.run(fail)  # type: ignore[arg-type]


def test_the_callers_context_is_seen_and_not_changed() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    async def look() -> str:
        seen = variable.get()
        variable.set("changed inside")
        return seen

    variable.set("from the caller")
    assert blocking.run(look) == "from the caller"
    assert variable.get() == "from the caller"


def test_many_threads_share_the_loop() -> None:
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(blocking.run(whoami))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 20
    assert len(set(got)) == 1


async def test_it_works_inside_another_running_loop() -> None:
    assert blocking.run(whoami)[1] is not asyncio.get_running_loop()


@pytest.mark.parametrize("form", ["coroutine", "function"])
def test_a_call_on_its_own_loop_is_a_clear_error(form: str) -> None:
    async def inside() -> None:
        with pytest.raises(RuntimeError, match="would wait for itself"):
            blocking.run(whoami() if form == "coroutine" else whoami)

    blocking.run(inside)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_exit_inside_reaches_the_caller_and_the_loop_lives_on(
    stop: type[BaseException],
) -> None:
    async def leave() -> None:
        raise stop

    before = blocking.run(whoami)
    with pytest.raises(stop):
        blocking.run(leave)
    assert blocking.run(whoami) == before


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
def test_an_interruption_cancels_the_coroutine_first() -> None:
    happened: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            happened.append("cleaned up")
            raise

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            blocking.run(work)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert happened == ["cleaned up"]


def interrupted(line: int) -> bool:
    """Whether Ctrl-C came before a call had ended, if it comes at this line of `concurrent.futures`."""
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen
        if event == "line" and "futures" in frame.f_code.co_filename:
            seen += 1
            if seen == line:
                sys.settrace(before)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        blocking.run(lambda: asyncio.sleep(0.02))
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_an_interruption_at_any_line_of_the_wait_leaves_a_loop_that_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocking, "GRACE_S", 0.5)
    for line in range(1, 1000):
        came = interrupted(line)
        after = threading.Thread(target=blocking.run, args=(whoami,), daemon=True)
        after.start()
        after.join(10)
        assert not after.is_alive(), line
        if not came:
            return
    raise AssertionError("the wait never ended")


def test_a_loop_that_ended_is_replaced() -> None:
    _, first = blocking.run(whoami)
    blocking.stop()
    assert first.is_closed()
    assert blocking.run(whoami)[1] is not first


def test_stopping_ends_what_still_runs() -> None:
    ended: list[str] = []
    background: list[asyncio.Task[None]] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("task")

    async def start() -> None:
        background.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)

    blocking.run(start)
    blocking.stop()
    assert ended == ["task"]


SCRIPTS = {
    "a used loop": "run(asyncio.sleep(0))",
    "a task left behind": """
async def leave():
    global kept
    kept = asyncio.create_task(asyncio.Event().wait())
run(leave())
""",
    "a thread of the executor left behind": "run(asyncio.to_thread(int))",
    "a generator left behind": """
async def numbers():
    try:
        yield 1
    finally:
        await asyncio.sleep(0)
kept = numbers()
async def first():
    return await anext(kept)
assert run(first) == 1
""",
    "used at exit": "import atexit; atexit.register(lambda: run(asyncio.sleep(0)))",
    "never used": "",
    "fork": """
import os
run(asyncio.sleep(0))
child = os.fork()
run(asyncio.sleep(0))
if child:
    assert os.waitpid(child, 0)[1] == 0
""",
    "fork while another thread starts the loop": """
import os, threading
start, starting, go = threading.Thread.start, threading.Event(), threading.Event()
def slowly(thread):
    if thread is not other:
        starting.set()
        go.wait()
    start(thread)
other = threading.Thread(target=lambda: run(asyncio.sleep(0)))
threading.Thread.start = slowly
other.start()
starting.wait()
child = os.fork()
if child:
    go.set()
    other.join()
    assert os.waitpid(child, 0)[1] == 0
else:
    threading.Thread.start = start
    run(asyncio.sleep(0))
""",
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_the_process_ends_quickly_and_without_a_warning(case: str) -> None:
    if "fork" in case and not hasattr(os, "fork"):
        pytest.skip("needs fork")
    script = "import asyncio\nfrom hms_active_rooms.blocking import run\n" + SCRIPTS[case]
    ended = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error",
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            script,
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


async def test_a_call_in_its_own_thread_sees_the_callers_context_variables() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")
    assert await blocking.in_own_thread(variable.get) == "set"
    assert await blocking.in_own_thread(lambda: threading.current_thread().daemon)
