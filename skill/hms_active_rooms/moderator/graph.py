"""The graph `langgraph dev` serves: from the environment, without a checkpointer of its own."""

from __future__ import annotations

import os

from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.moderator.moderator import build_moderator
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

ROOM_VARIABLE = "HMS_ROOM"
MODEL_VARIABLE = "HMS_MODEL"

PLAIN_ANSWERS_VARIABLE = "HMS_PLAIN_ANSWERS"
"""1: take approvals without a digest, for UIs that know LangChain's shape only."""

_plain = os.environ.get(PLAIN_ANSWERS_VARIABLE) or "0"
if _plain not in ("0", "1"):
    raise ConfigurationError(f"{PLAIN_ANSWERS_VARIABLE} is 0 or 1.")
_room = os.environ.get(ROOM_VARIABLE) or None
try:
    _room = _room and parse_room_id(_room)
except InvalidCall as error:
    raise ConfigurationError(f"{ROOM_VARIABLE}: {error}") from None

graph = build_moderator(
    os.environ.get(MODEL_VARIABLE) or None,
    ActiveRoomsToolkit.from_env(rooms=[_room] if _room else ()),
    room_id=_room,
    plain_answers=_plain == "1",
)
