"""Names the process that sends an action, and tells whether it may still be alive."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path


def this_worker() -> str:
    """Return a name for this process: host, boot, PID namespace, process id, and start time."""
    return _worker(os.getpid())


@cache
def _worker(pid: int) -> str:
    return f"{_world()}:{pid}@{_started(pid)}"


def worker_may_live(worker: str) -> bool:
    """Return False if the process that `this_worker` named has surely ended, else True."""
    world, _, process = worker.rpartition(":")
    pid, _, started = process.partition("@")
    if world != _world() or not pid.isdigit():
        return True
    if sys.platform == "win32":
        return True  # os.kill(pid, 0) sends Ctrl-C to the process group there
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # Another process can have the id by now, for example after a restart of the container.
    return _started(int(pid)) in (started, "")


def _started(pid: int) -> str:
    """When a process started, in ticks since the boot; "" if the system does not say."""
    status = _told(lambda: Path(f"/proc/{pid}/stat").read_text("utf-8", "replace"))
    # The second field is the program's name, in brackets, and may hold anything.
    return status.rpartition(")")[2].split()[19] if status else ""


def _world() -> str:
    """Host, boot and PID namespace. (Different containers can have the same host name.)"""
    boot = _told(lambda: Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
    return f"{socket.gethostname()}/{boot}/{_told(Path('/proc/self/ns/pid').readlink)}"


def _told(ask: Callable[[], object]) -> str:
    try:
        return str(ask()).strip()
    except OSError:
        return ""
