"""`chat`: the moderator in a terminal, kept on disk so that a pause outlives the process."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import platformdirs

from hms_active_rooms import blocking
from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.cli import exits, screen
from hms_active_rooms.cli.settings import Settings, person_here, room_policy
from hms_active_rooms.cli.transcript import Transcript
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite import SqliteSaver

_THREAD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
STRICT_VARIABLE: Final = "LANGGRAPH_STRICT_MSGPACK"


def chat(
    room: str,
    settings: Settings,
    *,
    model: str | None,
    thread: str | None,
    piped_answers: bool,
    as_json: bool,
) -> int:
    """Talk until the input ends; the exit code: 3 when an action still waits."""
    room_id = parse_room_id(room)
    if thread is not None and not _THREAD.fullmatch(thread):
        raise InvalidCall(
            f"{quoted(thread)} cannot be the name of a conversation.",
            hint="Up to 64 letters, digits, dots, dashes and underscores.",
        )
    environ = settings.environ()
    policy = room_policy(environ, room_id)
    # LangGraph reads this when it is imported; it then loads nothing but known types.
    os.environ[STRICT_VARIABLE] = "true"
    from hms_active_rooms.agent import build_moderator
    from hms_active_rooms.api.client import ActiveRoomsClient
    from hms_active_rooms.cli.conversation import Conversation
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

    name = thread or f"chat-{uuid4().hex[:12]}"
    person = person_here()
    toolkit = ActiveRoomsToolkit(
        ActiveRoomsClient.from_env(environ),
        policy,
        journal=environ.get("HMS_JOURNAL") or None,
        requester=f"chat:{person}",
    )
    resume = f"hms-active-rooms chat {room_id} --thread {name}"
    io = Transcript(
        as_json=as_json,
        piped_answers=piped_answers,
        pending_help="Still waiting. To decide on it, in a terminal: "
        f"hms-active-rooms approve {{action_id}}\nor go on with: {resume}",
    )
    try:
        with _saver() as saver:
            graph = build_moderator(model, toolkit, room_id=room_id, checkpointer=saver)
            talk = Conversation(
                graph, toolkit.gate, io, thread=name, approver=person, room_id=room_id
            )
            about = talk.room_of_thread()
            if about not in (None, room_id):
                raise InvalidCall(
                    f"The conversation {quoted(name)} is about room {quoted(about or '', 40)}.",
                    hint="Name that room, or start a new conversation.",
                )
            if as_json:
                io.emit({"type": "started", "thread": name, "room_id": room_id})
            elif about is None:
                screen.err(f"A new conversation. Ctrl-D ends it; to go on later: {resume}")
            else:
                screen.err(f"The conversation {name} goes on. Ctrl-D ends it.")
            talk.show_history()
            ended = talk.run()
    finally:
        blocking.run(toolkit.aclose)
    return exits.WAITING if ended == "waiting" else exits.DONE


@contextmanager
def _saver() -> Iterator[SqliteSaver]:
    """The checkpoints of all conversations, in a file only its owner can read."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    folder = platformdirs.user_state_path("hms-active-rooms")
    path = folder / "chat.sqlite"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600, exist_ok=True)
        connection = sqlite3.connect(path, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            f"The conversations cannot be kept in {quoted(str(path), 200)}: "
            f"{getattr(error, 'strerror', None) or error}.",
            hint="Set XDG_STATE_HOME to a folder that can be written.",
        ) from None
    try:
        saver = SqliteSaver(connection)
        saver.setup()
        yield saver
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(
            f"The conversations in {quoted(str(path), 200)} cannot be read or written: {error}.",
            hint="Move the file away; the journal is another file and is not touched.",
        ) from None
    finally:
        connection.close()
