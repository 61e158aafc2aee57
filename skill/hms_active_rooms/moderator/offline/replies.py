"""What the person reads: short, says whether anything was done, strangers' text quoted.

Between two quoted texts, and between a quoted text and a number, stands a Latin word,
so that a right-to-left name cannot reorder the line (see `untrusted`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from hms_active_rooms.gate.wording import NOT_AGAIN
from hms_active_rooms.moderator.offline.intents import Trick, Why
from hms_active_rooms.moderator.offline.names import RoleGroup, Someone
from hms_active_rooms.moderator.offline.roster import Peer, Roster
from hms_active_rooms.untrusted import escaped, quoted

MAX_OPTIONS: Final = 8
MAX_NAMES: Final = 20
_MAX_ROLES: Final = 12
_MAX_TOOL_LINES: Final = 8
_MAX_TOOL_CHARS: Final = 2000

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
        "I understand plain sentences, one order at a time. Say, for example:",
        *(f"- {example}" for example in EXAMPLES),
        "Messages, removals and ending are shown to you before anything is sent.",
        "I cannot mute, ban, rename or change roles.",
    )
)

HELLO: Final = 'Hello. Say "who is here?" to start, or "help" for what I understand.'
THANKS: Final = "You are welcome."
NOTHING_TO_APPROVE: Final = (
    "There is nothing to approve here. An action is approved or rejected where it is shown to you."
)
NOTHING_PENDING: Final = "Nothing was done, and nothing is waiting here."
WITHDRAWN: Final = "All right. Nothing was done."
WHICH_ROOM: Final = (
    "Which room? I know none. Nothing was done. "
    'Name it by its id, 24 hexadecimal characters: "who is in room <id>".'
)
OTHER_ROOM: Final = "This conversation is about another room. Nothing was done."
TWO_ROOMS: Final = "Name one room at a time. Nothing was done."
NONE_OF_THEM: Final = (
    "That is not one of those I asked about. Nothing was done. Say the whole order again."
)
WHO: Final = "Who do you mean? Name the person. Nothing was done."
NO_ROSTER: Final = "I cannot read who is in the room from what the tool gave me. Nothing was done."
TOO_MANY_ALIKE: Final = (
    "Too many people here have a name like that. Nothing was done. "
    "Say the whole name, the user id or the id."
)
NO_ROOM_STATE: Final = "I cannot read the room's state from what the tool gave me."
NO_ANSWER: Final = "A tool call has no answer yet, so I do not know what came of it. I did no more."
TOO_MANY_STEPS: Final = "I stopped: this took more steps than one request needs. I did no more."
NO_END: Final = (
    "I cannot tell where the name ends and the message begins. Nothing was sent. "
    'Put a colon between them: "tell Sam: hello".'
)
TEXT_ONLY: Final = "I read text only. Nothing was done."

_HOW: Final = 'Say "help" for what I understand.'
_WHY: Final[dict[Why, str]] = {
    "negation": "That says not to do something, or takes something back, so I did nothing.",
    "exception": (
        "I cannot act on a group with exceptions. Nothing was done. "
        "Name one person or one role at a time."
    ),
    "condition": (
        "I cannot wait for a condition. Nothing was done. Say it when you want it done. "
        'If the words belong to a message, put a colon before it: "tell everyone: ...".'
    ),
    "delay": (
        "I cannot do things later, only now. Nothing was done. Say it when you want it done. "
        'If the words belong to a message, put a colon before it: "tell everyone: ...".'
    ),
    "span": (
        "A removal is not for a time: whoever is removed can join again at once with a valid "
        'token. Nothing was done. To remove them now: "remove Sam Lee".'
    ),
    "several": (
        "I do one thing to one person or one role at a time. Nothing was done. "
        'Say the orders one by one; put quotes around an unusual name: remove "Sam & Co".'
    ),
    "question": (
        "I took that as a question, so I did nothing. "
        'To have it done, say it as an order: "remove Sam Lee".'
    ),
    "reported": (
        "That tells me about something instead of ordering it, so I did nothing. "
        'To have it done, say it as an order: "remove Sam Lee".'
    ),
    "everyone": (
        "Everyone cannot be removed at once. Nothing was done. "
        'Say "end the room" to end it for all, or "remove all students" for one role.'
    ),
    "somebody": (
        "I need one name or one role. Nothing was done. "
        'For example: "remove Sam Lee", or "remove all students".'
    ),
    "no-message": (
        'I need the words to send. Nothing was sent. For example: "tell everyone: we start now".'
    ),
    "unclear-message": (
        "I cannot tell which words are the message. Nothing was sent. "
        'Put a colon before it, "tell everyone: ...", or quotes around it.'
    ),
    "lock-only": (
        "A room can only be locked together with ending its session. Nothing was done. "
        'If you want that, say "end the room and lock it".'
    ),
}

_TRICK: Final[dict[Trick, str]] = {
    "mute": "Nobody can be muted or unmuted from here: the API has no call for it.",
    "video": "Nobody's camera or screen can be turned on or off from here: the API has no call for it.",
    "ban": (
        "There is no ban: whoever is removed can join again with a valid token. "
        'Keeping everybody out is possible when ending: "end the room and lock it".'
    ),
    "unban": "There is no ban list, so nobody has to be unbanned.",
    "role": "I have no tool that changes a role.",
    "recording": "I have no tool for recording or streaming.",
    "rename": "I have no tool that changes a name.",
    "hand": "I have no tool for raised hands.",
    "breakout": "I have no tool that moves people between rooms.",
    "unlock": (
        "I have no tool that opens a locked room again: enable the room in the 100ms dashboard."
    ),
}
_INSTEAD: Final = (
    'I can send a message ("tell Sam Lee to mute") or remove a person ("remove Sam Lee").'
)


def refused(why: Why) -> str:
    """Why a sentence about an action was not carried out, and how to say it."""
    return _WHY[why]


def impossible(trick: Trick) -> str:
    """What no tool can do, and what can be done."""
    return f"{_TRICK[trick]} Nothing was done. {_INSTEAD}"


def not_understood(*, unreadable: bool) -> str:
    """The answer to anything else."""
    head = (
        "I read one line of plain text, at most 2,000 characters."
        if unreadable
        else "I did not understand that."
    )
    shown = ", ".join(f'"{EXAMPLES[place]}"' for place in (0, 4, 8))
    return f"{head} Nothing was done. For example: {shown}. {_HOW}"


def not_available(tool: str) -> str:
    """A tool that was not given to the model."""
    return f"The tool {quoted(tool)} is not available here. Nothing was done."


def not_possible(problem: str) -> str:
    """A call that its own arguments forbid, for example a message that is too long."""
    return f"That cannot be sent: {problem} Nothing was done."


def nobody(text: str, closest: Sequence[Peer], roster: Roster) -> str:
    """No one has this name."""
    head = f"Nobody here is called {quoted(text)}. Nothing was done."
    if not closest:
        return head
    shown = " and ".join(f"{quoted(peer.name)} with id {roster.short[peer.id]}" for peer in closest)
    return f"{head} Similar: {shown}."


def no_role(text: str, roster: Roster, *, several: bool) -> str:
    """No such role, or more than one."""
    head = "Several roles here could be" if several else "Nobody here has the role"
    hint = " Put quotes around the exact one." if several else ""
    return f"{head} {quoted(text)}. Nothing was done. {roles(roster)}{hint}"


def roles(roster: Roster) -> str:
    """The roles in the room with their counts."""
    if not roster.by_role:
        return "Nobody is in the room."
    shown = [f"{count:,} as {quoted(role, 30)}" for role, count in roster.by_role.items()]
    left = len(shown) - _MAX_ROLES
    more = f" and {left} other roles" if left > 0 else ""
    return f"By role: {' and '.join(shown[:_MAX_ROLES])}{more}."


def who_is_here(roster: Roster, *, count: bool) -> str:
    """Counts by role, and up to 20 names."""
    if not roster.total:
        return "Nobody is in the room."
    head = f"{_people(roster.total)} here. {roles(roster)}"
    return head if count else f"{head}\n{_names(roster.peers, roster.total)}"


def who_has_role(roster: Roster, role: str, *, count: bool) -> str:
    """How many have a role, and up to 20 of their names."""
    total = roster.by_role[role]
    head = f"{_people(total)} here with the role {quoted(role, 30)}."
    return head if count else f"{head}\n{_names(roster.with_role(role), total)}"


def found(options: Sequence[Someone], roster: Roster) -> str:
    """The people a search found, a line each."""
    lines = [f"{_one(option, roster)} is here." for option in options[:MAX_OPTIONS]]
    left = len(options) - MAX_OPTIONS
    return "\n".join([*lines, f"And {left} more."] if left > 0 else lines)


def which(options: Sequence[Someone], roster: Roster) -> str:
    """A numbered question; the options shown are those an answer can choose from."""
    shown = options[:MAX_OPTIONS]
    lines = [
        f"{place}. {'' if isinstance(option, RoleGroup) else 'called '}{_one(option, roster)}"
        for place, option in enumerate(shown, 1)
    ]
    if len(options) == 1:
        head, tail = "Do you mean this one? Nothing was done yet.", 'Say "yes" or "no".'
    else:
        head, tail = "Which one do you mean? Nothing was done yet.", 'Say the number, or "none".'
    left = len(options) - MAX_OPTIONS
    more = (
        [f"And {left} more; for one of them, say the whole order with the id."] if left > 0 else []
    )
    return "\n".join([head, *lines, *more, tail])


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


def _names(peers: Sequence[Peer], total: int) -> str:
    # Commas read better than the word that keeps right-to-left text apart: here only the order
    # of such names can look turned, and nothing depends on it.
    shown = ", ".join(quoted(peer.name) for peer in peers[:MAX_NAMES])
    left = total - min(len(peers), MAX_NAMES)
    return f"Names: {shown}{f' and {left:,} more' if left > 0 else ''}."


def status(room: object) -> str | None:
    """The live state of a room from the artifact of hms-retrieve-active-room."""
    if not isinstance(room, dict) or not isinstance(session := room.get("session"), dict):
        return None
    session_id, since, total = session.get("id"), session.get("created_at"), room.get("total")
    if not (isinstance(session_id, str) and isinstance(since, str) and isinstance(total, int)):
        return None
    return (
        f"The room is live, {_people(total)} in it. "
        f"Session {quoted(session_id, 40)} began at {quoted(since, 40)}."
    )


_NOT_EXECUTED: Final = frozenset({"rejected", "expired", "refused"})


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
    content = content.removesuffix(NOT_AGAIN)
    lines = content[:_MAX_TOOL_CHARS].splitlines()[:_MAX_TOOL_LINES]
    return "\n".join(re.sub(r'[^"\\]+', lambda match: escaped(match[0]), line) for line in lines)


def joined(texts: Iterable[str]) -> str:
    """Several outcomes, a line each."""
    return "\n".join(texts)
