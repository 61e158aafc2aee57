"""Who is who: the people of a scenario by the names it gives them, through renames and rejoins."""

from __future__ import annotations

from collections.abc import Iterable

from hms_active_rooms.sim.records import Peer


class Cast:
    """Labels ("Spam Bot", "Chen Wei#2", "user:guest-1") and the peer ids behind them.

    A label stays with the person: a new name doesn't move it, a new peer id does.
    """

    def __init__(self, peers: Iterable[Peer]) -> None:
        self._ids: dict[str, str] = {}
        self._earlier: dict[str, str] = {}
        for peer in peers:
            self.joined(peer)

    def joined(self, peer: Peer) -> None:
        number = 2
        label = peer.name
        while label in self._ids:
            label, number = f"{peer.name}#{number}", number + 1
        self._ids[label] = peer.id
        self._ids.setdefault(f"user:{peer.user_id}", peer.id)

    def rejoined(self, before: str, now: str) -> None:
        self._ids = {label: now if i == before else i for label, i in self._ids.items()}
        self._earlier[before] = now

    def __contains__(self, label: str) -> bool:
        return label in self._ids

    @property
    def names(self) -> set[str]:
        return {i.partition("#")[0] for i in self._ids if not i.startswith("user:")}

    def names_by_id(self) -> list[tuple[str, str]]:
        now = [(k.partition("#")[0], i) for k, i in self._ids.items() if k[:5] != "user:"]
        before = {self.person(old): old for old in self._earlier}
        return now + [(name, before[i]) for name, i in now if i in before]

    def id(self, label: str) -> str:
        """The peer id of a person now."""
        return self._ids[label]

    def person(self, peer_id: str) -> str:
        """The peer id that the person with this one, present or former, has now."""
        while peer_id in self._earlier:
            peer_id = self._earlier[peer_id]
        return peer_id

    def full(self, ref: str) -> str:
        """The peer id that a short or full one means; itself when nobody's, or several fit."""
        ids = {*self._ids.values(), *self._earlier}
        fitting = [i for i in ids if i.startswith(ref.lower())] if ref else []
        return fitting[0] if len(fitting) == 1 else ref
