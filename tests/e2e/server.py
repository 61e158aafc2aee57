"""The real `serve` command in a process of its own, and whoever speaks to it in these tests."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any, Self

import httpx

from e2e.crash_server import arm
from forks import FORKS, forked
from hms_active_rooms.cli.main import run
from hms_active_rooms.sim.server import Simulation, environment

CALLER = "caller-token-0123456789"
APPROVER = "rita-token-0123456789ab"
WAIT_S = 60.0


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        said: the JSON document it printed.
        out: what it prints from then on.
        log: its standard error.
    """

    said: dict[str, Any]
    process: BaseProcess
    out: IO[str]
    log: Path

    @property
    def url(self) -> str:
        """Its base URL."""
        return str(self.said["rest"]).removesuffix("/v1")

    @property
    def stderr(self) -> str:
        """What it said on standard error so far."""
        return self.log.read_text(encoding="utf-8")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process.pid
        os.kill(self.process.pid, number)

    def ended(self) -> int | None:
        """Wait until it is gone; its exit code, or minus the signal that killed it."""
        self.process.join(WAIT_S)
        return self.process.exitcode

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.ended()


def settings(sim: Simulation, folder: Path, **more: str) -> dict[str, str]:
    """The environment of the commands: this simulator, a journal in this folder, nobody's home."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder),
        "TERM": "xterm",
        "COLUMNS": "200",
        "HMS_JOURNAL": f"sqlite:///{folder / 'journal.sqlite'}",
        **environment(sim),
        **more,
    }


def guarded(sim: Simulation, folder: Path, **more: str) -> dict[str, str]:
    """The same, with a token for callers and one for the approver "rita"."""
    tokens = {"HMS_SERVER_TOKEN": CALLER, "HMS_APPROVER_TOKEN_RITA": APPROVER}
    return settings(sim, folder, **tokens, **more)


def serving(
    sim: Simulation, environ: dict[str, str], *more: str, kill: str = ""
) -> AbstractContextManager[Server]:
    """`serve` on a free port with a login for "ada"."""
    given = ("serve", "--room", sim.room_id, "--port", "0", "--person", "ada", "--json", *more)
    return started(environ, *given, kill=kill)


@contextmanager
def started(environ: dict[str, str], *given: str, kill: str = "") -> Iterator[Server]:
    """A command that prints one JSON document and serves; ended with Ctrl-C unless it is dead.

    `kill`: see `crash_server.arm`.
    """
    log = Path(environ["HOME"]) / "server.log"
    log.touch()
    reading, writing = FORKS.Pipe(duplex=False)
    process = forked(_serve, environ, given, writing, log, kill)
    writing.close()
    with os.fdopen(os.dup(reading.fileno()), encoding="utf-8") as out:
        reading.close()
        try:
            readable, _, _ = select.select([out], [], [], WAIT_S)
            line = out.readline() if readable else ""
            assert line, log.read_text(encoding="utf-8")
            server = Server(json.loads(line), process, out, log)
            yield server
        finally:
            if process.is_alive() and process.pid:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGINT)
                process.join(WAIT_S)
                ended = process.exitcode is not None
                process.kill()
                assert ended, "it does not end with Ctrl-C"


def _serve(arguments: tuple[str, ...], out: Connection, log: Path, kill: str) -> None:
    """The command, in a process that has begun already."""
    os.dup2(out.fileno(), 1)
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", buffering=1)
    sys.argv[1:] = arguments
    if kill:
        arm(kill)
    run()


class Program(httpx.Client):
    """A program that calls by REST, or one that approves: by its token; "" for none."""

    def __init__(self, server: Server, token: str) -> None:
        bearer = {"authorization": f"Bearer {token}"} if token else {}
        super().__init__(base_url=server.url, headers=bearer, timeout=WAIT_S)

    def tool(self, name: str, arguments: dict[str, Any]) -> httpx.Response:
        """Call a tool."""
        return self.post(f"/v1/tools/{name}", json=arguments)

    def question(self, action_id: str) -> str:
        """The digest of what an action asks: what an approver has seen."""
        shown = self.get(f"/v1/actions/{action_id}").raise_for_status().json()
        return str(shown["action"]["digest"])

    def decide(self, action_id: str, digest: str, yes: bool) -> httpx.Response:
        """Approve or reject what was seen."""
        word, body = ("approve", {"digest": digest}) if yes else ("reject", {"reason": "no"})
        return self.post(f"/v1/actions/{action_id}/{word}", json=body)


class Browser(httpx.Client):
    """What the page's script does for a person: logs in, watches the news, decides."""

    def __init__(self, server: Server, name: str = "ada") -> None:
        super().__init__(
            base_url=server.said["page"], headers={"origin": server.url}, timeout=WAIT_S
        )
        self._token = server.said["logins"][name].partition("#login=")[2].partition("&")[0]

    def __enter__(self) -> Self:
        super().__enter__()
        told = self.post("/login", json={"token": self._token}).raise_for_status().json()
        self.headers["x-approvals-key"] = told["key"]
        return self

    def question(self, action_id: str) -> str:
        """The digest of a question once it is in the news, as the page shows it."""
        seen = ""
        while True:
            told = self.get("/news", params={"seen": seen}).raise_for_status().json()
            seen = told["tag"]
            for asked in told["waiting"]:
                if asked["action_id"] == action_id:
                    return str(asked["digest"])

    def decide(self, action_id: str, digest: str, yes: bool) -> httpx.Response:
        """Approve or reject what was seen."""
        no = {"type": "reject", "message": "no", "digest": digest}
        answer = {"type": "approve", "digest": digest} if yes else no
        return self.post(f"/actions/{action_id}", json=answer)
