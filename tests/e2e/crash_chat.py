"""`chat` as a process that dies by SIGKILL at a chosen step. Forked by test_killed_chat.py."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any

import httpx
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from e2e.crash_worker import NEVER, Job, Moment, Steps
from hms_active_rooms.cli.main import main
from hms_active_rooms.gate.journal import Journal


def talk(room: str, typed: str, written: str, step: int = NEVER, moment: Moment = "before") -> None:
    """Say these lines to the conversation `t`, and die at this step: a commit of the journal, a
    write of a checkpoint, a request.

    Args:
        written: the file of what it says, up to the last moment.
    """
    steps = Steps(Job("chat", "", "", step, moment, "", {}))
    Journal.__init__ = partialmethod(Journal.__init__, on_commit=steps.on_commit)  # type: ignore[method-assign,assignment]
    for owner, name in (
        (AsyncSqliteSaver, "aput"),
        (AsyncSqliteSaver, "aput_writes"),
        (httpx.AsyncHTTPTransport, "handle_async_request"),
    ):
        setattr(owner, name, counted(getattr(owner, name), steps))
    sys.stdin = io.TextIOWrapper(io.BytesIO(typed.encode()), "utf-8")
    with Path(written).open("a", encoding="utf-8") as out:
        sys.stdout = sys.stderr = out
        code = main(["chat", room, "--thread", "t", "--approve-from-stdin"])
    sys.exit(code)


def counted(method: Callable[..., Any], steps: Steps) -> Callable[..., Any]:
    """The method as a step."""

    async def step(*given: Any) -> Any:
        number = steps.begin()
        result = await method(*given)
        steps.end(number)
        return result

    return step
