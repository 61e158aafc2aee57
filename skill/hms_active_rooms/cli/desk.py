"""A person at a terminal: questions on standard error, answers typed on standard input."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

from hms_active_rooms.cli.screen import at, bold, is_terminal, time_left

if TYPE_CHECKING:
    from hms_active_rooms.gate.approval import ApprovalRequest


def somebody_here() -> bool:
    """Whether a person can read a question and type the answer here."""
    return is_terminal(sys.stdin, sys.stderr)


def prompted(prompt: str, stream: TextIO) -> str | None:
    """The line typed after a prompt; None at the end of the input.

    What was typed before is dropped: it cannot be an answer.
    """
    if sys.platform != "win32":
        import termios

        with suppress(OSError, ValueError, termios.error):
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    stream.write(bold(prompt, stream))
    stream.flush()
    return line_from(sys.stdin)


def line_from(stream: TextIO) -> str | None:
    """The next line without its end; None when there is no more."""
    line = stream.readline()
    return line.rstrip("\r\n") if line else None


def question_text(request: ApprovalRequest, number: int, total: int, stream: TextIO) -> str:
    """A request for a terminal: its text exactly, and what the person must know besides."""
    now = datetime.now(UTC)
    lines = [bold(f"Action {number} of {total}", stream)] if total > 1 else []
    until = f"{at(request.deadline)}, {time_left(request.deadline, now)}"
    return "\n".join([*lines, request.text, f"Answer until {until} (action {request.action_id})."])


class TerminalDesk:
    """`dialogue.Desk` on this process's terminal."""

    def question(self, request: ApprovalRequest, number: int, total: int) -> None:
        """See `Desk`."""
        self.notice("\n" + question_text(request, number, total, sys.stderr))

    def notice(self, text: str) -> None:
        """See `Desk`."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def read(self, prompt: str) -> str | None:
        """See `Desk`."""
        line = prompted(prompt, sys.stderr)
        if line is None:
            self.notice("")
        return line
