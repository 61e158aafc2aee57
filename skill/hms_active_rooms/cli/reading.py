"""`room` and `peers`: plain reads, no approval, nothing recorded.

`--json` may end in a model's context, so it holds what the tools answer, as bounded as there.
`--all` holds every record whole, as JSON Lines for a program; it is never shown on a terminal.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Annotated

import typer

from hms_active_rooms import blocking
from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.cli import screen
from hms_active_rooms.cli.settings import (
    All,
    Json,
    PolicyFile,
    Room,
    Settings,
    open_gate,
    refuse_empty,
)
from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.untrusted import quoted, shortened

_TABLE_ROWS = 100


def room(room: Room, all: All = False, json: Json = False, policy: PolicyFile = None) -> None:
    """Show the running session of a room."""
    from hms_active_rooms.tools.read_data import room_data

    with open_gate(Settings(policy=policy), room, only_reads=True) as gate, _reading():
        live = blocking.run(gate.active_room(room))
    if all or json:
        screen.document(live.model_dump(mode="json") if all else room_data(live))
        return
    session = live.session
    screen.fields(
        {
            "Room": f"{quoted(live.name)} (id {shortened(live.id, 40)})",
            "Session": shortened(session.id, 40) + _running_since(session.created),
            "People": f"{len(session.peers):,}",
        }
    )


def _reading() -> AbstractContextManager[None]:
    return screen.Progress("Reading the room", sys.stderr).shown()


def _running_since(created: datetime | None) -> str:
    # The API's "unset" time is the year 1.
    if created is None or created.year < 2000:
        return ""
    minutes = max(int((datetime.now(UTC) - created).total_seconds() // 60), 0)
    age = f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
    return f", running for {age}"


def peers(
    room: Room,
    role: Annotated[str | None, typer.Option(help="Only this role.")] = None,
    user_id: Annotated[str | None, typer.Option(help="Only this user id.")] = None,
    name: Annotated[str | None, typer.Option(help="Only people whose name contains this.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Rows to show. Default: 100; with --json 50, fewer if they are long."
        ),
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="Rows to skip.")] = 0,
    all: All = False,
    json: Json = False,
    policy: PolicyFile = None,
) -> None:
    """List who is in a room."""
    from hms_active_rooms.tools import roster
    from hms_active_rooms.tools.arguments import DEFAULT_ROWS, MAX_ROWS
    from hms_active_rooms.tools.read_data import peers_within

    refuse_empty({"--role": role, "--user-id": user_id, "--name": name})
    if all and (limit is not None or offset):
        raise InvalidCall("--all has no pages: leave out --limit and --offset.", hint="")
    rows = limit if limit is not None else DEFAULT_ROWS if json else _TABLE_ROWS
    if json and rows > MAX_ROWS:
        raise InvalidCall(
            f"--limit is at most {MAX_ROWS} with --json.",
            hint="Go on with --offset, or write everybody to a file or a pipe with --all.",
        )
    with open_gate(Settings(policy=policy), room, only_reads=True) as gate, _reading():
        everyone = blocking.run(gate.peers(room))
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
        screen.document(peers_within(parse_room_id(room), view, budget, screen.written))
        return
    found, shown = view.matching, len(view.rows)
    here = f"{offset + 1:,} to {offset + shown:,}" if shown else "none"
    page = [f"Shown: {here} (see --limit, --offset)."] if shown < found else []
    screen.err(" ".join([*roster.counts(view), *page]))
    people = [(row.short_id, row.peer) for row in view.rows]
    cells = [(id, quoted(p.name), quoted(p.role, 30), quoted(p.user_id, 40)) for id, p in people]
    screen.table(("ID", "NAME", "ROLE", "USER ID"), cells)
    alike = roster.same_names(
        view.rows, lambda row: f"{quoted(row.peer.name)} ({row.short_id})", most=20
    )
    if alike:
        screen.err(f"Take care, these names are the same or look the same: {alike}. Use ids.")
