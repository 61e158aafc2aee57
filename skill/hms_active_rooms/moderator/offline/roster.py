"""The artifact of hms-list-peers as values: who was shown, and how many there are.

It comes from a message history, so every field is checked before it is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    """What is known of a room.

    Attributes:
        room_id: where.
        peers: who was shown.
        total: how many are in it.
        matching: how many the filters of the call left.
        by_role: how many have each role, most first.
        searched: filters whose matches are all among `peers`: ("name", part), ("role", role) or
            ("user_id", id).
    """

    room_id: str
    peers: tuple[Peer, ...]
    total: int
    matching: int
    by_role: Mapping[str, int]
    searched: frozenset[tuple[str, str]] = frozenset()

    @property
    def is_whole(self) -> bool:
        """Everyone who matches was shown."""
        return len(self.peers) >= self.matching

    @cached_property
    def short(self) -> dict[str, str]:
        """Full id to an id that is unique among those who were shown."""
        return short_ids([peer.id for peer in self.peers])

    def with_role(self, role: str) -> tuple[Peer, ...]:
        """Everyone shown who has exactly this role."""
        return tuple(peer for peer in self.peers if peer.role == role)


def read_roster(artifact: object, room_id: str) -> Roster | None:
    """What this artifact tells of this room; None if it is another's, or not readable."""
    if not isinstance(artifact, Mapping) or artifact.get("room_id") != room_id:
        return None
    rows, total = artifact.get("peers"), artifact.get("total")
    matching = artifact.get("matching", total)
    before, behind = artifact.get("offset", 0), artifact.get("left_out", 0)
    if not isinstance(rows, list | tuple) or not isinstance(total, int):
        return None
    if not isinstance(matching, int) or not isinstance(before, int) or not isinstance(behind, int):
        return None
    peers = [_peer(row) for row in rows]
    whole = [peer for peer in peers if peer is not None]
    if len(whole) != len(peers) or len({peer.id for peer in whole}) != len(whole):
        return None
    # A part must say that it is one.
    if matching > total or before + len(peers) + behind != matching:
        return None
    return Roster(room_id, tuple(whole), total, matching, _by_role(artifact, whole, total))


def _by_role(artifact: Mapping[str, object], peers: Sequence[Peer], total: int) -> dict[str, int]:
    counted = artifact.get("by_role")
    if len(peers) == total or not isinstance(counted, Mapping):
        counted = Counter(peer.role for peer in peers)
    counts = {
        role: n for role, n in counted.items() if isinstance(role, str) and isinstance(n, int)
    }
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def joined(whole: Roster, parts: Iterable[tuple[str, str, Roster]]) -> Roster:
    """A room's roster with the people that filtered ones showed besides.

    Args:
        whole: read without a filter.
        parts: a filter, its value, and what was read with it.
    """
    peers = {peer.id: peer for peer in whole.peers}
    searched = set()
    for key, value, part in parts:
        peers |= {peer.id: peer for peer in part.peers}
        if part.is_whole:
            searched.add((key, value))
    return replace(whole, peers=tuple(peers.values()), searched=frozenset(searched))


def _peer(row: object) -> Peer | None:
    if not isinstance(row, Mapping):
        return None
    values = [row.get(key) for key in ("id", "name", "user_id", "role")]
    texts = [value for value in values if isinstance(value, str)]
    return Peer(*texts) if len(texts) == len(values) and texts[0] else None
