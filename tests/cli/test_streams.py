"""Streams that are closed or full, and signals: nothing ends half way, and what is left is told."""

from __future__ import annotations

import shlex
import signal
import time
from pathlib import Path

import pytest

from cli.running import COMMAND, QUESTION, Open, Run, ended, executed, process
from forks import Ended, Terminal
from hms_active_rooms.sim.faults import Fault
from hms_active_rooms.sim.server import Simulation
from simulated import posts


def shell(environ: dict[str, str], redirection: str, *arguments: str) -> Ended:
    """The command in a shell that closes or redirects a stream of it."""
    environ = {name: text for name, text in environ.items() if name != "PYTHONUNBUFFERED"}
    line = f"{shlex.join([*COMMAND, *arguments])} {redirection}"
    done = process(["/bin/sh", "-c", line], environ)
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("redirection", "arguments", "code"),
    [
        ("<&- >&- 2>&-", ("send", "hi"), 3),
        ("<&-", ("chat",), 0),
        ("2>/dev/full", ("send", "hi"), 3),
        ("2>/dev/full", ("room", "--bogus"), 2),
        (">/dev/full", ("room", "--bogus", "--json"), 1),
    ],
)
def test_a_stream_that_is_closed_or_lost_does_not_change_how_a_command_ends(
    sim: Simulation,
    environ: dict[str, str],
    redirection: str,
    arguments: tuple[str, ...],
    code: int,
) -> None:
    name, *rest = arguments
    done = shell(environ, redirection, name, sim.room_id, *rest)
    assert done.code == code, done.err
    assert "nexpected error" not in done.err
    assert "Exception" not in done.err


LAST = """
import atexit, signal
atexit.register(lambda: print(signal.getsignal(signal.SIGINT).name))  # runs after those of the command
"""


def test_a_signal_is_ignored_while_python_ends_so_it_does_not_change_the_exit_code(
    sim: Simulation, environ: dict[str, str]
) -> None:
    python, *_, code = COMMAND
    done = process([python, "-c", LAST + code, "room", sim.room_id], environ)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "SIG_IGN")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_server_that_cannot_say_where_it_listens_ends_and_says_why(
    sim: Simulation, environ: dict[str, str]
) -> None:
    words = ("serve", "--json", "--port", "0", "--room", sim.room_id)
    done = shell(environ, ">/dev/full", *words)
    assert done.code == 1
    assert "The output cannot be written" in done.err
    assert "Traceback" not in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_help_on_a_full_disk_says_so(environ: dict[str, str]) -> None:
    done = shell(environ, ">/dev/full", "--help")
    assert done.code == 1
    assert done.err.startswith("error: The output cannot be written: No space left on device.")


def stop(child: Terminal, sent: signal.Signals) -> tuple[int | None, str]:
    """Ctrl-C, or a signal from elsewhere; how the command ended."""
    for _ in range(4 if sent == signal.SIGINT else 1):  # an impatient person presses Ctrl-C again
        child.sendintr() if sent == signal.SIGINT else child.signal(sent)
        time.sleep(0.05)
    code, rest = ended(child)
    assert "Traceback" not in rest
    return code, rest


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_the_question_decides_nothing_and_says_so(
    sim: Simulation, call: Run, terminal: Open, sent: signal.Signals
) -> None:
    child = terminal("end", sim.room_id)
    child.expect(QUESTION)
    code, rest = stop(child, sent)
    assert code == 128 + sent
    assert "Nothing was decided and nothing was sent" in rest
    (row,) = call("actions", "--json").json["actions"]
    assert (row["state"], posts(sim)) == ("proposed", [])


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_is_sent_says_that_it_may_have_been_executed(
    sim: Simulation, terminal: Open, sent: signal.Signals
) -> None:
    sim.faults.add(Fault(kind="hang", method="POST", when="after", times=None))
    child = terminal("remove", sim.room_id, "Spam Bot")
    child.expect(QUESTION)
    child.sendline("yes")
    executed(sim)
    code, rest = stop(child, sent)
    assert code == 5
    assert "The sending was interrupted. The request may have been executed." in rest
    assert f"hms-active-rooms peers {sim.room_id}" in rest
    assert len(posts(sim)) == 1
