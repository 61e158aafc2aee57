"""What programs are told about a room and its people: bounded data with a schema. Pure.

The data of a roster has the same rows as its text, escaped and cut in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, WithJsonSchema

from hms_active_rooms.api.models import ActiveRoom
from hms_active_rooms.gate.actions.impact import SHOWN_ROLES
from hms_active_rooms.tokens import token_bound
from hms_active_rooms.tools.roster import (
    FIXED_TOKENS,
    LABEL,
    NAME,
    Roster,
    Row,
    cell,
    fitting,
    render_roster,
)

MOST_DETAILED: Final = 5
"""Details are told if at most this many people match. Our choice: more metadata fits no answer."""

_METADATA: Final = (200, 100)
"""The most code points, and the most tokens, of a peer's metadata."""


class _Data(BaseModel, frozen=True, extra="forbid"): ...


class RoomData(_Data):
    """An active room, without the ids of the people in it."""

    room_id: str
    name: str
    session_id: str
    started_at: str = Field(description="RFC 3339, UTC.")
    total: int = Field(description="People in the room now.")


class PeerData(_Data):
    """One peer in the room now. A text that was cut ends in an ellipsis."""

    short_id: str = Field(description="Names this peer in the other tools.")
    name: str
    role: str
    user_id: str


class PeerDetail(_Data):
    """What else is known of one peer."""

    id: str = Field(description="Full peer id.")
    joined_at: str = Field(description="RFC 3339, UTC.")
    metadata: str = Field(description="Written by the peer's client; cut.")


class _RosterData(_Data):
    """Who is in a room: counts of all, and what was asked for."""

    room_id: str
    total: int = Field(description="People in the room now.")
    by_role: dict[str, int] = Field(description="Of all of them; the largest roles.")
    matching: int = Field(description="People who match the filters.")
    offset: int
    left_out: int = Field(description="Matching people behind the last row.")
    unreadable: int = Field(
        default=0, description="Further people, about whom 100ms told nothing usable."
    )
    details: list[PeerDetail] = Field(
        default=[],
        description=f"Of each row, where at most {MOST_DETAILED} people match; else empty.",
    )


class PeersData(_RosterData):
    """Who is in a room: counts of all, and the rows that were asked for."""

    peers: list[PeerData]


class PeersTable(_RosterData):
    """Who is in a room: counts of all, and the rows that were asked for, each named once."""

    # The schema says nothing about rows, since an MCP client would validate each one, in Python.
    peers: Annotated[list[list[str]], WithJsonSchema({"type": "array"})] = Field(
        description="Each is [short id, name, role, user id]. A cut text ends in an ellipsis."
    )


def room_data(room: ActiveRoom) -> dict[str, Any]:
    """The data about an active room."""
    session = room.session
    return RoomData(
        room_id=room.id,
        name=cell(room.name, NAME),
        session_id=cell(session.id, NAME),
        started_at=cell(session.created_at, NAME),
        total=len(session.peers),
    ).model_dump(mode="json")


def peers_data(room_id: str, view: Roster) -> dict[str, Any]:
    """The data of a roster's rows, in the shape of `PeersData`."""
    return {**_data(room_id, view), **_details(view)}


def peers_within(
    room_id: str, view: Roster, budget: int, written: Callable[[dict[str, Any]], str]
) -> dict[str, Any]:
    """The data of a roster, with as many of its rows as the budget allows.

    Args:
        budget: the most tokens of the data, by `token_bound`; one row is told in any case.
        written: the data as its reader gets it, whose tokens are counted.
    """
    # The roles are fitted first, so that rows do not take all the space.
    roles, nobody = min(len(view.by_role), SHOWN_ROLES), replace(view, rows=())
    while roles > 1 and token_bound(written(_data(room_id, nobody, roles))) > FIXED_TOKENS:
        roles -= 1
    view, _ = fitting(
        view,
        budget,
        lambda fewer: (written(_data(room_id, fewer, roles)),),
        lambda row: written(_person(row)),
    )
    return _data(room_id, view, roles)


def peers_table(room_id: str, view: Roster, budget: int) -> tuple[str, dict[str, Any]]:
    """A roster's text and its data in the shape of `PeersTable`, with the same rows.

    Some clients show a model the text, some the data, some both. So each is complete, and both
    together fit in one `budget` of tokens by `token_bound`; one row is told in any case.
    """

    data: dict[str, Any] = {}

    def written(fewer: Roster) -> tuple[str, str]:
        data.update(_counted(room_id, fewer), peers=[[*row.cells] for row in fewer.rows])
        data.update(_details(fewer))
        return render_roster(fewer), _in_json(data)

    def twice(row: Row) -> str:
        # The line is escaped already, except for its backslashes.
        in_json = row.line.replace("\\", "\\\\")
        return f"{row.line}\n{in_json},"

    _, (text, _) = fitting(view, budget, written, twice)
    return text, data


def _person(row: Row) -> dict[str, str]:
    return dict(zip(("short_id", "name", "role", "user_id"), row.cells, strict=True))


def _details(view: Roster) -> dict[str, Any]:
    if view.matching > MOST_DETAILED:
        return {}
    details = [
        {
            "id": cell(row.peer.id, NAME),
            "joined_at": cell(row.peer.joined_at, NAME),
            "metadata": cell(row.peer.metadata, _METADATA),
        }
        for row in view.rows
    ]
    return {"details": details}


def _data(room_id: str, view: Roster, roles: int = SHOWN_ROLES) -> dict[str, Any]:
    return {**_counted(room_id, view, roles), "peers": [_person(row) for row in view.rows]}


def _counted(room_id: str, view: Roster, roles: int = SHOWN_ROLES) -> dict[str, Any]:
    by_role: dict[str, int] = {}
    for role, count in view.by_role[:roles]:
        shown = cell(role, LABEL)
        # Two roles may be the same once they are cut.
        while shown in by_role:
            shown += "…"
        by_role[shown] = count
    return {
        "room_id": room_id,
        "total": view.total,
        "by_role": by_role,
        "matching": view.matching,
        "offset": view.offset,
        "left_out": view.left_out,
        **({"unreadable": view.unreadable} if view.unreadable else {}),
    }


def _in_json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
