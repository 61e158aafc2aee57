"""The graph `langgraph dev` serves: from the environment, without a checkpointer of its own."""

from __future__ import annotations

import os

from hms_active_rooms.moderator.moderator import build_moderator
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

ROOM_VARIABLE = "HMS_ROOM"
MODEL_VARIABLE = "HMS_MODEL"

PLAIN_ANSWERS_VARIABLE = "HMS_PLAIN_ANSWERS"
"""1: take approvals without a digest, for UIs that know LangChain's shape only."""

_room = os.environ.get(ROOM_VARIABLE) or None

graph = build_moderator(
    os.environ.get(MODEL_VARIABLE) or None,
    ActiveRoomsToolkit.from_env(rooms=[_room] if _room else ()),
    room_id=_room,
    plain_answers=os.environ.get(PLAIN_ANSWERS_VARIABLE) == "1",
)
