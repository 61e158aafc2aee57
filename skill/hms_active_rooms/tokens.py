"""How many tokens a text can cost at most, without a tokenizer.

An upper bound for o200k_base and cl100k_base (the vocabularies that OpenAI publishes),
proved piece by piece; other vocabularies come close to these, but are not promised.
Ordinary names and our own sentences come out at 1.3 to 1.6 times the real count.

Why it holds. Both first split a text into pieces: digits by three, a word with the one
character before it, a run of punctuation with the line ends behind it. Within a piece,
neighbours merge until no two neighbours together are a token. So

- a piece that is a token costs one: digits by three, the words and marks listed here;
- in the rest, two single bytes that together are a token cannot both stay. The most
  tokens that can stay is a walk over the bytes with two states.

The tables say which pairs are a token in both vocabularies; the tests check every
entry, and the bound, against the real ones.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

# Pairs of small and of capital letters that are NOT a token; all others are.
_APART: Final = (
    "b:q f:jz g:jkq h:j j:gvwxyz k:qxz l:q m:z n:q o:q q:fgjkovyz r:j t:jq u:q v:qz w:qvz "
    "x:ghjkquvw y:fjqv z:gjqrv "
    "B:QZ C:JQZ D:QZ E:JY F:JQVZ G:JKQZ H:J I:Y J:FGHLNQUWXYZ K:JQUXZ L:HJQWXZ M:Z N:Q O:JQYZ "
    "P:QZ Q:DFGHIJKOVWXYZ R:JQZ T:JQ U:HJOQWZ V:HJQUWXYZ W:JQUVYZ X:GHJKNOQUVWZ "
    "Y:BDFHIJKQRUVX Z:BCDGIJKLMPQSTUV"
)
# A capital and a small letter that are a token.
_TOGETHER: Final = (
    "A:bcdfghijklmnoprstuvwxyz B:aegilorsuy C:abcdehilorsuxy D:abeiorstu E:bcdfklmnpqrstuvxy "
    "F:acdeilnorsux G:abeilorsu H:aeiopuyz I:dfklmnoprstx J:aeosu K:aehinry L:aefinotuvy "
    "M:abcdeioprstuy N:abdeghimorsuxy O:bdfhiklmnprst P:aeghiklorstuxy Q:itu R:aehopsux "
    "S:acehiklmnopqrtuwyz T:adehikoprsuvwxy U:bhilmnprst V:aeikmosuy W:aehiorsy X:di Y:aeou Z:eh"
)
# Letters beyond ASCII that take two bytes and are one token.
_LETTERS: Final = "ÇÉÍÎÓÖÚÜāăąćčđęěğİıłńōőœřśşšťūůűźżžơưșțάέήίόωЭёі"
_LETTER_RANGES: Final = (
    (0x00DF, 0x00F6),
    (0x00F8, 0x00FD),
    (0x03B1, 0x03B5),
    (0x03B7, 0x03BD),
    (0x03BF, 0x03C7),
    (0x0410, 0x0415),
    (0x0417, 0x0418),
    (0x041A, 0x0424),
    (0x0426, 0x0427),
    (0x042F, 0x044F),
    (0x05D0, 0x05D1),
    (0x05D3, 0x05D5),
    (0x05E8, 0x05EA),
    (0x0627, 0x063A),
    (0x0641, 0x064A),
)
# JSON punctuation that is always one piece and a token. Not "/", which may close a piece.
_MARKS: Final = ('["', '",', ',"', '"]', "]\n")

# One token each, with and without a space before: usual roles, and the words around a roster.
_WORD_LIST: Final = (
    "admin agent and are as assistant bot by child client coach customer data default doctor "
    "guest host id ids in instructions limit listener look main match matching member more name "
    "names never next of offset or parent participant patient peer people role roles room show "
    "shown speaker staff stage student teacher test the to trainer user viewer with written"
)
WORDS: Final = tuple(_WORD_LIST.split())

_NEVER: Final = -(10**9)
_SMALL: Final = "abcdefghijklmnopqrstuvwxyz"


def _pairs(table: str) -> set[str]:
    return {group[0] + second for group in table.split() for second in group[2:]}


def merging_pairs() -> frozenset[str]:
    """The texts of two bytes that are one token and one piece wherever they stand."""
    capitals = _SMALL.upper()
    alike = {a + b for case in (_SMALL, capitals) for a in case for b in case}
    spaced = {f" {letter}" for letter in _SMALL + capitals}
    abroad = {chr(code) for first, last in _LETTER_RANGES for code in range(first, last + 1)}
    return frozenset(
        (alike - _pairs(_APART)) | _pairs(_TOGETHER) | spaced | abroad | {*_LETTERS, *_MARKS}
    )


_MERGING: Final = frozenset(tuple(pair.encode()) for pair in merging_pairs())

# A word is a piece of its own after a space, a digit, a line end or punctuation of two or more
# characters, and before anything but a letter, a mark or an apostrophe. A run of JSON
# punctuation is one between letters or digits of ASCII, where nothing can lengthen it.
_WHOLE: Final = re.compile(
    r"(?P<digits>[0-9]+)"
    r'|(?:(?<=[\[,(= ]")| |(?<=[0-9\n]))(?:' + "|".join(WORDS) + r")(?![A-Za-z'\x7f-\U0010ffff])"
    r'|(?<=[A-Za-z0-9])(?:(?:","|",|"\])(?=[A-Za-z0-9 ])|"\]\n(?=\[))'
)


def token_bound(text: str) -> int:
    """The most tokens the text can be in o200k_base or cl100k_base, never fewer than it is.

    Linear in the text: about a millisecond for the 1,500 tokens of a roster.
    """
    total = place = 0
    for whole in _WHOLE.finditer(text):
        total += _unknown(text[place : whole.start()])
        if whole["digits"]:
            # Digits of other scripts right before shift the groups of three.
            shifted = whole.start() > 0 and not text[whole.start() - 1].isascii()
            total += -(-len(whole[0]) // 3) + shifted
        else:
            total += 1
        place = whole.end()
    return total + _unknown(text[place:])


@lru_cache(maxsize=4096)
def _unknown(text: str) -> int:
    """The most tokens text of unknown pieces can be: one per byte, less what must merge."""
    # The best count up to each byte, if the last token is one byte or if it is longer. Tokens
    # of two and three bytes are enough to look at: a longer one is never more than its parts.
    single, longer = [0], [0]
    before, apart = -1, 0
    for place, byte in enumerate(text.encode("utf-8", "surrogatepass")):
        merges = not apart and (before, byte) in _MERGING
        last = longer[place] if merges else max(single[place], longer[place])
        earlier = [max(single[at], longer[at]) for at in (place - 1, place - 2) if at >= 0]
        single.append(last + 1)
        longer.append(max(earlier, default=_NEVER) + 1)
        # After an apostrophe up to two letters are a piece of their own: "it's", "we'll".
        apart = 3 if byte == 0x27 else max(apart - 1, 0)
        before = byte
    return max(single[-1], longer[-1])
