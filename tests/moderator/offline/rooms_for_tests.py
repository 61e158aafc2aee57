"""A small classroom as the tools answer it, and a conversation with the model played to its end.

The same code measures the model for its card.
"""

from evals.sentences import (
    CHANGING,
    CLASSROOM,
    ROOM,
    SESSION,
    answer,
    calls,
    changes,
    peer_id,
    play,
    roster,
    said,
)

__all__ = [
    "CHANGING",
    "CLASSROOM",
    "ROOM",
    "SESSION",
    "answer",
    "calls",
    "changes",
    "peer_id",
    "play",
    "roster",
    "said",
]
