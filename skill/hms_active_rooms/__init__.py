"""Lets a language model moderate a live 100ms video room safely.

    from hms_active_rooms import ActiveRoomsToolkit, ActiveRoomsClient, Policy

The model gets five tools. A person approves each change of the room. A journal records each change.
The package imports a module only when one of its names is used. So the API client needs no LangChain.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hms_active_rooms.api.client import ActiveRoomsClient as ActiveRoomsClient
    from hms_active_rooms.api.client import SyncActiveRoomsClient as SyncActiveRoomsClient
    from hms_active_rooms.errors import ActiveRoomsError as ActiveRoomsError
    from hms_active_rooms.gate.approval import ApprovalRequest as ApprovalRequest
    from hms_active_rooms.gate.approval import Approve as Approve
    from hms_active_rooms.gate.approval import Edit as Edit
    from hms_active_rooms.gate.approval import Reject as Reject
    from hms_active_rooms.gate.gate import Gate as Gate
    from hms_active_rooms.gate.journal import Journal as Journal
    from hms_active_rooms.gate.policy import Policy as Policy
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit as ActiveRoomsToolkit

__version__ = "0.1.0"

_HOME = {
    "ActiveRoomsClient": "api.client",
    "SyncActiveRoomsClient": "api.client",
    "ActiveRoomsError": "errors",
    "ActiveRoomsToolkit": "tools.toolkit",
    "ApprovalRequest": "gate.approval",
    "Approve": "gate.approval",
    "Edit": "gate.approval",
    "Reject": "gate.approval",
    "Gate": "gate.gate",
    "Journal": "gate.journal",
    "Policy": "gate.policy",
}


def __getattr__(name: str) -> Any:
    if name == "__all__":  # `import *` asks for it
        return __dir__()
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])
