"""A simulated 100ms Active Rooms API: a real HTTP server with rooms and people in it.

    with running_sim("classroom") as sim:
        client = ActiveRoomsClient(base_url=sim.base_url, ...)

It shares no code with the client that it tests. `behaviours.yaml` lists what it does, and how sure we
are that the real API does the same.
"""

from __future__ import annotations

from hms_active_rooms.sim.app import SimApp as SimApp
from hms_active_rooms.sim.faults import Fault as Fault
from hms_active_rooms.sim.records import Role as Role
from hms_active_rooms.sim.scenes import ROOM_IDS as ROOM_IDS
from hms_active_rooms.sim.scenes import build_world as build_world
from hms_active_rooms.sim.server import Simulation as Simulation
from hms_active_rooms.sim.server import running_sim as running_sim
from hms_active_rooms.sim.settings import Settings as Settings
from hms_active_rooms.sim.world import RefusedError as RefusedError
from hms_active_rooms.sim.world import World as World
