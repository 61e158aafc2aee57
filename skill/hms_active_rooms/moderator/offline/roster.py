"""Who is in a room, read from the artifact of hms-list-peers, and whom of them a name means.

The artifact comes from a message history, so it is checked before it is used. It holds only the
rows that were shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Final

from pydantic import BaseModel, Field, ValidationError

from hms_active_rooms.moderator.offline.reading import words
from hms_active_rooms.untrusted import resolve_short_id, short_ids, skeleton

_LEAST_SHARED_CHARS: Final = 4
_MOST_CHOSEN: Final = 8


@dataclass(frozen=True)
class Peer:
    """One connection in the room; everything but the id is a stranger's text."""

    id: Annotated[str, Field(min_length=1)]
    name: str
    user_id: str
    role: str


@dataclass(frozen=True)
class RoleGroup:
    """Everyone with a role."""

    role: str
    count: int


Someone = Peer | RoleGroup


@dataclass(frozen=True)
class Roster:
    """What is known of a room.

    Attributes:
        peers: who was shown.
        total: how many are in it.
        matching: how many the filters of the call left.
        by_role: how many have each role, most first.
        searched: filters whose matches are all among `peers`.
    """

    peers: tuple[Peer, ...]
    total: int
    matching: int
    by_role: Mapping[str, int]
    searched: frozenset[Look] = frozenset()

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


Look = tuple[str, str]
"""A filter of hms-list-peers, and its value."""


class _Artifact(BaseModel):
    room_id: str
    total: int
    matching: int | None = None
    by_role: dict[str, int] = {}
    offset: int = 0
    left_out: int = 0
    peers: tuple[Peer, ...]


def read_roster(artifact: object, room_id: str) -> Roster | None:
    """What this artifact tells of this room; None if it is another's, or not readable."""
    try:
        seen = _Artifact.model_validate(artifact)
    except ValidationError:
        return None
    matching, shown = seen.total if seen.matching is None else seen.matching, len(seen.peers)
    # A part must say that it is one.
    whole = matching <= seen.total and seen.offset + shown + seen.left_out == matching
    if seen.room_id != room_id or not whole or len({peer.id for peer in seen.peers}) != shown:
        return None
    counts = Counter(peer.role for peer in seen.peers)
    by_role = counts if shown == seen.total else seen.by_role or counts
    ordered = sorted(by_role.items(), key=lambda pair: (-pair[1], pair[0]))
    return Roster(seen.peers, seen.total, matching, dict(ordered))


def joined(whole: Roster, parts: Mapping[Look, Roster]) -> Roster:
    """A room's roster with the people that were read with these filters besides."""
    peers = _unique([*whole.peers, *(peer for part in parts.values() for peer in part.peers)])
    searched = frozenset(look for look, part in parts.items() if part.is_whole)
    return replace(whole, peers=tuple(peers), searched=searched)


def sought(name: str, roster: Roster) -> list[Look]:
    """What finds everybody whom these words could mean, in a room that is not shown whole."""
    text = _fold(name.strip("\"' "))
    longest = max(_words(text), key=len, default=text)[:_LEAST_SHARED_CHARS]
    looks: list[Look] = [("name", text), ("name", longest), ("user_id", text)]
    return looks + [("role", role) for role in roster.by_role if _role_key(role) in _role_key(text)]


def covers(name: str, roster: Roster) -> bool:
    """Whether everybody whom these words could mean was shown."""
    whole, part, _, *roles = sought(name, roster)
    if roster.is_whole or any(isinstance(o, RoleGroup) for o in resolve(name, roster).options):
        return True
    # A whole name or id comes first, so the looser way needs no look once somebody has it.
    found = whole in roster.searched and bool(_exact(whole[1], roster))
    return roster.searched.issuperset(roles) and (part in roster.searched or found)


# --- whom a name means --------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """Whom a name means: one person or role for sure, else those to ask about, or nobody."""

    options: tuple[Someone, ...] = ()
    sure: bool = False


def is_pronoun(name: str) -> bool:
    """Whether the words stand for somebody named before."""
    return words().names["pronoun"].fullmatch(name.strip(" .!")) is not None


def resolve(said: str, roster: Roster, sentence: str = "") -> Found:
    """Whom the spoken words mean.

    Sure: the whole name (accents and marks may be missing), an id, words of one name only, the
    plural of a role, or a role that one person has. Everything else that is near is asked about,
    and so is everybody whose name looks the same.
    """
    named, quoted = words().names, said[:1] in "\"'" and said[-1:] == said[:1] and len(said) > 1
    text = said[1:-1].strip() if quoted else said.strip(" .!")
    cut = named["behind"].sub("", named["lead"].sub("", text, count=1)).strip() or text
    bare = text if quoted else named["article"].sub("", cut).strip()
    for spoken in [text] if quoted else dict.fromkeys((text, cut, bare)):
        by_id = _by_id(spoken, roster)
        if len(by_id) == 1 and not any(_fold(spoken) == _fold(p.name) for p in roster.peers):
            return Found(tuple(by_id), sure=True)
        if exact := _exact(spoken, roster):
            return _for_sure(exact, spoken, "" if quoted else sentence, roster)
    if not quoted:
        if groups := _role(text, roster):
            return groups
        role = next((r for r in roster.by_role if _fold(bare).startswith(f"{_fold(r)} ")), None)
        if role is not None:
            found = resolve(bare[len(role) + 1 :], roster)
            of_role = all(isinstance(one, Peer) and one.role == role for one in found.options)
            return found if of_role and bare != text else Found()
        if within := [p for p in roster.peers if _within(_bares(bare), _bares(p.name))]:
            return _for_sure(within, bare, sentence, roster)
        begun = [p for p in roster.peers if bare != text and _begins(bare, p.name)]
        if begun:
            return Found(tuple(begun), sure=len(_alike(begun, roster)) == 1)
    return Found(_near(bare, roster))


def _by_id(text: str, roster: Roster) -> list[Peer]:
    ids = set(resolve_short_id(text, [peer.id for peer in roster.peers]))
    return [p for p in roster.peers if p.id in ids or _fold(text) == _fold(p.user_id)]


def _exact(text: str, roster: Roster) -> list[Peer]:
    """Those who have this whole name or id, or look as if they had."""
    same = [peer for peer in roster.peers if _fold(text) == _fold(peer.name)]
    if not same and len(_words(text)) > 1 and (bare := _bare(text)):
        plain = re.compile(r"\(.*?\)")
        same = [p for p in roster.peers if bare in (_bare(p.name), _bare(plain.sub("", p.name)))]
    same += _by_id(text, roster)
    looks = skeleton(text) if same or not text.isascii() else ""
    return _unique([*same, *(p for p in roster.peers if looks and looks == skeleton(p.name))])


def _for_sure(found: Sequence[Peer], said: str, sentence: str, roster: Roster) -> Found:
    """Those found, with everybody who looks the same, or whose longer name the sentence holds too."""
    start = _fold(said)
    longer = [
        p
        for p in roster.peers
        if (name := _fold(p.name)).startswith(start + " ") and name in _fold(sentence)
    ]
    if any(p not in found for p in longer):
        return Found(tuple(_unique([*found, *longer])))
    options = _alike(found, roster)
    as_written = said.isascii() or start in _fold(found[0].name) + _fold(found[0].user_id)
    return Found(tuple(options), sure=len(options) == 1 and as_written)


def _alike(found: Sequence[Peer], roster: Roster) -> list[Peer]:
    looks = {skeleton(peer.name) for peer in found} - {""}
    return _unique([*found, *(p for p in roster.peers if skeleton(p.name) in looks)])


_EVERY: Final = re.compile(r"(?i)((?:any and )?all(?: of)?(?: the)?|every|the) (.+)")
_WITH_ROLE: Final = re.compile(
    r"(?i)(everyone|everybody|all|all people|those|people|the)?\s*"
    r"(?:with|in|having|who has|who have)?\s*(?:the )?"
    r'(?:role (?:of )?"?([^"]+?)"?|([\w-]+) role)'
)


def _role(text: str, roster: Roster) -> Found | None:
    """A role, by its plural or with "all" before it; or the one person who has it."""
    every, of_role = _EVERY.fullmatch(text), _WITH_ROLE.fullmatch(text)
    if of_role and (of_role[1] or "the").lower() == "the" and '"' not in text:
        return Found()
    said = (of_role[2] or of_role[3]) if of_role else every[2] if every else text
    words = _role_key(said)
    for role, count in roster.by_role.items():
        one, group = _role_key(role), RoleGroup(role, count)
        plural = words in (f"{one}s", f"{one}es", f"{one[:-1]}ies")
        all_of = one.endswith("s") or of_role or (every and every[1].lower() != "the")
        if plural or (words == one and all_of):
            named_so = [p for p in roster.peers if _fold(p.name) in (_fold(said), _fold(text))]
            return Found((group, *named_so), sure=not named_so)
        if words == one and every:
            people = roster.with_role(role)
            few = len(people) == count <= _MOST_CHOSEN
            return Found(people if few else (group,), sure=len(people) == 1 == count)
    return None


def _within(said: Sequence[str], name: Sequence[str]) -> bool:
    """Whether each spoken word is one of the name, the last perhaps only its first letter."""
    if not all(said) or all(map(words().names["small"].fullmatch, said)):
        return False
    if len(said) > 1 and len(said[-1]) == 1 and any(w.startswith(said[-1]) for w in name[1:]):
        said = said[:-1]
    return all(word in name for word in said)


def _begins(said: str, name: str) -> bool:
    """Whether each spoken word shares a beginning of four letters with one of the name."""
    parts, spoken = _bares(name), _bares(said)
    return bool(spoken) and all(any(_share(one, other) for other in parts) for one in spoken)


def _share(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return one == other or (len(short) >= _LEAST_SHARED_CHARS and long.startswith(short))


def _near(text: str, roster: Roster) -> tuple[Peer, ...]:
    """Those whose name, or a word of it, is written nearly so: joined words, letters mixed up."""
    from rapidfuzz import fuzz

    bare, looks = _bare(text), skeleton(text)
    near: list[tuple[float, Peer]] = []
    for peer in roster.peers if len(bare) > 2 else ():
        parts = _bares(peer.name)
        keys = [_bare(peer.name), *parts, *map("".join, pairwise(parts)), _bare(peer.user_id)]
        best = max(fuzz.ratio(bare, key[:60]) for key in keys)
        alike = looks in map(skeleton, _words(peer.name))
        if alike or best >= (100 if len(bare) < 4 else 75):
            near.append((-best, peer))
    return tuple(peer for _, peer in sorted(near, key=lambda pair: pair[0]))


def mentioned(text: str, roster: Roster) -> tuple[Peer, ...]:
    """The peers whose whole name, or a word of it, stands in a text; accents may be missing."""
    told = _bares(text)
    names = [(peer, _bares(peer.name)) for peer in roster.peers]
    whole = [p for p, name in names if name and f" {' '.join(name)} " in f" {' '.join(told)} "]
    own = {w for w in told if len(w) > 2 and not words().names["common"].fullmatch(w)}
    return tuple(_alike(whole, roster) or [p for p, name in names if own & set(name[:4])])


def is_role(name: str, roster: Roster) -> str | None:
    """The role these words name, in singular or plural."""
    bare = words().names["around_role"].sub("", name).strip("\"' .?!")
    for said in (name, bare, f"all {bare}"):
        for one in resolve(said, roster).options:
            if isinstance(one, RoleGroup):
                return one.role
    return next((role for role in roster.by_role if _role_key(role) == _role_key(bare)), None)


def _words(text: str) -> list[str]:
    return [word for part in _fold(text).split() if (word := part.strip(".,!?:;()[]{}<>\"'@#*_-"))]


def _bares(text: str) -> list[str]:
    return [_bare(word) for word in _words(text)]


def _fold(text: str) -> str:
    """One form of case, spaces, apostrophes and composed accents; nothing that changes looks."""
    plain = unicodedata.normalize("NFC", text.replace("’", "'")).casefold()
    return " ".join(plain.split()).strip(" .!")


def _bare(text: str) -> str:
    """Letters and digits without accents."""
    return "".join(c for c in unicodedata.normalize("NFD", _fold(text)) if c.isalnum())


def _role_key(text: str) -> str:
    return re.sub(r"[-_ ]+", " ", _fold(text)).strip("\" '")


def _unique(found: Iterable[Peer]) -> list[Peer]:
    return list({peer.id: peer for peer in found}.values())
