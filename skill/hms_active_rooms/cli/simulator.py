"""`sim`: the simulated 100ms on this machine, for the other commands and for your own programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hms_active_rooms.cli import exits, screen
from hms_active_rooms.errors import ActiveRoomsError, ConfigurationError, InvalidCall
from hms_active_rooms.untrusted import escaped

if TYPE_CHECKING:
    from hms_active_rooms.sim.server import Simulation


@contextmanager
def simulator_extra() -> Iterator[None]:
    """Say which extra is missing when the simulator cannot be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("starlette", "uvicorn"):
            raise
        raise ConfigurationError(
            "The simulator needs its extra: pip install 'hms-active-rooms[sim]'.", hint=""
        ) from None


@contextmanager
def simulator_errors() -> Iterator[None]:
    """Turn what stops a simulator into errors with an exit code."""
    from hms_active_rooms.sim.scene_file import SceneError
    from hms_active_rooms.sim.server import ServerError

    try:
        yield
    except SceneError as error:
        raise InvalidCall(f"The scene: {escaped(str(error)[:500])}.", hint="") from None
    except ServerError as error:
        raise ActiveRoomsError(
            f"The simulator {error}.", hint="Choose another port, --port 0 for any free one."
        ) from None


def simulate(scene: str, port: int, *, as_json: bool) -> int:
    """Run a simulator until Ctrl-C; the exit code."""
    with simulator_extra():
        from hms_active_rooms.sim.server import environment, paste_lines, serve

    def announce(sim: Simulation) -> None:
        if as_json:
            screen.document(
                {
                    "base_url": sim.base_url,
                    "control_url": sim.control_url,
                    "room_id": sim.room_id,
                    "scene": scene,
                    "environment": environment(sim),
                }
            )
            return
        screen.err(f"A simulated 100ms at {sim.base_url}, room {sim.room_id}. Ctrl-C ends it.")
        screen.err("Paste this into another terminal:")
        for line in paste_lines(sim):
            screen.out(line)

    with simulator_errors():
        serve(scene, port=port, announce=announce)
    return exits.DONE
