"""A simulated 100ms Active Rooms API: a real HTTP server with rooms and people in it.

    with running_sim("classroom") as sim:
        client = ActiveRoomsClient(base_url=sim.base_url, ...)

It shares no code with the rest of the package, since it is what the rest is tested
against. How well each behaviour is known stands in `behaviours.yaml`.
"""

from __future__ import annotations

from hms_active_rooms.sim.app import SimApp, create_app
from hms_active_rooms.sim.faults import Fault, Faults
from hms_active_rooms.sim.records import Role
from hms_active_rooms.sim.request_log import LoggedRequest
from hms_active_rooms.sim.scene_file import Scene, SceneError
from hms_active_rooms.sim.scenes import ROOM_IDS, SCENES, build_world, load_scene
from hms_active_rooms.sim.server import (
    ServerError,
    Simulation,
    environment,
    paste_lines,
    running_sim,
    serve,
)
from hms_active_rooms.sim.settings import ACCESS_KEY, SECRET, Settings
from hms_active_rooms.sim.world import RefusedError, World

__all__ = [
    "ACCESS_KEY",
    "ROOM_IDS",
    "SCENES",
    "SECRET",
    "Fault",
    "Faults",
    "LoggedRequest",
    "RefusedError",
    "Role",
    "Scene",
    "SceneError",
    "ServerError",
    "Settings",
    "SimApp",
    "Simulation",
    "World",
    "build_world",
    "create_app",
    "environment",
    "load_scene",
    "paste_lines",
    "running_sim",
    "serve",
]
