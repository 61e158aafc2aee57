"""`sim`: the simulated 100ms on this machine, for the other commands and for your own programs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Final, Literal

import typer

from hms_active_rooms.cli import exits, screen
from hms_active_rooms.cli.settings import Json, Scene, extra
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.untrusted import escaped

_LONG_S: Final = 3600.0


@contextmanager
def simulator_errors() -> Iterator[None]:
    """Turn what stops a simulator, or keeps it from being imported, into errors of ours."""
    with extra("sim", "simulator", "jwt", "uvicorn"):
        from hms_active_rooms.sim.scenes import SceneError
        from hms_active_rooms.sim.server import ServerError
    try:
        with extra("sim", "simulator", "uvicorn"):
            yield
    except SceneError as error:
        raise InvalidCall(
            f"The scene cannot be used: {escaped(str(error)[:500])}.", hint=""
        ) from None
    except ServerError as error:
        raise ConfigurationError(
            f"The simulator {error}.",
            hint="Choose another --host or --port; 0 takes any free port.",
        ) from None


def sim(
    scene: Scene = "classroom",
    host: Annotated[str, typer.Option(help="Address to listen on; loopback only.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")
    ] = 8100,
    delay_s: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="How long a removal or an end takes to show."),
    ] = 0.3,
    foreign_room: Annotated[
        Literal["403", "404"], typer.Option(help="HTTP status for a room of another account.")
    ] = "403",
    json: Json = False,
) -> int:
    """Run a simulated 100ms on this machine, until Ctrl-C."""

    with simulator_errors():
        from hms_active_rooms.sim.server import environment, paste_lines, running_sim
        from hms_active_rooms.sim.settings import Settings

        status: Literal[403, 404] = 404 if foreign_room == "404" else 403
        delays = Settings(
            removal_delay_s=delay_s, ending_delay_s=delay_s, foreign_room_status=status
        )
        with (
            suppress(KeyboardInterrupt),
            running_sim(scene, host=host, port=port, settings=delays) as sim,
        ):
            if json:
                told = {"base_url": sim.base_url, "control_url": sim.control_url}
                told |= {"room_id": sim.room_id, "scene": scene}
                told |= {"management_token": sim.management_token()}
                screen.document({**told, "environment": environment(sim)})
            else:
                screen.err(
                    f"A simulated 100ms at {sim.base_url}, room {sim.room_id}. Ctrl-C ends it."
                )
                screen.err(f"What people do, and what goes wrong, is set at {sim.control_url}/")
                screen.err("Paste this into another terminal:")
                for line in paste_lines(sim):
                    screen.out(line)
                token = sim.management_token()
                screen.err(f"A client without a key pair takes this management token: {token}")
            while True:
                time.sleep(_LONG_S)
    return exits.DONE
