"""Who is sending: host and process, and whether that process can still be alive."""

from __future__ import annotations

import os
import socket


def this_worker() -> str:
    """Host and process, to tell later whether whoever sent something can still be alive."""
    return f"{socket.gethostname()}:{os.getpid()}"


def worker_may_live(worker: str) -> bool:
    """False only when the worker was a process of this host that is gone."""
    host, _, pid = worker.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
