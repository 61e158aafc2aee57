"""The interactive moderator: `from hms_active_rooms.agent import build_moderator`."""

from hms_active_rooms.agent.moderator import build_moderator

__all__ = ["build_moderator"]
