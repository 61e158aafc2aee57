"""Runs the command that was typed, prints errors, and sets the exit code."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final

from hms_active_rooms.cli import screen
from hms_active_rooms.errors import ActiveRoomsError, ConfigurationError, InvalidCall, PolicyRefusal
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal.records import Action, State

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
WAITING: Final = 3
REFUSED: Final = 4
UNKNOWN: Final = 5
INTERRUPTED: Final = 130  # after Ctrl-C, as in shells: 128 plus the signal's number
BROKEN_PIPE: Final = 141  # the program that read the output is gone: 128 plus SIGPIPE's number

BY_STATE: Final[dict[State, int]] = {
    "proposed": WAITING,
    "approved": WAITING,
    "sent": UNKNOWN,
    "done": DONE,
    "failed": FAILED,
    "unknown": UNKNOWN,
    "rejected": REFUSED,
    "expired": REFUSED,
}
"""The exit code for each state of an action. See `exit_code`."""

_ON_RECORD = "To see what was executed: hms-active-rooms actions"
_CHANGING = ("send", "remove", "end", "approve", "chat")
_LOST = (errno.EPIPE, errno.ENOSPC, errno.EIO)
_ends: list[int] = [signal.SIGINT]
"""The first is the signal that ended the command. `_end` inserts it."""


def exit_code(action: Action) -> int:
    """The exit code for an action's state. A broken record counts as an unknown outcome."""
    return UNKNOWN if action.contradiction else BY_STATE[action.state]


def run() -> None:
    """Run the command with which this process was started, and exit."""
    gc.set_threshold(200_000)  # nearly all objects live until the command ends
    screen.prepare_streams()
    if os.environ.get("HMS_DEBUG", "").strip() != "1":
        sys.excepthook = _unexpected
    # Registered first, so it runs last: after it, a signal would kill the process.
    atexit.register(on_signals, signal.SIG_IGN)
    on_signals(_end)
    code = main(sys.argv[1:])
    code = 128 + _ends[0] if code == INTERRUPTED else code
    on_signals(lambda *_: os._exit(code))  # a signal that comes now does not change the exit code
    gc.freeze()  # saves a last garbage collection
    sys.exit(code)


def on_signals(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    """Call `handler` on Ctrl-C, and when a service manager stops this process or its terminal is closed."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):  # Windows has the last one, not SIGHUP
        number = getattr(signal, name, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN:  # as with nohup
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    """Stop the command, which then says what may have been executed. A second signal has no effect."""
    signal.signal(number, lambda *_: None)
    _ends.insert(0, number)
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    try:
        code = _ended(arguments)
    except OSError as error:
        if not isinstance(error, screen.OutputLost) and error.errno not in _LOST:
            raise
        screen.let_go(sys.stdout)
        if error.errno in (errno.EPIPE, errno.EINVAL):  # the second one on Windows
            if arguments and arguments[0] in _CHANGING:
                screen.err(_ON_RECORD)
            return BROKEN_PIPE
        screen.err(f"error: The output cannot be written: {error.strerror}. {_ON_RECORD}")
        return FAILED
    if code == INTERRUPTED and screen.is_terminal(sys.stderr):
        screen.err()  # a line end after ^C, for the shell's prompt
    return code


def _ended(arguments: Sequence[str]) -> int:
    from hms_active_rooms.installing import extra

    try:
        with extra("cli", "command", "typer"):
            import typer
    except ConfigurationError as error:
        return _told(error, arguments)
    from hms_active_rooms.cli.app import app

    try:
        code = app(
            args=list(arguments) or ["--help"], prog_name="hms-active-rooms", standalone_mode=False
        )
    except ActiveRoomsError as error:
        return _told(error, arguments)
    except typer.TyperException as error:
        from pydantic import ValidationError

        from hms_active_rooms.plain import plain

        if isinstance(wrong := error.__cause__, ValidationError):
            error.message = plain(wrong.errors()[0])
        text = screen.told(error.format_message()).rstrip(".")
        text += "" if text.endswith("?") else "."
        if "extra argument" in text:
            text += " Put quotes around a name or a message that has spaces."
        if "No such option" in text:
            text += ' To give a text that begins with "-", write -- before it.'
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "hms-active-rooms"
        return _told(_Usage(text, hint=f"See: {path} --help"), arguments)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except SystemExit as ended:
        if isinstance(ended.__context__, OSError):  # which typer turned into SystemExit
            raise ended.__context__ from None
        raise
    return code if isinstance(code, int) else DONE


class _Usage(InvalidCall):
    code = "usage"


class _Unexpected(ActiveRoomsError):
    code = "unexpected"


def _told(error: ActiveRoomsError, arguments: Sequence[str]) -> int:
    if "--json" in takewhile(lambda argument: argument != "--", arguments):
        screen.document(screen.error_document(error))
    else:
        screen.err(screen.error_text(error))
    return of_error(error)


def of_error(error: ActiveRoomsError) -> int:
    """The exit code for an error that ended the command."""
    if isinstance(error, InvalidCall | ConfigurationError) or error.code == "peer_not_found":
        return USAGE
    if isinstance(error, PolicyRefusal):
        return REFUSED
    return FAILED if error.executed == "no" else UNKNOWN


def _unexpected(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print one line instead of a traceback, which may show secrets."""
    if issubclass(kind, KeyboardInterrupt):
        return
    hint = f"{_ON_RECORD}. For the traceback set HMS_DEBUG=1."
    why = f" {quoted(str(error), 300)}" if isinstance(error, OSError) else ""
    text = f"unexpected error: {kind.__name__}{why}."
    sends = {*_CHANGING, "mcp", "serve"}.intersection(sys.argv[1:])
    _told(_Unexpected(text, executed="maybe" if sends else "no", hint=hint), sys.argv)
