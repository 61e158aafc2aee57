"""One reader of journal and rooms for everybody who looks, and their streams of news.

Nobody looks: nothing is read. Otherwise the journal and the rooms are read in turn,
once for all viewers, and each stream sends the whole picture when it changed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from hms_active_rooms.errors import ActiveRoomsError, NotActive
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action
from hms_active_rooms.gate.policy import ANY_ROOM
from hms_active_rooms.serve.decisions import allowed_rooms, asked
from hms_active_rooms.serve.last_resort import place_of
from hms_active_rooms.serve.page.settings import PageSettings
from hms_active_rooms.serve.page.view import RoomNow, question_view, room_now, room_view

MAX_ROOMS: Final = 20
MAX_WAITING: Final = 50

_NEWEST = 100
_GENTLE: Final = 5
"""A look into a room that took long is followed by a pause that many times as long."""

_log = logging.getLogger(__name__)


class Feed:
    """What is known now, and who is told when it changes.

    Args:
        gate: reads rooms and the journal.
        settings: how often.
    """

    def __init__(self, gate: Gate, settings: PageSettings) -> None:
        self._gate = gate
        self._settings = settings
        self._rooms: dict[str, RoomNow] = {}
        self._views: list[dict[str, Any]] = []
        self._seen: list[str] = []
        self._journal: dict[str, Any] = {"waiting": [], "more": 0, "changes": 0, "trouble": ""}
        self._newest: list[tuple[str, str]] = []
        self._shown: frozenset[str] = frozenset()
        self._fresh = False
        self._body = ""
        self._viewers = 0
        self._watched = asyncio.Event()
        self._changed = asyncio.Event()
        self._pokes: list[asyncio.Event] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    # --- reading -------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read while the block runs and somebody looks."""
        at_least = self._settings
        self._tasks = [
            self._start(self._read_journal, lambda _: at_least.journal_s),
            self._start(self._read_rooms, lambda took: max(at_least.room_s, took * _GENTLE)),
        ]
        try:
            yield
        finally:
            self.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """End every stream; a server that stops would else wait for its viewers."""
        self._closed = True
        self._changed.set()

    def look_now(self) -> None:
        """Something was decided: read again at once."""
        for poke in self._pokes:
            poke.set()

    def room(self, room_id: str) -> RoomNow:
        """A room as it was read last.

        Raises:
            PolicyRefusal: a room the policy does not allow.
        """
        self._gate.policy.check_room(room_id)
        return self._rooms.get(room_id) or RoomNow(room_id, trouble="Not read yet.")

    def _start(
        self, read: Callable[[], Coroutine[Any, Any, None]], pause: Callable[[float], float]
    ) -> asyncio.Task[None]:
        self._pokes.append(poke := asyncio.Event())
        task = asyncio.create_task(self._again_and_again(read, pause, poke))
        task.add_done_callback(_log_failure)
        return task

    async def _again_and_again(
        self,
        read: Callable[[], Coroutine[Any, Any, None]],
        pause: Callable[[float], float],
        poke: asyncio.Event,
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._watched.wait()
            poke.clear()
            started = loop.time()
            await read()
            self._publish()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause(loop.time() - started)):
                    await poke.wait()

    async def _read_journal(self) -> None:
        gate, rooms = self._gate, allowed_rooms(self._gate)
        try:
            count, waiting, newest = await asyncio.to_thread(_read, gate.journal, rooms)
            questions = [question_view(row) for row in waiting]
            await self._on_record(waiting)
        except ActiveRoomsError as error:
            self._journal = {**self._journal, "trouble": str(error)}
            self._fresh = bool(self._viewers)
            return
        states: list[tuple[str, str]] = [(row.id, row.state) for row in newest]
        changes = self._journal["changes"] + (states != self._newest)
        self._newest = states
        self._seen = list(dict.fromkeys(row.room_id for row in newest))
        self._journal = {
            "waiting": questions,
            "more": max(count - len(waiting), 0),
            "changes": changes,
            "trouble": "",
        }
        self._fresh = bool(self._viewers)

    async def _on_record(self, waiting: Sequence[Action]) -> None:
        """Each question that viewers are about to see was asked, once while it is shown."""
        self._shown &= {row.id for row in waiting}
        for row in waiting:
            if self._viewers and row.id not in self._shown:
                await asked(self._gate, row, "page")
                self._shown |= {row.id}

    async def _read_rooms(self) -> None:
        rooms = {room_id: await self._read_room(room_id) for room_id in self._room_ids()}
        # A room of 20,000 takes a tenth of a second to sort and count.
        self._views = [await asyncio.to_thread(room_view, now) for now in rooms.values()]
        self._rooms = rooms

    async def _read_room(self, room_id: str) -> RoomNow:
        try:
            room, peers = await asyncio.gather(
                self._gate.active_room(room_id), self._gate.peers(room_id)
            )
        except NotActive:
            return RoomNow(room_id, trouble="Nobody is in the room.")
        except ActiveRoomsError as error:
            return RoomNow(room_id, trouble=f"The room cannot be read: {error}")
        return await asyncio.to_thread(room_now, room, peers)

    def _room_ids(self) -> list[str]:
        """The policy's rooms; those of the newest actions when it allows any."""
        named = [room for room in self._gate.policy.rooms if room != ANY_ROOM]
        return [*named, *(r for r in self._seen if r not in named)][:MAX_ROOMS]

    def _publish(self) -> None:
        if not self._fresh:
            return  # without the journal the picture would say that nothing waits
        body = json.dumps({**self._journal, "rooms": self._views})
        if body != self._body:
            self._body = body
            self._changed.set()
            self._changed = asyncio.Event()

    # --- telling -------------------------------------------------------------------------

    async def stream(self, name: str, lasts: Callable[[], bool]) -> AsyncGenerator[str]:
        """Server-sent events for one viewer: `you` once, then `news`, and comments as heartbeat.

        Args:
            name: who looks.
            lasts: whether their session still does; the stream ends when it is over.
        """
        self._viewers += 1
        self._watched.set()
        self.look_now()
        sent = ""
        try:
            yield _event("you", json.dumps({"name": name, "beat_s": self._settings.beat_s}))
            while lasts() and not self._closed and not any(task.done() for task in self._tasks):
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


def _read(
    journal: Journal, rooms: Collection[str] | None
) -> tuple[int, list[Action], list[Action]]:
    """How many wait, the first of them, and the newest rows: all of one moment."""
    with journal.read() as view:
        count = view.count(state="proposed", rooms=rooms)
        waiting = view.actions(state="proposed", rooms=rooms, oldest_first=True, limit=MAX_WAITING)
        return count, waiting, view.actions(rooms=rooms, limit=_NEWEST)


def _event(kind: str, data: str) -> str:
    return f"event: {kind}\ndata: {data}\n\n"  # JSON has no line ends in it


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error("the approvals page stopped reading: %s", place_of(error))
