"""The interactive moderator: `from hms_active_rooms.moderator import build_moderator`."""

from hms_active_rooms.moderator.moderator import build_moderator

__all__ = ["build_moderator"]
