"""`python -m hms_active_rooms.sim`: run the simulator in a process of its own."""

from __future__ import annotations

import argparse
import json
import sys

from hms_active_rooms.sim.scenes import SCENES, SceneError
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


def main() -> int:
    """Parse the arguments, say how to reach the simulator, and run it until a signal."""
    parser = argparse.ArgumentParser(
        prog="python -m hms_active_rooms.sim",
        description="A simulated 100ms Active Rooms API on this machine.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    scenes, normal = ", ".join(SCENES), Settings()
    add("--scene", default="classroom", help=f"{scenes}, or the path of a .yaml file")
    add("--host", default=DEFAULT_HOST, help="a loopback address")
    add("--port", type=int, default=DEFAULT_PORT, help="0 for any free port")
    delay_help = "how long a removal or an ending takes to land"
    add("--delay-s", type=float, default=normal.removal_delay_s, help=delay_help)
    foreign_help = "the answer for a room id that is not in the account"
    foreign = normal.foreign_room_status
    add("--foreign-room-status", type=int, choices=(403, 404), default=foreign, help=foreign_help)
    add("--json", action="store_true", help="one JSON line instead of exports")
    options = parser.parse_args()
    settings = Settings(
        removal_delay_s=options.delay_s,
        ending_delay_s=options.delay_s,
        foreign_room_status=options.foreign_room_status,
    )

    def announce(sim: Simulation) -> None:
        line = {**environment(sim), "control_url": sim.control_url, "scene": options.scene}
        text = json.dumps(line) if options.json else "\n".join(paste_lines(sim))
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    try:
        serve(options.scene, options.host, options.port, settings=settings, announce=announce)
    except (SceneError, ServerError) as problem:
        sys.stderr.write(f"{parser.prog}: {problem}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
