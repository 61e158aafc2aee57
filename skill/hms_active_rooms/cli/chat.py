"""`chat` and `demo`: the moderator in a terminal, in a live room or in a simulated one.

A chat is kept on disk, so that a pause outlives the process; nothing of a demo leaves it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final
from uuid import uuid4

import typer

from hms_active_rooms import blocking
from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.cli import chats, exits, screen
from hms_active_rooms.cli.settings import (
    JsonLines,
    Model,
    Room,
    Scene,
    Settings,
    journal_of,
    person_here,
    room_policy,
)
from hms_active_rooms.cli.simulator import simulator_errors
from hms_active_rooms.environment import refuse_unknown
from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from hms_active_rooms.cli.conversation import Conversation, Transcript
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

_THREAD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OFFLINE: Final = "No language model is in this demo: plain sentences become commands."
_INTRO: Final = (
    "This room is simulated; nothing you do here reaches anybody.",
    'Try: "who is here", "kick Spam Bot", "help". Ctrl-D ends it.',
)


def chat(
    room: Room,
    model: Model = None,
    thread: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Go on with this conversation, or begin one by this name; `chats` lists them.",
        ),
    ] = None,
    approve_from_stdin: Annotated[
        bool,
        typer.Option(
            "--approve-from-stdin",
            help="Take yes and no from piped input too. Whatever writes to the pipe approves for you.",
        ),
    ] = False,
    *,
    settings: Settings,
) -> int:
    """Talk to the moderator about a room. It asks before it changes anything."""
    room_id = parse_room_id(room)
    if thread is not None and not _THREAD.fullmatch(thread):
        raise InvalidCall(
            f"--thread {quoted(thread)} cannot be the name of a conversation.",
            hint="Up to 64 letters, digits, dots, dashes and underscores.",
        )
    environ = settings.environ()
    allowed = room_policy(environ, room_id)
    _load_only_known_types()
    from hms_active_rooms.api.client import ActiveRoomsClient
    from hms_active_rooms.cli.conversation import Transcript
    from hms_active_rooms.cli.person import Interrupted
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

    name = thread or f"chat-{uuid4().hex[:12]}"
    toolkit = ActiveRoomsToolkit(
        ActiveRoomsClient.from_env(environ),
        allowed,
        journal=journal_of(settings),
        requester=f"chat:{person_here()}",
    )
    also = ("--model", model) if model else ()
    resume = settings.command("chat", room_id, "--thread", name, *also)
    io = Transcript(settings, piped_answers=approve_from_stdin, go_on=resume)
    with chats.saver() as saver, _talking(toolkit, io, model, saver, name, room_id) as talk:
        about = talk.room_of_thread()
        if about not in (None, room_id):
            raise InvalidCall(
                f"The conversation {quoted(name)} is about room {quoted(about or '', 40)}.",
                hint="Name that room, or start a new conversation.",
            )
        if settings.json:
            io.emit({"type": "started", "thread": name, "room_id": room_id})
        elif about is None:
            screen.err(f"A new conversation. Ctrl-D ends it; to go on later: {resume}")
        else:
            screen.err(f"The conversation {name} goes on. Ctrl-D ends it.")
        talk.show_history()
        try:
            ended = talk.run(new=thread is None)
        except Interrupted as stopped:
            return exits.of_state(stopped.action.state)
    chats.keep_newest(name)
    return exits.WAITING if ended == "waiting" else exits.DONE


def demo(scene: Scene = "classroom", model: Model = None, json: JsonLines = False) -> int:
    """Talk to the moderator in a simulated room. Needs no account, key or language model."""
    _load_only_known_types()
    with simulator_errors():
        from langgraph.checkpoint.memory import InMemorySaver

        from hms_active_rooms.api.auth import SignedTokens
        from hms_active_rooms.api.client import ActiveRoomsClient
        from hms_active_rooms.api.transport import to_app
        from hms_active_rooms.cli.conversation import Transcript
        from hms_active_rooms.gate.policy import Policy
        from hms_active_rooms.sim.server import in_process
        from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

        # The room is not real, so approvals may come from a pipe.
        settings = Settings(json=json, journal=":memory:")
        refuse_unknown(os.environ)
        io, sim = Transcript(settings, piped_answers=True, go_on=""), in_process(scene)
        toolkit = ActiveRoomsToolkit(
            ActiveRoomsClient(
                SignedTokens(sim.access_key, sim.secret),
                base_url=sim.base_url,
                transport=to_app(sim.app),
            ),
            Policy.build(rooms=(sim.room_id,)),
            journal=":memory:",
            requester=f"demo:{person_here()}",
        )
        with _talking(toolkit, io, model, InMemorySaver(), "demo", sim.room_id) as talk:
            if json:
                io.emit({"type": "started", "thread": "demo", "room_id": sim.room_id})
            else:
                screen.out(
                    "\n".join(_INTRO if model not in (None, "commands") else (_OFFLINE, *_INTRO))
                )
            talk.run(new=True)
    return exits.DONE


def _load_only_known_types() -> None:
    """LangGraph reads this when it is imported; from a checkpoint it then loads known types only."""
    os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"


@contextmanager
def _talking(
    toolkit: ActiveRoomsToolkit,
    io: Transcript,
    model: str | None,
    saver: BaseCheckpointSaver[str],
    thread: str,
    room_id: str,
) -> Iterator[Conversation]:
    """A conversation with the person here; the toolkit is closed afterwards."""
    from hms_active_rooms.cli.conversation import Conversation
    from hms_active_rooms.moderator import build_moderator

    try:
        graph = build_moderator(model, toolkit, room_id=room_id, checkpointer=saver)
        yield Conversation(
            graph, toolkit.gate, io, thread=thread, approver=person_here(), room_id=room_id
        )
    finally:
        blocking.run(toolkit.aclose)
