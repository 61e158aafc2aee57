"""Reads what the page shows, once for all viewers, and only while somebody has the page open.

The result, the picture, is JSON, limited in size, with strangers' text escaped. The page asks for it
again and again. The server answers when the picture has changed, or after `PageSettings.hold_s`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from hms_active_rooms.api.models import ActiveRoom, Peer
from hms_active_rooms.errors import ActiveRoomsError, NotActive
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal.records import UNSENT, Action, Event, by_person, who
from hms_active_rooms.gate.policy import ANY_ROOM
from hms_active_rooms.gate.view import view
from hms_active_rooms.serve.guard import hashed
from hms_active_rooms.tools.roster import select
from hms_active_rooms.untrusted import cut, same_looks

MAX_ROOMS: Final = 20
MAX_WAITING: Final = 50
SHOWN_ROWS: Final = 50
_MAX_ROLES: Final = 50
_MAX_TEXT_CHARS: Final = 80
_MAX_REASON_CHARS: Final = 500
_NEWEST: Final = 100
_GENTLE: Final = 5  # after a read of the rooms, the pause is at least this many times as long


@dataclass(frozen=True)
class PageSettings:
    """Times of the approvals page, in seconds.

    Args:
        link_s: how long a login link lasts.
        session_s: how long a login lasts.
        journal_s: the pause between two reads of the journal.
        room_s: the pause between two reads of a room.
        hold_s: the longest wait of a browser for news.
    """

    link_s: float = 12 * 3600.0  # how long a login link can be used (once)
    session_s: float = 7 * 24 * 3600.0  # how long a login lasts
    journal_s: float = 1.0  # between two reads of the journal
    room_s: float = 2.0  # between two reads of the rooms; longer if a read takes long
    hold_s: float = 3.0  # how long a request may wait for a change


class Feed:
    """Holds the newest state of the page (waiting actions and rooms), for all viewers."""

    def __init__(self, gate: Gate, settings: PageSettings) -> None:
        self._gate = gate
        self._settings = settings
        nothing: dict[str, Any] = {"waiting": [], "more": 0, "rooms": []}
        self._picture = nothing | {"changes": 0, "trouble": ""}
        self._tag = ""
        self._newest: Sequence[tuple[str, ...]] = []
        self._shown: frozenset[str] = frozenset()
        self._reading = asyncio.Lock()
        self._rooms: asyncio.Task[None] | None = None
        self._journal_due_s = self._rooms_due_s = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """A context that is open while the server runs. Its end stops the reading of rooms."""
        try:
            yield
        finally:
            if self._rooms is not None:
                self._rooms.cancel()
                await asyncio.gather(self._rooms, return_exceptions=True)

    async def news(self, seen: str, lasts: Callable[[], bool]) -> dict[str, Any]:
        """Return the newest state of the page, with its hash as `tag`. If the viewer has `seen` this tag,
        first wait for a change, while `lasts()` is true."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._settings.hold_s
        while True:
            async with self._reading:
                if loop.time() >= self._journal_due_s:
                    await self._read_journal()
                    self._journal_due_s = loop.time() + self._settings.journal_s
            if self._rooms is not None and self._rooms.done():
                read, self._rooms = self._rooms, None
                read.result()
            if self._rooms is None and loop.time() >= self._rooms_due_s:
                # A task, since a room that answers slowly must not delay the questions.
                self._rooms = loop.create_task(self._read_rooms())
            if self._tag != seen or not lasts() or loop.time() >= until_s:
                now = self._gate.journal.now().isoformat()
                return {"now": now, "tag": self._tag, **self._picture}
            await asyncio.sleep(self._settings.journal_s)

    def _found(self, **news: Any) -> None:
        self._picture |= news
        self._tag = hashed(json.dumps(self._picture)).hex()[:16]

    async def _read_journal(self) -> None:
        try:
            waiting, more, newest = await asyncio.to_thread(self._look)
            questions = [action_view(row) for row in waiting]
            await self._record_shown(waiting)
        except ActiveRoomsError as error:
            self._found(trouble=str(error))
            return
        seen = [(row.id, row.state, row.contradiction, row.room_id) for row in newest]
        changes = self._picture["changes"] + (seen != self._newest)
        self._newest = seen
        self._found(waiting=questions, more=more, changes=changes, trouble="")

    def _look(self) -> tuple[list[Action], int, list[Action]]:
        """The oldest actions that wait, how many more do, and the newest actions of all."""
        rooms = self._gate.policy.only_rooms
        with self._gate.journal.read() as reading:
            waiting, more = reading.waiting(limit=MAX_WAITING, rooms=rooms)
            return waiting, more, reading.actions(rooms=rooms, limit=_NEWEST)

    async def _record_shown(self, waiting: Sequence[Action]) -> None:
        self._shown &= {row.id for row in waiting}
        for row in waiting:
            if row.id not in self._shown:
                await self._gate.asked(row, "page")
                self._shown |= {row.id}

    async def _read_rooms(self) -> None:
        began_s = asyncio.get_running_loop().time()
        named = [room for room in self._gate.policy.rooms if room != ANY_ROOM]
        # If the policy allows any room, show also the rooms of the newest actions.
        ids = dict.fromkeys([*named, *(room_id for *_, room_id in self._newest)])
        views = []
        for room_id in [*ids][:MAX_ROOMS]:
            room, people, trouble = await self._read_room(room_id)
            # Sorting and counting 20,000 people takes a tenth of a second.
            found = await asyncio.to_thread(room_view, room_id, room, people)
            views.append({**found, "trouble": trouble})
        self._found(rooms=views)
        now_s = asyncio.get_running_loop().time()
        self._rooms_due_s = now_s + max(self._settings.room_s, (now_s - began_s) * _GENTLE)

    async def _read_room(self, room_id: str) -> tuple[ActiveRoom | None, Sequence[Peer], str]:
        """The room, its people and "". If the room cannot be shown: None, (), and the reason."""
        try:
            room, peers = await asyncio.gather(
                self._gate.active_room(room_id), self._gate.peers(room_id)
            )
        except NotActive:
            return None, (), "Nobody is in the room."
        except ActiveRoomsError as error:
            return None, (), f"The room cannot be read: {error}"
        return room, peers, ""


def room_view(room_id: str, room: ActiveRoom | None, people: Sequence[Peer]) -> dict[str, Any]:
    """A room and its people as JSON for the page. `room` is None if nobody is in it, or it cannot be read."""
    seen = select(people, limit=SHOWN_ROWS)
    alike = set(chain.from_iterable(same_looks((r.short_id, r.peer.name) for r in seen.rows)))
    rows = []
    for short_id, p, *_ in seen.rows:
        told = {"short_id": short_id, "name": p.name, "role": p.role, "user_id": p.user_id}
        row = {key: cut(text, _MAX_TEXT_CHARS) for key, text in told.items()}
        rows.append({**row, "alike": short_id in alike})
    return {
        "room_id": room_id,
        "name": cut(room.name, _MAX_TEXT_CHARS) if room else "",
        "started_at": cut(room.session.created_at, _MAX_TEXT_CHARS) if room else "",
        "total": seen.total,
        "unreadable": seen.unreadable,
        "by_role": [[cut(role, _MAX_TEXT_CHARS), n] for role, n in seen.by_role[:_MAX_ROLES]],
        "other_roles": max(len(seen.by_role) - _MAX_ROLES, 0),
        "rows": rows,
    }


def action_view(action: Action) -> dict[str, Any]:
    """Return an action as JSON for the page. `label` is its state for people. `decidable` says whether a
    decision can still count."""
    refused = action.state == "rejected" and not by_person(action.decided_way)
    told = view(action, people=0).model_dump(mode="json")
    decidable = action.state in UNSENT and not action.contradiction
    return {**told, "label": "refused" if refused else action.state, "decidable": decidable}


def event_view(event: Event) -> dict[str, Any]:
    """An event as JSON for the page; long texts are cut."""
    told = {"kind": event.kind, "by": who(event.by, event.way), "way": event.way}
    text = event.data.get("reason") or event.data.get("text") or ""
    return {
        "at": event.at.isoformat(),
        **{key: cut(value, _MAX_TEXT_CHARS) for key, value in told.items()},
        "text": cut(str(text), _MAX_REASON_CHARS),
    }
