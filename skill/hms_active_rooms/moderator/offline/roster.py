"""Finds the people that words mean. Who is in the room comes from the artifact of hms-list-peers.

The artifact comes from a message history, so it is checked. It holds only the rows that were shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hms_active_rooms.gate.actions.impact import SHOWN_ROLES, people_count
from hms_active_rooms.looks import skeleton
from hms_active_rooms.moderator.offline.words import say
from hms_active_rooms.untrusted import quoted, resolve_short_id, short_ids

MAX_OPTIONS: Final = 8
_SHARED_CHARS: Final = 4
_MAX_NAMES: Final = 20
_NEAR: Final = 75


@dataclass(frozen=True)
class Peer:
    """One connection in the room. Strangers chose everything but the id."""

    id: Annotated[str, Field(min_length=1)]
    name: str
    user_id: str
    role: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words of the name."""
        return key(self.name)

    @cached_property
    def bare(self) -> tuple[str, ...]:
        """The words of the name, without what stands in brackets."""
        return key(re.sub(r"\(.*?\)", "", self.name))


@dataclass(frozen=True)
class RoleGroup:
    """Everyone with a role, and how many they are."""

    role: str
    count: int


Someone = Peer | RoleGroup


class Mention(NamedTuple):
    """The people or roles that some words of a sentence (`said`) may mean.

    Attributes:
        options: empty for a pronoun, and if nobody in the roster fits.
        sure: whether the first option is meant, and no other. If False, the model asks the person.
    """

    said: str
    options: tuple[Someone, ...] = ()
    sure: bool = False
    is_pronoun: bool = False

    @property
    def people(self) -> tuple[Peer, ...]:
        return tuple(one for one in self.options if isinstance(one, Peer))

    @property
    def groups(self) -> tuple[RoleGroup, ...]:
        return tuple(one for one in self.options if isinstance(one, RoleGroup))

    def of(self, people: Sequence[Peer]) -> Mention:
        """Return this mention with only the options that are in `people`. It is `sure` if one is left."""
        options = tuple(one for one in self.people if one in people)
        return self._replace(options=options, sure=self.sure or len(options) == 1)


class Roster(BaseModel):
    """What a call of hms-list-peers showed of a room.

    Attributes:
        total: how many people are in the room.
        matching: how many people fit the filters of the call. Without filters, None or `total`.
        by_role: how many people have each role.
        offset: how many matching people come before the shown ones.
        left_out: how many matching people come after the shown ones.
    """

    model_config = ConfigDict(frozen=True)

    peers: tuple[Peer, ...]
    total: int
    room_id: str = ""
    matching: int | None = None
    by_role: dict[str, int] = {}
    offset: int = 0
    left_out: int = 0

    def __hash__(self) -> int:
        return hash((self.room_id, self.peers))

    @property
    def is_whole(self) -> bool:
        """Whether all people were shown who fit the filters of the call."""
        return len(self.peers) >= (self.total if self.matching is None else self.matching)

    @cached_property
    def begins(self) -> frozenset[str]:
        """The first words of all names, user ids and roles. A mention begins with one of them."""
        names = {word for peer in self.peers for word in (*peer.words, "".join(peer.words))}
        ids = {"".join(key(peer.user_id)) for peer in self.peers}
        return frozenset(
            names | ids | {form.split(" ")[0] for r in self.by_role for form in forms(r)}
        )

    def sought(self, name: str) -> list[tuple[str, str]]:
        """Return filters for hms-list-peers, as pairs of argument and value. One call with each finds
        everybody whom `name` could mean."""
        text = name.strip("\"' .!").casefold()
        roles = [("role", role) for role in self.by_role if forms(role)[0] in forms(text)[0]]
        return [("name", text if " " in text else text[:_SHARED_CHARS]), ("user_id", text), *roles]

    def named(self, said: str, *, part: bool = True) -> Mention | None:
        """Return the people or the role that the words `said` name, or None. With `part`, some words of a
        name are enough."""
        words, peers, looks = key(said), self.peers, None if said.isascii() else skeleton(said)
        ids = resolve_short_id(said, [peer.id for peer in peers])
        found = [p for p in peers if words in (p.words, p.bare) or looks == skeleton(p.name)]
        found = found or [p for p in peers if words == ("".join(p.bare),)]
        by_id = [p for p in peers if p.id in ids or p.user_id.casefold() == said.casefold()]
        # "alice.martin" is one person's user id; a stranger may be called like that, letter by letter.
        called = [p for p in found if p.name.casefold() == said.casefold() and p not in by_id]
        if by_id and not called:
            also = [p for p in peers if _within(words, p.words) and p not in by_id]
            return Mention(said, (*by_id, *also), sure=len(by_id) == 1 and not also)
        if group := self.group(said):
            # Somebody may be called like a role.
            sure = not found and words[-1:] != key(group.role)[-1:]
            return Mention(said, (*found, group), sure)
        if not found and part:
            found = [p for p in peers if _within(words, p.words)]
        if not found:
            return None
        if len(words) == 1:
            # "Nora" may be Nora Berg, though a stranger is called "Nora".
            found += [p for p in peers if _within(words, p.words) and p not in found]
            # "Kim" may also be the stranger with the user id "kim.family".
            parts = {p: re.split(r"[\W_]+", p.user_id.casefold()) for p in peers}
            found += [p for p in peers if words[0] in parts[p] and p not in found]
        options = self._alike([*found, *by_id])
        own = " ".join(key(f"{found[0].name} {found[0].user_id}"))
        sure = len(options) == 1 and (said.isascii() or " ".join(words) in own)
        return Mention(said, options, sure)

    def group(self, said: str) -> RoleGroup | None:
        """The role whose name is `said`, in the singular or plural. None if there is no such role."""
        text = " ".join(key(re.sub("[-_]", " ", said)))
        return next((RoleGroup(r, n) for r, n in self.by_role.items() if text in forms(r)), None)

    def with_role(self, role: str) -> tuple[Peer, ...]:
        return tuple(peer for peer in self.peers if peer.role == role)

    def _alike(self, found: Sequence[Peer]) -> tuple[Peer, ...]:
        looks = {skeleton(peer.name) for peer in found} - {""}
        alike = (p for p in self.peers if skeleton(p.name) in looks)
        return tuple({p.id: p for p in [*found, *alike]}.values())

    def near(self, said: str, *, whole: bool = False) -> tuple[Peer, ...]:
        """Return the people whose name or user id is spelled nearly as `said`, the best fit first. Without
        `whole`, one word of the name is enough."""
        from rapidfuzz import fuzz

        joined, near = "".join(key(said)), dict[Peer, float]()
        for peer in self.peers if len(joined) > 2 else ():
            pairs = map("".join, pairwise(peer.words))
            keys = ["".join(peer.words), "".join(key(peer.user_id))]
            keys += [] if whole else [*peer.words, *pairs]
            best = max(fuzz.ratio(joined, one[:60]) for one in keys)
            least = _NEAR + 10 if whole else _NEAR
            if best >= (100 if len(joined) < _SHARED_CHARS else least):
                near[peer] = -best
        return tuple(sorted(near, key=lambda peer: near[peer]))

    def unsure(self, said: str, name: Mention | None, *, leads: bool) -> Mention:
        """Return whom `said` may mean, if nobody has exactly this name.

        Args:
            said: the words of the sentence.
            name: whom a part of the words names, or None.
            leads: "the" or a similar word stands before the words.
        """
        near, begun = self.near(said, whole=name is not None), self._begun(said) if leads else ()
        # "gift card bot" of "FreeGiftCards Bot"
        parts = {p: key(re.sub("(?<=[a-z])(?=[A-Z])", " ", p.name)) for p in self.peers}
        within = [
            p for p in parts if {*key(said)} <= {w for o in parts[p] for w in (o, o.rstrip("s"))}
        ]
        if name:
            near = near or (tuple(within) if len(said.split()) > 2 else ())
            return Mention(said, near, name.sure and near == name.options)
        joined = "".join(key(said))
        # "gamer" of "xXgamerXx", "Dan" of "Daniel"
        within += [p for p in self.peers if len(joined) > 2 and joined in "".join(p.words)]
        slips = [p for p in near if _slip(joined, "".join(p.bare))]
        fit = tuple(dict.fromkeys([*near, *within, *begun]))
        if len(fit) == 1 and len(joined) > _SHARED_CHARS and (within or slips):
            return Mention(said, fit, sure=True)
        if not (near or begun):
            return Mention(said, fit)
        return Mention(said, near or begun, sure=len(begun) == 1 and near in ((), begun))

    def _begun(self, said: str) -> tuple[Peer, ...]:
        """People with a word in their name or user id that begins like `said` ("spammer" finds "Spam")."""
        words = key(said)
        return tuple(
            p
            for p in self.peers
            for one in (*p.words, *key(p.user_id))
            if len(words) == 1
            and min(len(one), len(words[0])) >= _SHARED_CHARS
            and (one.startswith(words[0]) or words[0].startswith(one))
        )

    # Said of people. Between two texts that a stranger wrote, and between one and a number, stands
    # a Latin word, so that a right-to-left name cannot reorder the line (see `untrusted`).

    def nobody(self, name: str) -> str:
        """The reply that nobody here has the name or role `name`."""
        role = re.sub("^the | roles?$", "", name)
        if role != name and role in self.by_role:
            return say("only_a_role", role=quoted(role, 30))
        if name.endswith(" role"):
            return say("no_role", role=quoted(role), roles=self._roles())
        return say("nobody", name=quoted(name), roles=self._roles())

    def _roles(self) -> str:
        shown = [f"{count:,} as {quoted(role, 30)}" for role, count in self.by_role.items()]
        left = f" and {len(shown) - SHOWN_ROLES} other roles" if len(shown) > SHOWN_ROLES else ""
        return f"By role: {' and '.join(shown[:SHOWN_ROLES])}{left}." if shown else say("empty")

    def who_is_here(self, role: str | None = None, *, count: bool = False) -> str:
        """Return the reply that tells how many people are here, and up to 20 names.

        Args:
            role: tell only of people with this role.
            count: tell no names.
        """
        peers = self.peers if role is None else self.with_role(role)
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
        """The reply that names the people who were found, one a line."""
        lines = [f"{self._one(option)} is here." for option in options[:MAX_OPTIONS]]
        left = len(options) - MAX_OPTIONS
        return "\n".join([*lines, f"And {left} more."] if left > 0 else lines)

    def which(self, options: Sequence[Someone]) -> str:
        """Return a question that asks which of the `options` is meant, and numbers them."""
        called = [f"{'called ' * isinstance(o, Peer)}{self._one(o)}" for o in options]
        lines = "\n".join(f"{place}. {one}" for place, one in enumerate(called[:MAX_OPTIONS], 1))
        return say("this_one" if len(options) == 1 else "which_one", lines=lines)

    def _one(self, option: Someone) -> str:
        role = quoted(option.role, 30)
        if not isinstance(option, Peer):
            return f"everyone with the role {role}, that is {people_count(option.count)}"
        short = short_ids([peer.id for peer in self.peers]).get(option.id, option.id)
        named, user_id = quoted(option.name), quoted(option.user_id, 40)
        return f"{named} with the role {role}, user id {user_id} and id {short}"


def read_roster(artifact: object, room_id: str) -> Roster | None:
    """Return the roster in the `artifact` of a `ToolMessage` from hms-list-peers. Return None if it holds
    no whole roster of this room."""
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


def _slip(typed: str, name: str) -> bool:
    from rapidfuzz.distance import OSA

    return OSA.distance(typed, name, score_cutoff=1) == 1


def _within(said: Sequence[str], name: Sequence[str]) -> bool:
    """Whether each spoken word is a word of the name. A plural counts, and so does the first letter of
    a word if further words are spoken."""
    letters = {word[:1] for word in name if len(said) > 1}
    return len(said) <= len(name) and all(
        word in name or word in letters or word.removesuffix("s") in name for word in said
    )


def key(text: str) -> tuple[str, ...]:
    """Return the words of a name without case, accents and marks: ("zoe", "ohara") for "Zoë O'Hara"."""
    plain = unicodedata.normalize("NFD", text.casefold())
    words = ("".join(filter(str.isalnum, word)) for word in plain.replace("_", " ").split())
    return tuple(filter(None, words)) or (plain.strip(),)


def forms(role: str) -> tuple[str, ...]:
    """Return how people may write a role: for "co-host" it is "co host", "co hosts" and other plurals."""
    one = " ".join(key(re.sub("[-_]", " ", role)))
    panel = ["panel"] * (one == "panelist")
    return one, f"{one}s", f"{one}es", f"{one[:-1]}ies", *panel
