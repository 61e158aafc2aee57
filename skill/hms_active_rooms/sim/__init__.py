"""A simulated 100ms Active Rooms API: a real HTTP server with rooms and people in it.

    with running_sim("classroom") as sim:
        client = ActiveRoomsClient(base_url=sim.base_url, ...)

It shares no code with the rest of the package, since it is what the rest is tested
against. How well each behaviour is known stands in `behaviours.yaml`.
"""

from __future__ import annotations

from hms_active_rooms.sim.app import SimApp
from hms_active_rooms.sim.faults import Fault, Faults
from hms_active_rooms.sim.records import Role
from hms_active_rooms.sim.request_log import LoggedRequest
from hms_active_rooms.sim.scenes import ROOM_IDS, SCENES, SceneError, build_world, load_scene
from hms_active_rooms.sim.server import (
    ServerError,
    Simulation,
    environment,
    in_process,
    paste_lines,
    running_sim,
)
from hms_active_rooms.sim.settings import Settings
from hms_active_rooms.sim.world import RefusedError, World

__all__ = [
    "ROOM_IDS",
    "SCENES",
    "Fault",
    "Faults",
    "LoggedRequest",
    "RefusedError",
    "Role",
    "SceneError",
    "ServerError",
    "Settings",
    "SimApp",
    "Simulation",
    "World",
    "build_world",
    "environment",
    "in_process",
    "load_scene",
    "paste_lines",
    "running_sim",
]
