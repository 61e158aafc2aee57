"""How a name looks: keys under which names that a person would mix up are equal.

Both keys forget what is not seen (format characters, fillers, kinds of blanks) and read
only the first `SEEN_CHARS` visible characters, found within `SCANNED_CHARS`, so that a
long name costs little. Two names that differ only after that count as alike: a warning
too many is a glance, one too few is the wrong person removed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Final

SEEN_CHARS: Final = 128
"""Visible characters compared; a grid tile or a participant list shows fewer."""

SCANNED_CHARS: Final = 1024
"""Characters read to find them: a name may begin with hundreds that are not seen."""

_CHUNK_CHARS: Final = 256

# Drawn as a blank although they count as letters or symbols.
_BLANKS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0\U0001d159")
_IGNORED: Final = frozenset("\u034f\u17b4\u17b5\ufffc")
_SELECTORS: Final = ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))

# Marks a name can lose and still be read as the same: accents, Hebrew points, Arabic vowel
# signs. Not the vowel signs of Indic scripts nor the Japanese voicing marks: those are letters.
_ACCENTS: Final = (
    (0x0300, 0x036F),
    (0x0483, 0x0489),
    (0x0591, 0x05BD),
    (0x05BF, 0x05C7),
    (0x0610, 0x061A),
    (0x064B, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE20, 0xFE2F),
)

# Unicode's prototypes of the Cyrillic small "к" and "м": capitals drawn small, like the "ʙ" of
# "в", but not named so.
_SMALL_CAPITALS: Final = {"ĸ": "k", "ʍ": "m"}


def folded(name: str) -> str:
    """The name by its letters: NFKC, case-folded, without what is not seen, blanks as one space."""
    plain = unicodedata.normalize("NFKC", _seen(name)).casefold()
    return _one_line(unicodedata.normalize("NFKC", plain).translate(_VISIBLE))


def skeleton(name: str) -> str:
    """The name by its looks: equal for names that a person would take for one another.

    On top of `folded`: accents go, and each character becomes the one it looks like by
    Unicode's confusables (Cyrillic "а", Greek "ο", "0" and "O", "m" and "rn"). "I", "l",
    "1" and "i" are one, since "I" looks like "l" and case is ignored. Not for display.
    """
    return _one_line(unicodedata.normalize("NFKD", _seen(name)).translate(_LOOKS))


def _seen(name: str) -> str:
    """The first visible characters, blanks as spaces."""
    head = name[:SEEN_CHARS]
    if head.isascii() and head.isprintable():
        return head
    seen = ""
    for start in range(0, min(len(name), SCANNED_CHARS), _CHUNK_CHARS):
        seen += name[start : start + _CHUNK_CHARS].translate(_VISIBLE)
        if len(seen) >= SEEN_CHARS:
            break
    return seen[:SEEN_CHARS]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _visible(char: str) -> str:
    """The character, a space for a blank, nothing for what is not seen."""
    category = unicodedata.category(char)
    if char in _BLANKS or category in ("Zs", "Zl", "Zp") or char.isspace():
        return " "
    if (
        category in ("Cc", "Cf", "Cs", "Co", "Cn")
        or char in _IGNORED
        or any(first <= ord(char) <= last for first, last in _SELECTORS)
    ):
        return ""
    return char


def _look(char: str) -> str:
    """What the character looks like, in small letters; itself when it looks like no other."""
    text = char
    # By the data no chain is longer than three: fullwidth "Ｉ", "I", "l". Before the case is
    # folded, since "М" looks like "M" while "м" does not look like "m".
    for _ in range(4):
        decomposed = unicodedata.normalize("NFKD", text)
        like = "".join(_alike(c) for c in decomposed if not _is_accent(c))
        after = "".join(_visible(c) for c in like).casefold()
        if after == text:
            break
        text = after
    return text.replace("i", "l")


def _alike(char: str) -> str:
    like = _prototypes().get(char, char)
    if like in _SMALL_CAPITALS:
        return _SMALL_CAPITALS[like]
    drawn = unicodedata.name(like, "") if len(like) == 1 else ""
    letter = drawn.removeprefix("LATIN LETTER SMALL CAPITAL ")
    return letter.lower() if len(letter) == 1 else like


def _is_accent(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in _ACCENTS)


@cache
def _prototypes() -> dict[str, str]:
    """Each confusable character to the one its whole group stands for.

    The package lists who looks like whom both ways. By that each group is a star around
    Unicode's prototype, so the prototype is the member with the most neighbours. In a
    group of two either will do, but a string of several characters must be the target.
    """
    from confusable_homoglyphs.confusables import confusables_data  # 30 ms: only when needed

    neighbours: dict[str, set[str]] = {}
    for left, found in confusables_data.items():
        for right in found:
            # The data wraps right-to-left characters in U+200E.
            a, b = left.replace("\u200e", ""), right["c"].replace("\u200e", "")
            neighbours.setdefault(a, set()).add(b)
            neighbours.setdefault(b, set()).add(a)

    def rank(text: str) -> tuple[int, int, bool, str]:
        return (-len(neighbours[text]), -len(text), not text.isascii(), text)

    return {
        text: min((text, *near), key=rank) for text, near in neighbours.items() if len(text) == 1
    }


class _Table(dict[int, str]):
    """A table for `str.translate` that works an entry out when it is first asked for."""

    def __init__(self, entry: Callable[[str], str]) -> None:
        super().__init__()
        self._entry = entry

    def __missing__(self, code: int) -> str:
        self[code] = value = self._entry(chr(code))
        return value


_VISIBLE: Final = _Table(_visible)
_LOOKS: Final = _Table(_look)
