"""The graph that `langgraph dev` serves, with settings from the environment.

The import builds the graph. It raises ConfigurationError if a setting is missing, such as credentials.
"""

from __future__ import annotations

import os

from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.environment import one_of
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.moderator.moderator import build_moderator
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

_room = os.environ.get("HMS_ROOM") or None
try:
    _room = _room and parse_room_id(_room)
except InvalidCall as error:
    raise ConfigurationError(f"HMS_ROOM: {error}", hint=error.hint) from None

graph = build_moderator(
    os.environ.get("HMS_MODEL") or None,
    ActiveRoomsToolkit.from_env(rooms=[_room] if _room else ()),
    room_id=_room,
    # For UIs that know only LangChain's answers, which have no digest.
    plain_answers=one_of(os.environ, "HMS_PLAIN_ANSWERS", "0", "1") == "1",
)
