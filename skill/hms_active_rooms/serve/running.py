"""Approved actions are sent to their end, even when whoever called goes away in between.

What comes back is what the row tells: an error of the journal after the request left is no sign
that nothing was executed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from hms_active_rooms.errors import ActiveRoomsError, InvalidCall, JournalError, OutcomeUnknown
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal.records import FINAL, Action

_log = logging.getLogger(__name__)

_running: set[asyncio.Task[Any]] = set()

_T = TypeVar("_T")


async def to_the_end(gate: Gate, action_id: str, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of work that may send the action, from a task of its own: a cancelled caller
    does not cancel it. In every error `executed` is what the row says."""
    try:
        return await asyncio.shield(started(action_id, work))
    except InvalidCall:
        raise  # nothing was tried, and the row may be none of the caller's
    except ActiveRoomsError as error:
        raise _by_row(error, await _newest(gate, action_id), action_id) from None


def started(action_id: str, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
    """The same without waiting for it."""
    task = asyncio.create_task(work, name=f"send {action_id}")
    _running.add(task)
    task.add_done_callback(_forget)
    return task


def _forget(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # taken note of: the row tells what happened, whoever still listens


async def run(gate: Gate, action: Action) -> Action:
    """`gate.run`; once the row has ended it is the answer, whatever went wrong behind it."""
    try:
        return await gate.run(action)
    except ActiveRoomsError:
        row = await _newest(gate, action.id)
        if row is None or row.state not in FINAL:
            raise
        return row


def _by_row(error: ActiveRoomsError, row: Action | None, action_id: str) -> ActiveRoomsError:
    """The error, or one that says what the row says was executed. No row: it cannot be read."""
    if row is None:
        hidden = isinstance(error, JournalError) and error.executed == "no"
        text = f"Whether the action {action_id} was sent cannot be read."
        return OutcomeUnknown(f"{error} {text}") if hidden else error
    if row.executed == "no" or error.executed != "no":
        return error
    text = f"The action {row.id} was sent. {error}"
    if row.executed == "maybe":
        return OutcomeUnknown(text)
    return JournalError(text, executed="yes", hint="Do not send it again; look at the action.")


async def _newest(gate: Gate, action_id: str) -> Action | None:
    try:
        return await gate.latest(action_id)
    except (JournalError, InvalidCall):
        return None


@asynccontextmanager
async def meanwhile(
    work: Coroutine[Any, Any, _T], ended: Callable[[asyncio.Task[_T]], None] | None = None
) -> AsyncIterator[None]:
    """Run `work` beside the block, and cancel it when the block ends. An error in `work` ends
    neither the block nor its caller. `ended` is called with the task of `work` once that is over."""
    task = asyncio.create_task(work)
    if ended is not None:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def all_ended(timeout_s: float) -> None:
    """Wait for what is being sent in this loop; what is not done by then is called unknown."""
    loop = asyncio.get_running_loop()
    if mine := {task for task in _running if task.get_loop() is loop}:
        _, late = await asyncio.wait(mine, timeout=timeout_s)
        for task in late:
            _log.warning("stopped before its end: %s; look at the room", task.get_name())
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
