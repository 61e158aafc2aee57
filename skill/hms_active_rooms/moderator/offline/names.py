"""Who in a roster is meant by spoken words: exactly one, several to ask about, or nobody.

From the surest to the loosest, and the first that finds somebody counts:

1. the whole name, a user id, a peer id (short or full);
2. a role;
3. a name that looks the same but is not (always asked about);
4. every spoken word is a word of the name: "Sam" finds "Sam Lee";
5. every spoken word shares a beginning of four letters or more with a word of the
   name: "the spammer" finds "Spam Bot". Asked about, unless it was a description ("the ...").

Whoever is found by name, everybody else whose name looks the same is asked about too.
Case and spaces do not matter, accents and scripts do. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, TypeVar

from hms_active_rooms.moderator.offline.intents import Split, Target
from hms_active_rooms.moderator.offline.roster import Peer, Roster
from hms_active_rooms.untrusted import resolve_short_id, skeleton

MAX_SUGGESTIONS: Final = 3
_LEAST_SHARED_CHARS: Final = 4
_MAX_COMPARED: Final = 2000
"""Names looked at for suggestions; comparing all of 20,000 takes seconds."""


@dataclass(frozen=True)
class RoleGroup:
    """Everyone with a role."""

    role: str
    count: int


Someone = Peer | RoleGroup
_S = TypeVar("_S", bound=Peer | RoleGroup)


@dataclass(frozen=True)
class One:
    """Surely meant."""

    found: Someone


@dataclass(frozen=True)
class Several:
    """To be asked about; one entry is a guess."""

    options: tuple[Someone, ...]


@dataclass(frozen=True)
class Nobody:
    """No one fits. `closest` are peers with similar names."""

    closest: tuple[Peer, ...] = ()


@dataclass(frozen=True)
class NoRole:
    """No such role in the room, or several that differ only in case or dashes."""

    several: bool = False


@dataclass(frozen=True)
class NoEnd:
    """Two people fit a message order, depending on where the name ends."""


Found = One | Several | Nobody | NoRole


def resolve(target: Target, roster: Roster, *, loose: bool = True) -> Found:
    """Who is meant by a spoken name, description or role (not by a pronoun).

    Args:
        target: as spoken.
        roster: everyone in the room.
        loose: whether a bare name may be asked about for its beginning only.
    """
    if target.form == "role":
        return _role(target.text, roster)
    exact = _exact(target.text, roster)
    if target.form == "quoted":
        exact = exact or _alike([target.text], roster)
        return _several_or_one(exact) if exact else Nobody(_closest(target.text, roster))
    if longer := [p for p in roster.peers if _fold(p.name) == _fold(target.whole)]:
        # "Hope for All": a person, or somebody called Hope and a reason?
        options = [*longer, *exact, *_by_words(target.text, roster, _same)]
        # A full stop, or the article of a description, was no part worth asking about.
        cut = _fold(target.whole).rstrip(".! ") != _fold(target.text).rstrip(".! ")
        if cut and target.form != "the":
            return Several(tuple(_unique(options)))
        exact = _unique([*exact, *longer])
    roles: list[Someone] = []
    for key, plural in _roles(target.text, roster):
        if plural:
            roles.append(RoleGroup(key, roster.by_role[key]))
        else:
            roles += roster.with_role(key)
    if roles:
        return _several_or_one([*exact, *_by_words(target.text, roster, _same), *roles])
    if exact:
        return _several_or_one(exact)
    if alike := _alike([target.text], roster):
        return Several(tuple(alike))
    if named := _by_words(target.text, roster, _same):
        return _several_or_one([*named, *_alike([peer.name for peer in named], roster)])
    if alike := _by_words(target.text, roster, _looks_same):
        return Several(tuple(alike))
    described = target.form == "the"
    begun = _by_words(target.text, roster, _shares_beginning) if loose or described else []
    if begun:
        begun = _unique([*begun, *_alike([peer.name for peer in begun], roster)])
        sure = described and len(begun) == 1
        return One(begun[0]) if sure else Several(tuple(begun))
    return Nobody(_closest(target.text, roster))


Look = tuple[Literal["name", "role", "user_id"], str]
"""A filter of hms-list-peers, and its value."""


def sought(target: Target, roster: Roster) -> list[Look]:
    """What finds everybody whom these words could mean, in a room that is not shown whole."""
    text = _fold(target.text)
    if target.form == "role" or not text:
        return []
    looks: list[Look] = [("name", text), ("user_id", target.text)]
    if beginning := _beginning(text):
        looks.insert(1, ("name", beginning))
    return looks + [("role", key) for key, plural in _roles(text, roster) if not plural]


def covers(target: Target, roster: Roster) -> bool:
    """Whether everybody whom these words could mean was shown."""
    if roster.is_whole or target.form == "role":
        return True
    text = _fold(target.text)
    if any(look[0] == "role" and look not in roster.searched for look in sought(target, roster)):
        return False
    # A whole name or id comes first, so the looser ways need no look once somebody has it.
    return ("name", _beginning(text)) in roster.searched or (
        ("name", text) in roster.searched and bool(_exact(target.text, roster))
    )


def _beginning(text: str) -> str:
    """What each name that fits has in it: the first letters of the longest word."""
    return max(_words(text), key=len, default=text)[:_LEAST_SHARED_CHARS]


def choose_split(splits: Sequence[Split], roster: Roster) -> tuple[Found, Split] | NoEnd:
    """Where the audience of a message ends, by who is in the room.

    Returns:
        Who is meant, and the way to split that says so; the longest name that somebody has.
    """
    found = [(resolve(s.target, roster, loose=s.sure), s) for s in splits]
    hits = [hit for hit in found if isinstance(hit[0], One | Several)]
    if not hits:
        return found[0]
    ones = {_key(who.found) for who, _ in hits if isinstance(who, One)}
    return NoEnd() if len(ones) > 1 else hits[-1]


def by_option(words: str, options: tuple[Someone, ...]) -> list[Someone]:
    """The options a bare name, user id, peer id or role points at."""
    bare = re.sub(r"(?i)^the | one$", "", words)
    people = [option for option in options if isinstance(option, Peer)]
    ids = resolve_short_id(words, [peer.id for peer in people])
    hits: list[Someone] = [
        peer
        for peer in people
        if _fold(words) in (_fold(peer.name), _fold(peer.user_id)) or peer.id in ids
    ]
    if not hits:
        hits = [option for option in options if _role_key(bare) == _role_key(option.role)]
    return _unique(hits)


def _exact(text: str, roster: Roster) -> list[Peer]:
    named = [peer for peer in roster.peers if _fold(peer.name) == _fold(text)]
    ids = set(resolve_short_id(text, [peer.id for peer in roster.peers]))
    others = [p for p in roster.peers if p.id in ids or _fold(p.user_id) == _fold(text)]
    return _unique([*named, *_alike([peer.name for peer in named], roster), *others])


def _role(text: str, roster: Roster) -> Found:
    keys = [text] if text in roster.by_role else [key for key, _ in _roles(text, roster)]
    if len(keys) != 1:
        return NoRole(several=bool(keys))
    return One(RoleGroup(keys[0], roster.by_role[keys[0]]))


def _roles(text: str, roster: Roster) -> list[tuple[str, bool]]:
    """Roles these words name, and whether as a plural."""
    said = _role_key(text)
    found = []
    for key in roster.by_role:
        one = _role_key(key)
        if one and said == one:
            found.append((key, one.endswith("s") and not one.endswith("ss")))
        elif one and said in (f"{one}s", f"{one}es", f"{one[:-1]}ies"):
            found.append((key, True))
    return found


def _alike(names: Iterable[str], roster: Roster) -> list[Peer]:
    looks = {skeleton(name) for name in names} - {""}
    return [peer for peer in roster.peers if looks and skeleton(peer.name) in looks]


_Compare = Callable[[str, str], bool]


def _by_words(text: str, roster: Roster, compare: _Compare) -> list[Peer]:
    return [peer for peer in roster.peers if _fits(text, peer.name, compare)]


def _fits(text: str, name: str, compare: _Compare) -> bool:
    said, words = _words(text), _words(name)
    return bool(said) and all(any(compare(one, other) for other in words) for one in said)


def _same(said: str, word: str) -> bool:
    return said == word


def _looks_same(said: str, word: str) -> bool:
    return said == word or skeleton(said) == skeleton(word) != ""


def _shares_beginning(said: str, word: str) -> bool:
    shorter, longer = sorted((said, word), key=len)
    return said == word or (len(shorter) >= _LEAST_SHARED_CHARS and longer.startswith(shorter))


def _words(text: str) -> list[str]:
    return [word for part in _fold(text).split() if (word := part.strip(".,!?:;()[]{}<>\"'@#*_-"))]


def _fold(text: str) -> str:
    """One form of case, spaces, apostrophes and composed accents; nothing that changes looks."""
    plain = unicodedata.normalize("NFC", text.replace("’", "'")).casefold()
    return unicodedata.normalize("NFC", " ".join(plain.split()))


def _role_key(text: str) -> str:
    return " ".join(re.sub(r"[-_ ]+", " ", _fold(text)).split())


def _closest(text: str, roster: Roster) -> tuple[Peer, ...]:
    by_name: dict[str, Peer] = {}
    for peer in roster.peers[:_MAX_COMPARED]:
        for key in (_fold(peer.name), *_words(peer.name)):
            by_name.setdefault(key[:80], peer)
    near = get_close_matches(_fold(text)[:80], list(by_name), n=2 * MAX_SUGGESTIONS, cutoff=0.6)
    peers = [by_name[key] for key in near]
    return tuple(_unique(peers)[:MAX_SUGGESTIONS])


def _several_or_one(found: Iterable[Someone]) -> Found:
    options = _unique(found)
    return One(options[0]) if len(options) == 1 else Several(tuple(options))


def _unique(found: Iterable[_S]) -> list[_S]:
    return list({_key(option): option for option in found}.values())


def _key(option: Someone) -> tuple[str, str]:
    return ("role", option.role) if isinstance(option, RoleGroup) else ("peer", option.id)
