"""What the person reads: short, says whether anything was done, strangers' text quoted.

Between two quoted texts, and between a quoted text and a number, stands a Latin word,
so that a right-to-left name cannot reorder the line (see `untrusted`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from langchain_core.messages import ToolMessage

from hms_active_rooms.gate.wording import NOT_AGAIN
from hms_active_rooms.moderator.offline.reading import words
from hms_active_rooms.moderator.offline.roster import RoleGroup, Roster, Someone
from hms_active_rooms.untrusted import escaped, quoted

MAX_OPTIONS: Final = 8
MAX_NAMES: Final = 20
_MAX_ROLES: Final = 12
_MAX_TOOL_LINES: Final = 8
_MAX_TOOL_CHARS: Final = 2000
_NOT_EXECUTED: Final = frozenset({"rejected", "expired", "refused"})

EXAMPLES: Final = words().lists["examples"]
"""Sentences that are understood, every one tested. Some are shown when another is not."""


def say(key: str, **parts: object) -> str:
    """A text of `words.yaml`."""
    return words().says[key].format(**parts)


CAPABILITIES_TEXT: Final = say("help", examples="\n".join(f"- {one}" for one in EXAMPLES))


def not_understood(why: str) -> str:
    """Why nothing was done, and what is understood."""
    if why.startswith("language:"):
        return why.removeprefix("language:")
    if why in words().why:
        return words().texts["why"][why]
    shown = ", ".join(f'"{EXAMPLES[place]}"' for place in (0, 4, 8))
    return say(why or "not_understood", shown=shown)


def nobody(name: str, roster: Roster) -> str:
    """No one has this name."""
    role = name.removeprefix("the ").removesuffix(" role")
    if role != name and role in roster.by_role:
        everyone = quoted(f"remove everyone with role {role}", 60)
        return say("only_a_role", role=quoted(role, 30), everyone=everyone)
    return f"{say('nobody', name=quoted(name))} {_roles(roster)}"


def _roles(roster: Roster) -> str:
    if not roster.total:
        return say("empty")
    shown = [f"{count:,} as {quoted(role, 30)}" for role, count in roster.by_role.items()]
    left = len(shown) - _MAX_ROLES
    more = f" and {left} other roles" if left > 0 else ""
    return f"By role: {' and '.join(shown[:_MAX_ROLES])}{more}."


def who_is_here(roster: Roster, role: str | None = None, *, count: bool = False) -> str:
    """How many are here, or have a role, and up to 20 names."""
    if not roster.total:
        return say("empty")
    if role is None:
        peers, total = roster.peers, roster.total
        head = f"{_people(total)} here. {_roles(roster)}"
    else:
        peers, total = roster.with_role(role), roster.by_role[role]
        head = f"{_people(total)} here with the role {quoted(role, 30)}."
    if count or not peers:
        return head
    # Commas read better than the word that keeps right-to-left text apart: here only the order
    # of such names can look turned, and nothing depends on it.
    names = ", ".join(quoted(peer.name) for peer in peers[:MAX_NAMES])
    left = total - min(len(peers), MAX_NAMES)
    return f"{head}\nNames: {names}{f' and {left:,} more' if left > 0 else ''}."


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
    left = len(options) - MAX_OPTIONS
    if left > 0:
        lines.append(say("more_options", left=left))
    return say("this_one" if len(options) == 1 else "which_one", lines="\n".join(lines))


def _one(option: Someone, roster: Roster) -> str:
    role = quoted(option.role, 30)
    if isinstance(option, RoleGroup):
        return f"everyone with the role {role}, that is {_number(option.count)}"
    name, user_id = quoted(option.name), quoted(option.user_id, 40)
    return f"{name} with the role {role}, user id {user_id} and id {roster.short[option.id]}"


def _people(count: int) -> str:
    return f"{_number(count)} {'is' if count == 1 else 'are'}"


def _number(count: int) -> str:
    return "1 person" if count == 1 else f"{count:,} people"


def status(artifact: object, room_id: str) -> str:
    """The live state of a room from the artifact of hms-retrieve-active-room."""
    if isinstance(artifact, dict) and artifact.get("id") == room_id:
        match artifact:
            case {"session": {"id": str(session), "created_at": str(since)}, "total": int(total)}:
                here, began = _people(total), quoted(since, 40)
                return say("live", people=here, session=quoted(session, 40), since=began)
    return say("no_room_state")


def outcome(answer: ToolMessage | None) -> str:
    """What came of a call, in the tool's own words, and whether nothing was done."""
    if answer is None:
        return say("no_answer")
    state = answer.artifact.get("state") if isinstance(answer.artifact, dict) else None
    refused = answer.status != "error" and state in _NOT_EXECUTED
    text = _bounded(str(answer.text)) or ("" if answer.status == "error" else say("no_outcome"))
    return f"Nothing was done.\n{text}" if refused else text


def _bounded(content: str) -> str:
    """A tool's words as they are, but bounded and with nothing that acts in a terminal.

    What our tools wrote comes out unchanged: quotes and escapes stay. What is for a model only
    is left out.
    """
    lines = content.removesuffix(NOT_AGAIN)[:_MAX_TOOL_CHARS].splitlines()[:_MAX_TOOL_LINES]
    return "\n".join(re.sub(r'[^"\\]+', lambda match: escaped(match[0]), line) for line in lines)
