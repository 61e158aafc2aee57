"""The approvals page: who is in the room, what waits for a person, and the journal, in a browser."""

from hms_active_rooms.serve.page.feed import PageSettings
from hms_active_rooms.serve.page.routes import PATH, Page

__all__ = ["PATH", "Page", "PageSettings"]
