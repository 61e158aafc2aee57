"""Where output goes and what may be shown there: streams, terminals, text that is not ours.

Results go to standard output, questions and errors to standard error. With JSON, standard
output holds documents only, ASCII, so that nothing in them can act on a terminal.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TextIO

from hms_active_rooms.errors import ActiveRoomsError, InvalidCall
from hms_active_rooms.untrusted import escaped

_HINTS_FOR_A_PERSON = {
    "invalid_call": "",
    "unauthorized": "Check the 100ms credentials.",
    "policy_refusal": "The policy is set by HMS_POLICY_FILE and HMS_POLICY_*.",
    "not_approved": "",
    "busy": "Look at the room in a moment; do not send it again.",
    "outcome_unknown": "Look at the room; do not send it again.",
}

_MAX_LINE_CHARS = 4000
"""A model's line longer than this is cut: nobody reads it, and a terminal chokes on it."""

# Outside a JSON string these are only characters; models write Markdown and typeset quotes,
# and repeat texts that are escaped already.
_ONLY_CHARACTERS = re.compile(r"[\"\\`<(\[“”″]")
_SPLIT = re.compile(f"({_ONLY_CHARACTERS.pattern})")


def prepare_streams() -> None:
    """Make every stream able to carry any text: a locale must not end a command half way."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if hasattr(sys.stdin, "reconfigure"):
        # Lone surrogates (the default for some locales) can be neither stored nor sent.
        sys.stdin.reconfigure(errors="replace")


def out(text: str = "") -> None:
    """One text to standard output, at once, so that piped output keeps its order."""
    _write(sys.stdout, text)


def err(text: str = "") -> None:
    """One text to standard error."""
    _write(sys.stderr, text)


def _write(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


def written(value: object) -> str:
    """A JSON document as it is written: ASCII, on one line."""
    return json.dumps(value, ensure_ascii=True, separators=(", ", ": "))


def document(value: object) -> None:
    """One JSON document, on one line, to standard output."""
    out(written(value))


def refuse_a_terminal() -> None:
    """Before records are written whole, as `--all` does.

    Raises:
        InvalidCall: standard output is a terminal.
    """
    if is_terminal(sys.stdout):
        raise InvalidCall(
            "--all writes records whole, whatever strangers wrote in them: not to a terminal.",
            hint="Write them to a file (> FILE) or a pipe (| jq .).",
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
    # The default hints speak to a model about "the person"; here the person reads.
    own = error.hint != error.default_hint
    parts.append(error.hint if own else _HINTS_FOR_A_PERSON.get(error.code, error.hint))
    # A list in the message has its own lines; what comes after it too then.
    return "error: " + ("\n" if "\n" in parts[0] else " ").join(filter(None, parts))


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
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(_told_line(line) for line in lines)


def _told_line(line: str) -> str:
    cut = line[:_MAX_LINE_CHARS].replace("\t", "    ")
    # Split there, `escaped` never sees what it escapes only for JSON and for Markdown viewers.
    parts = (p if _ONLY_CHARACTERS.fullmatch(p) else escaped(p) for p in _SPLIT.split(cut))
    return "".join(parts) + ("…" if len(line) > _MAX_LINE_CHARS else "")


def at(moment: datetime) -> str:
    """A moment in the person's own time zone, to the second."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def time_left(deadline: datetime, now: datetime) -> str:
    """How long an answer is still taken, for a person who has to decide."""
    left_s = (deadline - now).total_seconds()
    if left_s <= 0:
        return "too late to answer"
    if left_s < 90:
        return f"{left_s:.0f} s left"
    return f"{left_s / 60:.0f} min left" if left_s < 5400 else f"{left_s / 3600:.0f} h left"


def indented(text: str, first: str, rest: str) -> str:
    """The text behind a label; every further line is indented, so that none can pass for ours."""
    return "\n".join((first if not n else rest) + line for n, line in enumerate(text.split("\n")))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table to standard output: drawn on a terminal, else with tabs between the columns.

    The cells must be safe already; they are never read as markup.
    """
    if not is_terminal(sys.stdout):
        for row in (heads, *rows):
            out("\t".join(row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    style = "bold" if colours(sys.stdout) else ""
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style=style)
    for head in heads:
        drawn.add_column(Text(head), overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout, highlight=False, markup=False, emoji=False).print(drawn)


def fields(values: Mapping[str, str]) -> None:
    """Names and values to standard output, one pair a line, aligned."""
    width = max(len(name) for name in values)
    for name, value in values.items():
        out(indented(value, f"{name:<{width}}  ", " " * (width + 2)))
