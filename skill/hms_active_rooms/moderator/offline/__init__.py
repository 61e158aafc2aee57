"""The offline chat model: plain sentences to tool calls by a grammar, failing closed."""

from hms_active_rooms.moderator.offline.model import CommandsModel
from hms_active_rooms.moderator.offline.replies import CAPABILITIES_TEXT
from hms_active_rooms.moderator.offline.steps import next_step

__all__ = ["CAPABILITIES_TEXT", "CommandsModel", "next_step"]
