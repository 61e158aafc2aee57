"""How long links and sessions of the page live, and how often it looks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PageSettings:
    """Times in seconds.

    Attributes:
        link_s: how long a login link can be used, once.
        session_s: how long a login lasts.
        journal_s: between two looks into the journal, one for all viewers.
        room_s: between two looks into a room; longer where a look takes long.
        beat_s: the longest silence on a stream; the page takes three of them for a lost
            connection.
    """

    link_s: float = 12 * 3600.0
    session_s: float = 12 * 3600.0
    journal_s: float = 1.0
    room_s: float = 2.0
    beat_s: float = 10.0
