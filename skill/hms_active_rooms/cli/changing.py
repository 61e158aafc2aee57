"""`send`, `remove` and `end`: propose, ask the person at the terminal, run.

Without a terminal nothing is asked and nothing is sent: the action is recorded and waits
for `approve`. No option skips the question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from hms_active_rooms import blocking
from hms_active_rooms.cli import exits, screen
from hms_active_rooms.cli.options import Journal, Json, PolicyFile, Reason, Room
from hms_active_rooms.cli.settings import Settings, open_gate, person_here
from hms_active_rooms.errors import InvalidCall

if TYPE_CHECKING:
    from hms_active_rooms.gate.gate import Gate
    from hms_active_rooms.gate.journal.records import Action


def send(
    room: Room,
    message: Annotated[str, typer.Argument(metavar="MESSAGE")],
    to: Annotated[
        str | None, typer.Option(metavar="PEER", help="One peer: its id, or its name.")
    ] = None,
    role: Annotated[str | None, typer.Option(help="Everyone with this role.")] = None,
    type: Annotated[str, typer.Option(help="Message type.")] = "chat",
    json: Json = False,
    journal: Journal = None,
    policy: PolicyFile = None,
) -> int:
    """Send a message: to everyone, or to a peer or a role. Asks first."""
    if to is not None and role is not None:
        raise InvalidCall("Give --to or --role, not both.", hint="")
    given = {"message": message, "role": role, "type": type}
    return _change("hms-send-message", room, to, given, Settings(journal, policy), json)


def remove(
    room: Room,
    peer: Annotated[str | None, typer.Argument(metavar="PEER", help="Its id, or its name.")] = None,
    role: Annotated[str | None, typer.Option(help="Everyone with this role now.")] = None,
    reason: Reason = None,
    json: Json = False,
    journal: Journal = None,
    policy: PolicyFile = None,
) -> int:
    """Remove a peer, or everyone with a role. Asks first. They can join again."""
    if (peer is None) == (role is None):
        raise InvalidCall("Give a peer or --role, and not both.", hint="")
    given = {"role": role, "reason": reason}
    return _change("hms-remove-peers", room, peer, given, Settings(journal, policy), json)


def end(
    room: Room,
    reason: Reason = None,
    lock: Annotated[
        bool, typer.Option("--lock", help="Also disable the room: nobody can join.")
    ] = False,
    json: Json = False,
    journal: Journal = None,
    policy: PolicyFile = None,
) -> int:
    """End the running session for everyone. Asks first."""
    given = {"reason": reason, "lock": lock}
    return _change("hms-end-active-room", room, None, given, Settings(journal, policy), json)


def _change(
    tool: str,
    room: str,
    peer: str | None,
    arguments: Mapping[str, object],
    settings: Settings,
    as_json: bool,
) -> int:
    from hms_active_rooms.cli.person import somebody_here
    from hms_active_rooms.gate.actions import parse_call
    from hms_active_rooms.gate.journal.records import Origin

    if empty := [name for name, value in arguments.items() if value == ""]:
        # In a tool call "" is absent; here it is a script's variable that holds nothing.
        raise InvalidCall(f"The {empty[0]} is empty.", hint="Give one, or leave the option out.")
    with open_gate(settings, room) as gate:
        given = {"room_id": room, **arguments, "peer_id": _peer_id(gate, room, peer)}
        call = parse_call(tool, {name: value for name, value in given.items() if value is not None})
        # One conversation for each person: a question says what the same command did before.
        who = f"cli:{person_here()}"
        origin = Origin(who, str(uuid4()), "1", who)
        action = blocking.run(gate.propose(call, origin))
        if action.state != "proposed" or somebody_here():
            return ask_here(gate, action, as_json=as_json)
    return report(action, as_json=as_json)


def ask_here(gate: Gate, action: Action, *, as_json: bool, notices: Sequence[str] = ()) -> int:
    """Ask the person at this terminal, run it, and say how it ended; the exit code."""
    from hms_active_rooms.cli.person import Interrupted, Terminal, finish, still_open

    desk = Terminal()
    for text in notices:
        desk.notice(text)
    try:
        action = finish(gate, action, desk)
    except Interrupted as stopped:
        if left := still_open(stopped.action):
            desk.notice(left)
            return exits.INTERRUPTED
        action = stopped.action
    return report(action, as_json=as_json)


def _peer_id(gate: Gate, room: str, wanted: str | None) -> str | None:
    from hms_active_rooms.cli.target import peer_ref

    if wanted is None:
        return None
    return peer_ref(wanted) or peer_ref(wanted, blocking.run(gate.peers(room)))


def report(action: Action, *, as_json: bool) -> int:
    """Say how an action ended, or what it waits for; the exit code."""
    from hms_active_rooms.cli.person import how_to_approve
    from hms_active_rooms.gate.view import view
    from hms_active_rooms.gate.wording import outcome

    code = exits.of_state(action.state)
    if as_json:
        screen.document(view(action).model_dump(mode="json"))
        return code
    say = screen.out if code == exits.DONE else screen.err
    say(outcome(action))
    if action.state == "proposed":
        # On standard output alone, so that a script can take it.
        screen.out(action.id)
        screen.err(how_to_approve(action.id))
    return code
