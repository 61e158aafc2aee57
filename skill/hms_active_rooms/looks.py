"""How a name looks: keys under which names that a person would mix up are equal.

All keys forget what is not seen (format characters, fillers, kinds of blanks) and read only the
first visible characters, so that a long name costs little. Two names that differ only after that
count as alike: a needless warning costs a look, and a missing one can remove the wrong person.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

SEEN_CHARS: Final = 128
"""Visible characters compared; a grid tile or a participant list shows fewer."""

SCANNED_CHARS: Final = 1024
"""Characters read to find them: a name may begin with hundreds that are not seen."""

_BLANKS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0\U0001d159")
"""Drawn as a blank although they count as letters or symbols."""

_NOT_DRAWN: Final = re.compile(
    "[\u034f\u17b4\u17b5\ufffc\u180b-\u180f\ufe00-\ufe0f\U00016fe4\U000e0100-\U000e01ef]"
)
"""Drawn as nothing; the ranges choose how the character before them is drawn."""

# Combining classes of marks a name can lose and still be read as the same: overlays, Hebrew
# points, Arabic vowel signs, accents. Not those of Indic signs and Japanese voicing marks,
# which are letters.
_ACCENTS: Final = frozenset({1, *range(10, 36), *range(200, 241)})

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
    return _one_line(unicodedata.normalize("NFD", _seen(name)).translate(_LOOKS))


def glance(name: str) -> str:
    """The name as a quick look takes it, for warnings: more names are one than by `skeleton`.

    On top of it blanks and punctuation go, "5" is "s", "8" is "b" and "nn" is "m": "5am Lee",
    "Sann Lee", "Sam Lee." and "SamLee" are all "Sam Lee".
    """
    looks = skeleton(name).replace("nn", "rn").translate(_DIGITS)
    return "".join(c for c in looks if unicodedata.category(c)[0] not in "PZ") or looks


def may_hold(part: str, names: Sequence[str]) -> list[int]:
    """The places of the names that may hold the part as `folded` or as `skeleton`, in one pass over
    all. That the others do not is sure; of these only the two can tell: each holds every word of
    the part, or is not plain ASCII.
    """
    whole = "\n".join(n if n.isascii() and n.isprintable() else "" for n in names)
    table, longer = _ascii_looks()
    looked = whole
    for char, looks in longer.items():
        looked = looked.replace(char, looks)
    plain, seen = (text.split("\n") for text in (whole.lower(), looked.translate(table)))
    found = {place for place, name in enumerate(plain) if not name}
    for texts, key in ((plain, folded), (seen, skeleton)):
        left = list(range(len(texts)))
        for word in sorted(key(part).split(), key=len, reverse=True):
            left = [place for place in left if word in texts[place]]
        found.update(left)
    return sorted(found)[: len(names)]  # of no names there is one line, too


@cache
def _ascii_looks() -> tuple[dict[int, str], dict[str, str]]:
    """What `_look` gives for each ASCII character: a table for `str.translate` of those that become
    one character, which is quick, and a dictionary of the others."""
    looks = {char: _look(char) for char in map(chr, range(0x20, 0x7F))}
    longer = {char: like for char, like in looks.items() if len(like) != 1}
    return {ord(char): looks[char] for char in looks.keys() - longer.keys()}, longer


def _seen(name: str) -> str:
    """The first visible characters, blanks as spaces."""
    head = name[:SEEN_CHARS]
    if head.isascii() and head.isprintable():
        return head
    return name[:SCANNED_CHARS].translate(_VISIBLE)[:SEEN_CHARS]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def visible(char: str) -> str:
    """The character; a space if it is drawn as a blank, nothing if it is not drawn."""
    category = unicodedata.category(char)
    if char in _BLANKS or category in ("Zs", "Zl", "Zp") or char.isspace():
        return " "
    if category == "Cn":  # newer than this Python: perhaps a letter that others see
        return char if char in _prototypes() else ""
    if category in ("Cc", "Cf", "Cs", "Co") or _NOT_DRAWN.match(char):
        return ""
    return char


def _look(char: str) -> str:
    """What the character looks like, in small letters; itself when it looks like no other."""
    text = char
    # By the data no chain is longer than three: fullwidth "Ｉ", "I", "l". Before the case is
    # folded, since "М" looks like "M" while "м" does not look like "m".
    for _ in range(4):
        like = "".join(_alike(c) for c in unicodedata.normalize("NFD", text) if not _is_accent(c))
        plain = unicodedata.normalize("NFKD", like)
        after = "".join(visible(c) for c in plain if not _is_accent(c)).casefold()
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
    return unicodedata.combining(char) in _ACCENTS or unicodedata.category(char) == "Me"


@cache
def _prototypes() -> dict[str, str]:
    """Each confusable character to its prototype, by Unicode's table (UTS #39)."""
    found: dict[str, str] = {}
    for line in Path(__file__).with_name("confusables.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            prototype, *characters = line.split()
            like = "".join(chr(int(code, 16)) for code in prototype.split("+"))
            found.update((chr(int(code, 16)), like) for code in characters)
    return found


class _Table(dict[int, str]):
    """A table for `str.translate` that works an entry out when it is first asked for."""

    def __init__(self, entry: Callable[[str], str]) -> None:
        super().__init__()
        self._entry = entry

    def __missing__(self, code: int) -> str:
        self[code] = value = self._entry(chr(code))
        return value


_DIGITS: Final = str.maketrans("58", "sb")
_VISIBLE: Final = _Table(visible)
_LOOKS: Final = _Table(_look)
