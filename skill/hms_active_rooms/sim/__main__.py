"""`python -m hms_active_rooms.sim`: run the simulator in a process of its own."""

from __future__ import annotations

import argparse
import json
import sys

from hms_active_rooms.sim.scene_file import SceneError
from hms_active_rooms.sim.scenes import SCENES
from hms_active_rooms.sim.server import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    ServerError,
    Simulation,
    environment,
    paste_lines,
    serve,
)
from hms_active_rooms.sim.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, say how to reach the simulator, and run it until a signal."""
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m hms_active_rooms.sim",
        description="A simulated 100ms Active Rooms API on this machine.",
    )
    parser.add_argument(
        "--scene", default="classroom", help=f"{', '.join(SCENES)}, or the path of a .yaml file"
    )
    parser.add_argument("--host", default=DEFAULT_HOST, help="a loopback address")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 for any free port")
    parser.add_argument(
        "--delay-s",
        type=float,
        default=defaults.removal_delay_s,
        help="how long a removal or an ending takes to land",
    )
    parser.add_argument(
        "--foreign-room-status",
        type=int,
        choices=(403, 404),
        default=defaults.foreign_room_status,
        help="the answer for a room id that is not in the account",
    )
    parser.add_argument("--json", action="store_true", help="one JSON line instead of exports")
    options = parser.parse_args(arguments)
    settings = Settings(
        removal_delay_s=options.delay_s,
        ending_delay_s=options.delay_s,
        foreign_room_status=options.foreign_room_status,
    )

    def announce(sim: Simulation) -> None:
        if options.json:
            line = {**environment(sim), "control_url": sim.control_url, "scene": options.scene}
            sys.stdout.write(json.dumps(line) + "\n")
        else:
            sys.stdout.write("\n".join(paste_lines(sim)) + "\n")
        sys.stdout.flush()

    try:
        serve(options.scene, options.host, options.port, settings=settings, announce=announce)
    except (SceneError, ServerError) as problem:
        sys.stderr.write(f"{parser.prog}: {problem}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
