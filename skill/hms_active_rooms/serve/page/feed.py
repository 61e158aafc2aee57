"""One reader of journal and rooms for everybody who looks, their streams of news, and what these say.

Nobody looks: nothing is read. Each stream sends the whole picture when it changed: beside
`ActionView` plain JSON, bounded, with strangers' text escaped.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from hms_active_rooms.api.models import ActiveRoom, Peer
from hms_active_rooms.errors import ActiveRoomsError, NotActive
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal.records import Action, Event, by_person, who
from hms_active_rooms.gate.policy import ANY_ROOM
from hms_active_rooms.gate.view import view
from hms_active_rooms.serve.decisions import meanwhile
from hms_active_rooms.serve.problems import place_of
from hms_active_rooms.tools.roster import Roster, select
from hms_active_rooms.untrusted import cut, same_looks

MAX_ROOMS: Final = 20
MAX_WAITING: Final = 50

SHOWN_ROWS: Final = 50
_MAX_ROLES: Final = 50
_MAX_TEXT_CHARS: Final = 80
_MAX_REASON_CHARS: Final = 500
_NEWEST: Final = 100
_GENTLE: Final = 5
"""A look into a room that took long is followed by a pause that many times as long."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PageSettings:
    """How long links and sessions of the page live, and how often it looks; in seconds."""

    link_s: float = 12 * 3600.0  # a login link can be used, once
    session_s: float = 12 * 3600.0  # a login lasts
    journal_s: float = 1.0  # between two looks into the journal, one for all viewers
    room_s: float = 2.0  # between two looks into a room; longer where a look takes long
    beat_s: float = 10.0  # the longest silence on a stream; after three the page calls it lost


class Feed:
    """What is known now, and who is told when it changes."""

    def __init__(self, gate: Gate, settings: PageSettings) -> None:
        self._gate = gate
        self._settings = settings
        self._people: dict[str, Sequence[Peer]] = {}
        self._views: list[dict[str, Any]] = []
        self._journal: dict[str, Any] = {"waiting": [], "more": 0, "changes": 0, "trouble": ""}
        self._newest: list[Action] = []
        self._shown: frozenset[str] = frozenset()
        self._fresh = False
        self._body = ""
        self._viewers = 0
        self._watched = asyncio.Event()
        self._changed = asyncio.Event()
        self._poke = asyncio.Event()
        self._closed = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read while the block runs and somebody looks."""
        journal = self._again_and_again(self._read_journal, self._settings.journal_s)
        rooms = self._again_and_again(self._read_rooms, self._settings.room_s, _GENTLE)
        async with meanwhile(journal, self._stopped), meanwhile(rooms, self._stopped):
            yield
        self.close()

    def _stopped(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            _log.error("the approvals page stopped reading: %s", place_of(error))
        self.close()

    def close(self) -> None:
        """End every stream; a server that stops would else wait for its viewers."""
        self._closed = True
        self._changed.set()

    def look_now(self) -> None:
        """Something was decided: read again at once."""
        self._poke.set()
        self._poke = asyncio.Event()

    async def people(self, room_id: str, find: str) -> dict[str, Any]:
        """The first people of a room, as it was read last, in whose name, role, user id or id this
        is found, and how many there are; PolicyRefusal: a room that the policy does not allow."""
        self._gate.policy.check_room(room_id)
        people = self._people.get(room_id, ())
        return await asyncio.to_thread(people_view, people, find)

    async def _again_and_again(
        self,
        read: Callable[[], Coroutine[Any, Any, None]],
        pause_s: float,
        gentle: float = 0.0,
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._watched.wait()
            poke, started = self._poke, loop.time()
            await read()
            self._publish()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(pause_s, (loop.time() - started) * gentle)):
                    await poke.wait()

    async def _read_journal(self) -> None:
        try:
            count, waiting, newest = await asyncio.to_thread(self._look)
            questions = [action_view(row) for row in waiting]
            await self._on_record(waiting)
        except ActiveRoomsError as error:
            self._journal = {**self._journal, "trouble": str(error)}
        else:
            before, now = ([(row.id, row.state) for row in rows] for rows in (self._newest, newest))
            self._journal = {
                "waiting": questions,
                "more": max(count - len(waiting), 0),
                "changes": self._journal["changes"] + (before != now),
                "trouble": "",
            }
            self._newest = newest
        self._fresh = bool(self._viewers)

    def _look(self) -> tuple[int, list[Action], list[Action]]:
        """How many wait, the first of them, and the newest rows: all of one moment."""
        mine: Any = {"rooms": self._gate.policy.only_rooms}
        asked: Any = {**mine, "state": "proposed"}
        with self._gate.journal.read() as reading:
            waiting = reading.actions(**asked, oldest_first=True, limit=MAX_WAITING)
            return reading.count(**asked), waiting, reading.actions(**mine, limit=_NEWEST)

    async def _on_record(self, waiting: Sequence[Action]) -> None:
        """Each question that viewers are about to see was asked, once while it is shown."""
        self._shown &= {row.id for row in waiting}
        for row in waiting:
            if self._viewers and row.id not in self._shown:
                await self._gate.asked(row, "page")
                self._shown |= {row.id}

    async def _read_rooms(self) -> None:
        named = [room for room in self._gate.policy.rooms if room != ANY_ROOM]
        # With any room allowed, those of the newest actions.
        ids = dict.fromkeys([*named, *(row.room_id for row in self._newest)])
        people, views = {}, []
        for room_id in [*ids][:MAX_ROOMS]:
            room, people[room_id], trouble = await self._read_room(room_id)
            # A room of 20,000 takes a tenth of a second to sort and count.
            found = await asyncio.to_thread(room_view, room_id, room, people[room_id])
            views.append({**found, "trouble": trouble})
        self._people, self._views = people, views

    async def _read_room(self, room_id: str) -> tuple[ActiveRoom | None, Sequence[Peer], str]:
        """The room and its people, or why there is none to show."""
        try:
            room, peers = await asyncio.gather(
                self._gate.active_room(room_id), self._gate.peers(room_id)
            )
        except NotActive:
            return None, (), "Nobody is in the room."
        except ActiveRoomsError as error:
            return None, (), f"The room cannot be read: {error}"
        return room, peers, ""

    def _publish(self) -> None:
        if not self._fresh:
            return  # without the journal the picture would say that nothing waits
        body = json.dumps({**self._journal, "rooms": self._views})
        if body != self._body:
            self._body = body
            self._changed.set()
            self._changed = asyncio.Event()

    async def stream(self, name: str, lasts: Callable[[], bool]) -> AsyncGenerator[str]:
        """Server-sent events for one viewer, while their session `lasts`: `you` once, then `news`,
        and comments as heartbeat."""
        self._viewers += 1
        self._watched.set()
        self.look_now()
        sent = ""
        try:
            yield _event("you", json.dumps({"name": name, "beat_s": self._settings.beat_s}))
            while lasts() and not self._closed:
                changed, body = self._changed, self._body
                if body and body != sent:
                    sent = body
                    now = json.dumps(self._gate.journal.now().isoformat())
                    yield _event("news", f'{{"now": {now}, "news": {body}}}')
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.beat_s):
                        await changed.wait()
                        continue
                yield ": still here\n\n"
        finally:
            self._viewers -= 1
            if not self._viewers:
                self._watched.clear()
                # Whoever comes next is not shown an old picture.
                self._body, self._fresh = "", False


def _event(kind: str, data: str) -> str:
    return f"event: {kind}\ndata: {data}\n\n"  # JSON has no line ends in it


def room_view(room_id: str, room: ActiveRoom | None, people: Sequence[Peer]) -> dict[str, Any]:
    """A room: name, session, counts by role, the first rows."""
    seen = select(people, limit=SHOWN_ROWS)
    return {
        "room_id": room_id,
        "name": cut(room.name, _MAX_TEXT_CHARS) if room else "",
        "started_at": cut(room.session.created_at, _MAX_TEXT_CHARS) if room else "",
        "total": seen.total,
        "unreadable": seen.unreadable,
        "by_role": [[cut(role, _MAX_TEXT_CHARS), n] for role, n in seen.by_role[:_MAX_ROLES]],
        "other_roles": max(len(seen.by_role) - _MAX_ROLES, 0),
        **_rows(seen),
    }


def people_view(people: Sequence[Peer], find: str) -> dict[str, Any]:
    """The first of these people in whom this is found, and how many there are."""
    return _rows(select(people, find=find if find.strip() else None, limit=SHOWN_ROWS))


def _rows(seen: Roster) -> dict[str, Any]:
    alike = set(chain.from_iterable(same_looks((r.short_id, r.peer.name) for r in seen.rows)))
    rows = []
    for short_id, p, *_ in seen.rows:
        told = {"short_id": short_id, "name": p.name, "role": p.role, "user_id": p.user_id}
        row = {key: cut(text, _MAX_TEXT_CHARS) for key, text in told.items()}
        rows.append({**row, "alike": short_id in alike})
    return {"matching": seen.matching, "rows": rows}


def action_view(action: Action) -> dict[str, Any]:
    """An action as everywhere, without the list of people, which its question names; and as what
    the journal labels it: "refused" if nobody said no."""
    refused = action.state == "rejected" and not by_person(action.decided_way)
    told = view(action, people=0).model_dump(mode="json")
    return {**told, "label": "refused" if refused else action.state}


def event_view(event: Event) -> dict[str, Any]:
    """One thing that happened to an action, or one refused request."""
    told = {"kind": event.kind, "by": who(event.by, event.way), "way": event.way}
    text = next(filter(None, map(event.data.get, ("reason", "text", "what"))), "")
    return {
        "at": event.at.isoformat(),
        **{key: cut(value, _MAX_TEXT_CHARS) for key, value in told.items()},
        "text": cut(str(text), _MAX_REASON_CHARS),
    }
