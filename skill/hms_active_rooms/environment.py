"""The variables this package reads, and the error for one that nobody reads.

A variable that is nearly right would be ignored, and with `HMS_POLICY` in place of
`HMS_POLICY_FILE` every protection with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.untrusted import quoted

PREFIX: Final = "HMS_"
POLICY_PREFIX: Final = "HMS_POLICY_"

KNOWN: Final = (
    "HMS_ACCESS_KEY",
    "HMS_SECRET",
    "HMS_MANAGEMENT_TOKEN",
    "HMS_BASE_URL",
    "HMS_TRANSPORT",
    "HMS_JOURNAL",
    "HMS_POLICY_FILE",
    "HMS_MODEL",
    "HMS_ROOM",
    "HMS_PLAIN_ANSWERS",
    "HMS_DEBUG",
    "HMS_SERVER_TOKEN",
    "HMS_SERVER_TOKENS",
    "HMS_SERVER_URL",
    "HMS_APPROVER_TOKEN",
)
FAMILIES: Final = ("HMS_APPROVER_TOKEN_", "HMS_NOTIFY_")
"""Beginnings of names that go on with something of the person's own, or of the server's."""


def check_variables(environ: Mapping[str, str], policy: Iterable[str]) -> None:
    """Refuse a variable that begins with `HMS_` and means nothing here.

    Args:
        environ: the environment.
        policy: the fields of the policy, each of which has a variable.

    Raises:
        ConfigurationError: it names the variable, and the nearest that is read.
    """
    known = (*KNOWN, *(POLICY_PREFIX + field.upper() for field in policy))
    for name, value in environ.items():
        upper = name.upper()
        if not value or not upper.startswith(PREFIX) or name in known or name.startswith(FAMILIES):
            continue
        [nearest] = get_close_matches(upper, known, n=1, cutoff=0.0)
        raise ConfigurationError(
            f"The variable {quoted(name, 80)} is not read by anything here.",
            hint=f"Did you mean {nearest}? Unset it, if it is another program's.",
        )
