"""Who is sending: host, boot, pid namespace and process, and whether it can still be alive."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_worker() -> str:
    """This process, to tell later whether whoever sent something can still be alive."""
    return f"{_world()}:{os.getpid()}"


def worker_may_live(worker: str) -> bool:
    """False only when the worker was a process of this very world of process ids and is gone."""
    world, _, pid = worker.rpartition(":")
    if world != _world() or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _world() -> str:
    """Where a process id means what it means here: two containers can share a host name."""
    return f"{socket.gethostname()}/{_boot_id()}/{_pid_namespace()}"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
