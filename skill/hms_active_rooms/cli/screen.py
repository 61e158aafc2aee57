"""Writes results to standard output, and questions and errors to standard error.

With `--json`, standard output has only JSON documents, in ASCII so that they cannot control a terminal.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TextIO

from hms_active_rooms.errors import ActiveRoomsError, default_hint
from hms_active_rooms.untrusted import for_terminal

_FOR_PROGRAMS = ("status", "request_id", "retry_after_s", "action_id")
_MAX_LINE_CHARS = 4000  # of a model's text; longer lines make terminals slow


def prepare_streams() -> None:
    """Make standard input, output and error take any text, in every locale."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # gets `number`, the lowest free one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            # Some locales would turn bad bytes into lone surrogates, which cannot be stored.
            stream.reconfigure(errors="backslashreplace" if number else "replace")


def say(stream: TextIO, text: str = "", first: str = "", rest: str = "") -> None:
    """Write a text and a line end. `first` goes before its first line, and `rest` before each further
    line."""
    lines = text.split("\n")
    if is_terminal(stream):
        width = _columns() - max(len(first), len(rest))
        indents = ["" if rest else " " * (len(x) - len(x.lstrip(" ")) + 2) for x in lines]
        lines = [p for n, line in enumerate(lines) for p in _lines(line, width, indents[n])]
    write(stream, "\n".join((rest if n else first) + line for n, line in enumerate(lines)) + "\n")


def out(text: str = "", first: str = "", rest: str = "") -> None:
    """Write a text and a line end to standard output. `first` and `rest` are as in `say`."""
    say(sys.stdout, text, first, rest)


def err(text: str = "") -> None:
    say(sys.stderr, text)


def _lines(line: str, width: int, indent: str = "") -> list[str]:
    if len(line) <= width:
        return [line]
    return textwrap.wrap(
        line,
        max(width, 1),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        expand_tabs=False,
    ) or [""]


def _columns() -> int:
    return max(shutil.get_terminal_size().columns, 20)


class OutputLost(OSError):
    """The output cannot be written: the disk is full, or its reader is gone."""


def let_go(stream: TextIO) -> None:
    """Send further output to the null device. Else Python fails again at its exit, with its own exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def write(stream: TextIO, text: str) -> None:
    """Write the text and flush it. Raises OutputLost if standard output cannot be written. Without
    standard error the command continues."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if stream is not sys.stderr:
            raise OutputLost(error.errno, error.strerror) from None
        let_go(stream)


def written(value: object) -> str:
    """The value as JSON in one line, in ASCII."""
    return json.dumps(value, ensure_ascii=True, separators=(", ", ": "))


def document(value: object) -> None:
    write(sys.stdout, written(value) + "\n")


def result(value: object, text: str, *, as_json: bool) -> None:
    if as_json:
        document(value)
    else:
        out(text)


def counted(count: int, noun: str) -> str:
    """For example "1 action" or "1,200 actions"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def error_document(error: ActiveRoomsError) -> dict[str, dict[str, object]]:
    """The JSON that a command with `--json` prints for an error."""
    body = {"code": error.code, "message": str(error), "executed": error.executed}
    more = {name: getattr(error, name, None) for name in _FOR_PROGRAMS}
    known = {name: value for name, value in more.items() if value is not None}
    return {"error": {**body, "hint": error.hint, **known}}


def error_text(error: ActiveRoomsError) -> str:
    """An error for a person: what happened, whether it was executed, what to do."""
    parts = [str(error) if error.executed == "no" else error.for_person(), hint_of(error)]
    # If the message has several lines, the hint begins on a new line.
    return "error: " + ("\n" if "\n" in parts[0] else " ").join(filter(None, parts))


def hint_of(error: ActiveRoomsError) -> str:
    """What the person should do next: the error's own hint, or the default hint for its code."""
    return error.own_hint or default_hint(error.code, for_person=True)


def is_terminal(*streams: TextIO | None) -> bool:
    """Whether all these streams are terminals. None and closed streams are not."""
    return all(stream is not None and not stream.closed and stream.isatty() for stream in streams)


def colours(stream: TextIO) -> bool:
    """Whether to use colours and rewrite lines: on a terminal that can show them, without NO_COLOR."""
    able = "WT_SESSION" in os.environ or sys.platform != "win32"
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return is_terminal(stream) and able and wanted


def bold(text: str, stream: TextIO) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colours(stream) else text


def told(text: str) -> str:
    """Make a model's text safe for a terminal. Invisible characters are escaped, and very long lines are
    cut."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        shown = for_terminal(line[:_MAX_LINE_CHARS].replace("\t", "    "))
        lines.append(shown + ("…" if len(line) > _MAX_LINE_CHARS else ""))
    return "\n".join(lines)


def at(moment: datetime) -> str:
    """The moment as text, in this machine's time zone."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def time_left(deadline: datetime, now: datetime) -> str:
    """How long a question can still be answered, in words."""
    left_s = (deadline - now).total_seconds()
    if left_s <= 0:
        return "too late to answer"
    if left_s < 90:
        return f"{left_s:.0f} s left"
    return f"{left_s / 60:.0f} min left" if left_s < 5400 else f"{left_s / 3600:.0f} h left"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], nothing: str = "") -> None:
    """Write a table to standard output. The cells must be escaped already. If there are no rows, the
    sentence `nothing` goes to standard error."""
    if nothing and not rows:
        err(nothing)
        return
    if not is_terminal(sys.stdout):
        write(sys.stdout, "".join("\t".join(row) + "\n" for row in (heads, *rows)))
        return
    widths = [max(map(_cells, column)) for column in zip(heads, *rows, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) > _columns():
        widths = [0] * len(widths)
    for row in (heads, *rows):
        cells = (c + " " * (w - _cells(c)) for c, w in zip(row, widths, strict=True))
        text = "  ".join(cells).rstrip()
        out(bold(text, sys.stdout) if row is heads else text)


def _cells(text: str) -> int:
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "FW" else 1
        for c in text
    )


@contextmanager
def progress(text: str, stream: TextIO | None) -> Iterator[Callable[[], None]]:
    """Show `text` and the seconds in a line, while the `with` block runs. The block gets a function that
    removes the line. Call it before you ask a person to type."""
    if stream is None or not colours(stream):
        yield lambda: None
        return
    stopped = threading.Event()

    def show() -> None:
        begun, pause_s = time.monotonic(), 0.5
        with suppress(OSError, ValueError):  # the stream was closed meanwhile
            while not stopped.wait(pause_s):
                pause_s = 1.0
                stream.write(f"\r{text} ... {time.monotonic() - begun:.0f} s ")
                stream.flush()
            if pause_s == 1.0:
                stream.write("\r\x1b[K")
                stream.flush()

    def stop() -> None:
        stopped.set()
        thread.join()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop()


def fields(values: Mapping[str, str]) -> None:
    """Write names and values to standard output, aligned, without empty values."""
    known = {name: value for name, value in values.items() if value}
    width = max(map(len, known), default=0)
    for name, value in known.items():
        out(value, f"{name:<{width}}  ", " " * (width + 2))
