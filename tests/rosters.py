"""A roster as the tools show it."""

from __future__ import annotations

from collections.abc import Sequence

from hms_active_rooms.api.models import Peer
from hms_active_rooms.tools.arguments import DEFAULT_ROWS, MAX_ROWS
from hms_active_rooms.tools.roster import Roster, default_budget, select, shown


def roster(
    peers: Sequence[Peer], *, limit: int = DEFAULT_ROWS, offset: int = 0, **filters: str | None
) -> Roster:
    """What `select` finds, with the rows that fit."""
    limit = min(limit, MAX_ROWS)
    view = select(peers, limit=limit, offset=offset, **filters)
    return shown(view, default_budget(limit))[1]
