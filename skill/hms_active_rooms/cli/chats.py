"""`chats` and `chats prune`: the conversations of `chat`, in one file that stays bounded.

The file is `chat.sqlite` in the user's state directory, beside the journal. It holds LangGraph's
checkpoints: of each conversation the newest few, and of the conversations those that are not too
old, and not too many.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple
from uuid import UUID

import platformdirs
import typer

from hms_active_rooms import blocking
from hms_active_rooms.cli import screen
from hms_active_rooms.cli.settings import Json, refuse_idle
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.untrusted import quoted, shortened

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

KEPT_DAYS: Final = 90
KEPT_MB: Final = 200
KEPT_CHECKPOINTS: Final = 50
"""Of one conversation, after each message: some turns, though only the newest is ever read."""

_UUID_EPOCH: Final = datetime(1582, 10, 15, tzinfo=UTC)

_Days = Annotated[float, typer.Option(min=0, help="Delete those not used for this many days.")]
_Mb = Annotated[
    float,
    typer.Option(min=0, help="Delete the oldest until all together take at most this many MB."),
]


class Chat(NamedTuple):
    """A conversation: its name (`chat --thread`), its room, when it was written last, its size."""

    thread: str
    room_id: str
    used: datetime
    bytes: int


def chats(ctx: typer.Context, json: Json = False) -> None:
    """List the conversations of `chat`, newest first. `chats prune` deletes old ones."""
    if ctx.invoked_subcommand is not None:
        refuse_idle(ctx, ctx.invoked_subcommand)
        return
    with _connected() as db:
        found = kept(db)
    if json:
        rows = [{**chat._asdict(), "used": chat.used.isoformat()} for chat in found]
        screen.document({"file": str(path()), "chats": rows})
    elif found:
        cells = [
            (shortened(c.thread, 64), shortened(c.room_id, 40), screen.at(c.used), _kb(c.bytes))
            for c in found
        ]
        screen.table(("THREAD", "ROOM", "LAST USED", "KB"), cells)
    else:
        screen.err(f"There are no conversations in {quoted(str(path()), 200)}.")


def prune(days: _Days = KEPT_DAYS, mb: _Mb = KEPT_MB, json: Json = False) -> None:
    """Delete old conversations. The journal keeps what was asked and done in them."""
    with _connected() as db:
        gone = _prune(db, days, mb)
        db.execute("VACUUM")
    if json:
        screen.document({"file": str(path()), "deleted": [chat.thread for chat in gone]})
    else:
        screen.out(
            f"Deleted {len(gone)} conversation{'s' if len(gone) != 1 else ''} from {quoted(str(path()), 200)}."
        )


def path() -> Path:
    """The file of all conversations."""
    return platformdirs.user_state_path("hms-active-rooms") / "chat.sqlite"


def _kb(size: int) -> str:
    return f"{size / 1024:,.0f}"


def kept(db: sqlite3.Connection) -> list[Chat]:
    """The conversations, the one used last first."""
    rows = db.execute(
        "SELECT c.thread_id, max(c.checkpoint_id), max(json_extract(c.metadata, '$.room_id')),"
        " sum(length(c.checkpoint) + length(c.metadata)) + coalesce((SELECT sum(length(w.value))"
        " FROM writes w WHERE w.thread_id = c.thread_id), 0) FROM checkpoints c GROUP BY 1"
    )
    found = [Chat(thread, room or "", _made(newest), size) for thread, newest, room, size in rows]
    return sorted(found, key=lambda chat: chat.used, reverse=True)


def _made(checkpoint_id: str) -> datetime:
    """When a checkpoint was made: its id is a UUID of version 6, which holds the time."""
    bits = UUID(checkpoint_id).int
    ticks = (bits >> 80) << 12 | (bits >> 64) & 0xFFF
    return _UUID_EPOCH + timedelta(microseconds=ticks // 10)


def _prune(db: sqlite3.Connection, days: float, mb: float) -> list[Chat]:
    from langgraph.checkpoint.sqlite import SqliteSaver

    found, left = kept(db), mb * 1024 * 1024
    try:
        since = datetime.now(UTC) - timedelta(days=days)
    except OverflowError:
        raise InvalidCall(f"--days {days:g} is too large.", hint="") from None
    gone = []
    for chat in found:
        left -= chat.bytes
        if chat.used < since or left < 0:
            gone.append(chat)
    for chat in gone:
        SqliteSaver(db).delete_thread(chat.thread)
    return gone


def keep_newest(thread: str) -> None:
    """Delete all but the newest checkpoints of a conversation."""
    with _connected() as db:
        for table in ("checkpoints", "writes"):
            db.execute(
                f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id < (SELECT"  # noqa: S608
                " min(checkpoint_id) FROM (SELECT checkpoint_id FROM checkpoints WHERE"
                " thread_id = ? ORDER BY checkpoint_id DESC LIMIT ?))",
                (thread, thread, KEPT_CHECKPOINTS),
            )
        db.commit()


@contextmanager
def saver() -> Iterator[AsyncSqliteSaver]:
    """Where the moderator keeps its conversations; old ones are deleted first."""
    import aiosqlite
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async def opened() -> AsyncSqliteSaver:
        saver = AsyncSqliteSaver(await aiosqlite.connect(path()))
        await saver.setup()
        return saver

    with _connected() as db:
        _prune(db, KEPT_DAYS, KEPT_MB)
    with _errors():
        made = blocking.run(opened)
        try:
            yield made
        finally:
            blocking.run(made.conn.close)


@contextmanager
def _connected() -> Iterator[sqlite3.Connection]:
    """The file, made if it is not there; only its owner can read it."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    with _errors():
        path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path().touch(mode=0o600, exist_ok=True)
        db = sqlite3.connect(path())
        try:
            SqliteSaver(db).setup()
            yield db
        finally:
            db.close()


@contextmanager
def _errors() -> Iterator[None]:
    place = quoted(str(path()), 200)
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"The conversations cannot be kept in {place}: {error.strerror or error}.",
            hint="Set XDG_STATE_HOME to a folder that can be written.",
        ) from None
    except sqlite3.Error as error:
        raise ConfigurationError(
            f"The conversations in {place} cannot be read or written: {error}.",
            hint="Move the file away; the journal is another file and is not touched.",
        ) from None
