"""What the person reads: short, says whether anything was done, strangers' text quoted.

Between two quoted texts, and between a quoted text and a number, stands a Latin word,
so that a right-to-left name cannot reorder the line (see `untrusted`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from hms_active_rooms.gate.wording import NOT_AGAIN
from hms_active_rooms.moderator.offline.reading import words
from hms_active_rooms.moderator.offline.roster import (
    RoleGroup,
    Roster,
    Someone,
)
from hms_active_rooms.untrusted import escaped, quoted

MAX_OPTIONS: Final = 8
MAX_NAMES: Final = 20
_MAX_ROLES: Final = 12
_MAX_TOOL_LINES: Final = 8
_MAX_TOOL_CHARS: Final = 2000
_NOT_EXECUTED: Final = frozenset({"rejected", "expired", "refused"})

EXAMPLES: Final = (
    "who is here?",
    "show the students",
    "is Sam Lee here?",
    "is the room live?",
    "tell everyone: we end in 5 minutes",
    "tell the students to mute themselves",
    "tell Sam Lee: please share your screen",
    "warn Sam Lee about spamming",
    "remove Sam Lee because he is spamming",
    "kick the spammer",
    "remove all viewers",
    "end the room",
    "end the room and lock it",
)
"""Sentences that are understood, every one tested. Some are shown when another is not."""

CAPABILITIES_TEXT: Final = "\n".join(
    (
        "I understand plain sentences in English. Say, for example:",
        *(f"- {example}" for example in EXAMPLES),
        "Messages, removals and ending are shown to you before anything is sent.",
        "I cannot mute, ban, rename or change roles.",
    )
)


def say(key: str, **parts: object) -> str:
    """A text of `words.yaml`."""
    return str(words().says[key]).format(**parts)


def cannot(kind: str) -> str:
    """What no tool can do, and what can be done."""
    instead = 'I can send a message ("tell Sam Lee to mute") or remove a person ("remove Sam Lee").'
    return f"{words().cannot[kind]} Nothing was done. {instead}"


def not_understood(why: str) -> str:
    """Why nothing was done, and what is understood."""
    if why.startswith("language:"):
        return why.removeprefix("language:")
    if why in words().why:
        return words().why[why][1]
    if why:
        return say(why)
    shown = ", ".join(f'"{EXAMPLES[place]}"' for place in (0, 4, 8))
    return f'I did not understand that. Nothing was done. For example: {shown}. Say "help" for what I understand.'


def not_available(tool: str) -> str:
    """A tool that was not given to the model."""
    return f"The tool {quoted(tool)} is not available here. Nothing was done."


def nobody(name: str, roster: Roster) -> str:
    """No one has this name."""
    return f"{say('nobody', name=quoted(name))} {roles(roster)}"


def roles(roster: Roster) -> str:
    """The roles in the room with their counts."""
    if not roster.total:
        return "Nobody is in the room."
    shown = [f"{count:,} as {quoted(role, 30)}" for role, count in roster.by_role.items()]
    left = len(shown) - _MAX_ROLES
    more = f" and {left} other roles" if left > 0 else ""
    return f"By role: {' and '.join(shown[:_MAX_ROLES])}{more}."


def who_is_here(roster: Roster, role: str | None = None, *, count: bool = False) -> str:
    """How many are here, or have a role, and up to 20 names."""
    if not roster.total:
        return "Nobody is in the room."
    peers = roster.peers if role is None else roster.with_role(role)
    if role is None:
        head, total = f"{_people(roster.total)} here. {roles(roster)}", roster.total
    else:
        total = roster.by_role[role]
        head = f"{_people(total)} here with the role {quoted(role, 30)}."
    # Commas read better than the word that keeps right-to-left text apart: here only the order
    # of such names can look turned, and nothing depends on it.
    names = ", ".join(quoted(peer.name) for peer in peers[:MAX_NAMES])
    left = total - min(len(peers), MAX_NAMES)
    return (
        head
        if count or not peers
        else f"{head}\nNames: {names}{f' and {left:,} more' if left > 0 else ''}."
    )


def found(options: Sequence[Someone], roster: Roster) -> str:
    """The people a search found, a line each."""
    lines = [f"{_one(option, roster)} is here." for option in options[:MAX_OPTIONS]]
    left = len(options) - MAX_OPTIONS
    return "\n".join([*lines, f"And {left} more."] if left > 0 else lines)


def which(options: Sequence[Someone], roster: Roster) -> str:
    """A numbered question; the options shown are those an answer can choose from."""
    lines = [
        f"{place}. {'' if isinstance(option, RoleGroup) else 'called '}{_one(option, roster)}"
        for place, option in enumerate(options[:MAX_OPTIONS], 1)
    ]
    head, tail = "Which one do you mean? Nothing was done yet.", 'Say the number, or "none".'
    if len(options) == 1:
        head, tail = "Do you mean this one? Nothing was done yet.", 'Say "yes" or "no".'
    left = len(options) - MAX_OPTIONS
    more = [f"And {left} more; for one of them, say the whole order with the id."]
    return "\n".join([head, *lines, *(more if left > 0 else []), tail])


def _one(option: Someone, roster: Roster) -> str:
    if isinstance(option, RoleGroup):
        return f"everyone with the role {quoted(option.role, 30)}, that is {_number(option.count)}"
    return (
        f"{quoted(option.name)} with the role {quoted(option.role, 30)}, "
        f"user id {quoted(option.user_id, 40)} and id {roster.short[option.id]}"
    )


def _people(count: int) -> str:
    return f"{_number(count)} {'is' if count == 1 else 'are'}"


def _number(count: int) -> str:
    return "1 person" if count == 1 else f"{count:,} people"


def status(room: object) -> str:
    """The live state of a room from the artifact of hms-retrieve-active-room."""
    if not isinstance(room, dict) or not isinstance(session := room.get("session"), dict):
        return say("no_room_state")
    session_id, since, total = session.get("id"), session.get("created_at"), room.get("total")
    if not (isinstance(session_id, str) and isinstance(since, str) and isinstance(total, int)):
        return say("no_room_state")
    return (
        f"The room is live, {_people(total)} in it. "
        f"Session {quoted(session_id, 40)} began at {quoted(since, 40)}."
    )


def outcome(content: str, state: object) -> str:
    """What came of an action, in the gate's own words."""
    said = tool_text(content)
    head = "Nothing was done.\n" if state in _NOT_EXECUTED else ""
    return f"{head}{said}" if said else f"{head}The tool gave no text about what came of it."


def tool_text(content: str) -> str:
    """A tool's words as they are, but bounded and with nothing that acts in a terminal.

    What our tools wrote comes out unchanged: quotes and escapes stay. What is for a model only
    is left out.
    """
    lines = content.removesuffix(NOT_AGAIN)[:_MAX_TOOL_CHARS].splitlines()[:_MAX_TOOL_LINES]
    return "\n".join(re.sub(r'[^"\\]+', lambda match: escaped(match[0]), line) for line in lines)
