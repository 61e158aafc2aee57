"""Time and ids of the simulated world: both come in from outside, so that a run can repeat.

Formats by the docs' examples: UTC with `Z`, up to nine fractional digits with trailing
zeros trimmed (what Go prints), 24 lower hex digits for rooms, sessions and accounts
(MongoDB ObjectIds), version 4 UUIDs for peers, tracks, streams and webhooks.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

Clock = Callable[[], datetime]
"""Returns the present moment, aware and in UTC."""

UNSET_TIME: Final = "0001-01-01T00:00:00Z"
"""How Go prints a time that was never set."""


def utc_now() -> datetime:
    """The wall clock, aware and in UTC."""
    return datetime.now(UTC)


def nanos_text(moment: datetime, extra_ns: int = 0) -> str:
    """RFC 3339 with nine fractional digits, trailing zeros trimmed.

    Args:
        moment: an aware datetime; it knows microseconds.
        extra_ns: 0 to 999, the digits a datetime cannot hold.
    """
    fraction = f"{moment.microsecond * 1000 + extra_ns:09d}".rstrip("0")
    return _whole(moment) + (f".{fraction}" if fraction else "") + "Z"


def seconds_text(moment: datetime) -> str:
    """RFC 3339 with whole seconds (a webhook's envelope)."""
    return _whole(moment) + "Z"


def _whole(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


class IdSource:
    """Ids that look real and repeat with the seed.

    Args:
        seed: any text; the same seed gives the same ids in the same order.
    """

    def __init__(self, seed: str = "sim") -> None:
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - ids of a simulation, no secrets

    def object_id(self) -> str:
        """24 lower hex digits."""
        return f"{self._random.getrandbits(96):024x}"

    def uuid(self) -> str:
        """A version 4 UUID in lower case."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def uuid_for(self, label: str) -> str:
        """The UUID that belongs to a label, whatever was drawn before."""
        named = random.Random(f"{self._seed}/{label}")  # noqa: S311 - see above
        return str(uuid.UUID(int=named.getrandbits(128), version=4))

    def extra_ns(self) -> int:
        """0 to 999: the nanoseconds below a datetime's microseconds."""
        return self._random.randrange(1000)

    def restart(self) -> None:
        """Begin again: the next ids are the first ones."""
        self._random.seed(self._seed)
