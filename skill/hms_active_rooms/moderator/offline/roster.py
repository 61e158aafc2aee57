"""Who is in a room, read from the artifact of hms-list-peers, and whom of them words mean.

The artifact comes from a message history, so it is checked. It holds only the rows that were shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, Field, ValidationError

from hms_active_rooms.gate.actions.impact import SHOWN_ROLES, people_count
from hms_active_rooms.looks import skeleton
from hms_active_rooms.moderator.offline.reading import is_pronoun, names, pattern, say
from hms_active_rooms.untrusted import quoted, resolve_short_id, short_ids

_MAX_OPTIONS: Final = 8
_SHARED_CHARS: Final = 4
_FEW: Final = 8
_MAX_NAME_WORDS: Final = 9
_MAX_NAMES: Final = 20


@dataclass(frozen=True)
class Peer:
    """One connection in the room; everything but the id is a stranger's text."""

    id: Annotated[str, Field(min_length=1)]
    name: str
    user_id: str
    role: str

    @property
    def words(self) -> tuple[str, ...]:
        return _key(self.name)


@dataclass(frozen=True)
class RoleGroup:
    """Everyone with a role."""

    role: str
    count: int


Someone = Peer | RoleGroup


class Found(NamedTuple):
    """Whom a name means: one person or role for sure, else those to ask about, or nobody.

    `near`: the name is spelled only nearly like theirs.
    """

    options: tuple[Someone, ...] = ()
    sure: bool = False
    near: bool = False

    @property
    def shown(self) -> tuple[Someone, ...]:
        return self.options[:_MAX_OPTIONS]


class Roster(BaseModel):
    """What is known of a room.

    Attributes:
        total: how many are in it; `peers` are those who were shown.
        matching: how many the filters of the call left; None: everybody.
        by_role: how many have each role, most first.
    """

    peers: tuple[Peer, ...]
    total: int
    room_id: str = ""
    matching: int | None = None
    by_role: dict[str, int] = {}
    offset: int = 0
    left_out: int = 0

    @property
    def is_whole(self) -> bool:
        """Everyone who matches was shown."""
        return len(self.peers) >= (self.total if self.matching is None else self.matching)

    def sought(self, name: str) -> list[tuple[str, str]]:
        """The filters that find everybody whom these words could mean, in a room not shown whole."""
        text = pattern("article").sub("", name.strip("\"' .!").casefold()).strip()
        roles = [("role", role) for role in self.by_role if _forms(role)[0] in _forms(text)[0]]
        return [("name", text if " " in text else text[:_SHARED_CHARS]), ("user_id", text), *roles]

    def resolve(self, said: str, sentence: str = "") -> Found:
        """Whom the spoken words mean.

        Sure: the whole name (accents and marks may be missing), an id, words of one name only, the
        plural of a role, or a role that one person has. Everything else that is near is asked about,
        and so is everybody whose name looks the same, or whose longer name the sentence holds.
        """
        peers, is_quoted = self.peers, re.fullmatch(r"([\"']).*\1", said)
        text = said[1:-1].strip() if is_quoted else said.strip(" .!")
        cut = pattern("behind").sub("", pattern("lead").sub("", text, count=1)).strip() or text
        bare = pattern("article").sub("", cut).strip()
        for spoken in (text,) if is_quoted else dict.fromkeys((text, cut, bare)):
            ids = resolve_short_id(spoken, [peer.id for peer in peers])
            by_id = [p for p in peers if p.id in ids or p.user_id.casefold() == spoken.casefold()]
            looks, key = None if spoken.isascii() else skeleton(spoken), _key(spoken)
            plain = [(p, _key(re.sub(r"\(.*?\)", "", p.name))) for p in peers]
            named = [p for p, name in plain if key in (name, p.words) or looks == skeleton(p.name)]
            if len(by_id) == 1 and not named:
                return Found(tuple(by_id), sure=True)
            if by_id or named:
                return self._sure([*named, *by_id], spoken, "" if is_quoted else sentence)
        group = None if is_quoted else self.group(text)
        if group or is_quoted or text.lower().endswith(" role"):
            return group or (self._near(text) if is_quoted else Found())
        words = _key(bare)
        if len(words) > 1 and (role := [one for one in self.by_role if _key(one) == words[:1]]):
            found = self.resolve(bare.partition(" ")[2])
            of_role = all(isinstance(p, Peer) and p.role == role[0] for p in found.options)
            return found if of_role else Found()
        within = [p for p in peers if _meet(words, p.words)]
        if within and not all(map(pattern("small").fullmatch, words)):
            return self._sure(within, bare, sentence)
        begun = [p for p in peers if bare != text and _meet(words, p.words, _SHARED_CHARS)]
        return Found(tuple(begun), len(self._alike(begun)) == 1) if begun else self._near(bare)

    def _sure(self, found: Sequence[Peer], said: str, sentence: str) -> Found:
        start, named = " ".join(_key(said)), " ".join(_key(sentence))
        told = [(peer, " ".join(peer.words)) for peer in self.peers]
        longer = [p for p, name in told if f" {start} " in f" {name} " and name in named]
        if not set(longer) <= set(found):
            return Found(_unique([*found, *longer]))
        options, own = self._alike(found), " ".join(_key(f"{found[0].name} {found[0].user_id}"))
        return Found(options, sure=len(options) == 1 and (said.isascii() or start in own))

    def _alike(self, found: Sequence[Peer]) -> tuple[Peer, ...]:
        looks = {skeleton(peer.name) for peer in found} - {""}
        return _unique([*found, *(p for p in self.peers if skeleton(p.name) in looks)])

    def group(self, text: str) -> Found | None:
        """A role, by its plural or with "all" before it; or the people who have it, if they are few.

        Its bare name is asked about.
        """
        told = pattern("by_role", "macros").fullmatch(text) and pattern("of_role").fullmatch(text)
        every = pattern("every").fullmatch(text)
        all_of = told or (every and every[1].lower() not in ("the", "my", "our"))
        said = _forms((told[1] or told[2]) if told else every[2] if every else text)[0]
        for role, count in self.by_role.items():
            one, *plural = _forms(role)
            if said in plural or (said == one and (all_of or one[-1:] == "s")):
                named_so = [p for p in self.peers if p.words in (_key(said), _key(text))]
                return Found((RoleGroup(role, count), *named_so), sure=not named_so)
            if said == one:
                people = tuple(peer for peer in self.peers if peer.role == role)
                few = every is not None and len(people) == count <= _FEW
                return Found(people if few else (RoleGroup(role, count),), few and count == 1)
        return None

    def _near(self, text: str) -> Found:
        """Those whose name, or a word of it, is spelled nearly so: joined words, swapped letters."""
        from rapidfuzz import fuzz

        words, looks, near = _key(text), skeleton(text), dict[Peer, float]()
        said = "".join(words)
        for peer in self.peers if len(said) > 2 else ():
            pairs = map("".join, pairwise(peer.words))
            keys = ["".join(peer.words), "".join(_key(peer.user_id)), *peer.words, *pairs]
            best = max(fuzz.ratio(said, key[:60]) for key in keys)
            if looks in map(skeleton, peer.name.split()) or best >= (100 if len(said) < 4 else 75):
                near[peer] = -best
        options = tuple(sorted(near, key=lambda peer: near[peer]))
        return Found(options, near=True)

    def mentioned(self, text: str) -> tuple[Peer, ...]:
        """The peers whose whole name, or a word of it, stands in a text; accents may be missing."""
        text = re.sub(r"['’]s\b", "", text)
        told = f" {' '.join(_key(text))} "
        whole = [p for p in self.peers if f" {' '.join(p.words)} " in told]
        for peer in whole:
            told = told.replace(f" {' '.join(peer.words)} ", "  ")
        own = {w for w in told.split() if len(w) > 2 and not pattern("common").fullmatch(w)}
        return self._alike([*whole, *(p for p in self.peers if own & set(p.words[:4]))])

    def audience(self, text: str) -> int:
        """Where the longest words end that begin a text and mean somebody for sure, else several,
        else nearly somebody; 0: there are none."""
        ends = [m.end() for m in re.finditer(r'"[^"]*"|[^\s:,?"]+', text.split(":")[0])]
        for least in ("sure", "named", "near"):
            for end in reversed(ends[:_MAX_NAME_WORDS]):
                who = [name for name in names(text[:end]) if not is_pronoun(name)]
                found = [self.resolve(name) for name in who]
                near = least == "near" or not any(one.near for one in found)
                if near and all(one.sure if least == "sure" else one.options for one in found):
                    return end
        return 0

    # Said of people. Between two texts that a stranger wrote, and between one and a number, stands
    # a Latin word, so that a right-to-left name cannot reorder the line (see `untrusted`).

    def nobody(self, name: str) -> str:
        """No one has this name."""
        role = name.removeprefix("the ").removesuffix(" role")
        if role != name and role in self.by_role:
            return say("only_a_role", role=quoted(role, 30))
        return say("nobody", name=quoted(name), roles=self._roles())

    def _roles(self) -> str:
        shown = [f"{count:,} as {quoted(role, 30)}" for role, count in self.by_role.items()]
        left = f" and {len(shown) - SHOWN_ROLES} other roles" if len(shown) > SHOWN_ROLES else ""
        return f"By role: {' and '.join(shown[:SHOWN_ROLES])}{left}." if shown else say("empty")

    def who_is_here(self, role: str | None = None, *, count: bool = False) -> str:
        """How many are here, or have a role, and up to 20 names."""
        peers = [peer for peer in self.peers if role in (None, peer.role)]
        total = self.total if role is None else self.by_role[role]
        held = f". {self._roles()}" if role is None else f" with the role {quoted(role, 30)}."
        here = f"{people_count(total)} {'is' if total == 1 else 'are'} here{held}"
        text = here if self.total else say("empty")
        if count or not peers:
            return text
        # With commas only the order of right-to-left names can look turned; nothing depends on it.
        names = ", ".join(quoted(peer.name) for peer in peers[:_MAX_NAMES])
        left = total - min(len(peers), _MAX_NAMES)
        return f"{text}\nNames: {names}{f' and {left:,} more' if left > 0 else ''}."

    def found(self, options: Sequence[Someone]) -> str:
        """The people a search found, a line each."""
        lines = [f"{self._one(option)} is here." for option in options[:_MAX_OPTIONS]]
        left = len(options) - _MAX_OPTIONS
        return "\n".join([*lines, f"And {left} more."] if left > 0 else lines)

    def which(self, options: Sequence[Someone]) -> str:
        """A numbered question; the options shown are those an answer can choose from."""
        called = [
            f"{'called ' * isinstance(o, Peer)}{self._one(o)}" for o in options[:_MAX_OPTIONS]
        ]
        lines = "\n".join(f"{place}. {one}" for place, one in enumerate(called, 1))
        return say("this_one" if len(options) == 1 else "which_one", lines=lines)

    def _one(self, option: Someone) -> str:
        role = quoted(option.role, 30)
        if not isinstance(option, Peer):
            return f"everyone with the role {role}, that is {people_count(option.count)}"
        short = short_ids([peer.id for peer in self.peers])[option.id]
        named, user_id = quoted(option.name), quoted(option.user_id, 40)
        return f"{named} with the role {role}, user id {user_id} and id {short}"


def read_roster(artifact: object, room_id: str) -> Roster | None:
    """What this artifact tells of this room; None if it is another's, or not readable."""
    try:
        seen = Roster.model_validate(artifact)
    except ValidationError:
        return None
    shown, matching = len(seen.peers), seen.total if seen.matching is None else seen.matching
    # A part must say that it is one.
    adds_up = seen.offset + shown + seen.left_out == matching <= seen.total
    if seen.room_id != room_id or not adds_up or len({peer.id for peer in seen.peers}) != shown:
        return None
    counts = Counter(peer.role for peer in seen.peers)
    by_role = counts if shown == seen.total else seen.by_role or counts
    ordered = sorted(by_role.items(), key=lambda pair: (-pair[1], pair[0]))
    return seen.model_copy(update={"matching": matching, "by_role": dict(ordered)})


def _meet(said: Sequence[str], name: Sequence[str], least: int = 99) -> bool:
    """Whether each spoken word is one of the name, its first letter, or shares a beginning."""

    few = len(said)

    def same(one: str, other: str) -> bool:
        begins = one.startswith(other) or other.startswith(one)
        return one == other or (
            begins and (least <= min(len(one), len(other)) or len(one) == 1 < few)
        )

    return few <= len(name) and all(any(same(one, other) for other in name) for one in said)


def _key(text: str) -> tuple[str, ...]:
    plain = unicodedata.normalize("NFD", text.casefold())
    words = ("".join(filter(str.isalnum, word)) for word in plain.split())
    return tuple(filter(None, words)) or (plain.strip(),)


def _forms(role: str) -> tuple[str, ...]:
    one = " ".join(_key(re.sub("[-_]", " ", role)))
    return one, f"{one}s", f"{one}es", f"{one[:-1]}ies"


def _unique(found: Iterable[Peer]) -> tuple[Peer, ...]:
    return tuple({peer.id: peer for peer in found}.values())
