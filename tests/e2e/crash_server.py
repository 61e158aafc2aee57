"""The command, dying by SIGKILL at a chosen event of the journal.

`e2e.server` arms its servers with it; `python crash_server.py KILL COMMAND...` is for a client
that starts its server itself.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from functools import partialmethod

import sqlalchemy as sa

from hms_active_rooms.cli.main import main
from hms_active_rooms.gate.journal import Journal


def arm(kill: str) -> None:
    """Make one event's transaction deadly.

    Args:
        kill: "before:KIND" or "after:KIND": the transaction that appends the first event of
            this kind ("approved", "sent", ...), before or after its commit.
    """
    moment, _, wanted = kill.partition(":")
    mine = threading.local()

    def noticed(statement: str) -> None:
        if statement.startswith("INSERT INTO hms_events"):
            mine.writes = f"'{wanted}'" in statement or getattr(mine, "writes", False)

    def deadly(now: str) -> None:
        if getattr(mine, "writes", False) and now == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def opened(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_trace_callback(noticed)

    sa.event.listen(sa.Engine, "connect", opened)
    Journal.__init__ = partialmethod(Journal.__init__, on_commit=deadly)  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
