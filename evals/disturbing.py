"""What goes wrong around an agent: crashes, second answers, two processes, replays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver


class Crashed(Exception):
    """The process died here."""


class CrashingSaver(InMemorySaver):
    """A checkpointer whose process dies once: from that moment nothing is saved any more.

    Args:
        when: whether it dies now.
    """

    def __init__(self, when: Callable[[], bool]) -> None:
        super().__init__()
        self._when = when
        self._dead = False
        self._died = False

    def restarted(self) -> None:
        """A new process uses what was saved. It does not die again."""
        self._dead = False

    def put(self, *args: Any, **kwargs: Any) -> Any:
        """Save a checkpoint, or die."""
        self._perhaps_crash()
        return super().put(*args, **kwargs)

    def put_writes(self, *args: Any, **kwargs: Any) -> None:
        """Save what a task did, or die."""
        self._perhaps_crash()
        super().put_writes(*args, **kwargs)

    def _perhaps_crash(self) -> None:
        if self._dead or (not self._died and self._when()):
            self._dead = self._died = True
            raise Crashed
