"""What one removal and one read cost, beside an earlier commit and beside the same work done plainly.

`make bench` runs it, offline. The same work is done in turn by this code, by the code of
`BASE_REF` and by plain code without a gate, so times are compared within one run, as ratios.
"""

from typing import Final

BASE_REF: Final = "c6313be"
"""The last commit before the rebuild."""

PEOPLE: Final = 20
"""In the room from which somebody is removed."""

MANY: Final = 100
"""People in the room that is read, and calls at once."""

BURSTS: Final = 3
"""So often `MANY` calls at once in a sample, after one burst that opens the connections."""

MARKS: Final = "marks"
"""The file whose syncs part those of the steps of a removal."""

LARGEST: Final = 20_000
"""People in the largest room that 100ms has."""


def room_of(people: int, run: int = 0) -> str:
    """The id of a room with so many people; each run's room is its own."""
    return f"{run:016d}{people:08d}"


def peer_of(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-{number:012x}"
