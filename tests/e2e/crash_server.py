"""The command, dying by SIGKILL at a chosen event of the journal.

`e2e.server` arms its servers with it; `python crash_server.py KILL COMMAND...` is for a client
that starts its server itself.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import partialmethod
from typing import Any

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

    def noticed(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("INSERT INTO hms_events"):
            mine.writes = wanted in parameters or getattr(mine, "writes", False)

    def deadly(now: str) -> None:
        if getattr(mine, "writes", False) and now == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "before_cursor_execute", noticed)
    Journal.__init__ = partialmethod(Journal.__init__, on_commit=deadly)  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
