"""Processes of their own that start at once: forked from one that has imported everything.

What they are forked from has no threads and runs nothing. Importing takes a new
process of these tests most of its time otherwise.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import runpy
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import pytest
from pexpect.fdpexpect import fdspawn

from hms_active_rooms.cli.main import run

WAIT_S = 60
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "anyio._backends._asyncio",
        "cryptography.hazmat.primitives.ciphers.aead",
        "hms_active_rooms.moderator",
        "hms_active_rooms.api.transport",
        "hms_active_rooms.cli.app",
        "hms_active_rooms.cli.conversation",
        "hms_active_rooms.cli.serving",
        "hms_active_rooms.gate.journal.engines",
        "hms_active_rooms.gate.journal.store",
        "hms_active_rooms.moderator.offline",
        "hms_active_rooms.serve.mcp",
        "hms_active_rooms.serve.page.routes",
        "hms_active_rooms.serve.rest",
        "hms_active_rooms.serve.app",
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


@dataclass(frozen=True)
class Ended:
    """How one run of the command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


def command(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    given: bytes = b"",
    script: Path | None = None,
) -> Ended:
    """Runs the command, or a script, without a terminal, to its end."""
    with TemporaryFile() as stdin, TemporaryFile() as stdout, TemporaryFile() as stderr:
        stdin.write(given)
        stdin.seek(0)
        streams = [_passed(stream.fileno()) for stream in (stdin, stdout, stderr)]
        process = forked(_command, environ, arguments, streams, False, Path.cwd(), script)
        for copy in streams:
            copy.close()
        process.join(WAIT_S)
        process.kill()
        assert process.exitcode is not None, "it does not end"
        for stream in (stdout, stderr):
            stream.seek(0)
        return Ended(process.exitcode, stdout.read().decode(), stderr.read().decode())


if TYPE_CHECKING:
    Spawned = fdspawn[str]
else:  # its types are in stubs only
    Spawned = fdspawn


class Terminal(Spawned):
    """The command on a pseudo-terminal of its own."""

    def __init__(
        self, arguments: Sequence[str], environ: Mapping[str, str], output: int | None = None
    ) -> None:
        """`output`: what takes its standard output in place of the terminal."""
        ours, its = os.openpty()
        termios.tcsetwinsize(its, (50, 200))
        streams = [_passed(its if n != 1 or output is None else output) for n in range(3)]
        os.close(its)
        super().__init__(ours, timeout=WAIT_S, encoding="utf-8")
        self._process = forked(_command, environ, arguments, streams, True, Path.cwd())
        for stream in streams:
            stream.close()

    def sendintr(self) -> None:
        """Ctrl-C."""
        self.send("\x03")

    def sendeof(self) -> None:
        """Ctrl-D."""
        self.send("\x04")

    def code(self) -> int | None:
        """Its exit code, once it is gone; -9 is SIGKILL."""
        self._process.join(WAIT_S)
        return self._process.exitcode

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self._process.pid or 0, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.join(WAIT_S)

    def close(self) -> None:
        """Kill it if it lives, and take the terminal away."""
        self.kill()
        super().close()


def _passed(stream: int) -> Connection:
    """A copy of this file descriptor that a process can be given."""
    return Connection(os.dup(stream))


def _command(
    arguments: Sequence[str],
    streams: Sequence[Connection],
    terminal: bool,
    folder: Path,
    script: Path | None = None,
) -> None:
    """As if started by a shell: on these streams, perhaps with a terminal."""
    os.chdir(folder)
    if terminal:
        os.setsid()
        fcntl.ioctl(streams[0].fileno(), termios.TIOCSCTTY, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1, closefd=False)
    sys.argv[1:] = arguments
    if script:
        runpy.run_path(str(script), run_name="__main__")
    else:
        run()
