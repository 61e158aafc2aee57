"""Turns a line into tokens: phrases of `words.yaml`, people and roles of the room, other words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from hms_active_rooms.moderator.offline import words as w
from hms_active_rooms.moderator.offline.roster import Mention, RoleGroup, Roster, forms, key

_MAX_NAME_WORDS: Final = 9
_MAX_PHRASE: Final = 20
_PLAIN: Final = r'[^\s,;:.!?"()…—–]+'
_TOKEN: Final = re.compile(
    r"""(?P<QUOTE>"[^"]+"|(?<!\S)'(?:[^']|(?<=\w)'(?=\w))+'(?!\w))"""
    rf"|(?P<ITEM>(?<!\S)\d\)|:[PpD)(](?!\S))|(?P<WORD>{_PLAIN}(?:[:,.?!]{_PLAIN})*)|(?P<COMMA>,)|(?P<COLON>:)"
    r"|(?P<ASKED>[.!…]*\?[?!.]*)|(?P<STOP>[.!;…]+)|(?P<DASH>[–—])|(?P<PAREN>[()])"
)
_NUMBER: Final = re.compile(
    r"\d[\d.:]*(?:st|nd|rd|th|am|pm|min|m|h|s)?|two|three|four|five|six|seven|ten|fifteen|twenty|thirty|noon"
)
ROOM_ID: Final = re.compile("[0-9a-f]{24}")


def classes(names: str) -> frozenset[str]:
    """Return the words of `names` as a set. They are separated by blanks."""
    return frozenset(names.split())


MARKS: Final = classes("COMMA STOP ASKED DASH PAREN")
PEOPLE: Final = classes("NAME ROLE")
POLITE: Final = classes("please pls plz kindly")
"""Words, not classes."""

_FRAMES: Final = classes("ASK FRONT LIST FIND")
_TITLES: Final = classes("LEAD EVERYONE ROOM LIST ROLE_WORD")
LEADS: Final = classes("DET LEAD THAT EVERY BOTH ROLE_WORD")
_BESIDE: Final = 8
_BEGINS: Final = "((COMMA|STOP|AND|PLEASE) )?(DET|EVERY|EVERYONE)|EVERYONE ROLED"


class Token(NamedTuple):
    """A word, a phrase, a punctuation mark or a name in a line.

    Args:
        type: its class, such as KICK or NAME.
        text: what was typed, mostly in lower case.
        who: whom a name may mean; None for other tokens.
    """

    type: str
    text: str
    start: int
    end: int
    who: Mention | None = None

    @property
    def told(self) -> str:
        """The token as one text, `type:text`, with "_" for blanks. The regular expressions of `words.yaml`
        match such texts."""
        return f"{self.type}:{self.text.replace(' ', '_')}"


def tokens_of(line: str, roster: Roster) -> list[Token]:
    """Return the tokens of a line, in order. Only people and roles that `roster` has are recognised."""
    return _settled(_named(_lexed(line, roster), line, roster))


def _raw(line: str) -> Iterator[Token]:
    """The words and marks of a line."""
    before = ""
    for match in _TOKEN.finditer(line):
        kind, text, start, end = str(match.lastgroup), match[0], *match.span()
        if text == "." and re.fullmatch(r"(?:.*\.)?\w|mr|mrs|ms|dr|prof|rev|st|sr|jr", before):
            continue
        text = before = text.lower() if text.isascii() else text
        if kind == "WORD" and len(text) > 2 and text.endswith("'s") and text not in w.lexicon():
            yield Token(kind, text[:-2], start, end - 2)
            yield Token(kind, "s", end - 2, end)
        else:
            mark = "DASH" if not text.strip("-") else "STOP" if kind == "ITEM" else kind
            yield Token(mark, text, start, end)


def _lexed(line: str, roster: Roster) -> list[Token]:
    """The words and marks of a line. Each phrase of `words.yaml` becomes one token."""
    raw = [one._replace(text=_mended(one, roster)) for one in _raw(line)]
    found, i, asked = list[Token](), 0, False
    while i < len(raw):
        token, behind = raw[i], found[-1].type if found else ""
        if behind == "ASK" or (asked and behind == "AND"):
            stem = _stem(token.text, "ing" if asked else "ing|ed")
            raw[i], asked = token._replace(text=stem or token.text), asked or bool(stem)
            token = raw[i]
        size, kind = _known(raw, i) if token.type == "WORD" else (1, token.type)
        if kind == "WHICH":
            asks = "THAT" if token.text.startswith("that") else "LIST"
            kind = {"EVERYONE": "ROLED", "WORD": "BECAUSE"}.get(behind, asks)
        elif [one.text for one in raw[i + size : i + size + 1]] == ["s"]:
            kind = "ROOM" if kind == "ROOM" else "WORD"  # "the show's over"
        if ROOM_ID.fullmatch(token.text):
            while found and found[-1].type in ("ROOM", "LEAD"):
                token = token._replace(start=found.pop().start)
            kind = "ROOM"
        text = " ".join(one.text for one in raw[i : i + size])
        found.append(Token(kind or "WORD", text, token.start, raw[i + size - 1].end))
        i += size
    return found


def _known(raw: Sequence[Token], i: int) -> tuple[int, str]:
    """The longest phrase of `words.yaml` that begins at `i`: its number of words, and its class. The
    class is empty if there is no such phrase."""
    said = [one.text if one.type == "WORD" else "" for one in raw[i : i + _MAX_PHRASE]]
    numbers = ["<n>" if _NUMBER.fullmatch(word) else word for word in said]
    ways = w.lexicon().get(said[0], []) + w.lexicon()["<n>"]
    fits = [
        (len(one), kind)
        for one, kind in ways
        if one in (tuple(said[: len(one)]), tuple(numbers[: len(one)]))
    ]
    # "I kindly ask you to", "tell me please whether"
    bare = [n for n, word in enumerate(said) if not n or word not in POLITE]
    fits += [
        (bare[len(one) - 1] + 1, kind)
        for one, kind in ways
        if kind in _FRAMES and one == tuple(said[n] for n in bare[: len(one)])
    ]
    return max(fits, key=lambda fit: fit[0], default=(1, ""))


def _stem(word: str, ends: str) -> str:
    """The word of `words.yaml` behind a form with such an end: "kick" for "kicking". Empty if none."""
    match = re.fullmatch(rf"(\w+?)(?:{ends})", word)
    ways = (match[1], f"{match[1]}e", match[1][:-1]) if match else ()
    return next((one for one in ways if one in w.lexicon()), "")


def _mended(token: Token, roster: Roster) -> str:
    """The text, spelled as `words.yaml` has it if a letter was missing, doubled or moved."""
    word, mended = token.text, w.section("mended").split()
    named = [role for role in roster.by_role if len(role) > 5 and role != f"{word}r"]
    roles = [form for role in named for form in forms(role)]  # "to dance" means no dancer
    if token.type != "WORD" or word in w.vocabulary():
        return word
    from rapidfuzz.distance import OSA

    if (once := re.sub(r"([a-z])\1+", r"\1", word)) in mended:
        return once  # "nowww"
    if len(word) < 3 or not (word.isalpha() and word.isascii() and roster.room_id):
        return word
    near = (one for one in [*roles, *mended] if OSA.distance(word, one, score_cutoff=1) == 1)
    fits = (o for o in near if o in roles or len(word) < len(o) or sorted(word) == sorted(o))
    return word if key(word)[0] in roster.begins else next(fits, word)


def _named(tokens: list[Token], line: str, roster: Roster) -> list[Token]:
    """The tokens. Words that name a person or a role of the room become one NAME or ROLE token."""
    out, i = list[Token](), 0
    while i < len(tokens):
        placed = bool(out) and out[-1].type in LEADS
        size, mention = _mention(tokens, i, line, roster, placed)
        token = tokens[i]
        if mention:
            kind = "ROLE" if isinstance(mention.options[0], RoleGroup) else "NAME"
            end = tokens[i + size - 1].end
            if kind == "NAME" and out and out[-1].text in ("my", "our", "your"):
                mention = mention._replace(sure=False)
            # "The crew are loud" speaks of everybody with the role.
            led = " ".join(one.type for one in out[-2:])
            behind = [one.text for one in tokens[i + size : i + size + 1]]
            if {*behind} & {"are", "were", "have", "must"} and re.fullmatch(_BEGINS, led):
                mention = mention._replace(sure=mention.sure or kind == "ROLE")
            token = Token(kind, line[token.start : end].lower(), token.start, end, mention)
        out.append(token)
        i += size
    return out


def _mention(
    tokens: list[Token], i: int, line: str, roster: Roster, placed: bool
) -> tuple[int, Mention | None]:
    """Whom the words from `i` on name, and how many tokens the name has. The longest name counts."""
    first = tokens[i]
    if first.type == "QUOTE":
        return 1, roster.named(line[first.start + 1 : first.end - 1], part=False)
    if not first.text[0].isalnum():
        return 1, None
    if first.type == "EVERYONE" and (group := roster.group(first.text.split()[-1])):
        return 1, Mention(first.text, (group,), sure=True)
    begins = key(first.text.split()[0])[0]
    initial = len(begins) == 1
    begun = {begins, begins.removesuffix("s"), f"{begins}s"} & roster.begins  # "Ann's iPad"
    if not begun and not initial and not re.search(r"[\d\W_]", first.text):
        return 1, None
    for size in range(min(_MAX_NAME_WORDS, len(tokens) - i), 0, -1):
        span = tokens[i : i + size]
        unknown = all(one.type in ("WORD", "S", "NUMBER", "VOCATIVE", "OF") for one in span)
        titled = first.type in _TITLES or (placed and not unknown)
        role = size == 1 and titled
        single = size == 1 and (initial or not (unknown or role or " " in first.text))
        article = line[span[-1].start : span[-1].end] == "a" and i + size < len(tokens)
        if single or article or span[-1].type in ("S", "OF") or not span[-1].text[-1].isalnum():
            continue
        # A misspelled role is mended, and of "Linda from HR" both words are the name's.
        said = first.text if size == 1 else line[first.start : span[-1].end]
        found = roster.named(re.sub(" (from|of) ", " ", said), part=unknown)
        if found and "(" in said and i + size < len(tokens):
            size += tokens[i + size].text == ")"  # "iPhone (3)"
        if found and (not role or unknown or isinstance(found.options[0], RoleGroup)):
            return size, found
    return 1, None


def _settled(tokens: list[Token]) -> list[Token]:
    """The tokens with their final classes. The table `beside` in `words.yaml` says which class a word
    has between which other words."""
    told = [one.told for one in tokens]
    out, passed, kinds = list[Token](), ("DET", "LEAD", "BOTH"), [one.type for one in tokens]
    for i, one in enumerate(tokens):
        after = [told[j] for j in range(i + 1, len(told)) if kinds[j] not in passed]
        line = " ".join([*told[max(0, i - _BESIDE) : i], f"<{told[i]}>", *after[:_BESIDE]])
        found = (new for rule, new in w.rows("beside") if re.search(rule, line))
        out.append(one._replace(type=next(found, one.type)))
    return out
