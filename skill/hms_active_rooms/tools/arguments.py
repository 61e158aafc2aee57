"""The arguments of the tools. `gate.actions` has the arguments of tools that change a room."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.actions import CALLS
from hms_active_rooms.gate.actions.change import Arguments, Label
from hms_active_rooms.untrusted import quoted

DEFAULT_ROWS: Final = 50
MAX_ROWS: Final = 100
Filter = Annotated[str, Field(min_length=1, max_length=256)]


def _whole(value: object) -> object:
    """Turn 2.0 into 2, since some model providers send all numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class RetrieveActiveRoom(Arguments):
    """Arguments of hms-retrieve-active-room."""


class ListPeers(Arguments):
    """Arguments of hms-list-peers."""

    role: Label | None = Field(default=None, description="Exactly this role.")
    user_id: Filter | None = Field(default=None, description="Exactly this user id.")
    name: Filter | None = Field(default=None, description="A part of the name, case ignored.")
    limit: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=MAX_ROWS)] = Field(
        default=DEFAULT_ROWS, description="At most 100; default 50."
    )
    # Bounded, since Python refuses to print a number of thousands of digits.
    offset: Annotated[int, BeforeValidator(_whole), Field(ge=0, le=1_000_000)] = Field(
        default=0, description="Rows to skip."
    )


ARGUMENTS: dict[str, type[Arguments]] = {  # by the tool's name
    "hms-retrieve-active-room": RetrieveActiveRoom,
    "hms-list-peers": ListPeers,
    **CALLS,
}


def checked(tool: str, arguments: object) -> Arguments:
    """Check `arguments`, a dict, and return them. Raises InvalidCall for a wrong argument or unknown tool."""
    if tool not in ARGUMENTS:
        known = ", ".join(ARGUMENTS)
        raise InvalidCall(f"There is no tool {quoted(tool)}.", hint=f"The tools are: {known}.")
    return ARGUMENTS[tool].parse(arguments)
