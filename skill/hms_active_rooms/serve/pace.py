"""How many new actions one thread of calls may ask for in a minute.

Threat: a program whose every call is a new row, refused on the spot or under a new key, fills
the journal. Invariant: so many a minute get a row, and the rest none. Counted in memory, by the
journal's clock: a restart counts anew, and of servers that share a journal each counts its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal import Journal

MOST_NEW_A_MINUTE: Final = 60
"""Our choice: one a second, which nobody who reads what they ask for exceeds."""

_MINUTE_S: Final = 60


@dataclass
class _Minute:
    number: int
    new: Counter[str] = field(default_factory=Counter)


_minutes: WeakKeyDictionary[Journal, _Minute] = WeakKeyDictionary()


def take_one(journal: Journal, thread: str, most: int) -> float:
    """Count one more new action; 0 when it may be made, else the seconds until the next may.

    Args:
        journal: where it would be made; its clock counts.
        thread: whose action it is.
        most: so many a minute.
    """
    moment_s = journal.now().timestamp()
    number = int(moment_s // _MINUTE_S)
    minute = _minutes.get(journal)
    if minute is None or minute.number != number:
        minute = _minutes[journal] = _Minute(number)
    if minute.new[thread] >= most:
        return (number + 1) * _MINUTE_S - moment_s
    minute.new[thread] += 1
    return 0.0
