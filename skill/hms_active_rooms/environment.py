"""The environment variables that the package reads, and the errors for wrong names and values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import platformdirs

from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.untrusted import quoted

_PREFIX: Final = "HMS_"

KNOWN: Final = frozenset(
    _PREFIX + name
    for name in (
        "ACCESS_KEY", "APPROVER_TOKEN", "BASE_URL", "DEBUG", "JOURNAL", "JOURNAL_KEY", "MANAGEMENT_TOKEN",
        "MODEL", "NOTIFY_FORM", "NOTIFY_NAMES", "NOTIFY_SECRET", "NOTIFY_URL", "PLAIN_ANSWERS",
        "POLICY_FILE", "ROOM", "SECRET", "SERVER_TOKEN", "SERVER_TOKENS", "SERVER_URL",
        "TRANSPORT",
    )
)  # fmt: skip
"""The environment variables that have a fixed name."""

FAMILIES: Final = ("HMS_POLICY_", "HMS_APPROVER_TOKEN_")
"""Prefixes of other settings. The code that reads a setting checks the rest of its name."""


def state_folder() -> Path:
    """Return the folder of the journal and the conversations. It may not exist yet. Raises
    ConfigurationError if the system knows no home folder for this user, as in some containers."""
    with suppress(RuntimeError):
        folder = platformdirs.user_state_path("hms-active-rooms")
        if folder.is_absolute():  # else a part of it is "~"
            return folder
    raise ConfigurationError(
        "There is no folder for the journal and conversations: this user has no home folder.",
        hint="Set HOME or XDG_STATE_HOME to a folder that can be written.",
    )


def one_of(environ: Mapping[str, str], variable: str, *allowed: str) -> str:
    """Return the variable's value, or `allowed[0]` if the variable is unset or blank. Raises
    ConfigurationError if the value is not in `allowed`."""
    value = environ.get(variable, "").strip() or allowed[0]
    if value not in allowed:
        *others, last = allowed
        raise ConfigurationError(
            f"{variable} is {quoted(value, 100)}. Set it to {', '.join(others)} or {last}."
        )
    return value


def refuse_unknown(environ: Mapping[str, str], also_known: Collection[str] = ()) -> None:
    """Raise ConfigurationError if the name of a variable is a misspelled or unknown setting."""
    # A mistyped setting, such as `hms-room` or `HMSROOM`, could leave a protection off.
    ours, families = set(map(_letters, KNOWN)), tuple(map(_letters, FAMILIES))
    for name in environ:
        # Files of settings may begin with a byte order mark, or have "export" before a name.
        plain = re.sub(r"[\W_]+", "_", "".join(name.upper().split()[-1:]))
        if _letters(plain) in ours or _letters(plain).startswith(families):
            plain = re.sub("^_*HMS_*", _PREFIX, plain)
        if not plain.startswith(_PREFIX) or name in KNOWN or name.startswith(FAMILIES):
            continue
        raise unknown_setting(
            name, [plain] if plain.startswith(FAMILIES) else KNOWN.union(also_known)
        )


def _letters(name: str) -> str:
    return name.replace("_", "")


def unknown_setting(name: str, known: Collection[str], prefix: str = _PREFIX) -> ConfigurationError:
    """Return the error for a variable that is no setting. It names the most similar of the `known`
    settings, or all. `prefix` is how their names begin."""
    others = [f"{family}..." for family in FAMILIES] if prefix == _PREFIX else []
    tails = {one.removeprefix(prefix): one for one in known}
    near = get_close_matches(name.upper().removeprefix(prefix), tails, 1)
    return ConfigurationError(
        f"{quoted(name)} is not a setting of hms-active-rooms.",
        hint=f"The most similar setting is {tails[near[0]]}. Rename or unset {quoted(name)}."
        if near
        else f"Unset the variable. The settings are: {', '.join(sorted([*known, *others]))}.",
    )
