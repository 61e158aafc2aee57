"""What a program is told about a call: a text for a model, and data with a schema. Pure.

Both are bounded whatever the room holds: a roster's data has the rows that its text has, and
cuts them as short. Some MCP clients show a model the text, some the data, some both; so over
MCP each is complete, and the two share the budget that a roster's text has elsewhere. A
stranger's text in the data has its hidden characters escaped, and is cut by what it costs then.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from hms_active_rooms.gate.records import Action
from hms_active_rooms.gate.states import FINAL, State
from hms_active_rooms.gate.wording import outcome
from hms_active_rooms.tokens import token_bound
from hms_active_rooms.tools.roster import FIXED_TOKENS, render_roster
from hms_active_rooms.untrusted import escaped

if TYPE_CHECKING:
    from hms_active_rooms.api.models import ActiveRoom
    from hms_active_rooms.tools.roster import Roster

Executed = Literal["no", "maybe", "partly", "yes"]

MAX_TEXT_CHARS: Final = 200
"""Of a name for the record."""

MAX_ROLES: Final = 12
MAX_PEOPLE: Final = 20
"""Of an impact or a result."""

_NAME: Final = 40
_WORD: Final = 24
"""Characters and tokens of a name, and of a role or user id, as in a roster's text."""

_PERSON: Final = {"name": _NAME, "role": _WORD, "user_id": _WORD}
"""Of a person, what they or their app wrote."""

_OUT: Final = ("removed", "gone", "no longer there")


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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


class _RosterData(_Data):
    """Who is in a room: counts of all, and what was asked for."""

    room_id: str
    total: int = Field(description="People in the room now.")
    by_role: dict[str, int] = Field(description="Of all of them; the largest roles.")
    matching: int = Field(description="People who match the filters.")
    offset: int
    left_out: int = Field(description="Matching people behind the last row.")


class PeersData(_RosterData):
    """Who is in a room: counts of all, and the rows that were asked for."""

    peers: list[PeerData]


class PeersTable(_RosterData):
    """Who is in a room: counts of all, and the rows that were asked for, each named once."""

    peers: list[Annotated[list[str], Field(min_length=4, max_length=4)]] = Field(
        description="Each is [short id, name, role, user id]. A cut text ends in an ellipsis."
    )


class ActionData(_Data):
    """One state-changing call: what is known about it by now."""

    action_id: str
    state: State
    executed: Executed = Field(description="Whether it changed the room.")
    waiting: bool = Field(description="A person has to decide first. Nothing was executed.")
    tool: str
    room_id: str
    arguments: dict[str, Any] = Field(description="With the full peer id.")
    text: str = Field(description="The same in words.")
    deadline: str = Field(description="Until when a decision counts; RFC 3339, UTC.")
    approve_at: str = Field(description="Where a person decides, while it waits; else empty.")
    decided_by: str
    decided_way: str
    reason: str
    result: dict[str, Any] = Field(description="How sending ended.")


DATA: Final[dict[str, type[BaseModel]]] = {
    "hms-retrieve-active-room": RoomData,
    "hms-list-peers": PeersData,
    "hms-send-message": ActionData,
    "hms-remove-peers": ActionData,
    "hms-end-active-room": ActionData,
}
"""Tool name of the contract to what `Answer.data` holds; a test holds that the names agree."""


MCP_DATA: Final[dict[str, type[BaseModel]]] = {**DATA, "hms-list-peers": PeersTable}
"""The same for MCP, whose clients show a model the text, the data, or both."""


@dataclass(frozen=True)
class Answer:
    """What a call came to.

    Attributes:
        tool: tool name of the contract.
        text: for a model.
        data: plain values, by `DATA[tool]`.
        action: the journal's row of a state-changing call; None for a reader.
        executed: whether the room was changed.
        failed: it was approved and tried, and surely not executed.
    """

    tool: str
    text: str
    data: dict[str, Any]
    action: Action | None = None
    executed: Executed = "no"
    failed: bool = False

    @property
    def waiting(self) -> bool:
        """A person has to decide first."""
        return self.action is not None and self.action.state == "proposed"


def executed_of(action: Action) -> Executed:
    """Whether the room was changed, as far as the row tells."""
    if action.state in ("sent", "unknown"):
        return "maybe"
    told = action.result.get("executed") if action.state in ("done", "failed") else "no"
    match told:
        case "no" | "partly" | "yes":
            return told
    return "maybe"


def has_ended(action: Action) -> bool:
    """Nothing is sent for it any more, and there is an outcome to tell, if only an unknown one."""
    return action.state in FINAL or action.state == "unknown"


def where_to_approve(action_id: str, page: str = "") -> str:
    """What a person does elsewhere to decide. `page`: address of the approvals page, if any."""
    terminal = f"in a terminal: hms-active-rooms approve {action_id}"
    return f"on the page {page}, or {terminal}" if page else terminal


def action_answer(action: Action, page: str = "") -> Answer:
    """The answer about a state-changing call, from its row."""
    executed = executed_of(action)
    waiting = action.state == "proposed"
    text, approve_at = outcome(action), ""
    if waiting:
        approve_at = where_to_approve(action.id, page)
        note = f"It is asked again: {action.note} " if action.note else ""
        text = (
            f"{text} {note}A person decides on it {approve_at}, "
            f"until {action.expires_at:%Y-%m-%d %H:%M:%S} UTC. Do not approve it for them. "
            "The same call with the same arguments tells what came of it."
        )
    data = ActionData(
        action_id=action.id,
        state=action.state,
        executed=executed,
        waiting=waiting,
        tool=action.tool,
        room_id=action.room_id,
        arguments=action.arguments,
        text=text,
        deadline=action.expires_at.isoformat(),
        approve_at=approve_at,
        decided_by=_short(action.decided_by),
        decided_way=_short(action.decided_way),
        reason=action.reason,
        result=bounded(action.result),
    )
    failed = action.state == "failed" and executed == "no"
    return Answer(action.tool, text, data.model_dump(mode="json"), action, executed, failed)


def bounded(told: dict[str, Any], most: int = MAX_PEOPLE) -> dict[str, Any]:
    """An impact or a result, as JSON: few of its people and roles, their texts cut.

    Those who are still in the room come first. `people_left_out` says how many are not told.
    """
    if roles := told.get("by_role"):
        told = {**told, "by_role": [[_cut(role, _WORD), n] for role, n in roles[:MAX_ROLES]]}
    if not (people := told.get("people")):
        return told
    first = sorted(people, key=lambda person: person.get("outcome") in _OUT)[:most]
    rows = [
        {key: _cut(text, _PERSON[key]) if key in _PERSON else text for key, text in person.items()}
        for person in first
    ]
    return {**told, "people": rows, "people_left_out": len(people) - len(rows)}


def room_data(room: ActiveRoom) -> dict[str, Any]:
    """The data about an active room."""
    session = room.session
    return RoomData(
        room_id=room.id,
        name=_cut(room.name, _NAME),
        session_id=_cut(session.id, _NAME),
        started_at=_cut(session.created_at, _NAME),
        total=len(session.peers),
    ).model_dump(mode="json")


def peers_data(room_id: str, view: Roster) -> dict[str, Any]:
    """The data about the rows of a roster."""
    rows = [
        PeerData(
            short_id=_cut(row.short_id, _NAME),
            name=_cut(row.peer.name, _NAME),
            role=_cut(row.peer.role, _WORD),
            user_id=_cut(row.peer.user_id, _WORD),
        )
        for row in view.rows
    ]
    return PeersData(
        room_id=room_id,
        total=view.total,
        by_role={_cut(role, _WORD): count for role, count in view.by_role[:MAX_ROLES]},
        matching=len(view.matching),
        offset=view.offset,
        left_out=view.left_out,
        peers=rows,
    ).model_dump(mode="json")


def peers_within(
    room_id: str, view: Roster, budget: int, written: Callable[[dict[str, Any]], str]
) -> dict[str, Any]:
    """The data about a roster, alone: as many of its rows as may be told.

    Args:
        room_id: whose roster.
        view: what was found.
        budget: most tokens of the data by `token_bound`; one row is told whatever it costs.
        written: the data as its reader gets it, which is what counts.
    """

    def told(rows: int, roles: int) -> dict[str, Any]:
        return peers_data(
            room_id, replace(view, rows=view.rows[:rows], by_role=view.by_role[:roles])
        )

    def cost(rows: int, roles: int) -> int:
        return token_bound(written(told(rows, roles)))

    # The roles first, so that the rows leave them some room.
    roles = _most(min(len(view.by_role), MAX_ROLES), lambda n: cost(0, n) <= FIXED_TOKENS)
    return told(_most(len(view.rows), lambda n: cost(n, roles) <= budget), roles)


def peers_table(room_id: str, view: Roster, budget: int) -> tuple[str, dict[str, Any]]:
    """A roster's text and its data, with the same rows: as many as both together may cost.

    Some clients show a model the text, some the data, some both. So each is complete, and the
    two are in one budget.

    Args:
        room_id: whose roster.
        view: what was found, cut to what the text alone may cost.
        budget: most tokens of both, by `token_bound`; one row is told whatever it costs.
    """

    def told(rows: int) -> tuple[str, dict[str, Any]]:
        fewer = replace(view, rows=view.rows[:rows])
        return render_roster(fewer), _table(room_id, fewer)

    def fits(rows: int) -> bool:
        text, data = told(rows)
        return token_bound(text) + token_bound(_in_json(data)) <= budget

    return told(_most(len(view.rows), fits))


def _most(number: int, fits: Callable[[int], bool]) -> int:
    """The most of a number of rows that fit; one, if there is one, whatever it costs."""
    # The text around the rows depends on them, but little: the last that fits is near.
    least, most = min(number, 1), number
    while least < most:
        middle = (least + most + 1) // 2
        if fits(middle):
            least = middle
        else:
            most = middle - 1
    return least


def _table(room_id: str, view: Roster) -> dict[str, Any]:
    data = peers_data(room_id, view)
    rows = [list(row.values()) for row in data["peers"]]
    return PeersTable.model_validate({**data, "peers": rows}).model_dump(mode="json")


def _in_json(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _cut(text: str, most: int) -> str:
    """At most so many characters, and so many tokens once escaped."""
    shown = text[:most]
    while shown and token_bound(escaped(shown)) > most:
        shown = shown[: min(len(shown) - 1, len(shown) * 3 // 4)]
    return escaped(shown) + ("" if len(shown) == len(text) else "…")


def _short(text: str) -> str:
    shown = escaped(text[:MAX_TEXT_CHARS])
    return shown if len(text) <= MAX_TEXT_CHARS else shown + "…"
