"""Approved actions are sent to their end, even when whoever called goes away in between.

A client that closes its connection cancels its request. Without this, a removal that a
person approved would stop half-way and be called unknown.
"""

from __future__ import annotations

import asyncio

from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.records import Action

_running: set[asyncio.Task[Action]] = set()


async def run_to_end(gate: Gate, action_id: str) -> Action:
    """`gate.run` in a task of its own: a cancelled caller does not cancel it.

    Raises:
        ActiveRoomsError: see `Gate.run`.
    """
    task = asyncio.create_task(gate.run(action_id), name=f"send {action_id}")
    _running.add(task)
    task.add_done_callback(_forget)
    return await asyncio.shield(task)


def _forget(task: asyncio.Task[Action]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # taken note of: the row tells what happened, whoever still listens


async def all_ended(timeout_s: float) -> None:
    """Wait for what is being sent in this loop; what is not done by then is called unknown."""
    loop = asyncio.get_running_loop()
    mine = {task for task in _running if task.get_loop() is loop}
    if mine:
        _, late = await asyncio.wait(mine, timeout=timeout_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
