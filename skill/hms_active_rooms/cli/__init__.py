"""The way in for people: the command `hms-active-rooms`."""
