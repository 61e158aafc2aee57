"""How times and ids of the simulated world look; ids come from a seed, so that a run can repeat."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime
from typing import Final

UNSET_TIME: Final = "0001-01-01T00:00:00Z"
"""How Go prints a time that was never set."""


def seconds_text(moment: datetime) -> str:
    """RFC 3339 with whole seconds (a webhook's envelope)."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def nanos_text(moment: datetime, extra_ns: int = 0) -> str:
    """RFC 3339 with nine fractional digits, the last three from `extra_ns`; zeros trimmed."""
    fraction = f".{moment.microsecond * 1000 + extra_ns:09d}".rstrip("0").rstrip(".")
    return seconds_text(moment).replace("Z", f"{fraction}Z")


class IdSource:
    """Ids that look real; the same seed gives the same ids in the same order."""

    def __init__(self, seed: str = "sim") -> None:
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - ids of a simulation, no secrets

    def object_id(self) -> str:
        """24 lower hex digits, as MongoDB makes them."""
        return f"{self._random.getrandbits(96):024x}"

    def uuid(self) -> str:
        """A version 4 UUID in lower case."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def uuid_for(self, label: str) -> str:
        """The UUID that belongs to a label, whatever was drawn before."""
        return IdSource(f"{self._seed}/{label}").uuid()

    def extra_ns(self) -> int:
        """0 to 999: the nanoseconds below a datetime's microseconds."""
        return self._random.randrange(1000)

    def restart(self) -> None:
        """Begin again: the next ids are the first ones."""
        self._random.seed(self._seed)
