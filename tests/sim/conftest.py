"""A classroom on a real server, reset before each test, and clients for it.

Removals and endings take half a minute of the world's time here, so that a test decides
with `settle` when they land, and no test depends on how fast it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hms_active_rooms.sim import ROOM_IDS, Settings, Simulation, running_sim

SLOW = Settings(removal_delay_s=30.0, ending_delay_s=30.0)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "behaviour(*ids): shows rows of the simulator's table of behaviours"
    )


@pytest.fixture(scope="session")
def classroom_server() -> Iterator[Simulation]:
    with running_sim("classroom", settings=SLOW) as sim:
        yield sim


@pytest.fixture
def sim(classroom_server: Simulation) -> Simulation:
    """The classroom as the scene describes it, nothing requested yet."""
    classroom_server.faults.clear()
    classroom_server.world.reset()
    classroom_server.log.clear()
    return classroom_server


class RoomClient(httpx.Client):
    """A client whose paths are below a room. ("" is the room: httpx itself would add a slash.)"""

    def __init__(self, room_url: str, token: str) -> None:
        super().__init__(headers={"Authorization": f"Bearer {token}"}, timeout=20.0)
        self.room_url = room_url

    def request(self, method: str, url: httpx.URL | str, **options: Any) -> httpx.Response:
        whole = str(url) if str(url).startswith("http") else f"{self.room_url}{url}"
        return super().request(method, whole, **options)


@pytest.fixture
def api(sim: Simulation) -> Iterator[httpx.Client]:
    """A client with a valid token, for the classroom's room."""
    room_url = f"{sim.base_url}/active-rooms/{sim.room_id}"
    with RoomClient(room_url, sim.management_token()) as client:
        yield client


@pytest.fixture
def control(sim: Simulation) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sim.control_url, timeout=20.0) as client:
        yield client


@pytest.fixture
def ids(sim: Simulation) -> dict[str, str]:
    """Peer ids by name. Of two peers with one name, the later one."""
    return {peer.name: peer.id for peer in sim.world.peers(sim.room_id)}


@pytest.fixture
def idle_room(sim: Simulation) -> str:
    """A second room of the account, with nobody in it."""
    return sim.world.add_room(
        name="Empty", id=ROOM_IDS["idle"], roles=tuple(sim.world.rooms()[0].roles.values())
    ).id


SEVEN: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("GET", "/peers", None),
    ("GET", "/peers/{peer}", None),
    ("POST", "/peers/{peer}", {"name": "New"}),
    ("POST", "/send-message", {"message": "hello"}),
    ("POST", "/remove-peers", {"peer_id": "{peer}"}),
    ("POST", "/end-room", {}),
]
"""Method, path below the room, and a body that works, of the seven operations."""


@pytest.fixture(params=SEVEN, ids=[f"{method} {path or '/'}" for method, path, _ in SEVEN])
def operation(request: pytest.FixtureRequest, ids: dict[str, str]) -> tuple[str, str, Any]:
    """Each of the seven operations, aimed at Sam Lee."""
    method, path, body = request.param
    peer = ids["Sam Lee"]
    if body is not None:
        body = {key: value.replace("{peer}", peer) for key, value in body.items()}
    return method, path.replace("{peer}", peer), body
