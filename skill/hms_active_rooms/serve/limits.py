"""Limits of a server: connections, new calls per minute, refusals on record.

Counted in memory, by the journal's clock: a restart starts from zero, and servers that share a
journal count separately. For each reason, `MOST_A_MINUTE` refused requests per minute get a row
each and the rest one row with their number, so that a flood hides no other reason. No request waits
for these rows.
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
"""Our choice: one per second; nobody who reads what they ask for needs more."""

CALLERS_OF_A_TOKEN: Final = 5
"""Our choice: all callers with one token together have this many times the limit of one caller. It
limits a program that opens a new session for each call."""

MOST_A_MINUTE: Final = 5
"""Our choice, for each reason: enough to see who was refused; a flood adds about 2 MB a day."""

BUSY: Final = "busy"
"""Reason of refusals after which a program is told to try again."""

KEY: Final = "hms_active_rooms.refusals"
"""Key in a request's scope: the `Refusals`."""

_MINUTE_S: Final = 60
_MAX_CHARS: Final = 120

_log = logging.getLogger(__name__)


def most_connections() -> int:
    """512 (our choice), or half of the files this process may open if that is less, but at least
    16. The other half is for the journal, the room and connections that are being closed."""
    if sys.platform == "win32":
        return 512
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 512 if files == resource.RLIM_INFINITY else max(min(512, files // 2), 16)


MOST_CONNECTIONS: Final = most_connections()

MOST_OF_PROGRAMS: Final = MOST_CONNECTIONS // 2
"""Our choice: the other half stays free for people, whatever programs do."""


class Refusals:
    """Counts the new calls and the refused requests of one journal by the minute, and records the
    refused ones. Used in one event loop at a time."""

    def __init__(self, journal: Journal) -> None:
        self._note = journal.note
        self._now = journal.now
        self._minute = 0
        self._new: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def take_one(self, who: str, most: int) -> float:
        """Count one more new call of `who`, at most `most` a minute by the journal's clock. Returns
        0 if the call may be made, else the seconds to wait."""
        moment_s = self._begin_minute()
        if self._new[who] >= most:
            return (self._minute + 1) * _MINUTE_S - moment_s
        self._new[who] += 1
        return 0.0

    def add(self, word: str, what: str, by: str) -> None:
        """Log and record a refusal, or only count it after many with this reason in this minute.
        `word`: one of a few reasons; `what`: the request without query, headers and body."""
        self._begin_minute()
        self._refused[word] += 1
        many = self._refused[word] > MOST_A_MINUTE
        # Programs that are told to try again do so: of those, only the recorded ones are logged.
        if word != BUSY or not many:
            _log.warning("refused %s from %s: %s", quoted(what, _MAX_CHARS), quoted(by), word)
        if not many:
            self._write(word, what, by)
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_MINUTE_S, self._tell_more)

    async def ended(self) -> None:
        """Wait until everything so far is recorded, or could not be recorded."""
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
    """This journal's `Refusals` in this process: its limits hold for all ways in together."""
    if journal not in _by_journal:
        _by_journal[journal] = Refusals(journal)
    return _by_journal[journal]
