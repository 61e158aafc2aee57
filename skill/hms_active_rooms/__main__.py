"""`python -m hms_active_rooms` is the command `hms-active-rooms`."""

from hms_active_rooms.cli.main import run

if __name__ == "__main__":
    run()
