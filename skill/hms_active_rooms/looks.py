"""Makes keys for names. Names that a person could mix up have the same key.

A key leaves out invisible characters, such as format characters and fillers. To save time it has only
the first visible characters, so two long names that begin alike have the same key. That may cause a
needless warning. A missing warning would be worse: the wrong person could be removed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

SEEN_CHARS: Final = 128
"""How many visible characters of a name are compared. A list of participants shows fewer."""

SCANNED_CHARS: Final = 1024
"""How many characters of a name are searched for visible ones."""

_BLANKS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0\U0001d159")
"""Characters that are drawn as a blank, although they count as letters or symbols."""

_NOT_DRAWN: Final = re.compile(
    "[\u034f\u17b4\u17b5\ufffc\u180b-\u180f\ufe00-\ufe0f\U00016fe4\U000e0100-\U000e01ef]"
)
"""Characters that draw nothing. Some of them change how the character before them is drawn."""

# Combining classes of the marks that a key drops: overlays, Hebrew points, Arabic vowel signs,
# accents. Indic signs and Japanese voicing marks are letters, so keys keep them.
_ACCENTS: Final = frozenset({1, *range(10, 36), *range(200, 241)})

# What Cyrillic "к" and "м" look like by Unicode's table. Both are small capitals, although their
# Unicode names do not say so. (The name of "ʙ", for "в", says so.)
_SMALL_CAPITALS: Final = {"ĸ": "k", "ʍ": "m"}


def folded(name: str) -> str:
    """Return a key to compare names by their letters. Accents count, case and invisible characters do not."""
    plain = unicodedata.normalize("NFKC", _seen(name)).casefold()
    return " ".join(unicodedata.normalize("NFKC", plain).translate(_VISIBLE).split())


def skeleton(name: str) -> str:
    """Return a key for the looks of a name. Names that look the same to a person have the same key:
    Cyrillic "а" is "a", "0" is "o", and case and accents do not count."""
    return " ".join(unicodedata.normalize("NFD", _seen(name)).translate(_LOOKS).split())


def glance(name: str) -> str:
    """Return a looser key than `skeleton`, for warnings: "5am Lee" and "SamLee" have the key of "Sam
    Lee"."""
    looks = skeleton(name).replace("nn", "rn").translate(_DIGITS)
    return "".join(c for c in looks if unicodedata.category(c)[0] not in "PZ") or looks


def may_hold(part: str, names: Sequence[str]) -> list[int]:
    """Return the indexes of the names that may contain all words of `part`. No other name can."""
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
    return sorted(found)[: len(names)]  # without names, "".split("\n") still gives one line


@cache
def _ascii_looks() -> tuple[dict[int, str], dict[str, str]]:
    """The looks of ASCII characters: a table for `str.translate`, and the looks that are longer."""
    looks = {char: _look(char) for char in map(chr, range(0x20, 0x7F))}
    longer = {char: like for char, like in looks.items() if len(like) != 1}
    return {ord(char): looks[char] for char in looks.keys() - longer.keys()}, longer


def _seen(name: str) -> str:
    """The first visible characters of a name. Each kind of blank becomes a space."""
    head = name[:SEEN_CHARS]
    if head.isascii() and head.isprintable():
        return head
    return name[:SCANNED_CHARS].translate(_VISIBLE)[:SEEN_CHARS]


def visible(char: str) -> str:
    """Return how a character is drawn: as itself, as a space, or not at all ("")."""
    category = unicodedata.category(char)
    if char in _BLANKS or category in ("Zs", "Zl", "Zp") or char.isspace():
        return " "
    if category == "Cn":  # newer than this Python's Unicode; perhaps a visible letter
        return char if _code(char) in _prototypes() else ""
    if category in ("Cc", "Cf", "Cs", "Co") or _NOT_DRAWN.match(char):
        return ""
    return char


def _look(char: str) -> str:
    """What a character looks like, in lower case; itself if it looks like no other."""
    text = char
    # No chain in Unicode's data has more than three characters: fullwidth "Ｉ", "I", "l". Case is
    # folded at the end of a step, since "М" looks like "M" but "м" does not look like "m".
    for _ in range(4):
        like = "".join(_alike(c) for c in unicodedata.normalize("NFD", text) if not _is_accent(c))
        plain = unicodedata.normalize("NFKD", like)
        after = "".join(visible(c) for c in plain if not _is_accent(c)).casefold()
        if after == text:
            break
        text = after
    return text.replace("i", "l")


def _alike(char: str) -> str:
    codes = _prototypes().get(_code(char))
    like = "".join(chr(int(code, 16)) for code in codes.split("+")) if codes else char
    if like in _SMALL_CAPITALS:
        return _SMALL_CAPITALS[like]
    drawn = unicodedata.name(like, "") if len(like) == 1 else ""
    letter = drawn.removeprefix("LATIN LETTER SMALL CAPITAL ")
    return letter.lower() if len(letter) == 1 else like


def _is_accent(char: str) -> bool:
    return unicodedata.combining(char) in _ACCENTS or unicodedata.category(char) == "Me"


@cache
def _prototypes() -> dict[str, str]:
    """Unicode's confusables (UTS #39): maps a character's code to the codes of its look-alike."""
    text = Path(__file__).with_name("confusables.txt").read_text("utf-8")
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {code: prototype for prototype, *codes in rows for code in codes}


def _code(char: str) -> str:
    return f"{ord(char):04X}"


class _Table(dict[int, str]):
    """A table for `str.translate` that computes an entry when it is first needed."""

    def __init__(self, entry: Callable[[str], str]) -> None:
        super().__init__()
        self._entry = entry

    def __missing__(self, code: int) -> str:
        self[code] = value = self._entry(chr(code))
        return value


_DIGITS: Final = str.maketrans("58", "sb")
_VISIBLE: Final = _Table(visible)
_LOOKS: Final = _Table(_look)
