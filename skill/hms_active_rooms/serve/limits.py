"""Limits a server: its connections, its new calls a minute, and its records of refused requests.

The counts are in memory, by the journal's clock. Servers that share a journal count separately.

In each minute the first `MOST_A_MINUTE` refusals for one reason get an event each in the journal.
One more event counts the rest: at the first refusal or new call after that minute, or at the end of
the server. So a flood does not hide refusals for other reasons. No request waits for an event.
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

# The numbers are our choice.
MOST_NEW_A_MINUTE: Final = 60  # new calls of one caller
CALLERS_OF_A_TOKEN: Final = 5  # all callers with one token may make so many times the calls of one
MOST_A_MINUTE: Final = 5  # refusals for one reason that get an event each (2 MB a day)

BUSY: Final = "busy"  # why a request is refused when too many are open
KEY: Final = "hms_active_rooms.refusals"  # in the ASGI scope of a request: the `Refusals`
_MINUTE_S: Final = 60
_MAX_CHARS: Final = 120

_log = logging.getLogger(__name__)


def most_connections() -> int:
    """Return the most connections that a server accepts: 512 (our choice), or fewer if this process may
    open few files."""
    if sys.platform == "win32":
        return 512
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 512 if files == resource.RLIM_INFINITY else max(min(512, files // 2), 16)


MOST_CONNECTIONS: Final = most_connections()

MOST_OF_PROGRAMS: Final = MOST_CONNECTIONS // 2  # open at once; the other half is for people


class Refusals:
    """Counts the new calls and the refused requests of each minute. Use it in one event loop at a time."""

    def __init__(self, journal: Journal) -> None:
        self._note = journal.note
        self._now = journal.now
        self._minute = 0
        self._new: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._writing: set[asyncio.Task[None]] = set()

    def take_one(self, who: str, most: int) -> float:
        """Count a new call of `who`, and return 0. If `who` has made `most` calls in this minute, count
        nothing, and return the seconds until the next minute."""
        moment_s = self._begin_minute()
        if self._new[who] >= most:
            return (self._minute + 1) * _MINUTE_S - moment_s
        self._new[who] += 1
        return 0.0

    def add(self, word: str, what: str, by: str) -> None:
        """Log, count and record a refused request.

        Args:
            word: the reason, in one word.
            what: the request, without query, headers and body.
            by: the sender.
        """
        self._begin_minute()
        self._refused[word] += 1
        many = self._refused[word] > MOST_A_MINUTE
        # A program that got "busy" tries again, so only the first ones are logged.
        if word != BUSY or not many:
            _log.warning("refused %s from %s: %s", quoted(what, _MAX_CHARS), quoted(by), word)
        if not many:
            self._write(word, what, by)

    async def ended(self) -> None:
        """Wait until the refusals so far are written to the journal, or could not be."""
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
        for word, count in self._refused.items():
            if (more := count - MOST_A_MINUTE) > 0:
                self._write(word, f"{more:,} more requests", "")
                self._refused[word] = MOST_A_MINUTE

    def _write(self, word: str, what: str, by: str) -> None:
        told = {"by": cut(by, _MAX_CHARS), "way": word, "what": cut(what, _MAX_CHARS)}

        async def write() -> None:
            try:
                await asyncio.to_thread(self._note, REQUESTS, "refused", **told)
            except JournalError as error:
                _log.warning("a refusal was not recorded: %s", error)

        writing = asyncio.create_task(write())
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)


_by_journal: WeakKeyDictionary[Journal, Refusals] = WeakKeyDictionary()


def refusals_of(journal: Journal) -> Refusals:
    """The one `Refusals` of this journal. MCP, REST and the page share its limits."""
    if journal not in _by_journal:
        _by_journal[journal] = Refusals(journal)
    return _by_journal[journal]
