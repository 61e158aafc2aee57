"""Processes of their own that start at once: forked from one that has imported everything.

What they are forked from has no threads and runs nothing. Importing takes a new
process of these tests most of its time otherwise.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "anyio._backends._asyncio",
        "cryptography.hazmat.primitives.ciphers.aead",
        "hms_active_rooms.moderator",
        "hms_active_rooms.api.transport",
        "hms_active_rooms.cli.app",
        "hms_active_rooms.cli.conversation",
        "hms_active_rooms.cli.main",
        "hms_active_rooms.cli.serving",
        "hms_active_rooms.serve.mcp",
        "hms_active_rooms.serve.page",
        "hms_active_rooms.serve.rest",
        "hms_active_rooms.serve.server",
        "hms_active_rooms.serve.signals",
        "hms_active_rooms.sim.server",
        "httpcore",
        "langchain.agents",
        "langgraph.checkpoint.sqlite.aio",
        "pytest",
        "python_multipart",
        "sqlalchemy.dialects.sqlite",
    ]
)


def forked(work: Callable[..., None], environ: Mapping[str, str], *given: Any) -> BaseProcess:
    """A process that does this work with this environment; exit code -9 is SIGKILL."""
    with pytest.MonkeyPatch.context() as patch:
        # Read when langgraph is imported.
        patch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
        ensure_running()
    process = FORKS.Process(target=_work, args=(work, dict(environ), given))
    process.start()
    return process


def _work(work: Callable[..., None], environ: dict[str, str], given: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environ)
    work(*given)
