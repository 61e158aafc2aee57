"""What is different on Windows, as far as it can be tried elsewhere."""

from __future__ import annotations

import errno
import io
import os
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from hms_active_rooms.cli import screen
from hms_active_rooms.cli.main import BROKEN_PIPE, main
from hms_active_rooms.cli.person import Desk
from hms_active_rooms.cli.settings import Settings, person_here
from hms_active_rooms.serve.app import listen
from hms_active_rooms.sim.server import Simulation


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_no_other_program_can_take_over_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only Windows has this option. Elsewhere another one stands in for it.
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_KEEPALIVE, raising=False)
    with listen("127.0.0.1", 0) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_keys_that_were_typed_before_the_question_are_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed_before, answer = list("yes\r"), "no\n"
    keys = SimpleNamespace(kbhit=lambda: bool(typed_before), getwch=lambda: typed_before.pop(0))
    monkeypatch.setitem(sys.modules, "msvcrt", keys)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert Desk(Settings()).read("Approve? ") == "no"
    assert (typed_before, capsys.readouterr().err) == ([], "Approve? ")


def test_who_decides_is_told_by_the_system_and_not_by_a_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "getlogin", lambda: "ada")
    monkeypatch.setenv("USERNAME", "bob")
    assert person_here() == "ada"


@pytest.mark.parametrize("newer", [True, False])
def test_the_older_terminal_gets_no_colours(newer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM", "WT_SESSION"):
        monkeypatch.delenv(name, raising=False)
    if newer:
        monkeypatch.setenv("WT_SESSION", "c1d2")
    monkeypatch.setattr(sys, "platform", "win32")
    assert screen.colours(Terminal()) == newer


@pytest.fixture
def gone() -> Iterator[io.TextIOBase]:
    """An output whose reader is gone, as Windows tells it."""
    number = os.open(os.devnull, os.O_WRONLY)

    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.EINVAL, "Invalid argument")

        def fileno(self) -> int:
            return number

    yield Gone()
    os.close(number)


def test_a_reader_that_went_away_is_no_error(
    sim: Simulation, gone: io.TextIOBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stdout", gone)
    monkeypatch.setattr(sys, "stderr", errors)
    assert main(["peers", sim.room_id, "--json"]) == BROKEN_PIPE
    assert errors.getvalue() == ""
