"""What an intent comes to in one room, given what the tools of its turn answered. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hms_active_rooms.gate.actions.end_room import EndRoom
from hms_active_rooms.gate.actions.remove_peers import RemovePeers
from hms_active_rooms.gate.actions.send_message import SendMessage
from hms_active_rooms.moderator.offline import replies
from hms_active_rooms.moderator.offline.intents import (
    End,
    Find,
    Intent,
    ListPeople,
    Remove,
    Split,
    Status,
    Target,
    Tell,
    TellEveryone,
)
from hms_active_rooms.moderator.offline.names import Nobody as NobodyFound
from hms_active_rooms.moderator.offline.names import (
    NoEnd,
    NoRole,
    One,
    RoleGroup,
    Several,
    Someone,
    choose_split,
    covers,
    resolve,
    sought,
)
from hms_active_rooms.moderator.offline.roster import Peer, Roster, joined, read_roster
from hms_active_rooms.moderator.offline.turns import Result, Turn
from hms_active_rooms.tools.arguments import MAX_ROWS

RETRIEVE_ROOM: Final = "hms-retrieve-active-room"
LIST_PEERS: Final = "hms-list-peers"
CHANGING: Final = frozenset({SendMessage.tool, RemovePeers.tool, EndRoom.tool})
TOOLS: Final = CHANGING | {RETRIEVE_ROOM, LIST_PEERS}


@dataclass(frozen=True)
class Call:
    """One tool call to propose."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Question:
    """A question this turn ends with: what is to be done, and to which of the options."""

    action: Remove | Split
    options: tuple[Someone, ...]


@dataclass(frozen=True)
class Plan:
    """What a turn comes to: calls, or a text that ends it.

    Attributes:
        text: the reply, when there are no calls.
        calls: to propose now.
        question: what the reply asks.
        named: the one person the turn is about, for a pronoun in the next.
        room_id: where.
    """

    text: str = ""
    calls: tuple[Call, ...] = ()
    question: Question | None = None
    named: Peer | None = None
    room_id: str | None = None


def plan_in_room(intent: Intent, turn: Turn, room: str) -> Plan:
    """What this intent comes to, in a room that is known. Pronouns are not for here."""
    match intent:
        case End(lock=lock, reason=reason):
            arguments = {"room_id": room} | ({"lock": True} if lock else {})
            return Plan(calls=(Call(EndRoom.tool, _with_reason(arguments, reason)),))
        case TellEveryone(message=message):
            return Plan(calls=(Call(SendMessage.tool, {"room_id": room, "message": message}),))
        case Status():
            return _status(turn, room)
    roster = _roster(intent, turn, room)
    if isinstance(roster, Plan):
        return roster
    match intent:
        case ListPeople(target=target, count=count):
            return Plan(_listed(target, roster, count=count))
        case Find(target=target):
            return _found(target, roster)
        case Remove(target=target):
            return _resolved(intent, target, roster)
        case Tell(splits=splits):
            chosen = choose_split(splits, roster)
            if isinstance(chosen, NoEnd):
                return Plan(replies.NO_END)
            return _resolved(chosen[1], chosen[1].target, roster)
    return Plan(replies.not_understood(unreadable=False))


def _status(turn: Turn, room: str) -> Plan:
    answers = [r for r in turn.results if r.tool == RETRIEVE_ROOM and r.answer is not None]
    if not answers:
        return Plan(calls=(Call(RETRIEVE_ROOM, {"room_id": room}),))
    last = answers[-1]
    assert last.answer is not None
    if last.failed:
        return Plan(replies.tool_text(str(last.answer.text)))
    artifact = last.answer.artifact
    same = isinstance(artifact, dict) and artifact.get("id") == room
    return Plan((replies.status(artifact) if same else None) or replies.NO_ROOM_STATE)


def _roster(intent: Intent, turn: Turn, room: str) -> Roster | Plan:
    """What this turn has read of the room, a plan to read more, or why it cannot be read."""
    answers = [r for r in turn.results if r.tool == LIST_PEERS and r.answer is not None]
    if not answers:
        # Without a filter: roles, look-alikes and similar names are seen only in the whole.
        return Plan(calls=(Call(LIST_PEERS, {"room_id": room}),))
    read: list[tuple[Result, Roster]] = []
    for result in answers:
        assert result.answer is not None
        if result.failed:
            return Plan(replies.tool_text(str(result.answer.text)))
        roster = read_roster(result.answer.artifact, room)
        if roster is None:
            return Plan(replies.NO_ROSTER)
        read.append((result, roster))
    plain = [roster for result, roster in read if not _FILTERS & result.arguments.keys()]
    if not plain or plain[-1].matching != plain[-1].total:
        return Plan(replies.NO_ROSTER)
    everyone = plain[-1]
    searched = [(result, found) for result, found in read if _FILTERS & result.arguments.keys()]
    if not searched and not everyone.is_whole and (filters := _filters(intent, everyone)):
        calls = (Call(LIST_PEERS, {"room_id": room, **given}) for given in filters)
        return Plan(calls=tuple(calls))
    return joined(
        everyone,
        (
            (key, str(value), found)
            for result, found in searched
            for key, value in result.arguments.items()
            if key in _FILTERS
        ),
    )


_FILTERS: Final = frozenset({"name", "role", "user_id"})
_MAX_LOOKS: Final = 16
_SHORT_ID: Final = re.compile("[0-9a-fA-F]{8}[0-9a-fA-F-]{0,28}")


def _filters(intent: Intent, roster: Roster) -> list[dict[str, str | int]]:
    """What to look for in a room that is not shown whole: whoever the words could mean."""
    match intent:
        case ListPeople(target=target, count=False) if target is not None:
            found = _role_of(target, roster)
            return [{"role": found.role}] if found else []
        case Find(target=target) | Remove(target=target):
            targets = [target]
        case Tell(splits=splits):
            targets = [split.target for split in splits]
        case _:
            return []
    looks = dict.fromkeys(look for target in targets for look in sought(target, roster))
    filters: list[dict[str, str | int]] = []
    for key, value in looks:
        filters.append({key: value, "limit": MAX_ROWS})
    return filters[:_MAX_LOOKS]


def _role_of(target: Target, roster: Roster) -> RoleGroup | None:
    found = resolve(replace(target, form="role"), roster)
    return found.found if isinstance(found, One) and isinstance(found.found, RoleGroup) else None


def _listed(target: Target | None, roster: Roster, *, count: bool) -> str:
    if target is None:
        return replies.who_is_here(roster, count=count)
    found = resolve(replace(target, form="role"), roster)
    if isinstance(found, One) and isinstance(found.found, RoleGroup):
        return replies.who_has_role(roster, found.found.role, count=count)
    several = isinstance(found, NoRole) and found.several
    return replies.no_role(target.text, roster, several=several)


def _found(target: Target, roster: Roster) -> Plan:
    if not covers(target, roster):
        return Plan(replies.TOO_MANY_ALIKE)
    match resolve(target, roster):
        case One(found=someone):
            return Plan(replies.found([someone], roster), named=sole((someone,)))
        case Several(options=options):
            return Plan(replies.found(options, roster))
        case NoRole(several=several):
            return Plan(replies.no_role(target.text, roster, several=several))
        case NobodyFound(closest=closest):
            return Plan(replies.nobody(target.text, closest, roster))


def _resolved(action: Remove | Split, target: Target, roster: Roster) -> Plan:
    """The call, or the question who is meant."""
    if not covers(target, roster):
        return Plan(replies.TOO_MANY_ALIKE)
    match resolve(target, roster, loose=isinstance(action, Remove) or action.sure):
        case One(found=someone):
            return Plan(calls=(act(action, someone, roster.room_id),), named=sole((someone,)))
        case Several(options=options):
            asked = options[: replies.MAX_OPTIONS]
            text = replies.which(options, roster)
            return Plan(text, question=Question(action, asked))
        case NoRole(several=several):
            return Plan(replies.no_role(target.text, roster, several=several))
        case NobodyFound() if not roster.is_whole and _SHORT_ID.fullmatch(target.text):
            # Ids cannot be looked for; the gate finds whose it is, or nobody's.
            someone = Peer(target.text, "", "", "")
            return Plan(calls=(act(action, someone, roster.room_id),))
        case NobodyFound(closest=closest):
            return Plan(replies.nobody(target.text, closest, roster))


def act(action: Remove | Split, someone: Someone, room: str) -> Call:
    """The call that does this to somebody."""
    key, value = (
        ("role", someone.role) if isinstance(someone, RoleGroup) else ("peer_id", someone.id)
    )
    arguments: dict[str, Any] = {"room_id": room, key: value}
    if isinstance(action, Split):
        return Call(SendMessage.tool, {**arguments, "message": action.message})
    return Call(RemovePeers.tool, _with_reason(arguments, action.reason))


def _with_reason(arguments: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {**arguments, "reason": reason} if reason else arguments


def sole(chosen: Sequence[Someone]) -> Peer | None:
    """The one person chosen, if it is one person."""
    only = chosen[0] if len(chosen) == 1 else None
    return only if isinstance(only, Peer) else None
