"""The command's entry: every ending becomes one clear line and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from itertools import takewhile
from types import FrameType, TracebackType

from hms_active_rooms.cli import exits, screen
from hms_active_rooms.errors import ActiveRoomsError, InvalidCall

DEBUG_VARIABLE = "HMS_DEBUG"

_LOST = (errno.EPIPE, errno.ENOSPC, errno.EIO)
_ends: list[int] = [signal.SIGINT]
"""The signals that may have ended the command, the last one first."""


def run() -> None:
    """Run the command this process was started with, and exit."""
    screen.prepare_streams()
    if os.environ.get(DEBUG_VARIABLE, "") in ("", "0"):
        sys.excepthook = _unexpected
    for number in exits.SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:  # not with nohup
            signal.signal(number, _end)
    code = main(sys.argv[1:])
    sys.exit(128 + _ends[0] if code == exits.INTERRUPTED else code)


def _end(number: int, _: FrameType | None) -> None:
    """End as by Ctrl-C: what may have been executed goes on record and is told."""
    signal.signal(number, signal.SIG_IGN)
    _ends.insert(0, number)
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """Run one command, and return its exit code."""
    try:
        code = _ended(arguments)
    except (screen.OutputLost, OSError) as error:
        lost = screen.OutputLost(error) if isinstance(error, OSError) else error
        if isinstance(error, OSError) and error.errno not in _LOST:
            raise
        screen.let_go(sys.stdout)
        if lost.closed:
            return exits.BROKEN_PIPE
        record = "What was executed is on record: hms-active-rooms actions"
        screen.err(f"error: The output cannot be written: {lost}. {record}")
        return exits.FAILED
    if code == exits.INTERRUPTED and screen.is_terminal(sys.stderr):
        screen.err()  # the shell's prompt belongs on a line of its own, not behind ^C
    return code


def _ended(arguments: Sequence[str]) -> int:
    try:
        import typer
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        from hms_active_rooms.installing import how_to_install

        screen.err(f"The command needs an extra: {how_to_install('cli')}")
        return exits.FAILED
    from hms_active_rooms.cli.app import app

    try:
        code = app(
            args=list(arguments) or ["--help"], prog_name="hms-active-rooms", standalone_mode=False
        )
    except ActiveRoomsError as error:
        return _told(error, arguments)
    except typer.TyperException as error:
        text = screen.told(error.format_message()).rstrip(".")
        text += "" if text.endswith("?") else "."
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "hms-active-rooms"
        return _told(_Usage(text, hint=f"See: {path} --help"), arguments)
    except (KeyboardInterrupt, typer.Abort):
        return exits.INTERRUPTED
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # typer's own way to end then
            raise ended.__context__ from None
        raise
    return code if isinstance(code, int) else exits.DONE


class _Usage(InvalidCall):
    code = "usage"


class _Unexpected(ActiveRoomsError):
    code = "unexpected"


def _told(error: ActiveRoomsError, arguments: Sequence[str]) -> int:
    if "--json" in takewhile(lambda argument: argument != "--", arguments):
        screen.document(screen.error_document(error))
    else:
        screen.err(screen.error_text(error))
    return exits.of_error(error)


def _unexpected(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """One line instead of a traceback: it would bury what matters, and frames hold secrets."""
    if issubclass(kind, KeyboardInterrupt):
        return
    hint = (
        "What was executed is on record: hms-active-rooms actions. "
        f"For the traceback set {DEBUG_VARIABLE}=1."
    )
    text = f"unexpected error: {kind.__name__}."
    _told(_Unexpected(text, executed="maybe", hint=hint), sys.argv)
