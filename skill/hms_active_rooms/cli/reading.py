"""`room` and `peers`: plain reads, no approval, nothing recorded.

`--json` may end in a model's context, so it holds what the tools answer, as bounded as there.
`--all` holds every record whole, as JSON Lines for a program; it is never shown on a terminal.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hms_active_rooms import blocking
from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.cli import screen
from hms_active_rooms.cli.settings import Settings, open_gate
from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.untrusted import lookalikes, quoted, short_ids

if TYPE_CHECKING:
    from hms_active_rooms.api.models import Peer
    from hms_active_rooms.tools.roster import Roster

_TABLE_ROWS = 100
_ROLES_SHOWN = 12
_NAME_CHARS = 60
_ROLE_CHARS = 30
_USER_ID_CHARS = 40


def show_room(room: str, settings: Settings, *, as_json: bool) -> None:
    """The running session of a room."""
    with open_gate(settings, room) as gate:
        live = blocking.run(gate.active_room(room))
    if as_json:
        from hms_active_rooms.serve.answers import room_data

        screen.document(room_data(live))
        return
    session = live.session
    screen.fields(
        {
            "Room": f"{quoted(live.name)} (id {screen.bare(live.id, 40)})",
            "Session": screen.bare(session.id, 40) + _running_since(session.created),
            "People": f"{len(session.peers):,}",
        }
    )


def _running_since(created: datetime | None) -> str:
    # The API's "unset" time is the year 1.
    if created is None or created.year < 2000:
        return ""
    minutes = max(int((datetime.now(UTC) - created).total_seconds() // 60), 0)
    age = f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
    return f", running for {age}"


def show_peers(
    room: str,
    settings: Settings,
    *,
    role: str | None,
    user_id: str | None,
    name: str | None,
    limit: int | None,
    offset: int,
    as_json: bool,
) -> None:
    """Who is in the room now: counts by role, then one row each.

    `limit` is by default 100 in a table, and in JSON what the tools show.
    """
    from hms_active_rooms.tools.roster import DEFAULT_ROWS, MAX_ROWS, default_budget, roster

    if limit is None:
        limit = DEFAULT_ROWS if as_json else _TABLE_ROWS
    if limit < 1 or offset < 0:
        raise InvalidCall("--limit must be at least 1 and --offset at least 0.", hint="")
    if as_json and limit > MAX_ROWS:
        raise InvalidCall(
            f"--limit is at most {MAX_ROWS} with --json.",
            hint="Go on with --offset, or write everybody to a file or a pipe with --all.",
        )
    with open_gate(settings, room) as gate:
        everyone = blocking.run(gate.peers(room))
    view = roster(everyone, role=role, user_id=user_id, name=name, limit=limit, offset=offset)
    if as_json:
        from hms_active_rooms.serve.answers import peers_within

        budget = default_budget(limit)
        screen.document(peers_within(parse_room_id(room), view, budget, screen.written))
        return
    rows = view.matching[offset : offset + limit]
    shorts = short_ids([peer.id for peer in everyone])
    screen.err(_summary(view, rows, offset))
    screen.table(
        ("ID", "NAME", "ROLE", "USER ID"),
        [
            (
                shorts[p.id],
                quoted(p.name, _NAME_CHARS),
                quoted(p.role, _ROLE_CHARS),
                quoted(p.user_id, _USER_ID_CHARS),
            )
            for p in rows
        ],
    )
    if twins := _twins(rows, everyone):
        screen.err(twins)


def write_room(room: str, settings: Settings) -> None:
    """The record of a room, whole, with the id of everybody in it: one JSON object."""
    screen.refuse_a_terminal()
    with open_gate(settings, room) as gate:
        live = blocking.run(gate.active_room(room))
    screen.document(live.model_dump(mode="json"))


def write_peers(
    room: str,
    settings: Settings,
    *,
    role: str | None,
    user_id: str | None,
    name: str | None,
    paged: bool,
) -> None:
    """Every record that matches, whole: one JSON object a line."""
    from hms_active_rooms.tools.roster import roster

    if paged:
        raise InvalidCall("--all has no pages: leave out --limit and --offset.", hint="")
    screen.refuse_a_terminal()
    with open_gate(settings, room) as gate:
        everyone = blocking.run(gate.peers(room))
    shorts = short_ids([peer.id for peer in everyone])
    for peer in roster(everyone, role=role, user_id=user_id, name=name, limit=1).matching:
        screen.document({**peer.model_dump(mode="json"), "short_id": shorts[peer.id]})


def _summary(view: Roster, rows: tuple[Peer, ...], offset: int) -> str:
    """How many there are, how many match, and which of them are shown."""
    roles = ", ".join(f"{quoted(r, _ROLE_CHARS)} {n:,}" for r, n in view.by_role[:_ROLES_SHOWN])
    others = len(view.by_role) - _ROLES_SHOWN
    more = f" and {others} other roles" if others > 0 else ""
    text = f"{view.total:,} in the room" + (f": {roles}{more}." if roles else ".")
    found = len(view.matching)
    if found != view.total:
        text += f" {found:,} match."
    if len(rows) < found:
        here = f"{offset + 1:,} to {offset + len(rows):,}" if rows else "none"
        text += f" Shown: {here} (see --limit, --offset)."
    return text


def _twins(rows: tuple[Peer, ...], everyone: tuple[Peer, ...]) -> str:
    """A warning when a name that is shown is somebody else's too."""
    names = [peer.name for peer in everyone]
    for peer in rows:
        if names.count(peer.name) > 1 or lookalikes(peer.name, names):
            return f"Take care: somebody else's name is, or looks like, {quoted(peer.name)}. Go by ids."
    return ""
