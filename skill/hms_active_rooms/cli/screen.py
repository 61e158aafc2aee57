"""Where output goes and what may be shown there: streams, terminals, text that is not ours.

Results go to standard output, questions and errors to standard error. With JSON, standard
output holds documents only, ASCII, so that nothing in them can act on a terminal.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import threading
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import zip_longest
from typing import TextIO

from hms_active_rooms.errors import ActiveRoomsError, InvalidCall
from hms_active_rooms.untrusted import escaped

_MAX_LINE_CHARS = 4000
"""A model's line longer than this is cut: nobody reads it, and a terminal chokes on it."""

# Outside a JSON string these are only characters; models write Markdown and typeset quotes,
# and repeat texts that are escaped already.
_ONLY_CHARACTERS = re.compile(r"[\"\\`<(\[“”″]")
_SPLIT = re.compile(f"({_ONLY_CHARACTERS.pattern})")


def prepare_streams() -> None:
    """Make every stream able to carry any text: a locale must not end a command half way.

    A stream that was closed before we started becomes the null device, so that no file we open
    takes its place.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            # Lone surrogates (the default for some locales) can be neither stored nor sent.
            stream.reconfigure(errors="backslashreplace" if number else "replace")


def out(text: str = "") -> None:
    """One text to standard output, at once, so that piped output keeps its order."""
    write(sys.stdout, wrapped(text, sys.stdout) + "\n")


def err(text: str = "") -> None:
    """One text to standard error; if nobody can read it there, the command goes on without."""
    try:
        write(sys.stderr, wrapped(text, sys.stderr) + "\n")
    except OutputLost:
        let_go(sys.stderr)


def wrapped(text: str, stream: TextIO) -> str:
    """The text as it is; on a terminal, lines that do not fit go on in indented ones, so that
    no word is broken and none of them begins where ours do."""
    if not is_terminal(stream):
        return text
    width, shown = _columns(), []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
        shown += [line] if len(line) <= width else _lines(line, width, indent)
    return "\n".join(shown)


def _lines(line: str, width: int, indent: str = "") -> list[str]:
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


class OutputLost(Exception):
    """What we say cannot be written: a full disk, or whoever read it is gone (`closed`)."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or type(error).__name__)
        self.closed = isinstance(error, BrokenPipeError)


def let_go(stream: TextIO) -> None:
    """Send what is left to nowhere: else the interpreter writes it at its end, fails, complains, and
    changes the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def write(stream: TextIO, text: str) -> None:
    """The text as it is, at once; OutputLost: it cannot be written."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        raise OutputLost(error) from None


def written(value: object) -> str:
    """A JSON document as it is written: ASCII, on one line."""
    return json.dumps(value, ensure_ascii=True, separators=(", ", ": "))


def document(value: object) -> None:
    """One JSON document, on one line, to standard output."""
    write(sys.stdout, written(value) + "\n")


def refuse_a_terminal() -> None:
    """Before records are written whole, as `--all` does; InvalidCall: to a terminal."""
    if is_terminal(sys.stdout):
        raise InvalidCall(
            "--all prints what strangers wrote as it is, which could take over a terminal.",
            hint="Redirect it to a file (> FILE) or a pipe (| jq .).",
        )


def error_document(error: ActiveRoomsError) -> dict[str, dict[str, object]]:
    """An error as a JSON value: code, message, executed, hint and what programs can use besides."""
    body: dict[str, object] = {
        "code": error.code,
        "message": str(error),
        "executed": error.executed,
        "hint": error.hint,
    }
    for name in ("status", "request_id", "retry_after_s", "action_id"):
        if (value := getattr(error, name, None)) is not None:
            body[name] = value
    return {"error": body}


def error_text(error: ActiveRoomsError) -> str:
    """An error for a person: what happened, whether it was executed, what to do."""
    parts = [str(error)]
    if error.executed != "no":
        parts.append("It may have been executed." if error.executed == "maybe" else "It was done.")
    parts.append(hint_of(error))
    # A list in the message has its own lines; what comes after it too then.
    return "error: " + ("\n" if "\n" in parts[0] else " ").join(filter(None, parts))


def hint_of(error: ActiveRoomsError) -> str:
    """What the person here does next."""
    own = error.hint != error.default_hint or error.person_hint is None
    return error.hint if own else error.person_hint or ""


def is_terminal(*streams: TextIO | None) -> bool:
    """Whether every one of the streams is a terminal."""
    return all(stream is not None and not stream.closed and stream.isatty() for stream in streams)


def colours(stream: TextIO) -> bool:
    """Whether colours and spinners may be written there."""
    return (
        is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def bold(text: str, stream: TextIO) -> str:
    """The text in bold, where that can be shown."""
    return f"\x1b[1m{text}\x1b[0m" if colours(stream) else text


def told(text: str) -> str:
    """A model's text, safe in a terminal: its lines stay, everything that is not seen is escaped.

    A model repeats what strangers wrote, so its text is theirs until shown otherwise.
    """
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        cut = line[:_MAX_LINE_CHARS].replace("\t", "    ")
        # Split there, `escaped` never sees what it escapes only for JSON and for Markdown viewers.
        parts = (p if _ONLY_CHARACTERS.fullmatch(p) else escaped(p) for p in _SPLIT.split(cut))
        lines.append("".join(parts) + ("…" if len(line) > _MAX_LINE_CHARS else ""))
    return "\n".join(lines)


def at(moment: datetime) -> str:
    """In the person's own time zone, to the second."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def time_left(deadline: datetime, now: datetime) -> str:
    """How long an answer is still taken, for a person who has to decide."""
    left_s = (deadline - now).total_seconds()
    if left_s <= 0:
        return "too late to answer"
    if left_s < 90:
        return f"{left_s:.0f} s left"
    return f"{left_s / 60:.0f} min left" if left_s < 5400 else f"{left_s / 3600:.0f} h left"


def indented(text: str, first: str, rest: str, stream: TextIO | None = None) -> str:
    """The text behind a label; every further line is indented, so that none can pass for ours."""
    lines = text.split("\n")
    if stream is not None and is_terminal(stream):
        width = _columns() - len(rest)
        lines = [part for line in lines for part in _lines(line, width)]
    return "\n".join((first if not n else rest) + line for n, line in enumerate(lines))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table to standard output: aligned on a terminal, else with tabs between the columns.

    The cells must be safe already. A cell that is too wide goes on in the next line, at a space.
    """
    whole = [tuple(heads), *map(tuple, rows)]
    if not is_terminal(sys.stdout):
        for row in whole:
            write(sys.stdout, "\t".join(row) + "\n")
        return
    columns = list(zip(*whole, strict=True))
    widths = [max(map(_cells, column)) for column in columns]
    least = [max(_cells(word) for cell in c for word in cell.split(" ")) for c in columns]
    room = _columns() - 2 * (len(widths) - 1)
    for number in sorted(range(len(widths)), key=lambda n: least[n] - widths[n]):
        widths[number] -= min(max(sum(widths) - room, 0), widths[number] - least[number])
    for count, row in enumerate(whole):
        parts = [
            [cell] if _cells(cell) <= width else _lines(cell, width)
            for cell, width in zip(row, widths, strict=True)
        ]
        for line in zip_longest(*parts, fillvalue=""):
            padded = (c + " " * (w - _cells(c)) for c, w in zip(line, widths, strict=True))
            text = "  ".join(padded).rstrip()
            write(sys.stdout, (text if count else bold(text, sys.stdout)) + "\n")


def _cells(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "FW" else 1
        for c in text
    )


class Progress:
    """A line on a terminal while work goes on: after half a second, with the seconds so far."""

    def __init__(self, text: str, stream: TextIO | None) -> None:
        self._text = text
        self._stream = stream if stream is not None and colours(stream) else None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it until the block ends, or until `stop`."""
        if self._stream is not None:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._show, args=(self._stream,), daemon=True)
            self._thread.start()
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Take it away: nothing may move beside what a person reads or types."""
        self._stopped.set()
        if (thread := self._thread) is not None:
            thread.join()

    def _show(self, stream: TextIO) -> None:
        begun, pause_s = time.monotonic(), 0.5
        with suppress(OSError, ValueError):  # closed meanwhile
            while not self._stopped.wait(pause_s):
                pause_s = 1.0
                stream.write(f"\r{self._text} ... {time.monotonic() - begun:.0f} s ")
                stream.flush()
            if pause_s == 1.0:
                stream.write("\r\x1b[K")
                stream.flush()


def fields(values: Mapping[str, str]) -> None:
    """Names and values to standard output, aligned."""
    width = max(len(name) for name in values)
    for name, value in values.items():
        out(indented(value, f"{name:<{width}}  ", " " * (width + 2)))
