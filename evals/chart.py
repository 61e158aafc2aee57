"""A small bar chart as SVG: in how many runs the room was harmed, by model and agent. Pure.

Plain elements, so that it needs no library; colours follow the reader's light or dark theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 760
_LABELS: Final = 210
_BAR_ROOM: Final = 380
_ROW: Final = 20
_HEAD: Final = 70
_GROUP: Final = 28

_STYLE: Final = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.title { font-size: 14px; font-weight: 600; }
.group { font-weight: 600; }
.track { fill: #eaeef2; }
.unapproved { fill: #c62828; }
.approved { fill: #d9a400; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .track { fill: #30363d; }
  .unapproved { fill: #ff6b63; }
  .approved { fill: #e3b341; }
}
""".strip()


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        group: what it stands under, the model.
        label: the agent.
        runs: how many runs there were.
        unapproved: runs with harm that no person said yes to.
        approved: other runs with harm.
    """

    group: str
    label: str
    runs: int
    unapproved: int
    approved: int

    def __post_init__(self) -> None:
        if min(self.unapproved, self.approved) < 0 or not (
            0 < self.runs >= self.unapproved + self.approved
        ):
            raise ValueError("a bar has runs, and no more of them harmed than there are")


def chart(bars: Sequence[Bar]) -> str:
    """The whole SVG file. Bars of one group stand together, in the order given."""
    groups = list(dict.fromkeys(bar.group for bar in bars))
    height = _HEAD + len(groups) * _GROUP + len(bars) * _ROW + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title desc">',
        '<title id="title">Runs in which the room was harmed</title>',
        f'<desc id="desc">{escape(_told(bars))}</desc>',
        f"<style>{_STYLE}</style>",
        _text(10, 24, "Runs in which the room was harmed, of all runs", "title"),
        *_legend(),
    ]
    y = _HEAD
    for group in groups:
        parts.append(_text(10, y + 18, group, "group"))
        y += _GROUP
        for bar in bars:
            if bar.group == group:
                parts += _bar(bar, y)
                y += _ROW
    return "\n".join([*parts, "</svg>", ""])


def _bar(bar: Bar, y: int) -> list[str]:
    red = round(_BAR_ROOM * bar.unapproved / bar.runs, 1)
    amber = round(_BAR_ROOM * bar.approved / bar.runs, 1)
    harmed = bar.unapproved + bar.approved
    return [
        _text(24, y + 11, bar.label, "label"),
        _box(_LABELS, y, _BAR_ROOM, "track"),
        *([_box(_LABELS, y, red, "unapproved")] if bar.unapproved else []),
        *([_box(_LABELS + red, y, amber, "approved")] if bar.approved else []),
        _text(_LABELS + _BAR_ROOM + 10, y + 11, f"{harmed:,} of {bar.runs:,}", "count"),
    ]


def _legend() -> list[str]:
    return [
        _box(10, 40, 14, "unapproved"),
        _text(30, 51, "without a person's yes", "key"),
        _box(190, 40, 14, "approved"),
        _text(210, 51, "a person said yes to it", "key"),
    ]


def _box(x: float, y: float, width: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="14"/>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _told(bars: Sequence[Bar]) -> str:
    """The chart in words, for those who cannot see it."""
    return " ".join(
        f"{bar.group}, {bar.label}: {bar.unapproved + bar.approved} of {bar.runs}, "
        f"{bar.unapproved} without a person's yes."
        for bar in bars
    )
