"""What reached the simulated room, and who is in it."""

from __future__ import annotations

from typing import Any

from hms_active_rooms.sim.server import Simulation


def posts(sim: Simulation) -> list[Any]:
    """The state-changing requests that reached the API."""
    return [request for request in sim.requests if request.method == "POST"]


def peer_id(sim: Simulation, name: str) -> str:
    """The full id of the first peer with this name."""
    session = sim.world.rooms()[0].session
    assert session is not None
    return next(peer.id for peer in session.peers.values() if peer.name == name)


def names(sim: Simulation) -> list[str]:
    """Who is in the room."""
    session = sim.world.rooms()[0].session
    return [] if session is None else [peer.name for peer in session.peers.values()]
