"""A model that calls nothing: what it has done is what ends well if nothing happens."""

from __future__ import annotations

from evals.models.stateless import Move, Situation


def silent(_: Situation) -> Move:
    """The next message."""
    return Move("I did nothing.")
