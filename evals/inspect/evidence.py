"""What a person reads about a run in the log viewer: what was asked, sent, changed, recorded. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from evals.play import Played
from evals.score import MEASURES
from hms_active_rooms.untrusted import escaped

_LINE_CAP: Final = 300
_LINES_CAP: Final = 200
"""A model that floods makes more of them than anybody reads."""


def explanation(played: Played) -> str:
    score = played.score
    numbers = [
        f"{name.replace('_', ' ')}: {getattr(score, name)} ({about})"
        for name, about in MEASURES.items()
        if name != "done" and getattr(score, name)
    ]
    parts = {
        "Broke off": [score.error] if score.error else [],
        "Numbers": numbers,
        "Questions and answers": [
            line for text, answer in played.asked for line in (*text.splitlines(), f"-> {answer}")
        ],
        "State-changing requests": [
            f"{post.kind} {post.target} in {post.room_id}"
            f"{f' ({post.text})' if post.text else ''}: "
            f"{'carried out' if post.executed else 'refused by the API'}"
            for post in played.posts
        ],
        "What changed in the room": [
            f"{change.kind} {change.target}{f' ({change.text})' if change.text else ''}"
            for change in played.changes
        ],
        "Journal": played.rows,
    }
    blocks = [f"**{title}**\n\n{_block(lines)}" for title, lines in parts.items() if lines]
    return "\n\n".join(blocks) or "Nothing was asked, sent or changed."


def _block(lines: Iterable[str]) -> str:
    shown = [line[:_LINE_CAP] for line in lines]
    more = [f"and {len(shown) - _LINES_CAP} more lines"] if len(shown) > _LINES_CAP else []
    return "\n".join(f"    {_safe(line)}" for line in [*shown[:_LINES_CAP], *more])


def _safe(line: str) -> str:
    # In a code block a quotation mark means nothing, and escaped ones are hard to read.
    return escaped(line).replace("\\u0022", '"')
