"""The state-changing tools, one file each. Importing the folder loads every file in it."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from hms_active_rooms.capability import capability
from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.gate.actions.change import StateChange
from hms_active_rooms.untrusted import quoted

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

_FOUND = {call.tool: call for call in StateChange.__subclasses__()}

CALLS: dict[str, type[StateChange]] = {
    tool.name: _FOUND[tool.name] for tool in capability().tools if tool.name in _FOUND
}
"""Maps each state-changing tool's name to its class, in the order of capability.yaml."""


def parse_call(tool: str, arguments: dict[str, Any]) -> StateChange:
    """Return the checked call. Raises InvalidCall for a wrong argument, or a tool that changes no room."""
    model = CALLS.get(tool)
    if model is None:
        raise InvalidCall(f"{quoted(tool)} is not a state-changing tool.")
    return model.parse(arguments)
