"""What each ending of a command means as an exit code; scripts branch on these. Pure."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from hms_active_rooms.errors import (
    ActiveRoomsError,
    ConfigurationError,
    InvalidCall,
    OutcomeUnknown,
    PolicyRefusal,
)

if TYPE_CHECKING:
    from hms_active_rooms.gate.journal.records import State

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
WAITING: Final = 3
REFUSED: Final = 4
UNKNOWN: Final = 5
SIGNALS: Final = tuple(getattr(signal, n) for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n))
"""They end a command as Ctrl-C does: from a service manager, from a terminal that is closed."""

INTERRUPTED: Final = 130
"""Ctrl-C, as shells count it: 128 and the signal's number."""

BROKEN_PIPE: Final = 141
"""Whoever read our output is gone; 128 and SIGPIPE."""

EPILOG: Final = """\b
Exit codes:
  0  done
  1  it failed; nothing was executed unless the text says so
  2  the command, an argument or a setting is wrong, or a name is unclear
  3  waiting for a person to approve it
  4  refused: by the policy, by a person, or not answered in time
  5  it may have been executed; look at the room, never send it again
"""

BY_STATE: Final[dict[State, int]] = {
    "done": DONE,
    "failed": FAILED,
    "proposed": WAITING,
    "approved": WAITING,
    "rejected": REFUSED,
    "expired": REFUSED,
    "sent": UNKNOWN,
    "unknown": UNKNOWN,
}
"""For an action that ended, or was left, in this state."""


def of_error(error: ActiveRoomsError) -> int:
    """The exit code of an error."""
    match error:
        case InvalidCall() | ConfigurationError():
            return USAGE
        case PolicyRefusal():
            return REFUSED
        case OutcomeUnknown():
            return UNKNOWN
    return FAILED if error.executed == "no" else UNKNOWN
