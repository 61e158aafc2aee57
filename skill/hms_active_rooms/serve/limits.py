"""How much a server takes on: connections, new calls a minute, refusals on record.

Counted in memory, by the journal's clock: a restart counts anew, and of servers that share a
journal each counts its own. Of refused requests `MOST_A_MINUTE` rows a minute are written for each
reason, so that a flood hides no other, and one that counts the rest; nothing waits for them.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from typing import Final
from weakref import WeakKeyDictionary

from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import REQUESTS
from hms_active_rooms.untrusted import cut, quoted

MOST_NEW_A_MINUTE: Final = 60
"""Our choice: one a second, which nobody who reads what they ask for exceeds."""

CALLERS_OF_A_TOKEN: Final = 5
"""Our choice: of one token together; it limits a program with a new session for each call."""

MOST_A_MINUTE: Final = 5
"""Our choice, for each reason: enough to see who it was; a flood adds about 2 MB a day."""

BUSY: Final = "busy"
"""The word of refusals for which a program is told to try again."""

KEY: Final = "hms_active_rooms.refusals"
"""The key under which a request's scope has the `Refusals`."""

_MINUTE_S: Final = 60
_MAX_CHARS: Final = 120

_log = logging.getLogger(__name__)


def most_connections() -> int:
    """512 (our choice), or half of the files this process may open if that is less, but at least 16.
    The other half is for the journal, the room, and connections about to be closed."""
    if sys.platform == "win32":
        return 512
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 512 if files == resource.RLIM_INFINITY else max(min(512, files // 2), 16)


MOST_CONNECTIONS: Final = most_connections()

MOST_OF_PROGRAMS: Final = MOST_CONNECTIONS // 2
"""Our choice: the other half is for people, whatever programs do."""


class Refusals:
    """Counts the new calls and the refused requests of one journal, minute by minute, and tells it
    of the refused ones; in one loop at a time."""

    def __init__(self, journal: Journal) -> None:
        self._note = journal.note
        self._now = journal.now
        self._minute = 0
        self._new: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def take_one(self, who: str, most: int) -> float:
        """Count one more new action of somebody, at most `most` a minute by the journal's clock.
        Returns 0 if it may be made, else the seconds to wait."""
        moment_s = self._begin_minute()
        if self._new[who] >= most:
            return (self._minute + 1) * _MINUTE_S - moment_s
        self._new[who] += 1
        return 0.0

    def add(self, word: str, what: str, by: str) -> None:
        """Log a refusal and write it down, or count it after many of its reason in this minute.
        `word`: why, one of a few, never a stranger's; `what` has no query, header or body."""
        self._begin_minute()
        self._refused[word] += 1
        many = self._refused[word] > MOST_A_MINUTE
        # Whoever is told to try again does: of those the log has no more than the record.
        if word != BUSY or not many:
            _log.warning("refused %s from %s: %s", quoted(what, _MAX_CHARS), quoted(by), word)
        if not many:
            self._write(word, what, by)
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_MINUTE_S, self._tell_more)

    async def ended(self) -> None:
        """Everything so far is written, or could not be."""
        self._tell_more()
        while self._writing:
            await asyncio.wait(set(self._writing))

    def _begin_minute(self) -> float:
        moment_s = self._now().timestamp()
        if (minute := int(moment_s // _MINUTE_S)) != self._minute:
            self._tell_more()
            self._minute, self._new, self._refused = minute, Counter(), Counter()
        return moment_s

    def _tell_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for word, count in self._refused.items():
            if (more := count - MOST_A_MINUTE) > 0:
                self._write(word, f"{more:,} more", "")
                self._refused[word] = MOST_A_MINUTE

    def _write(self, word: str, what: str, by: str) -> None:
        told = {"by": cut(by, _MAX_CHARS), "way": word, "what": cut(what, _MAX_CHARS)}

        async def write() -> None:
            try:
                await asyncio.to_thread(self._note, REQUESTS, "refused", **told)
            except JournalError as error:
                _log.warning("refused, and not on record: %s", error)

        writing = asyncio.create_task(write())
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)


_by_journal: WeakKeyDictionary[Journal, Refusals] = WeakKeyDictionary()


def refusals_of(journal: Journal) -> Refusals:
    """The one of this journal in this process: its limit counts for all ways in."""
    if journal not in _by_journal:
        _by_journal[journal] = Refusals(journal)
    return _by_journal[journal]
