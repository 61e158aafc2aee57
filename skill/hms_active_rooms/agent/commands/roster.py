"""The artifact of hms-list-peers as values, or nothing when it is not the whole roster.

It comes from a message history, so every field is checked before it is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hms_active_rooms.untrusted import short_ids


@dataclass(frozen=True)
class Peer:
    """One connection in the room; everything but the id is a stranger's text."""

    id: str
    name: str
    user_id: str
    role: str


@dataclass(frozen=True)
class Roster:
    """Everyone in a room."""

    room_id: str
    peers: tuple[Peer, ...]

    @cached_property
    def by_role(self) -> dict[str, int]:
        """How many have each role, most first."""
        counts = Counter(peer.role for peer in self.peers)
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    @cached_property
    def short(self) -> dict[str, str]:
        """Full id to short id."""
        return short_ids([peer.id for peer in self.peers])

    def with_role(self, role: str) -> tuple[Peer, ...]:
        """Everyone who has exactly this role."""
        return tuple(peer for peer in self.peers if peer.role == role)


def read_roster(artifact: object, room_id: str) -> Roster | None:
    """The whole roster of this room; None if it is another's, a part, or not readable."""
    if not isinstance(artifact, Mapping) or artifact.get("room_id") != room_id:
        return None
    rows, total = artifact.get("peers"), artifact.get("total")
    if not isinstance(rows, list | tuple) or total != len(rows):
        return None
    peers = [_peer(row) for row in rows]
    whole = [peer for peer in peers if peer is not None]
    if len(whole) != len(peers) or len({peer.id for peer in whole}) != len(whole):
        return None
    return Roster(room_id, tuple(whole))


def _peer(row: object) -> Peer | None:
    if not isinstance(row, Mapping):
        return None
    values = [row.get(key) for key in ("id", "name", "user_id", "role")]
    texts = [value for value in values if isinstance(value, str)]
    return Peer(*texts) if len(texts) == len(values) and texts[0] else None
