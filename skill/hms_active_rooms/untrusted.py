"""Makes strangers' texts safe to show, and finds names that look alike.

Strangers choose names, user ids, roles, metadata and room names. Such a text may hold terminal
commands, marks that reorder a line, invisible letters, ten megabytes of accents, or a sentence
addressed to the model. So it is shown only through `quoted`, `shortened` or `escaped`.

Hebrew and Arabic run from right to left, and take digits and punctuation beside them along, up to the
next Latin letter. So our own sentences have a Latin word between two quoted texts, and between a
quoted text and a number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, Literal, TypeVar

from hms_active_rooms.looks import folded, glance, visible
from hms_active_rooms.tokens import token_bound

K = TypeVar("K")

SHORT_ID_CHARS: Final = 8
"""How many characters a short id has at least, as many as the first group of a UUID."""

QUOTED_CHARS: Final = 60
"""How many characters of a name `quoted` shows by default."""

MAX_MARKS: Final = 2
"""How many combining marks in a row stay. Vietnamese and Thai need two, "Zalgo" has dozens."""

# A text of only these characters is safe as it is. Most texts are.
_PLAIN: Final = re.compile(r"[ !#-%'-;=-\[^_a-~]*")

# Backticks, tags, `<|special tokens|>`, link targets and `&#8238;` have an effect in Markdown, HTML
# or a tokenizer. It is enough to escape the first character of each.
_ACTIVE: Final = re.compile(r"`|<(?=[A-Za-z/!?|])|(?<=\])[(\[]|&(?=#|[A-Za-z0-9]+;)")

# PostgreSQL refuses a NUL character. All databases refuse half a surrogate pair.
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")

# Quotes and their look-alikes become \u escapes, since they seem to end our string. (Markdown would
# drop the backslash of `\"`.) U+05F4 stays, since Hebrew words contain it.
_QUOTES: Final = frozenset('"ʺ˝ˮ˶᳓“”‟″‶〃〝〞〟❝❞＂')

# `for_terminal` keeps these characters. They do no harm in a terminal, and many errors have them.
_ONLY_CHARACTERS: Final = re.compile(r"([\"\\`<(\[“”″])")

_SHORT_ESCAPES: Final = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

# Emoji. A joiner or a variation selector is kept only inside an emoji.
_PICTURE: Final = (
    "[©®‼⁉™ℹ\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935"
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_ONE_PICTURE: Final = f"{_PICTURE}[\U0001f3fb-\U0001f3ff]?\ufe0f?"
_EMOJI: Final = re.compile(f"[0-9#*]\ufe0f\u20e3|{_ONE_PICTURE}(?:\u200d{_ONE_PICTURE})*")


def quoted(text: str, cap: int = QUOTED_CHARS) -> str:
    """Return a stranger's text as a JSON string on one line, safe in a terminal and in Markdown.

    A text of more than `cap` code points is cut, and "…" follows the closing quote.
    """
    body = f'"{escaped(text[:cap])}"'
    return body if len(text) <= cap else f"{body}…"


def escaped(text: str) -> str:
    """Return the text with JSON escapes in place of all characters that could do harm, such as invisible
    ones."""
    if _PLAIN.fullmatch(text):
        return text
    active = {match.start() for match in _ACTIVE.finditer(text)}
    shown: list[str] = []
    marks = MAX_MARKS  # how many were kept in a row; at the start none may be kept
    place = 0
    while place < len(text):
        emoji = _EMOJI.match(text, place)
        if emoji and not any(unicodedata.category(c) == "Cn" for c in emoji[0]):
            shown.append(emoji[0])
            place, marks = emoji.end(), 0
            continue
        char = text[place]
        kind = "hidden" if place in active else _kind(char)
        if kind == "seen":
            shown.append(char)
            marks = 0
        elif kind == "mark" and marks < MAX_MARKS:
            shown.append(char)
            marks += 1
        else:
            shown.append(_escape(char))
            marks = marks if kind == "mark" else MAX_MARKS
        place += 1
    return "".join(shown)


def shortened(text: str, most: int, tokens: int | None = None) -> str:
    """Return a stranger's text, escaped and without quotes. At most its first `most` characters are used,
    and at most `tokens` tokens. "…" follows a text that was cut."""
    shown = text[:most]
    safe = escaped(shown)
    while tokens is not None and len(safe.encode()) > tokens and token_bound(safe) > tokens:
        shown = shown[: min(len(shown) - 1, len(shown) * 3 // 4)]
        safe = escaped(shown)
    return safe if len(shown) == len(text) else f"{safe}…"


def for_terminal(text: str) -> str:
    """Escape a text for a terminal. Quotes, backticks, tags and links do no harm there, so they stay."""
    parts = _ONLY_CHARACTERS.split(text)
    return "".join(part if place % 2 else escaped(part) for place, part in enumerate(parts))


def message_of(error: BaseException) -> str:
    """Return another program's error as one line, cut to 300 characters and then escaped, so that it
    is safe for a terminal."""
    line = " ".join(str(error).split())
    return for_terminal(line[:300]) + ("…" if len(line) > 300 else "")


def cut(text: str, most: int) -> str:
    """Return a stranger's text, escaped and cut as by `shortened`. At most its first `most` characters are
    used, and the result has at most about `most` tokens."""
    return shortened(text, most, most)


@lru_cache(maxsize=8192)
def _kind(char: str) -> Literal["seen", "mark", "hidden"]:
    category = unicodedata.category(char)
    if char in _QUOTES or char == "\\" or category == "Cn" or visible(char) != char:
        return "hidden"
    return "mark" if category in ("Mn", "Me") else "seen"


@lru_cache(maxsize=8192)
def _escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return _SHORT_ESCAPES.get(char) or re.sub("....", r"\\u\g<0>", units)


def storable(text: str) -> str:
    """Return the text with U+FFFD in place of NUL and of half surrogate pairs, which databases refuse."""
    return _UNSTORABLE.sub("\ufffd", text)


def lookalikes(target: str, names: Iterable[str]) -> list[str]:
    """Return the other names that a person could take for `target`, because they look like it."""
    looks, plain = _looks(target), _plain(target)
    others = [name for name in names if name != target]
    return [name for name in others if _looks(name) == looks or _plain(name) == plain]


def same_looks(names: Iterable[tuple[K, str]]) -> list[list[K]]:
    """Return groups of keys whose names look alike. `names` has pairs (key, name)."""
    groups: dict[str, list[K]] = {}
    for key, name in names:
        groups.setdefault(_looks(name), []).append(key)
    return [keys for keys in groups.values() if len(keys) > 1]


# Cached, since a room is read again and again, with mostly the same names.
_looks: Final = lru_cache(maxsize=4096)(glance)
_plain: Final = lru_cache(maxsize=4096)(folded)


def short_ids(ids: Sequence[str], *, among: Iterable[str] | None = None) -> dict[str, str]:
    """Return a short id for each of `ids`: a prefix that no other id of `among` has. By default `among` is
    `ids`."""
    short = {full: full[:SHORT_ID_CHARS] for full in ids}
    heads = set(short.values())
    # Only ids that begin alike can have the same prefix. In a sorted list they are neighbours.
    near = {full for full in (ids if among is None else among) if full[:SHORT_ID_CHARS] in heads}
    if len(near) == len(heads) and not any(head.endswith("-") for head in heads):
        return short
    ordered = ["", *sorted(near), ""]
    for before, full, after in zip(ordered, ordered[1:], ordered[2:], strict=False):
        end = SHORT_ID_CHARS
        while end < len(full) and (
            full[end - 1] == "-" or before.startswith(full[:end]) or after.startswith(full[:end])
        ):
            end += 1
        short[full] = full[:end]
    return short


def resolve_short_id(ref: str, ids: Iterable[str]) -> list[str]:
    """Return the ids that are equal to `ref`. If there are none, return those that begin with `ref`.

    A `ref` of less than `SHORT_ID_CHARS` characters has to be a whole id.
    """
    wanted = ref.lower()
    known = list(dict.fromkeys(ids))
    if exact := [full for full in known if full.lower() == wanted]:
        return exact
    if len(wanted) < SHORT_ID_CHARS:
        return []
    return [full for full in known if full.lower().startswith(wanted)]
