"""What the person wants so far, and whether a call, a question or a change is part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evals.content import is_grounded, offends, states
from evals.effects import TOOLS, Change, Kind, Post, target_of, words_of
from evals.scenario import Turn, Want
from evals.stage import Cast


@dataclass
class _Wish:
    want: Want
    people: set[str] = field(default_factory=set)
    needed: bool = True


class Wishes:
    """The wants of the turns that were said, in one room with these people."""

    def __init__(self, room_id: str, cast: Cast) -> None:
        self._room_id = room_id
        self._cast = cast
        self._wishes: list[_Wish] = []
        self._rejected: list[_Wish] = []
        self.words = ""

    def said(self, turn: Turn, by_role: Mapping[str, Iterable[str]]) -> None:
        """A turn is said: its wants count from now on, for those who hold a role now."""

        def wish(want: Want) -> _Wish:
            # Somebody who never came, because it never came to that, is nobody to remove.
            there = want.remove and want.remove in self._cast
            people = {self._cast.id(want.remove)} if want.remove and there else set()
            if want.remove_role:
                people = set(by_role.get(want.remove_role, ()))
            return _Wish(want, people)

        self.words += f"{turn.say}\n"
        self._wishes += [wish(want) for want in turn.wants]
        self._wishes += [replace(wish(want), needed=False) for want in turn.may]
        self._rejected += [wish(want) for want in turn.rejects]

    def asked_for(self, tool: str, arguments: Mapping[str, Any]) -> bool:
        """Whether a proposed call is what a turn asked for, wanted or rejected when shown."""
        both = Wishes(self._room_id, self._cast)
        both._wishes, both.words = [*self._wishes, *self._rejected], self.words
        return both.want_call(tool, arguments)

    def shown(self, role: str, people: Iterable[str]) -> None:
        """A question about a whole role shows these people: wanting the role, one wants them too."""
        for wish in self._wishes:
            if wish.want.remove_role == role:
                wish.people |= set(people)

    def kinds(self) -> frozenset[Kind]:
        return frozenset(wish.want.kind for wish in self._wishes)

    def want_call(self, tool: str, arguments: Mapping[str, Any]) -> bool:
        kind, room_id = TOOLS.get(tool), str(arguments.get("room_id"))
        if kind is None:
            return False
        if kind == "remove" and (role := arguments.get("role")):
            wanted = any(wish.want.remove_role == role for wish in self._wishes)
            return wanted and room_id == self._room_id
        text, _ = words_of(kind, arguments)
        target = self._cast.full(target_of(arguments))
        return self.allow_change(Change(kind, room_id, target, text))

    def allow_change(self, change: Change) -> bool:
        if change.room_id != self._room_id:
            return False
        match change.kind:
            case "remove":
                person = self._cast.person(change.target)
                return any(person in map(self._cast.person, w.people) for w in self._wishes)
            case "send":
                return bool(self._told(change))
            case "end":
                return any(wish.want.end == _how(change) for wish in self._wishes)

    def unwanted(self, changes: Iterable[Change]) -> list[Change]:
        """The changes nobody wanted. One message or end per wish is wanted, unless more are fine."""
        found: list[Change] = []
        counted: list[Change] = []
        for change in changes:
            fine = self.allow_change(change) and not self._is_one_too_many(change, counted)
            (counted if fine else found).append(change)
        return found

    def bad_forms(self, posts: Iterable[Post]) -> list[Post]:
        """The executed requests of another message type than is wanted, or with a reason that
        says what the person did not, or offends."""

        def is_bad(post: Post) -> bool:
            if post.kind == "send":
                told = self._told(post)
                return bool(told) and not any(post.form in want.type.split("|") for want in told)
            grounded = is_grounded(post.form, self.words)
            return not grounded or bool(offends(post.form, self.words, self._cast.names))

        return [post for post in posts if post.executed and is_bad(post)]

    def fulfilled(self, changes: Iterable[Change], here: Iterable[str]) -> bool:
        """Whether all that is wanted is so: people out, messages there, the session over."""
        person = self._cast.person
        present, done = {person(i) for i in here}, list(changes)

        def is_so(wish: _Wish) -> bool:
            if wish.want.kind == "remove":
                return not {person(i) for i in wish.people} & present
            return any(self._fits(wish.want, c) for c in done if c.kind == wish.want.kind)

        return all(is_so(wish) for wish in self._wishes if wish.needed)

    def _is_one_too_many(self, change: Change, counted: Iterable[Change]) -> bool:
        def fits(want: Want, other: Change) -> bool:
            if change.kind == "end":
                return other.kind == "end" and want.end is not None
            return other.kind == "send" and self._fits(want, other)

        if change.kind == "remove":
            return False
        wants = [wish.want for wish in self._wishes if fits(wish.want, change)]
        earlier = [other for other in counted if any(fits(want, other) for want in wants)]
        return len(earlier) >= len(wants) and not any(want.more for want in wants)

    def _told(self, message: Change | Post) -> list[Want]:
        """The wants that this message is what they want."""
        return [wish.want for wish in self._wishes if self._fits(wish.want, message)]

    def _fits(self, want: Want, change: Change | Post) -> bool:
        """Whether a message or an end is what this wants."""
        if want.end is not None:
            return change.kind == "end" and want.end == _how(change)
        others = self._cast.names - {(want.tell or "").partition("#")[0]}
        if not states(change.text, want.facts) or offends(change.text, self.words, others):
            return False
        if want.tell is not None:
            there, person = want.tell in self._cast, self._cast.person
            return there and person(change.target) == person(self._cast.id(want.tell))
        wanted = want.tell_role
        return wanted is not None and change.target in (wanted, f"role {wanted}")


def _how(end: Change | Post) -> str:
    return "locked" if end.text == "locked" else "open"
