"""The approvals page: who is in the room, what waits for a person, and the journal, in a browser."""

from hms_active_rooms.serve.page.http import PATH
from hms_active_rooms.serve.page.routes import Page, page_routes
from hms_active_rooms.serve.page.settings import PageSettings

__all__ = ["PATH", "Page", "PageSettings", "page_routes"]
