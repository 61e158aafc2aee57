"""The command, dying by SIGKILL at a chosen event of the journal.

`e2e.server` arms its servers with it; `python crash_server.py KILL COMMAND...` is for a client
that starts its server itself.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from hms_active_rooms.cli.main import main
from hms_active_rooms.gate.journal import Journal


def arm(kill: str) -> None:
    """Make one event's transaction deadly.

    Args:
        kill: "before:KIND" or "after:KIND": the transaction that appends the first event of
            this kind ("approved", "sent", ...), before or after its commit.
    """
    moment, _, wanted = kill.partition(":")
    transaction, event = Journal._transaction, Journal._event
    mine: ContextVar[bool] = ContextVar("mine", default=False)

    def noticed(self: Journal, db: Any, action_id: str, kind: str, *more: Any) -> None:
        event(self, db, action_id, kind, *more)
        if kind == wanted:
            mine.set(True)

    @contextmanager
    def deadly(self: Journal) -> Iterator[Any]:
        mine.set(False)
        with transaction(self) as db:
            yield db
            if mine.get() and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
        if mine.get():
            os.kill(os.getpid(), signal.SIGKILL)

    Journal._event = noticed  # type: ignore[method-assign]
    Journal._transaction = deadly  # type: ignore[method-assign]


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
