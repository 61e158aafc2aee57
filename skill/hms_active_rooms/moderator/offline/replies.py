"""What the person reads: short, says whether anything was done, strangers' text quoted.

Between two quoted texts, and between a quoted text and a number, stands a Latin word,
so that a right-to-left name cannot reorder the line (see `untrusted`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from hms_active_rooms.gate.actions.impact import SHOWN_ROLES, people_count
from hms_active_rooms.gate.view import NOT_AGAIN
from hms_active_rooms.moderator.offline.reading import kinds, say
from hms_active_rooms.moderator.offline.roster import Peer, Roster, Someone
from hms_active_rooms.moderator.offline.turns import Result
from hms_active_rooms.untrusted import escaped, quoted, short_ids

MAX_OPTIONS: Final = 8
_MAX_NAMES: Final = 20
_MAX_TOOL_LINES: Final = 8
_MAX_TOOL_CHARS: Final = 2000

EXAMPLES: Final = kinds("examples")
"""Sentences that are understood, every one tested. Some are shown when another is not."""

CAPABILITIES_TEXT: Final = say("help")


def nobody(name: str, roster: Roster) -> str:
    """No one has this name."""
    role = name.removeprefix("the ").removesuffix(" role")
    if role != name and role in roster.by_role:
        return say("only_a_role", role=quoted(role, 30))
    return say("nobody", name=quoted(name), roles=_roles(roster))


def _roles(roster: Roster) -> str:
    shown = [f"{count:,} as {quoted(role, 30)}" for role, count in roster.by_role.items()]
    left = f" and {len(shown) - SHOWN_ROLES} other roles" if len(shown) > SHOWN_ROLES else ""
    return f"By role: {' and '.join(shown[:SHOWN_ROLES])}{left}." if shown else say("empty")


def who_is_here(roster: Roster, role: str | None = None, *, count: bool = False) -> str:
    """How many are here, or have a role, and up to 20 names."""
    peers = [peer for peer in roster.peers if role in (None, peer.role)]
    total = roster.total if role is None else roster.by_role[role]
    held = f". {_roles(roster)}" if role is None else f" with the role {quoted(role, 30)}."
    text = f"{people(total)} here{held}" if roster.total else say("empty")
    if count or not peers:
        return text
    # Commas read better than the word that keeps right-to-left text apart: here only the order
    # of such names can look turned, and nothing depends on it.
    names = ", ".join(quoted(peer.name) for peer in peers[:_MAX_NAMES])
    left = total - min(len(peers), _MAX_NAMES)
    return f"{text}\nNames: {names}{f' and {left:,} more' if left > 0 else ''}."


def people(count: int) -> str:
    """How many people there are."""
    return f"{people_count(count)} {'is' if count == 1 else 'are'}"


def found(options: Sequence[Someone], roster: Roster) -> str:
    """The people a search found, a line each."""
    lines = [f"{_one(option, roster)} is here." for option in options[:MAX_OPTIONS]]
    left = len(options) - MAX_OPTIONS
    return "\n".join([*lines, f"And {left} more."] if left > 0 else lines)


def which(options: Sequence[Someone], roster: Roster) -> str:
    """A numbered question; the options shown are those an answer can choose from."""
    shown = [_one(option, roster) for option in options[:MAX_OPTIONS]]
    lines = "\n".join(f"{place}. called {one}" for place, one in enumerate(shown, 1))
    return say("this_one" if len(options) == 1 else "which_one", lines=lines)


def _one(option: Someone, roster: Roster) -> str:
    role = quoted(option.role, 30)
    if not isinstance(option, Peer):
        return f"everyone with the role {role}, that is {people_count(option.count)}"
    short = short_ids([peer.id for peer in roster.peers])[option.id]
    named, user_id = quoted(option.name), quoted(option.user_id, 40)
    return f"{named} with the role {role}, user id {user_id} and id {short}"


def status(artifact: object, room_id: str) -> str:
    """The live state of a room from the artifact of hms-retrieve-active-room."""
    match artifact:
        case {
            "id": str(id),
            "total": int(total),
            "session": {"id": str(of), "created_at": str(at)},
        }:
            told = {"session": quoted(of, 40), "since": quoted(at, 40), "people": people(total)}
            return say("live" if id == room_id else "unreadable_answer", **told)
    return say("unreadable_answer")


def outcome(result: Result) -> str:
    """What came of a call, in the tool's own words, and whether nothing was done.

    What our tools wrote comes out unchanged, but bounded and with nothing that acts in a terminal;
    what is for a model only is left out.
    """
    if result.answer is None:
        return say("no_answer")
    told = str(result.answer.text).removesuffix(NOT_AGAIN)[:_MAX_TOOL_CHARS].splitlines()
    lines = [re.sub(r'[^"\\]+', lambda match: escaped(match[0]), one) for one in told]
    text = "\n".join(lines[:_MAX_TOOL_LINES]) or ("" if result.failed else say("no_outcome"))
    refused = not result.failed and result.state in ("rejected", "expired", "refused")
    return f"Nothing was done.\n{text}" if refused else text
