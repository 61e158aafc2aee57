"""Runs the simulator in a thread of this process, or without a port."""

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
"""Longer than clients keep idle connections, so that none is closed during a request."""


class ServerError(RuntimeError):
    """The simulator cannot listen there: the port is in use, or the address is not loopback."""


class Simulation:
    """A simulator of one world, reached at one origin.

    Attributes:
        app: the ASGI app; `httpx.ASGITransport(sim.app)` reaches it without a port.
        base_url, control_url: the URLs of the API (with /v2) and the control API (with /_sim).
        room_id: the scene's room.
        world: the state; its methods are safe from any thread.
        faults, log: the faults that are set, and the request log with `wait_until`.
        access_key, secret: the account's credentials.
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
    """A simulator without a port: only a transport to its `app` reaches it. Raises SceneError if
    the scene cannot be used."""
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
    """A simulator in a thread of this process, which listens while the block runs.

    Args:
        scene: a built-in scene's name, the path of a scene file, or a scene.
        host: a loopback address.
        port: 0 for any free one.
        settings, clock: see `build_world`.

    Raises:
        SceneError: the scene cannot be used.
        ServerError: the simulator cannot listen there.
    """
    import uvicorn

    world = build_world(scene, settings=settings, clock=clock)
    # The socket listens already: a client that connects now is served once the loop runs.
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
            log_level="critical",  # answers that are cut off on purpose are no errors
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=0,  # do not wait for hung requests
            server_header=False,
            proxy_headers=False,  # connections are found by the client's real address
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
    """`paste_lines` as variables. Without a token, which a client with a key pair ignores."""
    return {
        "HMS_BASE_URL": sim.base_url,
        "HMS_ACCESS_KEY": sim.access_key,
        "HMS_SECRET": sim.secret,
        "HMS_ROOM": sim.room_id,
    }


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket; only on loopback, since the control API has no authentication."""
    loopback = host == "localhost"
    with suppress(ValueError):
        loopback = loopback or ipaddress.ip_address(host).is_loopback
    if not loopback:
        raise ServerError(f"cannot listen on {host!r}: it is not a loopback address")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol is named; without it an answer takes 40 ms more.
    listener = Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # A restart can use the port at once; a port that somebody listens on is still refused.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as problem:
        listener.close()
        reason = getattr(problem, "strerror", None) or problem
        raise ServerError(f"cannot listen on {host}:{port}: {reason}") from None
    return listener
