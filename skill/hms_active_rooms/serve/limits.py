"""How many connections a server takes, and how many of them programs may keep busy."""

from __future__ import annotations

import sys
from typing import Final


def most_connections() -> int:
    """Our choice, or half of the files this process may open.

    The other half is for the journal, the room, and connections about to be closed.
    """
    if sys.platform == "win32":
        return 512
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 512 if files == resource.RLIM_INFINITY else max(min(512, files // 2), 16)


MOST_CONNECTIONS: Final = most_connections()

MOST_OF_PROGRAMS: Final = MOST_CONNECTIONS // 2
"""Our choice: the other half is for people, whatever programs do."""
