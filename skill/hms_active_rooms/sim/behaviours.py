"""The table of what the simulator does and how well each behaviour of the real API is known.

The table itself is `behaviours.yaml`; tests and docs both read it from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

Grade = Literal["documented", "recorded", "inferred", "assumed"]

GRADES: Final[dict[Grade, str]] = {
    "documented": "the 100ms docs say so",
    "recorded": "a client or test that ran against production relies on it",
    "inferred": "follows from something documented or recorded",
    "assumed": "nothing is known; our choice",
}
"""The grades of evidence, best first, and what each means."""

_FILE: Final = Path(__file__).with_name("behaviours.yaml")


class Behaviour(BaseModel):
    """One row.

    Attributes:
        id: what tests name it by.
        does: what the simulator does.
        grade: how well it is known that the real API does the same.
        source: where that is from, or why we chose so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    does: str
    grade: Grade
    source: str


def behaviours() -> tuple[Behaviour, ...]:
    """All rows, in the order of the file."""
    rows = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return TypeAdapter(tuple[Behaviour, ...]).validate_python(rows)


def as_markdown() -> str:
    """The table for the docs, with a line on each grade above it."""
    legend = [f"- **{grade}**: {meaning}." for grade, meaning in GRADES.items()]
    head = ["| behaviour | what the simulator does | known | source |", "|---|---|---|---|"]
    rows = [
        f"| `{row.id}` | {_cell(row.does)} | {row.grade} | {_cell(row.source)} |"
        for row in behaviours()
    ]
    return "\n".join([*legend, "", *head, *rows]) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
