"""The command as a person starts it: isolated from this machine, against a simulator."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cli.running import Open, Run
from forks import Ended, Terminal, command
from hms_active_rooms.cli.main import main
from hms_active_rooms.sim.server import Simulation, running_sim
from hms_active_rooms.sim.settings import Settings


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """This process's environment and that of the commands: nobody's home, no settings."""
    for name in list(os.environ):
        if name.startswith("HMS_") or name in ("NO_COLOR", "FORCE_COLOR", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    # The chat sets it for its process, which in these tests is theirs.
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "true")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    return dict(os.environ)


@pytest.fixture
def start(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Simulation]]:
    """Starts a simulator with a scene; the commands of this test are pointed at it."""
    with ExitStack() as stack:

        def started(scene: str) -> Simulation:
            quick = Settings(removal_delay_s=0.01, ending_delay_s=0.01)
            sim = stack.enter_context(running_sim(scene, settings=quick))
            settings = {
                "HMS_BASE_URL": sim.base_url,
                "HMS_ACCESS_KEY": sim.access_key,
                "HMS_SECRET": sim.secret,
            }
            environ.update(settings)
            for name, value in settings.items():
                monkeypatch.setenv(name, value)
            return sim

        yield started


@pytest.fixture
def sim(start: Callable[[str], Simulation]) -> Simulation:
    """The classroom."""
    return start("classroom")


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    """Runs the command in a process of its own, without a terminal, to its end."""

    def ran(*arguments: str, given: str = "", **variables: str) -> Ended:
        done = command(
            arguments, {**environ, **variables}, given.encode("utf-8", "surrogateescape")
        )
        assert "Traceback" not in done.err, done.err
        return done

    return ran


@pytest.fixture
def call(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process, without a terminal: what it says, faster."""

    def called(*arguments: str, given: str = "", **variables: str) -> Ended:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            stdin = io.BytesIO(given.encode("utf-8", "surrogateescape"))
            patch.setattr(sys, "stdin", io.TextIOWrapper(stdin, "utf-8", errors="replace"))
            code = main(arguments)
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return called


@pytest.fixture
def terminal(environ: dict[str, str]) -> Iterator[Open]:
    """Runs the command on a pseudo-terminal; ended with the test."""
    with ExitStack() as opened:

        def on_terminal(*arguments: str, **variables: str) -> Terminal:
            child = Terminal(arguments, {**environ, **variables})
            opened.callback(child.close)
            return child

        yield on_terminal
