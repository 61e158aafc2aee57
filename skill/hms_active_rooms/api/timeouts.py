"""How long each step of an HTTP exchange may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for one attempt; a call's deadline covers all attempts and waits together.

    Attributes:
        connect_s: to make a connection, TLS included.
        read_s: between two pieces of an answer. A read fits twice into the default deadline.
        write_s: between two pieces of a request.
        pool_s: for a free connection.
    """

    connect_s: float = 5.0
    read_s: float = 12.0
    write_s: float = 12.0
    pool_s: float = 5.0
