"""The record of every action, and the one authority on what may be sent."""

from hms_active_rooms.gate.journal.journal import Journal

__all__ = ["Journal"]
