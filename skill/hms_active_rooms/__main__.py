"""Runs the command `hms-active-rooms` for `python -m hms_active_rooms`."""

from hms_active_rooms.cli.main import run

if __name__ == "__main__":
    run()
