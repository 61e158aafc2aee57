"""`send`, `remove` and `end`: propose, ask the person at the terminal, run.

Without a terminal nothing is asked and nothing is sent: the action is recorded and waits
for `approve`. No option skips the question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from hms_active_rooms import blocking
from hms_active_rooms.cli import exits, screen
from hms_active_rooms.cli.deciding import finish, how_to_approve
from hms_active_rooms.cli.desk import TerminalDesk, somebody_here
from hms_active_rooms.cli.documents import action_document
from hms_active_rooms.cli.settings import Settings, open_gate, person_here
from hms_active_rooms.cli.target import peer_ref
from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.calls import parse_call
from hms_active_rooms.gate.drafts import Origin
from hms_active_rooms.gate.wording import outcome

if TYPE_CHECKING:
    from hms_active_rooms.gate.gate import Gate
    from hms_active_rooms.gate.records import Action

_SEND: Final = "hms-send-message"
_REMOVE: Final = "hms-remove-peers"
_END: Final = "hms-end-active-room"


def send(
    room: str,
    message: str,
    settings: Settings,
    *,
    to: str | None,
    role: str | None,
    type: str,
    as_json: bool,
) -> int:
    """Send a message; the exit code."""
    if to is not None and role is not None:
        raise InvalidCall("Give --to or --role, not both.", hint="")
    arguments: dict[str, object] = {"message": message, "role": role, "type": type}
    return _change(_SEND, room, to, arguments, settings, as_json=as_json)


def remove(
    room: str,
    settings: Settings,
    *,
    peer: str | None,
    role: str | None,
    reason: str | None,
    as_json: bool,
) -> int:
    """Remove one peer, or everyone with a role; the exit code."""
    if (peer is None) == (role is None):
        raise InvalidCall("Give a peer or --role, and not both.", hint="")
    return _change(_REMOVE, room, peer, {"role": role, "reason": reason}, settings, as_json=as_json)


def end(room: str, settings: Settings, *, reason: str | None, lock: bool, as_json: bool) -> int:
    """End the session, and lock the room if told so; the exit code."""
    return _change(_END, room, None, {"reason": reason, "lock": lock}, settings, as_json=as_json)


def _change(
    tool: str,
    room: str,
    peer: str | None,
    arguments: dict[str, object],
    settings: Settings,
    *,
    as_json: bool,
) -> int:
    with open_gate(settings, room) as gate:
        given = {"room_id": room, **arguments, "peer_id": _peer_id(gate, room, peer)}
        call = parse_call(tool, {name: value for name, value in given.items() if value is not None})
        origin = Origin(f"cli-{uuid4()}", "", "1", f"cli:{person_here()}")
        action = blocking.run(gate.propose(call, origin))
        if action.state != "proposed" or somebody_here():
            action = finish(gate, action, TerminalDesk())
    return report(action, as_json=as_json)


def _peer_id(gate: Gate, room: str, wanted: str | None) -> str | None:
    if wanted is None:
        return None
    return peer_ref(wanted) or peer_ref(wanted, blocking.run(gate.peers(room)))


def report(action: Action, *, as_json: bool) -> int:
    """Say how an action ended, or what it waits for; the exit code."""
    code = exits.of_state(action.state)
    if as_json:
        screen.document(action_document(action))
        return code
    if code == exits.DONE:
        screen.out(outcome(action))
    else:
        screen.err(outcome(action))
    if action.state == "proposed":
        # On standard output alone, so that a script can take it.
        screen.out(action.id)
        screen.err(how_to_approve(action))
    return code
