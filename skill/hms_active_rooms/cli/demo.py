"""`demo`: the same conversation in a simulated room of this process; nothing leaves the machine."""

from __future__ import annotations

import os

from hms_active_rooms import blocking
from hms_active_rooms.cli import exits, screen
from hms_active_rooms.cli.chat import STRICT_VARIABLE
from hms_active_rooms.cli.settings import person_here
from hms_active_rooms.cli.simulator import simulator_errors, simulator_extra
from hms_active_rooms.cli.transcript import Transcript

_INTRO = (
    "This room is simulated; nothing you do here reaches anybody.",
    'Try: "who is here", "kick Spam Bot", "help". Ctrl-D ends it.',
)


def demo(scene: str, *, model: str | None, as_json: bool) -> int:
    """Talk about a simulated room until the input ends; the exit code.

    Its room is not real, so approvals may come from a pipe.
    """
    with simulator_extra():
        from hms_active_rooms.sim.server import running_sim
    os.environ[STRICT_VARIABLE] = "true"
    from langgraph.checkpoint.memory import InMemorySaver

    from hms_active_rooms.agent import build_moderator
    from hms_active_rooms.api.auth import SignedTokens
    from hms_active_rooms.api.client import ActiveRoomsClient
    from hms_active_rooms.cli.conversation import Conversation
    from hms_active_rooms.gate.policy import Policy
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

    io = Transcript(as_json=as_json, piped_answers=True, pending_help="")
    person = person_here()
    with simulator_errors(), running_sim(scene) as sim:
        toolkit = ActiveRoomsToolkit(
            ActiveRoomsClient(SignedTokens(sim.access_key, sim.secret), base_url=sim.base_url),
            Policy.build(rooms=(sim.room_id,)),
            journal=":memory:",
            requester=f"demo:{person}",
        )
        try:
            graph = build_moderator(
                model, toolkit, room_id=sim.room_id, checkpointer=InMemorySaver()
            )
            talk = Conversation(
                graph, toolkit.gate, io, thread="demo", approver=person, room_id=sim.room_id
            )
            if as_json:
                io.emit({"type": "started", "thread": "demo", "room_id": sim.room_id})
            else:
                for line in _INTRO:
                    screen.out(line)
            talk.run()
        finally:
            blocking.run(toolkit.aclose)
    return exits.DONE
