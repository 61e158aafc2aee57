"""What a person's sentence asks for, as values; nothing here knows a room or its people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Form = Literal["named", "the", "quoted", "role", "pronoun"]
"""How somebody was spoken of.

`named`: bare words, a name or a role. `the`: a description, "the spammer". `quoted`: a name in
quotes, taken literally. `role`: surely a role, "all students". `pronoun`: "him".
"""

Why = Literal[
    "negation",
    "exception",
    "condition",
    "delay",
    "span",
    "several",
    "question",
    "reported",
    "everyone",
    "somebody",
    "no-message",
    "unclear-message",
    "lock-only",
]
"""Why a sentence that is about an action is not carried out."""

Trick = Literal[
    "mute", "video", "ban", "unban", "role", "recording", "rename", "hand", "breakout", "unlock"
]
"""Things moderators ask for that none of the five tools can do."""


@dataclass(frozen=True)
class Target:
    """Somebody, as spoken of.

    Attributes:
        text: the name, description or role, in the person's own letters.
        form: how it was said.
        whole: all the words the name was cut out of. If a name in the room is exactly
            these, the cut may be wrong.
    """

    text: str
    form: Form = "named"
    whole: str = ""


@dataclass(frozen=True)
class ListPeople:
    """Who is here; `target` narrows it to a role."""

    target: Target | None = None
    count: bool = False


@dataclass(frozen=True)
class Find:
    """Is this person here, and who is it."""

    target: Target


@dataclass(frozen=True)
class Status:
    """Is the room live."""


@dataclass(frozen=True)
class TellEveryone:
    """A message to all in the room."""

    message: str


@dataclass(frozen=True)
class Split:
    """One way to read where the audience ends and the message begins."""

    target: Target
    message: str
    sure: bool
    """Marked by quotes or a colon, so the audience is exactly what stands before."""


@dataclass(frozen=True)
class Tell:
    """A message to a person or a role; the roster decides between the ways to split it."""

    splits: tuple[Split, ...]


@dataclass(frozen=True)
class Remove:
    """Remove a person, or everyone with a role."""

    target: Target
    reason: str | None = None


@dataclass(frozen=True)
class End:
    """End the session for everyone."""

    lock: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Help:
    """What can you do."""


@dataclass(frozen=True)
class Hello:
    """A greeting."""


@dataclass(frozen=True)
class Thanks:
    """Thank you."""


@dataclass(frozen=True)
class Answer:
    """A bare yes or no."""

    yes: bool


@dataclass(frozen=True)
class Impossible:
    """Something the tools cannot do."""

    trick: Trick


@dataclass(frozen=True)
class Refused:
    """About an action, but not a plain order to do one thing now."""

    why: Why


@dataclass(frozen=True)
class Unknown:
    """Not understood. `unreadable`: too long, or characters that are not plain text."""

    unreadable: bool = False


Telling = TellEveryone | Tell
Changing = TellEveryone | Tell | Remove | End
"""The intents that can become a state-changing call."""

Intent = (
    ListPeople
    | Find
    | Status
    | TellEveryone
    | Tell
    | Remove
    | End
    | Help
    | Hello
    | Thanks
    | Answer
    | Impossible
    | Refused
    | Unknown
)
