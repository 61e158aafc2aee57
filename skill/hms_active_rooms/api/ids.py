"""Checks ids of rooms and peers. `parse_...` returns an id in lower case, or raises InvalidCall.

Ids come from a model or from strangers, and are put into URLs. So an id may have only hexadecimal
digits and the dashes of a UUID.
"""

from __future__ import annotations

import re
from typing import Final

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.untrusted import SHORT_ID_CHARS, quoted, storable

# The shapes are those of the examples in the 100ms docs.
_ROOM_ID: Final = re.compile(r"[0-9a-fA-F]{24}")
_PEER_ID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ANY_UUID: Final = "00000000-0000-0000-0000-000000000000"


def parse_room_id(value: object) -> str:
    """Check a room id (24 hexadecimal characters). Return it in lower case, or raise InvalidCall."""
    told = "a room id. A room id has 24 hexadecimal characters. A room code is not a room id"
    return _parsed(value, _ROOM_ID, told)


def parse_peer_id(value: object) -> str:
    """Check a full peer id (a UUID with dashes). Return it in lower case, or raise InvalidCall."""
    return _parsed(value, _PEER_ID, "a full peer id. A full peer id is a UUID of 36 characters")


def parse_peer_ref(value: object) -> str:
    """Return a full or short peer id in lower case. A short id is the first 8 or more characters of a full
    id. Raises InvalidCall for anything else."""
    told = (
        f"a peer id. A peer id is a UUID. Its first {SHORT_ID_CHARS} or more characters are enough"
    )
    rest = _ANY_UUID[max(len(value), SHORT_ID_CHARS) :] if isinstance(value, str) else ""
    return _parsed(value, _PEER_ID, f"{told}. The list of peers shows each peer's id", rest)


def _parsed(value: object, shape: re.Pattern[str], told: str, rest: str = "") -> str:
    if isinstance(value, str) and shape.fullmatch(value + rest):
        return value.lower()
    raise InvalidCall(f"{shown(value)} is not {told}.")


def refuse_unstorable(name: str, text: str) -> None:
    """Raise InvalidCall if `text` has a NUL or a lone surrogate. The error calls `text` by its `name`."""
    if storable(text) != text:
        hint = "Leave out NUL characters, and write the text in UTF-8."
        raise InvalidCall(
            f"The {name} has a character that cannot be stored: {quoted(text)}.", hint=hint
        )


def is_peer_id(text: str) -> bool:
    """Return whether a text is a full peer id, in upper or lower case."""
    return bool(_PEER_ID.fullmatch(text))


def normal_id(given: object) -> object:
    """Return a room or peer id in lower case. Return any other value unchanged."""
    is_id = isinstance(given, str) and (is_peer_id(given) or _ROOM_ID.fullmatch(given))
    return str(given).lower() if is_id else given


def shown(value: object) -> str:
    """Describe a wrong argument for an error. A text is quoted; of any other value only the type is
    named."""
    return quoted(value) if isinstance(value, str) else f"a value of type {type(value).__name__}"
