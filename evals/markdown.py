"""Markdown tables and inline text for the generated reports. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the header decides how many cells a row has."""
    lines = [_line(header), "|" + "---|" * len(header)]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells in a table of {len(header)}")
        lines.append(_line(row))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\|", "|").replace("|", "\\|")


def code(text: str) -> str:
    return "`" + re.sub(r"[`\s]+", " ", text).strip() + "`"


def percent(rate: float, digits: int = 0) -> str:
    """A rate in percent; only exactly none and all are printed as 0 and 100."""
    shown = f"{100 * rate:.{digits}f}"
    least = 10**-digits
    if rate > 0 and float(shown) == 0:
        return f"<{least:g} %"
    if rate < 1 and float(shown) == 100:
        return f">{100 - least:g} %"
    return f"{shown} %"
