"""`send`, `remove`, `end`, `approve` and `reject`: what changes a room, and a person's yes or no.

Without a terminal nothing is asked and nothing is sent: the action is recorded and waits
for `approve`. No option skips the question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from hms_active_rooms import blocking
from hms_active_rooms.api.ids import parse_peer_ref
from hms_active_rooms.cli import exits, screen
from hms_active_rooms.cli.settings import (
    ActionId,
    JournalUrl,
    Json,
    Reason,
    Room,
    Settings,
    existing,
    open_gate,
    open_journal,
    person_here,
    refuse_empty,
)
from hms_active_rooms.errors import ConfigurationError, InvalidCall, PeerNotFound
from hms_active_rooms.untrusted import lookalikes, quoted, short_ids

if TYPE_CHECKING:
    from hms_active_rooms.api.models import Peer
    from hms_active_rooms.gate.gate import Gate
    from hms_active_rooms.gate.journal.records import Action

_SHOWN = 10
"""Of the peers whose name somebody may have meant."""


def send(
    room: Room,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="The text to send.")],
    to: Annotated[
        str | None, typer.Option(metavar="PEER", help="One peer: its id, or its name.")
    ] = None,
    role: Annotated[str | None, typer.Option(help="Everyone with this role.")] = None,
    type: Annotated[
        str, typer.Option(help="Message type; clients show chat in their chat panel.")
    ] = "chat",
    *,
    settings: Settings,
) -> int:
    """Send a message: to everyone, or to a peer or a role. Asks first."""
    if to is not None and role is not None:
        raise InvalidCall("Give --to or --role, not both.", hint="")
    given = {"message": message, "--role": role, "--type": type}
    return _change("hms-send-message", room, to, given, settings)


def remove(
    room: Room,
    peer: Annotated[str | None, typer.Argument(metavar="PEER", help="Its id, or its name.")] = None,
    role: Annotated[str | None, typer.Option(help="Everyone with this role now.")] = None,
    reason: Reason = None,
    *,
    settings: Settings,
) -> int:
    """Remove a peer, or everyone with a role. Asks first. They can join again."""
    if (peer is None) == (role is None):
        raise InvalidCall(
            "Say whom to remove: after ROOM give either a peer or --role, not both.", hint=""
        )
    given = {"--role": role, "--reason": reason}
    return _change("hms-remove-peers", room, peer, given, settings)


def end(
    room: Room,
    reason: Reason = None,
    lock: Annotated[
        bool, typer.Option("--lock", help="Also disable the room: nobody can join.")
    ] = False,
    *,
    settings: Settings,
) -> int:
    """End the running session for everyone. Asks first."""
    given = {"--reason": reason, "--lock": lock}
    return _change("hms-end-active-room", room, None, given, settings)


def _change(
    tool: str,
    room: str,
    peer: str | None,
    given: Mapping[str, str | bool | None],
    settings: Settings,
) -> int:
    from hms_active_rooms.cli.person import somebody_here
    from hms_active_rooms.gate.actions import parse_call
    from hms_active_rooms.gate.journal.records import Origin

    refuse_empty(given)
    words = {name.lstrip("-"): value for name, value in given.items()}
    found = None if peer is None else peer_ref(peer)
    if peer is not None and found is None:
        with open_gate(settings, room, only_reads=True) as gate:
            found = peer_ref(peer, blocking.run(gate.peers(room)))
    words |= {"room_id": room, "peer_id": found}
    call = parse_call(tool, {name: value for name, value in words.items() if value is not None})
    with open_gate(settings, room) as gate:
        # One conversation for each person: a question says what the same command did before.
        who = f"cli:{person_here()}"
        action = blocking.run(gate.propose(call, Origin(who, str(uuid4()), "1", who)))
        if action.state != "proposed" or somebody_here():
            return _ask_here(gate, action, settings)
    return _report(action, settings)


def peer_ref(wanted: str, peers: Sequence[Peer] | None = None) -> str | None:
    """The short or full id in `wanted`, or the id of the one of the peers with that name, whose case
    does not matter; None when it is no id and there are no `peers`. Pure.

    A name counts only when it is the one name that looks like it: strangers choose names, and
    taking the name of somebody else is the oldest trick in a room.

    Raises:
        PeerNotFound: nobody has that name, or one like it, or one that it is a part of.
        InvalidCall: several peers have it, or only such ones; all are named.
    """
    from hms_active_rooms.gate.actions.impact import person_of

    wanted = wanted.strip()  # it was copied, or typed
    try:
        return parse_peer_ref(wanted)
    except InvalidCall:
        if peers is None:
            return None
    if not wanted:
        raise InvalidCall("The peer is empty.", hint="Give a peer id or a name.")
    same = [p for p in peers if p.name.casefold() == wanted.casefold()]
    alike = set(lookalikes(wanted, [p.name for p in peers]))
    fit = [*same, *(p for p in peers if p.name in alike and p not in same)]
    if len(fit) == 1 and same:
        return fit[0].id
    name = quoted(wanted)
    if len(fit) > 1:
        head = f"{len(fit)} peers have the name {name} or one that looks like it:"
    elif fit:
        head = f"Nobody has exactly the name {name}; this one looks like it:"
    else:
        fit = [p for p in peers if wanted.casefold() in p.name.casefold()]
        head = f"Nobody has exactly the name {name}; it is part of these:"
    if not fit:
        raise PeerNotFound(
            f"Nobody in the room has the name {name}.",
            hint="List them with: hms-active-rooms peers ROOM",
        )
    shorts = short_ids([p.id for p in peers])
    rows = [f"  {person_of(p, shorts[p.id]).line()}" for p in fit[:_SHOWN]]
    more = [f"  ... and {len(fit) - _SHOWN} more"] if len(fit) > _SHOWN else []
    raise InvalidCall("\n".join([head, *rows, *more]), hint="Give the id of the one you mean.")


def approve(action: ActionId, settings: Settings) -> int:
    """Decide on an action that waits; a yes runs it. Needs a person at a terminal."""
    from hms_active_rooms.cli.person import somebody_here
    from hms_active_rooms.gate.journal.records import FINAL
    from hms_active_rooms.gate.wording import already

    if not somebody_here():
        raise ConfigurationError(
            "Approving needs a person at a terminal; nothing was decided.",
            hint="Run this command in a terminal, without pipes."
            " To say no from anywhere: hms-active-rooms reject ACTION",
        )
    with open_journal(settings) as book:
        row = existing(book, action)
    if row.state in FINAL:
        if words := already(row):
            screen.err(words)
        return _report(row, settings)
    with open_gate(settings, row.room_id) as gate:
        notices = [f"Asked by {quoted(row.requester)} at {screen.at(row.created_at)}."]
        if row.state == "approved":
            notices.append(f"Approved already by {quoted(row.decided_by)}, and not sent yet.")
        return _ask_here(gate, row, settings, notices)


def reject(
    action: ActionId,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; whoever asked is told.")] = "",
    json: Json = False,
    journal: JournalUrl = None,
) -> int:
    """Say no to an action that waits. Works without a terminal."""
    from hms_active_rooms.gate.approval import Reject, record_decision
    from hms_active_rooms.gate.policy import Policy
    from hms_active_rooms.gate.view import view
    from hms_active_rooms.gate.wording import already, outcome

    with open_journal(Settings(journal=journal)) as book:
        wanted, no = existing(book, action).id, Reject(reason)
        # A no reads no room and sends nothing, so the journal alone is enough.
        with book.write() as tx:
            decided = record_decision(
                tx, wanted, no, by=person_here(), way="terminal", policy=Policy()
            )
    row = decided.action
    if json:
        screen.document(view(row).model_dump(mode="json"))
    elif decided.counted:
        screen.out(f"Rejected: nothing was sent and nothing will be (action {row.id}).")
    else:
        screen.err(" ".join(filter(None, ("Too late to reject.", already(row), outcome(row)))))
    if row.state in ("rejected", "expired"):
        return exits.DONE
    return exits.UNKNOWN if row.state in ("sent", "unknown") else exits.FAILED


def _ask_here(gate: Gate, action: Action, settings: Settings, notices: Sequence[str] = ()) -> int:
    from hms_active_rooms.cli.person import Interrupted, Terminal, finish, still_open

    desk = Terminal(settings)
    for text in notices:
        desk.notice(text)
    try:
        action = finish(gate, action, desk)
    except Interrupted as stopped:
        if left := still_open(stopped.action, settings):
            desk.notice(left)
            return exits.INTERRUPTED
        action = stopped.action
    return _report(action, settings)


def _report(action: Action, settings: Settings) -> int:
    """How an action ended, or what it waits for, told and as the exit code."""
    from hms_active_rooms.cli.person import next_step
    from hms_active_rooms.gate.view import view
    from hms_active_rooms.gate.wording import outcome

    code = exits.of_state(action.state)
    if settings.json:
        screen.document(view(action).model_dump(mode="json"))
        return code
    say = screen.out if code == exits.DONE else screen.err
    say(outcome(action))
    if action.state == "proposed":
        # On standard output alone, so that a script can take it.
        screen.out(action.id)
    if then := next_step(action, settings):
        screen.err(then)
    return code
