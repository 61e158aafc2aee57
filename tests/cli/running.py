"""Running the command in tests: how it ended, and what reached the simulated room."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pexpect import EOF

from forks import WAIT_S, Ended, Terminal
from hms_active_rooms.sim.server import Simulation

COMMAND = [sys.executable, "-c", "from hms_active_rooms.cli.main import run; run()"]

QUESTION = r"Approve\? "


class Run(Protocol):
    """Runs the command without a terminal."""

    def __call__(self, *arguments: str, given: str = "", **variables: str) -> Ended: ...


class Open(Protocol):
    """Runs the command on a terminal of its own."""

    def __call__(self, *arguments: str, **variables: str) -> Terminal: ...


def ended(child: Terminal) -> tuple[int | None, str]:
    """Exit code and what was still written."""
    child.expect(EOF)
    return child.code(), child.before or ""


def answered(child: Terminal, *lines: str) -> tuple[int | None, str]:
    """Each line typed at a question; exit code and what was written after the last."""
    for line in lines:
        child.expect(QUESTION)
        child.sendline(line)
    return ended(child)


def executed(sim: Simulation) -> None:
    """Come back once the simulated room was changed."""
    sim.log.wait_until(lambda seen: any(r.method == "POST" and r.executed for r in seen), WAIT_S)


def process(
    words: Sequence[str], environ: Mapping[str, str], given: str = "", stdout: Any = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, to its end."""
    return subprocess.run(
        words,
        env=environ,
        input=given,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def control(sim: Simulation, path: str, **body: object) -> Any:
    """What people, and not the API, do to the simulated room."""
    request = urllib.request.Request(
        sim.control_url + path,
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        return json.load(answer)
