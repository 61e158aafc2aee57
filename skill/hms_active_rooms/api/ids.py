"""Parses ids of rooms and peers. Each function returns the id in lower case, or raises InvalidCall.

Ids come from a model or from strangers, and go into URLs. So only the exact shapes pass: no path
segments, no percent signs, no digits of other scripts, no newline at the end.
"""

from __future__ import annotations

import re
from typing import Final

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.untrusted import SHORT_ID_CHARS, quoted

# The shapes are those of the examples in the 100ms docs.
_ROOM_ID: Final = re.compile(r"[0-9a-fA-F]{24}")
_PEER_ID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ROOM_CODE: Final = re.compile(r"[a-z]{3,4}-[a-z]{3,4}-[a-z]{3,4}")
_ANY_UUID: Final = "00000000-0000-0000-0000-000000000000"


def parse_room_id(value: object) -> str:
    """A room id (24 hexadecimal characters). The error for a room code has a hint of its own."""
    if isinstance(value, str) and _ROOM_CODE.fullmatch(value):
        raise InvalidCall(
            f"{shown(value)} is not a room id: that looks like a room code.",
            hint="Use the room id, 24 hexadecimal characters, from the 100ms dashboard.",
        )
    return _parsed(value, _ROOM_ID, "a room id, which is 24 hexadecimal characters")


def parse_peer_id(value: object) -> str:
    """A full peer id (a UUID with dashes). Short ids are refused."""
    return _parsed(value, _PEER_ID, "a full peer id, which is a UUID of 36 characters")


def parse_peer_ref(value: object) -> str:
    """A full or a short peer id. A short one is the first 8 or more characters of a UUID. This does
    not check which peer it means."""
    told = f"a peer id: a UUID, or at least its first {SHORT_ID_CHARS} characters, as the list"
    rest = _ANY_UUID[max(len(value), SHORT_ID_CHARS) :] if isinstance(value, str) else ""
    return _parsed(value, _PEER_ID, f"{told} of peers shows it", rest)


def _parsed(value: object, shape: re.Pattern[str], told: str, rest: str = "") -> str:
    if isinstance(value, str) and shape.fullmatch(value + rest):
        return value.lower()
    raise InvalidCall(f"{shown(value)} is not {told}.")


def is_peer_id(text: str) -> bool:
    """Whether this is a full peer id, in upper or lower case."""
    return bool(_PEER_ID.fullmatch(text))


def normal_id(given: object) -> object:
    """A room or peer id in lower case; any other value unchanged."""
    is_id = isinstance(given, str) and (is_peer_id(given) or _ROOM_ID.fullmatch(given))
    return str(given).lower() if is_id else given


def shown(value: object) -> str:
    """How an error shows a refused value. A text is quoted. Of any other value only the type is
    shown, since the value may be secret."""
    return quoted(value) if isinstance(value, str) else f"a value of type {type(value).__name__}"
