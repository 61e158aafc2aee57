"""A person at a terminal: questions on standard error, answers typed on standard input."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

from hms_active_rooms.cli.documents import at, time_left
from hms_active_rooms.cli.screen import bold, is_terminal
from hms_active_rooms.gate.approval import ApprovalRequest


def somebody_here() -> bool:
    """Whether a person can read a question and type the answer here."""
    return is_terminal(sys.stdin, sys.stderr)


def forget_typed_ahead() -> None:
    """Drop what was typed before the question was shown: it cannot be an answer to it."""
    if sys.platform != "win32":
        import termios

        with suppress(OSError, ValueError, termios.error):
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def question_text(request: ApprovalRequest, number: int, total: int, stream: TextIO) -> str:
    """A request for a terminal: its text exactly, and what the person must know besides."""
    now = datetime.now(UTC)
    lines = [bold(f"Action {number} of {total}", stream)] if total > 1 else []
    until = f"{at(request.deadline)}, {time_left(request.deadline, now)}"
    return "\n".join([*lines, request.text, f"Answer until {until} (action {request.action_id})."])


class TerminalDesk:
    """`dialogue.Desk` on this process's terminal."""

    def __init__(self) -> None:
        self._stream = sys.stderr

    def question(self, request: ApprovalRequest, number: int, total: int) -> None:
        """See `Desk`."""
        self.notice("\n" + question_text(request, number, total, self._stream))

    def notice(self, text: str) -> None:
        """See `Desk`."""
        self._stream.write(text + "\n")
        self._stream.flush()

    def read(self, prompt: str) -> str | None:
        """See `Desk`."""
        forget_typed_ahead()
        self._stream.write(bold(prompt, self._stream))
        self._stream.flush()
        line = sys.stdin.readline()
        if not line:
            self.notice("")
            return None
        return line.rstrip("\r\n")
