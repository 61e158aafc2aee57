"""Names of models that break the run which says them, each in its own way."""

from __future__ import annotations

import os
import signal
import threading


class Breaking(str):
    """Does what it says when a run makes its seed of it."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        match str(self):
            case "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                threading.Event().wait()
        return str(self)
