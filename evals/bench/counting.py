"""What a process does that costs: transactions, rows read, parsed calls, syncs to disk.

It hooks SQLAlchemy, SQLite and pydantic. Of the code under test it knows only the journal's table and the
fields of the call that removes people, so the same counts can be taken of several versions.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, Final

_CALL_FIELDS: Final = {"room_id", "peer_id", "role", "reason"}
_VALIDATES: Final = {"model_validate", "model_validate_json", "validate_python", "validate_json"}
_READS_A_ROW: Final = re.compile(
    r"^SELECT.*\bFROM \w*actions\b|actions\b.*\bRETURNING\b", re.DOTALL
)
_MARKS: Final = "marks"
_SYNC: Final = re.compile(r"f(?:data)?sync\(\d+<(.*?)>")


class Counts:
    """Counts from now on, in every thread that starts later; see `so_far`."""

    def __init__(self, folder: Path) -> None:
        import sqlalchemy as sa

        self._counts: Counter[str] = Counter()
        self._marks = (folder / _MARKS).open("w")
        sa.event.listen(sa.Engine, "begin", self._on_begin)
        sa.event.listen(sa.Engine, "connect", self._on_connect)
        threading.setprofile(self._on_call)
        sys.setprofile(self._on_call)

    def so_far(self) -> dict[str, int]:
        """Counts by name; also leaves a mark among the syncs that `syncs_between_marks` reads."""
        os.fsync(self._marks.fileno())
        return dict(self._counts)

    def _on_begin(self, _: object) -> None:
        self._counts["transactions"] += 1

    def _on_connect(self, connection: sqlite3.Connection, _: object) -> None:
        connection.set_trace_callback(self._on_statement)

    def _on_statement(self, statement: str) -> None:
        if _READS_A_ROW.search(statement):
            self._counts["rows read"] += 1

    def _on_call(self, frame: FrameType, event: str, value: Any) -> None:
        if event != "return" or "pydantic" not in frame.f_code.co_filename:
            return
        name = frame.f_code.co_name
        made = frame.f_locals.get("self") if name == "__init__" else value
        if (name == "__init__" or name in _VALIDATES) and _is_removal(type(made)):
            self._counts["parsed"] += 1


def _is_removal(kind: type) -> bool:
    fields = getattr(kind, "model_fields", {})
    return kind.__module__.startswith("hms_active_rooms") and set(fields) == _CALL_FIELDS


def strace(log: Path) -> list[str]:
    options = "--seccomp-bpf -f -y -qq -e trace=fsync,fdatasync -o"
    return ["strace", *options.split(), str(log)]


def syncs_between_marks(log: str) -> list[Counter[str]]:
    found: list[Counter[str]] = [Counter()]
    for path in _SYNC.findall(log):
        name = Path(path).name
        if name == _MARKS:
            found.append(Counter())
        else:
            found[-1][name.partition(".")[0]] += 1
    return found[1:-1]
