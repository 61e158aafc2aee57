"""Running the simulator: in a thread of this process, or without a port."""

from __future__ import annotations

import ipaddress
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
"""Longer than clients keep idle connections, so that it is never us who close under a request."""


class ServerError(RuntimeError):
    """The simulator cannot listen there: the port is in use, or the address is not loopback."""


class Simulation:
    """A simulator of one world at an origin.

    Attributes:
        app: its ASGI app; `httpx.ASGITransport(sim.app)` reaches it without a port.
        base_url, control_url: of the API, with /v2, and of the control API, with /_sim.
        room_id: the scene's room.
        world: the state; its methods are safe from any thread.
        faults, log: what is set to go wrong, and the request log with `wait_until`.
        access_key, secret: of the account.
    """

    def __init__(self, world: World, origin: str) -> None:
        self.world, self.app = world, SimApp(world)
        self.log, self.faults = self.app.log, self.app.faults
        self.base_url, self.control_url = origin + PREFIX, origin + control.PREFIX
        self.room_id = world.rooms()[0].id
        self.access_key, self.secret = world.settings.access_key, world.settings.secret

    @property
    def requests(self) -> tuple[LoggedRequest, ...]:
        """Every API request so far, oldest first."""
        return self.log.entries()

    def management_token(self) -> str:
        """A management token that is valid for seven days."""
        return sign(self.world.settings, self.world.clock())


def in_process(scene: str | Path | Scene = "classroom") -> Simulation:
    """A simulator that listens nowhere: only a transport to its `app` reaches it. SceneError: the
    scene cannot be used."""
    return Simulation(build_world(scene), "http://localhost")


@contextmanager
def running_sim(
    scene: str | Path | Scene = "classroom",
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    settings: Settings | None = None,
    clock: Callable[[], datetime] | None = None,
) -> Iterator[Simulation]:
    """A simulator in a thread of this process. It listens when the block begins, and is gone
    when it ends.

    Args:
        scene: a built-in scene's name, the path of a scene file, or a scene.
        host: a loopback address.
        port: 0 for any free one.
        settings, clock: see `build_world`.

    Raises:
        SceneError: the scene cannot be used.
        ServerError: it cannot listen there.
    """
    import uvicorn

    world = build_world(scene, settings=settings, clock=clock)
    # The socket listens already: who connects now is served as soon as the loop runs.
    with _listen(host, port) as listener:
        address = f"[{host}]" if ":" in host else host
        sim = Simulation(world, f"http://{address}:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            sim.app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # an answer that is cut off on purpose is no error here
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=0,  # hung requests do not keep it from ending
            server_header=False,
            proxy_headers=False,  # a connection is known by its client's real address
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="sim", daemon=True)
        thread.start()
        try:
            yield sim
        finally:
            server.should_exit = True
            thread.join()


def paste_lines(sim: Simulation) -> list[str]:
    """Shell lines that point a client at the simulator: address, credentials, room."""
    return [f"export {name}={shlex.quote(value)}" for name, value in environment(sim).items()]


def environment(sim: Simulation) -> dict[str, str]:
    """The same as variables. Without a token: beside a key pair it would not be used."""
    return {
        "HMS_BASE_URL": sim.base_url,
        "HMS_ACCESS_KEY": sim.access_key,
        "HMS_SECRET": sim.secret,
        "HMS_ROOM": sim.room_id,
    }


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. The control API has no authentication, hence loopback only."""
    loopback = host == "localhost"
    with suppress(ValueError):
        loopback = loopback or ipaddress.ip_address(host).is_loopback
    if not loopback:
        raise ServerError(f"cannot listen on {host!r}: it is not a loopback address")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it an answer waits 40 ms.
    listener = Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # Lets a restart have the port at once; a port somebody listens on stays refused.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as problem:
        listener.close()
        reason = getattr(problem, "strerror", None) or problem
        raise ServerError(f"cannot listen on {host}:{port}: {reason}") from None
    return listener
