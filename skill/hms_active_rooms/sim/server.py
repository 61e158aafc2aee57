"""Runs the simulator in a thread of this process, or makes one without a port."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from hms_active_rooms.sim import control
from hms_active_rooms.sim.app import Listener, SimApp
from hms_active_rooms.sim.operations import PREFIX
from hms_active_rooms.sim.request_log import LoggedRequest
from hms_active_rooms.sim.scenes import Scene, build_world
from hms_active_rooms.sim.settings import Settings, sign
from hms_active_rooms.sim.world import World

# Clients close an idle connection sooner, so the server closes none while a request arrives.
KEEP_ALIVE_S: Final = 75
# Only this machine can reach it, since the control API has no authentication.
_HOST: Final = "127.0.0.1"


class ServerError(RuntimeError):
    """The simulator cannot listen on its port. The text says why."""


class Simulation:
    """A simulator of one account, at `base_url` (`origin` and "/v2") or by `httpx.ASGITransport(sim.app)`."""

    def __init__(self, world: World, origin: str) -> None:
        self.world = world  # rooms and people; any thread may call its methods
        self.app = SimApp(world)
        self.log = self.app.log  # the requests so far; `log.wait_until` waits for one
        self.faults = self.app.faults  # `faults.add(Fault(...))` sets one
        self.base_url = origin + PREFIX  # of the simulated API
        self.control_url = origin + control.PREFIX
        self.room_id = world.rooms()[0].id  # the scene's room
        self.access_key, self.secret = world.settings.access_key, world.settings.secret

    @property
    def requests(self) -> tuple[LoggedRequest, ...]:
        return self.log.entries()

    def management_token(self) -> str:
        return sign(self.world.settings, self.world.clock())


def in_process(scene: str | Path | Scene = "classroom") -> Simulation:
    """Return a simulator without a port. Only `httpx.ASGITransport(sim.app)` reaches it."""
    return Simulation(build_world(scene), "http://localhost")


@contextmanager
def running_sim(
    scene: str | Path | Scene = "classroom",
    *,
    port: int = 0,
    settings: Settings | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Iterator[Simulation]:
    """Run a simulator in a thread of this process during the `with` block.

    Args:
        scene: a Scene, the name of a built-in one, or the path of a .yaml file.
        port: 0 takes any free port.
        settings: of the simulated account.
        clock: tells the simulator's time.

    Raises:
        SceneError: the scene cannot be loaded.
        ServerError: the port cannot be used.
    """
    import uvicorn

    world = build_world(scene, settings=settings, clock=clock)
    # The socket listens before the thread runs, so an early client waits.
    with _listen(port) as listener:
        sim = Simulation(world, f"http://{_HOST}:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            sim.app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # uvicorn would log an answer that a fault cuts off
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=0,  # without waiting for a request that hangs by a fault
            server_header=False,
            proxy_headers=False,  # the app finds a connection by the client's real address
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="sim", daemon=True)
        thread.start()
        try:
            yield sim
        finally:
            server.should_exit = True
            thread.join()


def environment(sim: Simulation) -> dict[str, str]:
    """The environment variables with the simulator's URL, credentials and room."""
    return {
        "HMS_BASE_URL": sim.base_url,
        "HMS_ACCESS_KEY": sim.access_key,
        "HMS_SECRET": sim.secret,
        "HMS_ROOM": sim.room_id,
    }


def _listen(port: int) -> socket.socket:
    # Only with the protocol named does asyncio set TCP_NODELAY, which saves 40 ms an answer.
    listener = Listener(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # So a restart can use the port at once. On Windows, SO_REUSEADDR would share it.
    alone = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
    listener.setsockopt(socket.SOL_SOCKET, alone, 1)
    try:
        listener.bind((_HOST, port))
        listener.listen(2048)
    except (OSError, OverflowError) as problem:
        listener.close()
        reason = getattr(problem, "strerror", None) or problem
        raise ServerError(f"cannot listen on {_HOST}:{port}: {reason}") from None
    return listener
