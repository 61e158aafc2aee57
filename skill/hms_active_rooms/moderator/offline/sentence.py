"""One line of plain text: what is accepted as a sentence, its quotes, and its polite edges.

Nothing is normalised into a match. Typographic quotes are read as plain ones by a
table of one character to one, so that positions found in the reading cut the
person's own letters out of the original. Templates match ASCII only: with Unicode
case rules "ſ" would be an "s", and the Kelvin sign a "k".
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Final

MAX_CHARS: Final = 2000
"""Longer text is not a sentence of a moderator. Also bounds the time of the templates."""

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
_BLANKS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufffc\U0001d159")
_SELECTORS: Final = ((0x180B, 0x180F), (0xFE00, 0xFE0E), (0xE0100, 0xE01EF))

_QUOTES: Final = str.maketrans("“”„‟«»‘’‚‛", '""""""' + "''''")


def template(pattern: str) -> re.Pattern[str]:
    """A template; used with `fullmatch` or anchored at the start."""
    return re.compile(pattern, re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Sentence:
    """The person's own letters, and the same with plain quotes; equal in length."""

    raw: str

    @cached_property
    def plain(self) -> str:
        """`raw` with typographic quotes as plain ones."""
        return self.raw.translate(_QUOTES)

    def cut(self, start: int, end: int | None = None) -> Sentence:
        """The part from `start` to `end`, without spaces at its edges."""
        return Sentence(self.raw[start:end].strip(" "))

    def group(self, match: re.Match[str], name: str) -> Sentence:
        """What a group of a match on `plain` covers."""
        return self.cut(match.start(name), match.end(name))

    @cached_property
    def quoted_spans(self) -> tuple[tuple[int, int], ...]:
        """Where quoted text stands, quotes included."""
        return tuple(match.span() for match in _QUOTED.finditer(self.plain))

    @cached_property
    def unquoted(self) -> str:
        """`plain` with what is inside quotes blanked."""
        return _QUOTED.sub(lambda match: '"' + "_" * (len(match[0]) - 2) + '"', self.plain)

    @cached_property
    def inside_quotes(self) -> str | None:
        """The text inside, when one pair of quotes encloses the whole."""
        match = _ENCLOSED.fullmatch(self.plain)
        return self.raw[1:-1].strip(" ") if match else None


# An apostrophe inside a word neither opens nor closes.
_QUOTED: Final = re.compile(r'"[^"]*"|(?<![^ :,(])\'(?=[^ \'])(?:[^\']|(?<=\w)\'(?=\w))*\'(?!\w)')
_ENCLOSED: Final = re.compile(r'"[^"]+"|\'(?:[^\']|(?<=\w)\'(?=\w))+\'')


def read(text: str) -> Sentence | None:
    """The sentence, spaces collapsed; None if it is empty, too long or not one line of plain text."""
    if len(text) > MAX_CHARS:
        return None
    line = re.sub(" +", " ", text.strip(" "))
    return Sentence(line) if line and all(map(_shown, line)) else None


def _shown(char: str) -> bool:
    if char == " ":
        return True
    code = ord(char)
    return (
        unicodedata.category(char) not in _HIDDEN
        and char not in _BLANKS
        and not any(first <= code <= last for first, last in _SELECTORS)
    )


_OPENER: Final = template(
    r"(?:"
    r"(?:hey|hi|hello|ok|okay|alright|all right|well|now|moderator|assistant|bot)(?: there)?[,!]* "
    r"|(?:please|pls|plz|kindly|just)(?:, ?| )"
    r"|(?P<asks>(?:can|could|would) you,? )"
    r"|(?:i want|i need|i would like|i'd like) you to "
    r"|let's |lets |go ahead and "
    r")(?=[^ ,])"
)
_TRAILER: Final = template(
    r"(?:[ ,]+(?:please|pls|plz|now|right now|right away|immediately|at once|asap|thanks"
    r"|thank you|thx|for me|again)|[ .!])+\Z"
)
_MAX_OPENERS: Final = 4


@dataclass(frozen=True)
class Polite:
    """A sentence without its polite edges.

    Attributes:
        core: without openers; the end is untouched.
        asked: an opener was "can you", "could you" or "would you", so that a question
            mark at the end belongs to the politeness.
    """

    core: Sentence
    asked: bool

    @property
    def order(self) -> Sentence:
        """The core without polite words and marks at the end."""
        end = self.core.plain
        if self.asked:
            end = end.rstrip("? ")
        return self.core.cut(0, len(without_trailer(end)))


def without_trailer(plain: str) -> str:
    """A text without "please", "now" and the like, and full stops, at its end."""
    match = _TRAILER.search(plain)
    return plain[: match.start()] if match else plain


def polite(sentence: Sentence) -> Polite:
    """Cut the closed list of polite openers off."""
    core, asked = sentence, False
    for _ in range(_MAX_OPENERS):
        match = _OPENER.match(core.plain)
        if match is None:
            break
        asked = asked or match["asks"] is not None
        core = core.cut(match.end())
    return Polite(core, asked)
