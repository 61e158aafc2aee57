"""Runs the simulator in a thread of this process, or makes a simulator that has no port."""

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

KEEP_ALIVE_S: Final = 75
"""How long the server keeps an idle connection open. Clients close an idle connection sooner, so
the server never closes one while a request arrives."""


_HOST: Final = "127.0.0.1"
"""Other machines cannot reach this address, since the control API has no authentication."""


class ServerError(RuntimeError):
    """The simulator cannot listen on its port. The text says why."""


class Simulation:
    """A simulator with one account. `httpx.ASGITransport(sim.app)` reaches it without a port."""

    def __init__(self, world: World, origin: str) -> None:
        self.world = world  # the rooms and people; its methods are safe from any thread
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
    """Make a simulator without a port, for `httpx.ASGITransport(sim.app)`."""
    return Simulation(build_world(scene), "http://localhost")


@contextmanager
def running_sim(
    scene: str | Path | Scene = "classroom",
    *,
    port: int = 0,
    settings: Settings | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Iterator[Simulation]:
    """Run a simulator in a thread of this process. It listens while the `with` block runs. `scene` is
    a built-in scene's name, the path of a scene file, or a scene. Port 0 takes any free port.

    Raises SceneError if the scene cannot be used, and ServerError if the port cannot be used.
    """
    import uvicorn

    world = build_world(scene, settings=settings, clock=clock)
    # The socket listens before the server's thread runs, so an early client waits for the server.
    with _listen(port) as listener:
        sim = Simulation(world, f"http://{_HOST}:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            sim.app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # a fault cuts answers off, which uvicorn would log as errors
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=0,  # do not wait for requests that the fault `hang` has hit
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
    """The environment variables that tell a client the simulator's URL, credentials and room."""
    return {
        "HMS_BASE_URL": sim.base_url,
        "HMS_ACCESS_KEY": sim.access_key,
        "HMS_SECRET": sim.secret,
        "HMS_ROOM": sim.room_id,
    }


def _listen(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only if the protocol is named. This saves 40 ms for each answer.
    listener = Listener(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # After a restart the port can be used at once. On Windows, SO_REUSEADDR would share it.
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
