"""The impact of a call: whom it affects in the live room. This module does no I/O."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from operator import attrgetter
from typing import Literal

from hms_active_rooms.api.models import ActiveRoom, Peer, unreadable
from hms_active_rooms.errors import BadResponse, InvalidCall, PeerNotFound, PolicyRefusal
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.looks import folded
from hms_active_rooms.untrusted import QUOTED_CHARS, lookalikes, quoted, resolve_short_id, short_ids

MAX_TEXT_CHARS = 200  # a longer name, user id or role is cut before it is shown or recorded
SHOWN_PEOPLE = 50  # a question names at most this many people, and counts the others
SHOWN_ROLES = 12  # at most this many roles are listed, the largest first; the others are counted

# Matches the JSON text of a list or object that 100ms sent in place of a role or user id.
_NO_TEXT = re.compile(r'\{["}]|\[(["\[{\]\d-]|true\b|false\b|null\b)')

_SHOWN_TWINS = 5
_NEAR = 0.8  # role names with this difflib ratio may be the same, misspelt


@dataclass(frozen=True)
class Person:
    """One peer. `id` is the id of a connection. One person can have several connections."""

    id: str
    short_id: str
    name: str
    user_id: str
    role: str

    def same_person(self, other: Person) -> bool:
        """Return whether id, user id and role are equal. A person may change the name."""
        return (self.id, self.user_id, self.role) == (other.id, other.user_id, other.role)

    def drift(self, now: Person, room: Room) -> Drift:
        """Return whether an approved call for this person may be sent. `now` is the same peer, read again."""
        notes = room.other_connections([now])
        if not self.same_person(now):
            reason = f"The person was {self.line()}, and is now {now.line()}."
            return Drift("ask_again", reason, notes)
        if self.name != now.name:
            notes = (f"{quoted(self.name)} now goes by {quoted(now.name)}.", *notes)
        return Drift("go", notes=notes, people=(now,), total=1)

    def called(self) -> str:
        """Return name and role, in quotes."""
        return f"{quoted(self.name)} (role {quoted(self.role, 30)})"

    def brief(self) -> str:
        """Return name, role and short id, as one text."""
        return f"{quoted(self.name)}, role {quoted(self.role, 30)}, id {self.short_id}"

    def line(self) -> str:
        """Return name, role, user id and short id, as one text."""
        return (
            f"{quoted(self.name)}, role {quoted(self.role, 30)}, "
            f"user id {quoted(self.user_id, 40)}, id {self.short_id}"
        )


@dataclass(frozen=True)
class Room:
    """A room as just read from 100ms. `unreadable` counts the people whose data cannot be used."""

    id: str
    session_id: str
    people: tuple[Person, ...]
    unreadable: int = 0
    name: str = ""

    @property
    def total(self) -> int:
        return len(self.people) + self.unreadable

    @classmethod
    def read(cls, room: ActiveRoom, peers: Sequence[Peer]) -> Room:
        shorts = short_ids([peer.id for peer in peers])
        people = tuple(person_of(peer, shorts[peer.id]) for peer in peers)
        return cls(room.id, room.session.id, people, len(unreadable(peers)), _bounded(room.name))

    def impact(self, kind: str, people: tuple[Person, ...], *warnings: str) -> Impact:
        return Impact(
            kind=kind,
            session_id=self.session_id,
            total=len(people),
            people=people,
            by_role=by_role(people),
            warnings=warnings,
            room_name=self.name,
        )

    def other_connections(
        self, people: Iterable[Person], what: str = "has another connection, which is not affected"
    ) -> tuple[str, ...]:
        """Return warnings about other peers with a user id of `people`: "The same user id {what}: ..."."""
        ids, users = {p.id for p in people}, {p.user_id for p in people if p.user_id}
        others = [p for p in self.people if p.user_id in users and p.id not in ids]
        return _warnings(f"The same user id {what}", others)

    def doubles(self, person: Person, policy: Policy) -> tuple[str, ...]:
        """Return warnings about peers with the user id of `person`, or a name that looks alike."""
        others = [p for p in self.people if p.id != person.id]
        alike = {person.name, *lookalikes(person.name, [p.name for p in others])}
        shown = person.name[:QUOTED_CHARS]
        twins = [p for p in others if p.name in alike or p.name[:QUOTED_CHARS] == shown]

        # Protected people come first, then people with another role.
        def rank(one: Person) -> tuple[bool, bool]:
            told = policy.protects(role=one.role, user_id=one.user_id)
            return not told, one.role == person.role

        twins.sort(key=rank)
        alike_too = _warnings("Another peer has the same name, or one that looks alike", twins)
        return alike_too + self.other_connections([person])

    def nearly_protected(self, role: str, policy: Policy) -> tuple[str, ...]:
        """Return a warning if `role` is similar to a protected role that nobody in the room has."""
        name, held = folded(role), {folded(known) for known in {p.role for p in self.people}}
        unseen = {n: r for r in policy.protected_roles if (n := folded(r)) not in held}
        return tuple(
            f"The policy protects the role {quoted(unseen[near])}, but nobody here has it. "
            f"It does not protect {quoted(role)}."
            for near in get_close_matches(name, unseen, n=1, cutoff=_NEAR)
            or [words for words in unseen if name in re.split(r"\W+", words)][:1]
        )

    def person(self, ref: str) -> Person:
        """Return the person with this peer id, short or full. Raises an error unless exactly one fits."""
        matches = resolve_short_id(ref, [p.id for p in self.people])
        names = set[str]()
        if matches != [ref.lower()]:  # a full id is never taken for a name
            names = {ref, *lookalikes(ref, [p.name for p in self.people])}
        fit = [p for p in self.people if p.id in matches or p.name in names]
        if len(fit) == len(matches) == 1:
            return fit[0]
        listed = "; ".join(f"{p.called()}, id {p.id}" for p in fit[:_SHOWN_TWINS])
        if matches:
            raise InvalidCall(
                f"{quoted(ref)} fits the id or the name of {len(fit)} peers: {listed}.",
                hint="Give the full id of the peer you mean.",
            )
        also = f" It is the name of {listed}." if fit else ""
        raise PeerNotFound(f"No peer with the id {quoted(ref)} is in the room now.{also}")

    def must_be_readable(self) -> None:
        """Raise BadResponse if 100ms sent unusable data about somebody in the room."""
        if self.unreadable:
            raise BadResponse(
                f"100ms sent no usable data about {people_count(self.unreadable)} in the room.",
                hint="Name a person by peer id instead, and report this to 100ms.",
            )

    def holders(self, role: str | None) -> tuple[Person, ...]:
        """Return everyone with this role (None: everyone). Raises PeerNotFound if there is nobody."""
        self.must_be_readable()
        found = tuple(p for p in self.people if role is None or p.role == role)
        if found:
            return found
        if role is None:
            raise PeerNotFound("Nobody is in the room now.")
        roles = [quoted(name, 30) for name, _ in by_role(self.people)[:SHOWN_ROLES]]
        raise PeerNotFound(
            f"Nobody has the role {quoted(role)} now. Roles in the room: {', '.join(roles) or 'none'}.",
            hint="Name one of these roles, or list the peers again, since roles change.",
        )


@dataclass(frozen=True)
class Impact:
    """Whom a call affects, as read from the room before the question or before sending."""

    kind: str  # how they are affected, such as "remove-peer"; `StateChange.assess` sets it
    session_id: str
    total: int  # how many people are affected
    people: tuple[Person, ...] = ()  # the affected people; empty if they are only counted
    by_role: tuple[tuple[str, int], ...] = ()  # (role, count) of those affected, the largest first
    lock: bool = False  # whether the room gets locked, too
    warnings: tuple[str, ...] = ()  # sentences a person must read before deciding
    room_name: str = ""
    receivers: str = ""  # `fingerprint` of the ids of those affected, if `people` is empty

    def room(self, room_id: str) -> str:
        return f"room {room_id}" + (f" named {quoted(self.room_name)}" if self.room_name else "")

    def whom(self) -> str:
        """Return who is affected, in a few words, for a list."""
        if len(self.people) == 1:
            [one] = self.people
            return f"{quoted(one.name, 40)}, role {quoted(one.role, 24)}"
        count = people_count(self.total)
        if len(self.by_role) == 1:
            return f"{count} as {quoted(self.by_role[0][0], 30)}"
        return f"{count}: {self.roles()}"

    def roles(self) -> str:
        """Return how many people have each role, as in: 12 as "guest" and 3 as "host"."""
        shown = self.by_role[:SHOWN_ROLES]
        text = " and ".join(f"{count:,} as {quoted(role, 30)}" for role, count in shown)
        left = len(self.by_role) - len(shown)
        return f"{text} and {left} other roles" if left else text or "nobody"

    def lines(self) -> list[str]:
        """Return one line for each person who is named, and one that counts the others, if there are any."""
        lines = [f"  {person.line()}" for person in self.people[:SHOWN_PEOPLE]]
        left = len(self.people) - len(lines)
        return [*lines, f"  ... and {left} more"] if left else lines


@dataclass(frozen=True)
class Drift:
    """What to do with an approved action, after the room was read again."""

    verdict: Literal["go", "ask_again", "nothing_to_do", "refused"]
    reason: str = ""  # why it is not sent, in one sentence; empty for `go`
    notes: tuple[str, ...] = ()  # more sentences for the outcome
    people: tuple[Person, ...] = ()  # those affected now; all of them were shown
    total: int = 0  # how many people are affected now


def fingerprint(ids: Iterable[str]) -> str:
    """Return the ids in a compact form for `strangers`: a Bloom filter, 8 bits for each id, in Base64."""
    known = list(ids)
    bits = bytearray(len(known))
    for peer_id in known:
        place, bit = _bit(peer_id, len(bits))
        bits[place] |= bit
    return b64encode(bits).decode()


def strangers(receivers: str, ids: Iterable[str]) -> int:
    """Return how many ids are not in `receivers`, which `fingerprint` made. The count may be too low."""
    bits = b64decode(receivers)  # about one new id in eight is taken for a known one
    found = [_bit(peer_id, len(bits)) for peer_id in ids]
    return sum(not bits[place] & bit for place, bit in found)


def _bit(peer_id: str, size: int) -> tuple[int, int]:
    place = int.from_bytes(sha256(peer_id.encode()).digest()[:8]) % (8 * size)
    return place // 8, 1 << place % 8


def person_of(peer: Peer, short_id: str = "") -> Person:
    """Return the `Person` for a peer. Without `short_id`, the full id takes its place."""
    texts = (_bounded(peer.name), _bounded(peer.user_id), _bounded(peer.role))
    return Person(peer.id, short_id or peer.id, *texts)


def _bounded(text: str) -> str:
    """Cut a long text, and add a hash of the whole text, so that two long texts still differ."""
    if len(text) <= MAX_TEXT_CHARS:
        return text
    return (
        f"{text[:MAX_TEXT_CHARS]}…{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
    )


def by_role(people: Iterable[Person | Peer]) -> tuple[tuple[str, int], ...]:
    """Return how many people have each role, as pairs (role, count), the largest role first."""
    counts = Counter(map(attrgetter("role"), people))
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def refuse_protected(people: Iterable[Person], policy: Policy) -> None:
    """Raise PolicyRefusal if the policy protects one of these people, or may protect one of them."""
    for person in people:
        untold = ""
        if policy.protected_roles and (not folded(person.role) or _NO_TEXT.match(person.role)):
            untold = "role"
        elif policy.protected_user_ids and _NO_TEXT.match(person.user_id):
            untold = "user id"
        if untold:
            raise PolicyRefusal(
                f"100ms does not tell the {untold} of {quoted(person.name)}. The policy "
                f"protects some {untold}s, and this may be one of them."
            )
        if what := policy.protects(role=person.role, user_id=person.user_id):
            raise PolicyRefusal(
                f"{quoted(person.name)}, role {quoted(person.role)}, user id "
                f"{quoted(person.user_id)}: the policy protects that {what}."
            )


def people_count(total: int) -> str:
    return "1 person" if total == 1 else f"{total:,} people"


def _warnings(what: str, people: Sequence[Person]) -> tuple[str, ...]:
    more = [f"{what}: {left:,} more."] if (left := len(people) - _SHOWN_TWINS) > 0 else []
    return (*(f"{what}: {p.brief()}." for p in people[:_SHOWN_TWINS]), *more)


def names(of: Sequence[str], most: int) -> str:
    """Return the first `most` names in quotes, then how many more there are."""
    more = f" and {len(of) - most} more" if len(of) > most else ""
    return " and ".join(quoted(name, 30) for name in of[:most]) + more
