"""The commands that read a room (`room`, `peers`) or change one (`send`, `remove`, `end`).

A model may read the output of `--json`, so it is as short as the tools' answers. A change asks on
the terminal. Without a terminal the action is recorded, and waits for `approve`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated
from unicodedata import normalize
from uuid import uuid4

from typer import Argument, Option

from hms_active_rooms import blocking
from hms_active_rooms.api.ids import parse_peer_ref, parse_room_id
from hms_active_rooms.cli import options, screen
from hms_active_rooms.cli.settings import Settings, open_gate, person_here, read_room
from hms_active_rooms.errors import InvalidCall, PeerNotFound
from hms_active_rooms.untrusted import lookalikes, quoted, short_ids, shortened

if TYPE_CHECKING:
    from hms_active_rooms.api.models import Peer


def room(
    room: options.Room,
    all: options.All = False,
    json: options.Json = False,
    policy: options.PolicyFile = None,
) -> None:
    """Show the running session of a room."""
    from hms_active_rooms.tools.roster import room_data

    live = read_room(Settings(policy=policy), room, lambda gate: gate.active_room(room))
    if all or json:
        screen.document(live.model_dump(mode="json") if all else room_data(live))
        return
    session = live.session
    values = {
        "Room": f"{quoted(live.name)} (id {shortened(live.id, 40)})",
        "Session": shortened(session.id, 40),
        "Started": shortened(session.created_at, 40),
        "People": f"{len(session.peers):,}",
    }
    screen.fields(values)


def peers(
    room: options.Room,
    role: Annotated[str | None, Option(help="Only this role.")] = None,
    user_id: Annotated[str | None, Option(help="Only this user id.")] = None,
    name: Annotated[str | None, Option(help="Only names that contain this text.")] = None,
    limit: Annotated[
        int | None,
        Option(
            min=1,
            help="The most rows to show. Default: 100 (50 with --json). --json may show fewer, because its size is bounded; `left_out` counts the rows not shown. Not with --all.",
        ),
    ] = None,
    offset: Annotated[int, Option(min=0, help="Rows to skip. Not with --all.")] = 0,
    all: options.All = False,
    json: options.Json = False,
    policy: options.PolicyFile = None,
) -> None:
    """List who is in a room."""
    from hms_active_rooms.tools import roster
    from hms_active_rooms.tools.arguments import DEFAULT_ROWS, MAX_ROWS

    options.refuse_bytes({"--role": role, "--user-id": user_id, "--name": name})
    if all and (limit is not None or offset):
        raise InvalidCall("--all prints everybody: leave out --limit and --offset.")
    everyone = read_room(Settings(policy=policy), room, lambda gate: gate.peers(room))
    rows = min(limit or DEFAULT_ROWS, MAX_ROWS) if json else limit or MAX_ROWS
    rows = len(everyone) if all else rows
    view = roster.select(everyone, role=role, user_id=user_id, name=name, limit=rows, offset=offset)
    if (json or all) and view.unreadable:
        screen.err(roster.unread(view))
    if all:
        for row in view.rows:
            screen.document({**row.peer.model_dump(mode="json"), "short_id": row.short_id})
        return
    if json:
        budget = roster.default_budget(rows)
        screen.document(roster.peers_within(parse_room_id(room), view, budget, screen.written))
        return
    found, shown = view.matching, len(view.rows)
    here = f"{offset + 1:,} to {offset + shown:,}" if shown else "none"
    page = [f"Shown: {here} (see --limit, --offset)."] if shown < found else []
    screen.err(" ".join([*roster.counts(view), *page]))
    people = [(row.short_id, row.peer) for row in view.rows]
    cells = [(id, quoted(p.name), quoted(p.role, 30), quoted(p.user_id, 40)) for id, p in people]
    if cells:
        screen.table(("ID", "NAME", "ROLE", "USER ID"), cells)
    alike = roster.same_names(
        view.rows, lambda row: f"{quoted(row.peer.name)} ({row.short_id})", most=20
    )
    if alike:
        screen.err(f"Take care, these names are the same or look the same: {alike}. Use ids.")


def send(
    settings: Settings,
    room: options.Room,
    message: Annotated[str, Argument(metavar="MESSAGE", help="The text to send.")],
    to: Annotated[
        str | None, Option(metavar="PEER", help="Send only to this peer (id or name).")
    ] = None,
    role: Annotated[str | None, Option(help="Send only to this role.")] = None,
    type: Annotated[
        str, Option(help='Message type. Apps show type "chat" in their chat.')
    ] = "chat",
) -> int:
    """Send a message to everyone, one peer or one role. Asks first, unless the policy says otherwise."""
    if to is not None and role is not None:
        raise InvalidCall("Give --to or --role, not both.")
    given = {"message": message, "--role": role, "--type": type}
    return _change("hms-send-message", room, given, settings, to)


def remove(
    settings: Settings,
    room: options.Room,
    peer: Annotated[str | None, Argument(metavar="PEER", help="A peer's id or its name.")] = None,
    role: Annotated[str | None, Option(help="Remove everyone with this role.")] = None,
    reason: options.Reason = None,
) -> int:
    """Remove a peer, or everyone with a role. Asks first. Removed people can join again."""
    if (peer is None) == (role is None):
        raise InvalidCall(f"Give a peer or --role{'.' if peer is None else ', not both.'}")
    given = {"--role": role, "--reason": reason}
    return _change("hms-remove-peers", room, given, settings, peer)


def end(
    settings: Settings,
    room: options.Room,
    reason: options.Reason = None,
    lock: Annotated[
        bool, Option("--lock", help="Also disable the room, until it is enabled in the dashboard.")
    ] = False,
) -> int:
    """End the running session for everyone. Asks first."""
    return _change("hms-end-active-room", room, {"--reason": reason, "--lock": lock}, settings)


def _change(
    tool: str,
    room: str,
    given: Mapping[str, str | bool | None],
    settings: Settings,
    peer: str | None = None,
) -> int:
    from hms_active_rooms.cli.person import ask_here, report, somebody_here
    from hms_active_rooms.gate.actions import parse_call
    from hms_active_rooms.gate.journal.records import Origin, by_person

    options.refuse_bytes(given)
    words = {name.lstrip("-"): value for name, value in given.items() if value is not None}
    if peer is not None:
        words["peer_id"] = peer_ref(
            peer, lambda: read_room(settings, room, lambda gate: gate.peers(room))
        )
    call = parse_call(tool, {"room_id": room, **words})
    with open_gate(settings, room) as gate:
        # One thread for all commands of a person, so a question can say what was sent before.
        who = f"cli:{person_here()}"
        action = blocking.run(gate.propose(call, Origin(who, str(uuid4()), "1", who)))
        held = action.state == "approved" and by_person(action.decided_way)
        if somebody_here() or not (held or action.state == "proposed"):
            return ask_here(gate, action, settings)
    return report(action, settings)


def peer_ref(wanted: str, people: Callable[[], Sequence[Peer]]) -> str:
    """Return the id of the peer whom a person means by `wanted`, an id or a name.

    Args:
        wanted: what the person typed.
        people: reads the room, if `wanted` is a name.

    Raises:
        PeerNotFound: nobody has this name or a similar one.
        InvalidCall: nobody has exactly this name, or others have the same or a similar name. The error
            lists the people.
    """
    from hms_active_rooms.gate.actions.impact import person_of
    from hms_active_rooms.tools.roster import matching

    wanted = wanted.strip()
    options.refuse_bytes({"peer": wanted})
    with suppress(InvalidCall):
        return parse_peer_ref(wanted)
    peers = people()
    # An accented letter is one character, or two as macOS writes it.
    plain = normalize("NFC", wanted).casefold()
    same = [p for p in peers if normalize("NFC", p.name).casefold() == plain]
    alike = set(lookalikes(wanted, [p.name for p in peers]))
    fit = [*same, *(p for p in peers if p.name in alike and p not in same)]
    if len(fit) == 1 and same:
        return fit[0].id
    name = quoted(wanted)
    head = f"{len(fit)} peers have the name {name} or a similar name:"
    if not same:
        head = f"Nobody has exactly the name {name}. These names look like it or contain it:"
        fit = fit or matching(peers, {"name": wanted})
    if not fit:
        raise PeerNotFound(
            f"Nobody in the room has the name {name}.",
            hint="List the people in the room: hms-active-rooms peers ROOM",
        )
    shorts, most = short_ids([p.id for p in peers]), 10
    rows = [f"  {person_of(p, shorts[p.id]).line()}" for p in fit[:most]]
    more = [f"  ... and {len(fit) - most} more"] if len(fit) > most else []
    raise InvalidCall("\n".join([head, *rows, *more]), hint="Give the id of the one you mean.")
