"""The room a sentence is about: its id cut out of the sentence, and which id counts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from hms_active_rooms.moderator.offline.grammar import parse
from hms_active_rooms.moderator.offline.intents import Intent, Tell, TellEveryone
from hms_active_rooms.moderator.offline.sentence import read, template

_ID: Final = r"(?P<id>[0-9a-f]{24})(?![0-9a-z-])"
_FIRST: Final = template(rf"(?:in|for) (?:the )?(?:room )?{_ID}[,:]? (?P<rest>.+)")
_ROOM: Final = template(
    rf"(?:(?:the |this )?room |(?<=\bin )|(?<=\bfrom )|(?<=\bof ))(?:id )?{_ID}"
)
_WORDS_BEGIN: Final = re.compile(r'[:"“”„«]')

RoomProblem = Literal["none", "other", "two"]


@dataclass(frozen=True)
class Understood:
    """What a sentence asks for, and the rooms it names."""

    intent: Intent
    rooms: frozenset[str] = frozenset()


def understand(text: str) -> Understood:
    """The intent of a sentence that may name its room: "end the room <id>", "in room <id> ..."."""
    sentence = read(text)
    if sentence is None or not re.search("[0-9a-fA-F]{24}", text):
        return Understood(parse(text))
    line, rooms = sentence.raw, set()
    if match := _FIRST.fullmatch(line):
        line, rooms = match["rest"], {match["id"].lower()}
    words = _WORDS_BEGIN.search(line)
    head, tail = (line[: words.start()], line[words.start() :]) if words else (line, "")
    named = {match["id"].lower() for match in _ROOM.finditer(head)}
    shorter = parse(_ROOM.sub("the room", head) + tail)
    # An id in unmarked words of a message is part of the message.
    if named and (tail or not isinstance(shorter, Tell | TellEveryone)):
        return Understood(shorter, frozenset(rooms | named))
    return Understood(parse(line), frozenset(rooms))


def room_for(
    named: frozenset[str], fixed: str | None, system: str | None
) -> tuple[str, None] | tuple[None, RoomProblem]:
    """The room that counts: the model's own, else the sentence's, else the system message's."""
    if len(named) > 1:
        return None, "two"
    if fixed is not None and named - {fixed}:
        return None, "other"
    room = fixed or next(iter(named), None) or system
    return (None, "none") if room is None else (room, None)
