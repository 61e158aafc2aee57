"""`room` and `peers`: plain reads, no approval, nothing recorded.

`--json` may end in a model's context, so it holds what the tools answer, as bounded as there.
`--all` holds every record whole, as JSON Lines for a program; it is never shown on a terminal.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from hms_active_rooms.tools.roster import Roster

_TABLE_ROWS = 100
_GROUPS_SHOWN = 20
_NAME_CHARS = 60
_ROLE_CHARS = 30
_USER_ID_CHARS = 40


def room(room: Room, all: All = False, json: Json = False, policy: PolicyFile = None) -> None:
    """Show the running session of a room."""
    from hms_active_rooms.tools.read_data import room_data

    if all:
        screen.refuse_a_terminal()
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
            min=1, help="Rows to show. Default: 100; with --json 50, or fewer if rows are long."
        ),
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="Rows to skip.")] = 0,
    all: All = False,
    json: Json = False,
    policy: PolicyFile = None,
) -> None:
    """List who is in a room."""
    from hms_active_rooms.tools.arguments import DEFAULT_ROWS, MAX_ROWS
    from hms_active_rooms.tools.read_data import peers_within
    from hms_active_rooms.tools.roster import default_budget, same_names, select, unread

    refuse_empty({"--role": role, "--user-id": user_id, "--name": name})
    if all:
        if limit is not None or offset:
            raise InvalidCall("--all has no pages: leave out --limit and --offset.", hint="")
        screen.refuse_a_terminal()
    rows = limit if limit is not None else DEFAULT_ROWS if json else _TABLE_ROWS
    if json and rows > MAX_ROWS:
        raise InvalidCall(
            f"--limit is at most {MAX_ROWS} with --json.",
            hint="Go on with --offset, or write everybody to a file or a pipe with --all.",
        )
    with open_gate(Settings(policy=policy), room, only_reads=True) as gate, _reading():
        everyone = blocking.run(gate.peers(room))
    rows = len(everyone) if all else rows
    view = select(everyone, role=role, user_id=user_id, name=name, limit=rows, offset=offset)
    if view.unreadable:
        screen.err(unread(view))
    if all:
        for row in view.rows:
            screen.document({**row.peer.model_dump(mode="json"), "short_id": row.short_id})
        return
    if json:
        told = peers_within(parse_room_id(room), view, default_budget(rows), screen.written)
        screen.document(told)
        return
    screen.err(_summary(view))
    screen.table(
        ("ID", "NAME", "ROLE", "USER ID"),
        [
            (
                row.short_id,
                quoted(row.peer.name, _NAME_CHARS),
                quoted(row.peer.role, _ROLE_CHARS),
                quoted(row.peer.user_id, _USER_ID_CHARS),
            )
            for row in view.rows
        ],
    )
    alike = same_names(
        view.rows,
        lambda row: f"{quoted(row.peer.name, _NAME_CHARS)} ({row.short_id})",
        most=_GROUPS_SHOWN,
    )
    if alike:
        screen.err(f"Take care, these names are the same or look the same: {alike}. Use ids.")


def _summary(view: Roster) -> str:
    from hms_active_rooms.gate.actions.impact import SHOWN_ROLES

    roles = ", ".join(f"{quoted(r, _ROLE_CHARS)} {n:,}" for r, n in view.by_role[:SHOWN_ROLES])
    others = len(view.by_role) - SHOWN_ROLES
    more = f" and {others} other roles" if others > 0 else ""
    text = f"{view.total:,} in the room" + (f": {roles}{more}." if roles else ".")
    found, rows, offset = view.matching, view.rows, view.offset
    if found != view.total:
        text += f" {found:,} match."
    if len(rows) < found:
        here = f"{offset + 1:,} to {offset + len(rows):,}" if rows else "none"
        text += f" Shown: {here} (see --limit, --offset)."
    return text
