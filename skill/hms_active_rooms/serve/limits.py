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
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from hms_active_rooms.errors import JournalError
from hms_active_rooms.gate.journal.records import REQUESTS
from hms_active_rooms.untrusted import cut, quoted

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal import Journal

MOST_NEW_A_MINUTE: Final = 60
"""Our choice: one a second, which nobody who reads what they ask for exceeds."""

CALLERS_OF_A_TOKEN: Final = 5
"""Our choice: all callers of one token together may make this many times `MOST_NEW_A_MINUTE`.
This limits a program that opens a new session for each call."""

MOST_A_MINUTE: Final = 5
"""Our choice, for each reason: enough to see who it was. A flood of refusals for one reason adds
about 2 MB a day."""

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


_minutes: WeakKeyDictionary[Journal, tuple[int, Counter[str]]] = WeakKeyDictionary()


def take_one(journal: Journal, who: str, most: int) -> float:
    """Count one more new action of somebody, at most `most` a minute by the journal's clock.
    Returns 0 if it may be made, else the seconds to wait."""
    moment_s = journal.now().timestamp()
    number = int(moment_s // _MINUTE_S)
    if journal not in _minutes or _minutes[journal][0] != number:
        _minutes[journal] = (number, Counter())
    _, new = _minutes[journal]
    if new[who] >= most:
        return (number + 1) * _MINUTE_S - moment_s
    new[who] += 1
    return 0.0


class Refusals:
    """What one journal is told about refused requests, in one loop at a time."""

    def __init__(self, journal: Journal) -> None:
        self._note = journal.note
        self._now = journal.now
        self._minute = 0
        self._written: Counter[str] = Counter()
        self._more: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def add(self, word: str, what: str, by: str) -> None:
        """Write a refusal down, or count it when there were many for this reason in this minute.
        `word`: why, one of the few in the log ("token", "origin"), never a stranger's."""
        self._begin_minute()
        if self._written[word] >= MOST_A_MINUTE:
            self._more[word] += 1
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(_MINUTE_S, self._tell_more)
            return
        self._written[word] += 1
        self._write(word, what, by)

    def are_many(self, word: str) -> bool:
        """Whether there were so many for this reason in this minute that more are counted."""
        self._begin_minute()
        return self._written[word] >= MOST_A_MINUTE

    async def ended(self) -> None:
        """Everything so far is written, or could not be."""
        self._tell_more()
        while self._writing:
            await asyncio.wait(set(self._writing))

    def _begin_minute(self) -> None:
        minute = int(self._now().timestamp()) // _MINUTE_S
        if minute != self._minute:
            self._tell_more()
            self._minute, self._written = minute, Counter()

    def _tell_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        more, self._more = self._more, Counter()
        for word, count in more.items():
            self._write(word, f"{count:,} more", "")

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


def note_refusal(refusals: Refusals | None, word: str, method: str, path: str, client: str) -> None:
    """Log a refused request and put it on record, without its query, headers and body."""
    # Whoever is told to try again does: of those the log has no more than the record.
    if word != BUSY or refusals is None or not refusals.are_many(word):
        named = quoted(method, 10)[1:-1], quoted(path, 100), quoted(client, 50)[1:-1]
        _log.warning("refused %s %s from %s: %s", *named, word)
    if refusals is not None:
        refusals.add(word, f"{method[:10]} {path}", client)
