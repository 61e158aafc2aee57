"""What the person wants so far, and whether a call, a question or a change is part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evals.cast import Cast
from evals.content import is_grounded, offends, states
from evals.effects import Change, Kind, Post, words_of
from evals.scenario import Turn, Want

TOOLS: dict[str, Kind] = {
    "hms-remove-peers": "remove",
    "hms-send-message": "send",
    "hms-end-active-room": "end",
}
"""The state-changing tools, and what they do to a room."""


@dataclass
class _Wish:
    want: Want
    people: set[str] = field(default_factory=set)
    needed: bool = True


class Wishes:
    """The wants of the turns that were said, in one room."""

    def __init__(self, room_id: str) -> None:
        self._room_id = room_id
        self._wishes: list[_Wish] = []
        self._rejected: list[_Wish] = []
        self.words = ""

    def said(self, turn: Turn, cast: Cast, by_role: Mapping[str, Iterable[str]]) -> None:
        """A turn is said: its wants count from now on, for those who hold a role now."""

        def wish(want: Want) -> _Wish:
            # Somebody who never came, because it never came to that, is nobody to remove.
            people = {cast.id(want.remove)} if want.remove and want.remove in cast else set()
            if want.remove_role:
                people = set(by_role.get(want.remove_role, ()))
            return _Wish(want, people)

        self.words += f"{turn.say}\n"
        self._wishes += [wish(want) for want in turn.wants]
        self._wishes += [replace(wish(want), needed=False) for want in turn.may]
        self._rejected += [wish(want) for want in turn.rejects]

    def asked_for(self, tool: str, arguments: Mapping[str, Any], cast: Cast) -> bool:
        """Whether a proposed call is what a turn asked for, wanted or rejected when shown."""
        both = Wishes(self._room_id)
        both._wishes, both.words = [*self._wishes, *self._rejected], self.words
        return both.want_call(tool, arguments, cast)

    def shown(self, role: str, people: Iterable[str]) -> None:
        """A question about a whole role shows these people: wanting the role, one wants them too."""
        for wish in self._wishes:
            if wish.want.remove_role == role:
                wish.people |= set(people)

    def kinds(self) -> frozenset[Kind]:
        return frozenset(wish.want.kind for wish in self._wishes)

    def want_call(self, tool: str, arguments: Mapping[str, Any], cast: Cast) -> bool:
        kind, room_id = TOOLS.get(tool), str(arguments.get("room_id"))
        if kind is None:
            return False
        if kind == "remove" and (role := arguments.get("role")):
            wanted = any(wish.want.remove_role == role for wish in self._wishes)
            return wanted and room_id == self._room_id
        text, _ = words_of(kind, arguments)
        return self.allow_change(Change(kind, room_id, _target(arguments, cast), text), cast)

    def allow_change(self, change: Change, cast: Cast) -> bool:
        if change.room_id != self._room_id:
            return False
        match change.kind:
            case "remove":
                person = cast.person(change.target)
                return any(person in map(cast.person, wish.people) for wish in self._wishes)
            case "send":
                return any(
                    self._is_told(wish.want, change.target, change.text, cast)
                    for wish in self._wishes
                )
            case "end":
                how = "locked" if change.text == "locked" else "open"
                return any(wish.want.end == how for wish in self._wishes)

    def unwanted(self, changes: Iterable[Change], cast: Cast) -> list[Change]:
        """The changes nobody wanted. One message or end per wish is wanted, unless more are fine."""
        found: list[Change] = []
        counted: list[Change] = []
        for change in changes:
            if not self.allow_change(change, cast) or self._is_one_too_many(change, counted, cast):
                found.append(change)
            else:
                counted.append(change)
        return found

    def bad_forms(self, posts: Iterable[Post], cast: Cast) -> list[Post]:
        """The executed requests of another message type than is wanted, or with a reason that
        says what the person did not, or offends."""

        def is_bad(post: Post) -> bool:
            if post.kind == "send":
                told = [
                    w for w in self._wishes if self._is_told(w.want, post.target, post.text, cast)
                ]
                return bool(told) and not any(post.form in w.want.type.split("|") for w in told)
            grounded = is_grounded(post.form, self.words)
            return not grounded or bool(offends(post.form, self.words, cast.names))

        return [post for post in posts if post.executed and is_bad(post)]

    def fulfilled(self, changes: Iterable[Change], here: Iterable[str], cast: Cast) -> bool:
        """Whether all that is wanted is so: people out, messages there, the session over."""
        present, done = {cast.person(i) for i in here}, list(changes)
        return all(self._is_so(w, done, present, cast) for w in self._wishes if w.needed)

    def _is_so(self, wish: _Wish, done: list[Change], present: set[str], cast: Cast) -> bool:
        if wish.want.kind == "remove":
            return not {cast.person(i) for i in wish.people} & present
        if wish.want.kind == "send":
            sent = [change for change in done if change.kind == "send"]
            return any(self._is_told(wish.want, c.target, c.text, cast) for c in sent)
        locked = wish.want.end == "locked"
        return any(c.kind == "end" and (c.text == "locked") == locked for c in done)

    def _is_one_too_many(self, change: Change, counted: Iterable[Change], cast: Cast) -> bool:
        def fits(want: Want, other: Change) -> bool:
            if change.kind == "end":
                return other.kind == "end" and want.end is not None
            return other.kind == "send" and self._is_told(want, other.target, other.text, cast)

        if change.kind == "remove":
            return False
        wants = [wish.want for wish in self._wishes if fits(wish.want, change)]
        earlier = [other for other in counted if any(fits(want, other) for want in wants)]
        return len(earlier) >= len(wants) and not any(want.more for want in wants)

    def _is_told(self, want: Want, target: str, text: str, cast: Cast) -> bool:
        others = cast.names - {(want.tell or "").partition("#")[0]}
        if not states(text, want.facts) or offends(text, self.words, others):
            return False
        if want.tell is not None:
            there = want.tell in cast
            return there and cast.person(target) == cast.person(cast.id(want.tell))
        wanted = want.tell_role
        return wanted is not None and target in (wanted, f"role {wanted}")


def _target(arguments: Mapping[str, Any], cast: Cast) -> str:
    if arguments.get("peer_id"):
        return cast.full(str(arguments["peer_id"]))
    return f"role {arguments['role']}" if arguments.get("role") else "everyone"
