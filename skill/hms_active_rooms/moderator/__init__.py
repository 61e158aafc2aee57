"""The moderator, an agent that a person talks to. `build_moderator` makes it."""

from hms_active_rooms.moderator.moderator import build_moderator

__all__ = ["build_moderator"]
