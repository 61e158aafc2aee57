"""Who is in a room, read from the artifact of hms-list-peers, and whom of them a name means.

The artifact comes from a message history, so every field is checked before it is used. It holds
only the rows that were shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Final, Literal

from hms_active_rooms.untrusted import resolve_short_id, short_ids, skeleton

MAX_SUGGESTIONS: Final = 3


@dataclass(frozen=True)
class Peer:
    """One connection in the room; everything but the id is a stranger's text."""

    id: str
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


Look = tuple[Literal["name", "role", "user_id"], str]
"""A filter of hms-list-peers, and its value."""


def sought(name: str, roster: Roster) -> list[Look]:
    """What finds everybody whom these words could mean, in a room that is not shown whole."""
    text = _fold(name.strip("\"' "))
    longest = max(_words(text), key=len, default=text)[:_LEAST_SHARED_CHARS]
    looks: list[Look] = [("name", text), ("name", longest), ("user_id", text)]
    return looks + [("role", role) for role in roster.by_role if _role_key(role) in _role_key(text)]


def covers(name: str, roster: Roster) -> bool:
    """Whether everybody whom these words could mean was shown."""
    looks = sought(name, roster)
    if roster.is_whole or any(isinstance(o, RoleGroup) for o in resolve(name, roster).options):
        return True
    if any(key == "role" and (key, value) not in roster.searched for key, value in looks):
        return False
    # A whole name or id comes first, so the looser way needs no look once somebody has it.
    return looks[1] in roster.searched or (
        looks[0] in roster.searched and bool(_exact(looks[0][1], roster))
    )


_LEAST_SHARED_CHARS: Final = 4


# --- whom a name means --------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """Whom a name means: one person or role for sure, else those to ask about, or nobody."""

    options: tuple[Someone, ...] = ()
    sure: bool = False


# Words around a name, and words that stand for somebody.
_LEAD: Final = re.compile(
    r"(?i)(?:(?:the|that|this|our|a certain) )?(?:(?:guy|girl|user|person|one|account|participant"
    r"|peer|man|woman|kid|id|user id|dude|troll)(?: (?:called|named|with (?:the )?(?:user )?id"
    r"|whose id is|who calls (?:him|her)self|calling (?:it|him|her)self))? |called |named "
    r"|(?:mr|mrs|ms|dr|prof)\.? |miss |professor )"
)
_ARTICLE: Final = re.compile(r"(?i)^(?:the|that|this|our) ")
_EVERY: Final = re.compile(r"(?i)((?:any and )?all(?: of)?(?: the)?|every|the) (.+)")
_WITH_ROLE: Final = re.compile(
    r"(?i)(everyone|everybody|all|all people|those|people|the)?\s*"
    r"(?:with|in|having|who has|who have)?\s*(?:the )?"
    r'(?:role (?:of )?"?([^"]+?)"?|([\w-]+) role)'
)
PRONOUNS: Final = frozenset(
    [
        "him",
        "her",
        "he",
        "she",
        "it",
        "them",
        "they",
        "this one",
        "that one",
        "this person",
        "that person",
        "the guy",
        "this guy",
        "that guy",
        "both",
        "them both",
        "both of them",
        "those",
        "'em",
        "em",
    ]
)
EVERYONE: Final = re.compile(
    r"(?i)(?:to )?(?:(?:everyone|everybody|all) (?:here|in the (?:room|class|call|meeting|session))"
    r"|everyone(?:'s)?|everybody|every1|(?:them all|all of (?:them|you)|you all|all)"
    r"|the (?:whole |entire )?(?:class|room|group|audience|chat|crowd)|people|folks"
    r"|all (?:the )?(?:people|participants|attendees)|y'?all)"
)
_ARTICLES: Final = frozenset(
    [
        "the",
        "a",
        "an",
        "my",
        "our",
        "your",
        "this",
        "that",
        "all",
        "end",
        "room",
        "now",
        "by",
        "and",
        "of",
        "to",
    ]
)
_COMMON: Final = frozenset(
    [
        "the",
        "and",
        "are",
        "was",
        "for",
        "you",
        "all",
        "now",
        "room",
        "end",
        "class",
        "session",
        "system",
        "admin",
        "bot",
        "user",
        "guest",
        "student",
        "teacher",
        "this",
        "that",
        "not",
        "but",
        "who",
        "his",
        "her",
        "one",
        "out",
    ]
)


def resolve(said: str, roster: Roster, sentence: str = "") -> Found:
    """Whom the spoken words mean.

    Sure: the whole name (accents and marks may be missing), an id, words of one name only, the
    plural of a role, or a role that one person has. Everything else that is near is asked about,
    and so is everybody whose name looks the same.
    """
    quoted = said[:1] in "\"'" and said[-1:] == said[:1] and len(said) > 1
    text = said[1:-1].strip() if quoted else said.strip(" .!")
    cut = re.sub(r"(?i)(?<=\w) (?:one|guy|user)$", "", _LEAD.sub("", text, count=1)) or text
    words = text if quoted else _ARTICLE.sub("", cut)
    for spoken in dict.fromkeys((text, *(() if quoted else (cut, words)))):
        by_id = _by_id(spoken, roster)
        if len(by_id) == 1 and not any(_fold(spoken) == _fold(p.name) for p in roster.peers):
            return Found(tuple(by_id), sure=True)
        if exact := _exact(spoken, roster):
            return _for_sure(exact, spoken, "" if quoted else sentence, roster)
    if not quoted:
        if groups := _role(text, roster):
            return groups
        role = next((r for r in roster.by_role if _fold(words).startswith(f"{_fold(r)} ")), None)
        if role is not None:
            named = resolve(words[len(role) + 1 :], roster)
            of_role = all(isinstance(one, Peer) and one.role == role for one in named.options)
            return named if of_role and words != text else Found()
        if within := [p for p in roster.peers if _within(_bares(words), _bares(p.name))]:
            return _for_sure(within, words, sentence, roster)
        begun = [p for p in roster.peers if words != text and _begins(words, p.name)]
        if begun:
            return Found(tuple(begun), sure=len(_alike(begun, roster)) == 1)
    return Found(_near(words, roster))


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


def _role(text: str, roster: Roster) -> Found | None:
    """A role, by its plural or with "all" before it; or the one person who has it."""
    every, of_role = _EVERY.fullmatch(text), _WITH_ROLE.fullmatch(text)
    if of_role and of_role[1] is None and f'"{of_role[2]}"' not in text:
        return Found()
    if of_role and (of_role[1] or "").lower() == "the" and '"' not in text:
        return Found()
    said = (of_role[2] or of_role[3]) if of_role else every[2] if every else text
    for role, count in roster.by_role.items():
        one, words = _role_key(role), _role_key(said)
        plural = words in (f"{one}s", f"{one}es", f"{one[:-1]}ies") or (
            words == one and one[-1:] == "s"
        )
        if plural or (words == one and (of_role or (every and every[1].lower() != "the"))):
            named_so = [p for p in roster.peers if _fold(p.name) in (_fold(said), _fold(text))]
            return Found((RoleGroup(role, count), *named_so), sure=not named_so)
        if words == one and every:
            people = roster.with_role(role)
            few = len(people) == count <= 8
            return Found(
                people if few else (RoleGroup(role, count),), sure=len(people) == 1 == count
            )
    return None


def _within(said: Sequence[str], name: Sequence[str]) -> bool:
    """Whether each spoken word is one of the name, the last perhaps only its first letter."""
    if not set(said) - _ARTICLES or not all(said):
        return False
    if len(said) > 1 and len(said[-1]) == 1 and any(w.startswith(said[-1]) for w in name[1:]):
        said = said[:-1]
    return all(word in name for word in said)


def _begins(said: str, name: str) -> bool:
    """Whether each spoken word shares a beginning of four letters with one of the name."""
    parts, spoken = _bares(name), _bares(said)
    return bool(spoken) and all(
        any(
            a == b or (min(len(a), len(b)) >= 4 and (a.startswith(b) or b.startswith(a)))
            for b in parts
        )
        for a in spoken
    )


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
    words = _bares(text)
    names = [(peer, _bares(peer.name)) for peer in roster.peers]
    whole = [p for p, name in names if name and f" {' '.join(name)} " in f" {' '.join(words)} "]
    told = {word for word in words if len(word) > 2} - _COMMON
    return tuple(_alike(whole, roster) or [p for p, name in names if told & set(name[:4])])


def is_role(name: str, roster: Roster) -> str | None:
    """The role these words name, in singular or plural."""
    bare = re.sub(
        r"(?i)^(?:(?:all|of|the|our|every|only|any|an?|role) )*|(?: (?:role|people))$", "", name
    )
    bare = bare.strip("\"' .?!")
    for said in (name, bare, f"all {bare}"):
        group = next((o for o in resolve(said, roster).options if isinstance(o, RoleGroup)), None)
        if group is not None:
            return group.role
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
