"""The commands `chat` and `demo` (the moderator in a terminal) and `chats` (saved conversations).

`chat` keeps LangGraph's newest checkpoints of each conversation in `chat.sqlite`, in the user's state
directory, and deletes old conversations. `demo` writes no file.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple
from uuid import UUID, uuid4

from typer import Context, Option

from hms_active_rooms import blocking
from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.cli import options, screen
from hms_active_rooms.cli.main import DONE, WAITING, exit_code
from hms_active_rooms.cli.screen import at
from hms_active_rooms.cli.serving import simulator_errors
from hms_active_rooms.cli.settings import Settings, journal_of, person_here, room_policy
from hms_active_rooms.environment import state_folder
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.untrusted import quoted, shortened

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

_THREAD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OFFLINE: Final = "No language model is in this demo: plain sentences become commands."
_INTRO: Final = (
    "This room is simulated; nothing you do here reaches anybody.",
    'Try: "who is here", "kick Spam Bot", "help". Ctrl-D ends it.',
)

KEPT_DAYS: Final = 90
KEPT_MB: Final = 200


class Chat(NamedTuple):
    """A saved conversation: its name (`thread`), its room, when it was last used, and its size."""

    thread: str  # its name
    room_id: str
    used: datetime  # when it was last used
    bytes: int


def chat(
    settings: Settings,
    room: options.Room,
    model: options.Model = None,
    thread: Annotated[
        str | None, Option(metavar="NAME", help="Name of the conversation to begin or continue.")
    ] = None,
    approve_from_stdin: Annotated[
        bool,
        Option(
            "--approve-from-stdin",
            help="Accept approvals from a pipe. Whoever writes to it approves.",
        ),
    ] = False,
) -> int:
    """Talk to the moderator about a room. It asks before a change, unless the policy says otherwise."""
    room_id = parse_room_id(room)
    if thread is not None and not _THREAD.fullmatch(thread):
        raise InvalidCall(
            f"--thread {quoted(thread)} is not a valid name.",
            hint="Use up to 64 letters, digits, dots, dashes and underscores.",
        )
    environ = settings.environ()
    allowed = room_policy(environ, room_id)
    os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"  # checkpoints load known types only
    from hms_active_rooms.api.client import ActiveRoomsClient
    from hms_active_rooms.cli.conversation import Conversation, Transcript
    from hms_active_rooms.cli.person import Interrupted
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

    name = thread or f"chat-{uuid4().hex[:12]}"
    client = ActiveRoomsClient.from_env(environ)
    journal, who = journal_of(settings), f"chat:{person_here()}"
    toolkit = ActiveRoomsToolkit(client, allowed, journal=journal, requester=who)
    also = ("--model", model) if model else ()
    resume = settings.command("chat", room_id, "--thread", name, *also)
    io = Transcript(settings, piped_answers=approve_from_stdin, go_on=resume)
    with _saver(name) as saver, ExitStack() as stack:
        stack.callback(blocking.run, toolkit.aclose)
        talk = Conversation(toolkit, io, model, saver, thread=name, room_id=room_id)
        about = (talk.state().metadata or {}).get("room_id")
        if about not in (None, room_id):
            raise InvalidCall(
                f"The conversation {quoted(name)} is about room {quoted(str(about), 40)}.",
                hint="Name that room, or start a new conversation.",
            )
        if not settings.json:
            begun = f"A new conversation. Ctrl-D ends it; to go on later: {resume}"
            screen.err(
                begun if about is None else f"The conversation {name} goes on. Ctrl-D ends it."
            )
        try:
            return WAITING if talk.run(new=thread is None) else DONE
        except Interrupted as stopped:
            return exit_code(stopped.action)


def demo(
    scene: options.Scene = "classroom", model: options.Model = None, json: options.Json = False
) -> None:
    """Talk to the moderator in a simulated room. Needs no account, key or model."""
    os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"  # checkpoints load known types only
    with simulator_errors():
        from langgraph.checkpoint.memory import InMemorySaver

        from hms_active_rooms.api.auth import SignedTokens
        from hms_active_rooms.api.client import ActiveRoomsClient
        from hms_active_rooms.api.transport import to_app
        from hms_active_rooms.cli.conversation import Conversation, Transcript
        from hms_active_rooms.gate.policy import Policy
        from hms_active_rooms.sim.server import in_process
        from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

        # The room is not real, so approvals may come from a pipe.
        settings = Settings(json=json, journal=":memory:")
        io, sim = Transcript(settings, piped_answers=True, go_on=""), in_process(scene)
        auth = SignedTokens(sim.access_key, sim.secret)
        toolkit = ActiveRoomsToolkit(
            ActiveRoomsClient(auth, base_url=sim.base_url, transport=to_app(sim.app)),
            Policy.from_env(os.environ, rooms=(sim.room_id,)),
            journal=":memory:",
            requester=f"demo:{person_here()}",
        )
        with ExitStack() as stack:
            stack.callback(blocking.run, toolkit.aclose)
            saver = InMemorySaver()
            talk = Conversation(toolkit, io, model, saver, thread="demo", room_id=sim.room_id)
            if not json:
                no_model = [_OFFLINE] if model in (None, "commands") else []
                screen.out("\n".join([*no_model, *_INTRO]))
            talk.run(new=True)


# --- the conversations on disk --------------------------------------------------------------


def chats(ctx: Context, json: options.Json = False) -> None:
    """List the saved conversations of `chat`, newest first."""
    if ctx.invoked_subcommand is not None:
        options.refuse_idle(ctx, ctx.invoked_subcommand)
        return
    with _connected(only_look=True) as db:
        found = _chats(db)
    if json:
        rows = [{**chat._asdict(), "used": chat.used.isoformat()} for chat in found]
        screen.document({"file": str(path()), "chats": rows})
        return
    cells = [
        (shortened(c.thread, 64), shortened(c.room_id, 40), at(c.used), f"{c.bytes / 1024:,.0f}")
        for c in found
    ]
    nothing = f"There are no conversations in {_place()}."
    screen.table(("THREAD", "ROOM", "LAST USED", "KB"), cells, nothing)


def prune(
    days: Annotated[
        float, Option(min=0, max=100_000, help="Delete conversations not used for this many days.")
    ] = KEPT_DAYS,
    mb: Annotated[
        float,
        Option(
            min=0,
            max=1_000_000,
            help="Also delete the oldest, until the rest takes at most this many MB.",
        ),
    ] = KEPT_MB,
    json: options.Json = False,
) -> None:
    """Delete old conversations. Their actions stay in the journal."""
    with _connected() as db:
        gone = _prune(db, days, mb)
        db.execute("VACUUM")
    told = {"file": str(path()), "deleted": gone}
    text = f"Deleted {screen.counted(len(gone), 'conversation')} from {_place()}."
    screen.result(told, text, as_json=json)


def path() -> Path:
    """The file of the saved conversations."""
    return state_folder() / "chat.sqlite"


def _place() -> str:
    return quoted(str(path()), 200)


def _chats(db: sqlite3.Connection) -> list[Chat]:
    rows = db.execute(
        "SELECT c.thread_id, max(c.checkpoint_id), max(json_extract(c.metadata, '$.room_id')),"
        " sum(length(c.checkpoint) + length(c.metadata)) + coalesce((SELECT sum(length(w.value))"
        " FROM writes w WHERE w.thread_id = c.thread_id), 0)"
        " FROM checkpoints c GROUP BY 1 ORDER BY 2 DESC"  # the ids sort by their time
    )
    return [Chat(thread, room or "", _made(newest), size) for thread, newest, room, size in rows]


def _made(checkpoint_id: str) -> datetime:
    """When a checkpoint was made. Its id is a version 6 UUID, which contains the time."""
    try:
        bits = UUID(checkpoint_id).int
    except ValueError:
        raise sqlite3.DataError("it holds checkpoints of another program") from None
    ticks = (bits >> 80) << 12 | (bits >> 64) & 0xFFF
    return datetime(1582, 10, 15, tzinfo=UTC) + timedelta(microseconds=ticks // 10)


def _prune(db: sqlite3.Connection, days: float, mb: float) -> list[str]:
    from langgraph.checkpoint.sqlite import SqliteSaver

    gone, left, since = [], mb * 1024 * 1024, datetime.now(UTC) - timedelta(days=days)
    for chat in _chats(db):
        left -= chat.bytes
        if chat.used < since or left < 0:
            SqliteSaver(db).delete_thread(chat.thread)
            gone.append(chat.thread)
    return gone


@contextmanager
def _saver(thread: str) -> Iterator[AsyncSqliteSaver]:
    """The moderator's checkpointer. First deletes old conversations. At the end it deletes all but
    the newest checkpoints of `thread`."""
    import aiosqlite
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async def opened() -> AsyncSqliteSaver:
        return AsyncSqliteSaver(await aiosqlite.connect(path()))

    with _connected() as db:
        _prune(db, KEPT_DAYS, KEPT_MB)
        made = blocking.run(opened)
        try:
            yield made
        finally:
            blocking.run(made.conn.close)
        for table in ("checkpoints", "writes"):
            db.execute(
                f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id < (SELECT"  # noqa: S608
                " min(checkpoint_id) FROM (SELECT checkpoint_id FROM checkpoints WHERE"
                " thread_id = ? ORDER BY checkpoint_id DESC LIMIT ?))",
                (thread, thread, 50),
            )
        db.commit()


@contextmanager
def _connected(*, only_look: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection to the conversations. `only_look`: their file may be missing or read-only."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    where = path().as_uri()
    try:
        try:
            path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path().touch(mode=0o600, exist_ok=True)
        except OSError:
            if not only_look:
                raise
            where = f"{where}?immutable=1" if path().exists() else "file::memory:"
        with closing(sqlite3.connect(where, uri=True)) as db:
            SqliteSaver(db).setup()
            yield db
    except screen.OutputLost:
        raise
    except OSError as error:
        raise ConfigurationError(
            f"The conversations cannot be saved in {_place()}: {error.strerror or error}.",
            hint="Set XDG_STATE_HOME to a folder that can be written.",
        ) from None
    except sqlite3.Error as error:
        raise ConfigurationError(
            f"The conversations in {_place()} cannot be read or written: {error}.",
            hint="If the file is locked or the disk is full, try again later. If the file is damaged,"
            " move it away; the journal is another file.",
        ) from None
