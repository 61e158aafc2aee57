"""Text of strangers inside our own messages: escaped, on one line and short."""

from __future__ import annotations


def quoted(value: object, limit: int = 60) -> str:
    """A value as a Python literal in plain ASCII, at most `limit` characters plus an ellipsis.

    A non-string is named by its type only: its repr could be long, slow or secret.
    """
    if not isinstance(value, str):
        return f"a value of type {type(value).__name__}"
    # Cut before escaping too: the value may be megabytes long.
    shown = ascii(value[: limit + 1])
    return shown if len(value) <= limit and len(shown) <= limit + 2 else shown[:limit] + "..."
