"""A sentence as orders, read with the people of the room at hand. Pure.

First the words become tokens: classes of `words.yaml`, people who were found in the room, and words
that nobody knows. Then the line is read part by part: an order, if `orders.lark` takes all of it, a
look, courtesy, a statement (a reason), or something that takes back what was said. A part that is
none of these, and anything that shows that no order is meant, and nothing is ordered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hms_active_rooms.moderator.offline import words as w
from hms_active_rooms.moderator.offline.roster import Mention, Peer, RoleGroup, Roster, key
from hms_active_rooms.untrusted import escaped

if TYPE_CHECKING:
    from lark import Lark, Tree

_MAX_CHARS: Final = 2000
_MAX_NAME_WORDS: Final = 9
_FEW: Final = 8
_QUOTES: Final = str.maketrans("“”„‟«»‘’‚‛", '""""""' + "''''")
_PLAIN: Final = r'[^\s,;:.!?"()…—–]+'
_TOKEN: Final = re.compile(
    rf"""(?P<QUOTE>"[^"]+"|(?<!\S)'(?:[^']|(?<=\w)'(?=\w))+'(?!\w))|(?P<WORD>{_PLAIN}(?:[:,.?!]{_PLAIN})*)"""
    r"|(?P<COMMA>,)|(?P<COLON>:)|(?P<ASKED>\?[?!]*)|(?P<STOP>[.!;…]+)|(?P<DASH>[–—])|(?P<PAREN>[()])"
)
_NUMBER: Final = re.compile(
    r"\d[\d.:]*(?:st|nd|rd|th|am|pm|min|m|h|s)?|two|three|four|five|six|seven|ten|noon"
)
_ROOM_ID: Final = re.compile("[0-9a-f]{24}")


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


CHANGES: Final = frozenset({"remove", "tell", "end"})
_ORDERS: Final = _set("KICK TAKE SEND END ENDALL LOCK TELL SAY LET NOTE CANNOT")
_CUTS: Final = _set("COMMA STOP ASKED DASH PAREN COLON BECAUSE FOR AND HE BACK")
_COURTESY: Final = _set("PLEASE FRONT ASK AND HERE STOP")
_HARD: Final = ("injection", "unquoted", "exception", "condition", "delay")
_SOFT: Final = ("reported", "mood")
_LOOKS: Final = _set("COUNT LIST FIND STATE IS question")
_SUBJECTS: Final = _set("PEOPLE DET THAT HE IT LEAD EVERYONE ROOM IS PRON")
_BEFORE: Final = _set("LEAD DET BOTH EVERY THAT ROLE_WORD ROLED EVERYONE")
_LISTS: Final = _set("AND COMMA STOP PLEASE COLON PAREN")
_SHOWING: Final = ("show", "see", "get", "give", "show me", "clear")
_SHOWN: Final = _set("TAKE SEND ME DET PEOPLE EVERYONE LIST HERE IN ROOM OF COUNT STATE IS")
_NO_LOOK: Final = _set("KICK END ENDALL TELL SAY MUST LET LOCK injection unquoted reported mood condition")
_NO_STATE: Final = _NO_LOOK - {"LOCK"}
_SKIPPED: Final = _COURTESY | _set("COMMA DASH ASKED BACK negation")
_STARTS: Final = _ORDERS - {"NOTE"}
_DONT: Final = ("don't", "dont", "do not", "not")
_REWORDS: Final = _set("PLEASE AND SEND SAY QUOTE STOP")
_POLITE: Final = _set("please pls plz")
_SOMEONE: Final = ("the guy", "that guy", "this guy", "that person", "this person", "that one", "this one")
_OURS: Final = ("i", "we", "you", "u", "i'm", "we're", "i've", "we've")
_PERSON: Final = _set("PEOPLE PRON IT HE EVERYONE")


class Token(NamedTuple):
    """A word, a phrase, a mark or people: its class, its text in lower case, and its place."""

    kind: str
    text: str
    start: int
    end: int
    who: tuple[Mention, ...] = ()


@dataclass(frozen=True)
class Order:
    """One thing that is asked for.

    Attributes:
        verb: `remove`, `tell` and `end` change the room; `look`, `status` and what `words.yaml`
            has under `talk` do not.
        who: whom it is for or about; for `tell` nobody: everyone.
        words: the message; what a look is for.
        about: who was spoken of before it, where a pronoun finds its person.
        but: who is named as not meant.
    """

    verb: str
    who: tuple[Mention, ...] = ()
    words: str = ""
    lock: bool = False
    reason: str | None = None
    about: tuple[Mention, ...] = ()
    but: tuple[Mention, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a text means.

    Attributes:
        why: the reply that says why there are no orders.
        rooms: the rooms it names.
        people: everybody it speaks of.
        unknown: words that only a roster could tell to be names.
        corrects: it begins by taking something back.
    """

    orders: tuple[Order, ...] = ()
    why: str = ""
    rooms: frozenset[str] = frozenset()
    people: tuple[Mention, ...] = ()
    unknown: tuple[str, ...] = ()
    tokens: tuple[Token, ...] = ()


_NOBODY: Final = Roster(peers=(), total=0)


def read(text: str, roster: Roster | None = None) -> Reading:
    """What a text asks for, to somebody who knows this of the room."""
    return _read(text, roster or _NOBODY)


@lru_cache(maxsize=64)
def _read(text: str, roster: Roster) -> Reading:
    typed = re.sub(" +", " ", text.strip())
    line = typed.translate(_QUOTES)
    seen = re.sub(r'["`<&\\\]]', "", line)
    if not line or len(line) > _MAX_CHARS or escaped(seen) != seen:
        return Reading(why="unreadable")
    return _Line(typed, line, roster).reading()


# --- tokens ---------------------------------------------------------------------------------------


def _lexed(line: str, roster: Roster) -> list[Token]:
    """The words and marks of a line, its known phrases as one token each."""
    raw = list(_raw(line))
    found, i = list[Token](), 0
    while i < len(raw):
        token = raw[i]
        if found and found[-1].kind == "ASK" and (stem := _stem(token.text)):
            raw[i] = token = token._replace(text=stem)
        size, kind = _known(raw, i) if token.kind == "WORD" else (1, token.kind)
        if not kind and (mended := _mended(token.text, roster)):
            raw[i] = token._replace(text=mended)
            size, kind = _known(raw, i)
        last = raw[i + size - 1]
        text = " ".join(one.text for one in raw[i : i + size])
        found.append(Token(kind or "WORD", text, token.start, last.end))
        i += size
    return found


def _raw(line: str) -> Iterator[Token]:
    before = ""
    for match in _TOKEN.finditer(line):
        kind, text, start, end = str(match.lastgroup), match[0].lower(), *match.span()
        if kind == "WORD" and not text.strip("-"):
            kind = "DASH"
        text = text if match[0].isascii() else match[0]
        abbreviated = re.fullmatch(r"(?:.*\.)?\w|mr|mrs|ms|dr|prof", before) is not None
        if kind == "STOP" and text == "." and abbreviated:
            continue
        before = text
        if kind == "WORD" and text.endswith("'s") and text not in w.lexicon():
            yield Token(kind, text[:-2], start, end - 2)
            yield Token(kind, "s", end - 2, end)
        else:
            yield Token(kind, text, start, end)


def _known(raw: Sequence[Token], i: int) -> tuple[int, str]:
    """How many tokens the longest known phrase here has, and its class; "": there is none."""
    number = _NUMBER.fullmatch(raw[i].text) is not None
    ways = [*w.lexicon().get(raw[i].text, ()), *(w.lexicon()["<n>"] if number else ())]
    fits = [
        (len(phrase), kind)
        for phrase, kind in ways
        if len(phrase) <= len(raw) - i
        and all(
            one.kind == "WORD"
            and (one.text == word or (word == "<n>" and _NUMBER.fullmatch(one.text)))
            for one, word in zip(raw[i:], phrase, strict=False)
        )
    ]
    return max(fits, key=lambda fit: fit[0], default=(1, ""))


def _stem(word: str) -> str:
    """The known word of which this is a form, as "kicking" of "kick"."""
    match = re.fullmatch(r"(\w+?)(?:ing|ed)", word)
    ways = (match[1], f"{match[1]}e", match[1][:-1]) if match else ()
    return next((one for one in ways if one in w.lexicon()), "")


def _mended(word: str, roster: Roster) -> str:
    """The known word of which a letter is missing, doubled or moved here."""
    from rapidfuzz.distance import OSA

    if len(word) < 3 or not (word.isalpha() and word.isascii()) or key(word)[0] in roster.begins:
        return ""
    mended = w.section("mended").split()
    near = (one for one in mended if OSA.distance(word, one, score_cutoff=1) == 1)
    return next((one for one in near if len(word) < len(one) or sorted(word) == sorted(one)), "")


class _People:
    """Finds the people in the tokens of a line."""

    def __init__(self, line: str, roster: Roster) -> None:
        self.line, self.roster, self.out = line, roster, list[Token]()

    def found(self, tokens: list[Token]) -> list[Token]:
        i = 0
        while i < len(tokens):
            size, mention = self._mention(tokens, i)
            if mention is None:
                token = tokens[i]
                if token.kind == "WHICH":
                    behind = bool(self.out) and self.out[-1].kind == "PEOPLE"
                    asks = "THAT" if token.text.startswith("that") else "LIST"
                    asks = "ROLED" if self.out and self.out[-1].kind == "EVERYONE" else asks
                    token = token._replace(kind="BECAUSE" if behind else asks)
                if token.kind == "VOCATIVE":
                    held = self.out and self.out[-1].kind in ("DET", "EVERY", "ROLE_WORD", "ROLED")
                    token = token._replace(kind="WORD" if held else "PLEASE")
                self.out.append(token)
            else:
                ahead = tokens[i + size : i + size + 1]
                size += self._placed(tokens[i], tokens[i + size - 1].end, mention, ahead)
            i += size
        for i, one in enumerate(self.out):
            if one.kind == "ROLED":
                self.out[i] = one._replace(kind="IN" if one.text == "in the" else "WORD")
        return self._listed(self._slots(self.out))

    def _mention(self, tokens: list[Token], i: int) -> tuple[int, Mention | None]:
        first, quoted = tokens[i], tokens[i].kind == "QUOTE"
        if quoted:
            said = self.line[first.start + 1 : first.end - 1]
            return 1, self.roster.named(said, part=False)
        if not first.text[0].isalnum():
            return 1, None
        begins = key(first.text.split()[0])[0]
        initial = len(begins) == 1
        if begins not in self.roster.begins and not initial and not re.search(r"\d|\W", first.text):
            return 1, None
        for size in range(min(_MAX_NAME_WORDS, len(tokens) - i), 0, -1):
            span = tokens[i : i + size]
            if not span[-1].text[-1].isalnum() or (initial and size == 1):
                continue
            unknown = all(one.kind in ("WORD", "S", "NUMBER") for one in span)
            placed = self.out and self.out[-1].kind in _set("DET EVERY THAT ROLED ROLE_WORD")
            own = first.kind in _set("LEAD EVERYONE ROOM") or (placed and first.kind == "VOCATIVE")
            role = size == 1 and own
            if not unknown and size == 1 and not role and " " not in first.text:
                continue
            found = self.roster.named(self.line[first.start : span[-1].end], part=unknown)
            if found and (not role or isinstance(found.options[0], RoleGroup)):
                return size, found
        return 1, None

    def _placed(self, first: Token, end: int, mention: Mention, ahead: list[Token]) -> int:
        """Puts a mention behind the tokens before it, of which those that belong to it go; how many
        behind it belong to it too."""
        out, start, gone, more = self.out, first.start, list[Token](), 0
        while out and (out[-1].kind in _BEFORE or out[-1].text in _SOMEONE):
            one, before = out[-1], out[-2].kind if len(out) > 1 else "STOP"
            roled = bool(gone) and gone[-1].kind == "ROLED"
            if one.kind == "EVERYONE" and not roled and (one.text != "all" or gone):
                break
            if one.kind == "ROLED" and before != "EVERYONE" and not (gone and gone[-1].kind == "ROLE_WORD"):
                break
            if one.kind == "THAT" and before not in ("KICK", "TAKE", "SEND", *_CUTS, *_COURTESY):
                break
            start = one.start
            gone.append(out.pop())
        kinds = {one.kind for one in gone}
        group = mention.options[0]
        if isinstance(group, RoleGroup):
            held = ahead and ahead[0].kind == "ROLE_WORD"
            every = kinds & {"EVERY", "EVERYONE"} or "ROLED" in kinds
            people = self.roster.with_role(group.role)
            if held and not every:
                mention, more = Mention(f"{mention.said} role"), 1
            elif every or held:
                mention, more = mention._replace(sure=True), bool(held)
            elif not mention.sure and kinds and len(people) == group.count <= _FEW:
                mention = Mention(mention.said, people, sure=len(people) == 1)
        else:
            if kinds and ahead and ahead[0].kind == "LEAD":
                more = 1
            if (
                out
                and out[-1].kind == "PEOPLE"
                and isinstance(out[-1].who[0].options[:1] or (0,), tuple)
            ):
                role = next(
                    (o.role for o in out[-1].who[0].options if isinstance(o, RoleGroup)), None
                )
                of_role = tuple(p for p in mention.options if p.role == role)
                if role and of_role and not out[-1].who[0].sure:
                    mention = Mention(mention.said, of_role, sure=mention.sure or len(of_role) == 1)
                    start = out.pop().start
        who = (mention,)
        if "BOTH" in kinds and len(mention.options) == 2:
            apart = len({one.user_id for one in mention.options if isinstance(one, Peer)}) == 2
            both = tuple(Mention(mention.said, (one,), sure=True) for one in mention.options)
            who = both if apart else who
        out.append(Token("PEOPLE", self.line[start:end].lower(), start, end, who))
        return int(more)

    def _slots(self, tokens: list[Token]) -> list[Token]:
        """Takes words that nobody knows for a name where one has to stand."""
        out, i = list[Token](), 0
        while i < len(tokens):
            token = tokens[i]
            out.append(token)
            i += 1
            if token.kind not in ("KICK", "TAKE", "TELL", "LET") and token.text not in (
                "called",
                "named",
            ):
                continue
            first = i
            while i < len(tokens) and tokens[i].kind in ("DET", "LEAD", "THAT", "BOTH", "EVERY"):
                i += 1
            run = i
            known = tokens[i : i + 1] if i < len(tokens) and tokens[i].kind == "PEOPLE" else []
            i += len(known)
            while (
                i < len(tokens)
                and tokens[i].kind in ("WORD", "QUOTE")[: 1 + (token.kind == "KICK")]
            ):
                is_name = self.line[tokens[i].start].isupper() or i == run
                if token.kind in ("TELL", "LET") and not is_name:
                    break
                i += 1
            after = tokens[i].kind if i < len(tokens) else "STOP"
            if (
                i == run + len(known)
                or after == "PEOPLE"
                or (known and after not in _CUTS | {"PLEASE"} and token.kind != "TELL")
            ):
                i = first
                continue
            last = tokens[i - 1]
            said = self.line[tokens[run].start : last.end].strip("\"'")
            who = self._nearly(said, known, lead=run > first)
            if known and token.kind == "TELL" and not who.options:
                i = first
                continue
            out.append(Token("PEOPLE", said, tokens[first].start, last.end, (who,)))
        return out

    def _nearly(self, said: str, known: Sequence[Token], *, lead: bool) -> Mention:
        near = self.roster.near(said, whole=bool(known))
        if known:
            [whom] = known[0].who[:1]
            return Mention(said, near, sure=whom.sure and near == whom.options)
        if lead and not near and (begun := self.roster.begun(said)):
            return Mention(said, begun, sure=len(begun) == 1)
        return Mention(said, near, sure=False)

    def _listed(self, tokens: list[Token]) -> list[Token]:
        """Joins people who are listed, as "Ann, Bob and Cy"."""
        out = list[Token]()
        for i, token in enumerate(tokens):
            after = tokens[i + 1].kind if i + 1 < len(tokens) else "STOP"
            joint = [one.kind for one in out[-2:]]
            size = 1 + (joint == ["COMMA", "AND"]) if joint[-1:] in (["AND"], ["COMMA"]) else 0
            first = out[-1 - size] if size and len(out) > size else token
            whole = joint[-1:] == ["AND"] or after in _LISTS
            spared = [one.kind for one in out[-4:]] == ["TELL", "PEOPLE", "COMMA", "negation"]
            if spared and token.kind == "PEOPLE" and _apart(out[-3].who, token.who):
                del out[-2:]
                continue
            if token.kind == "BOTH" and after == "PEOPLE":
                continue
            if token.kind in ("LOCK", "UNLOCK"):
                while len(out) > 1 and out[-1].kind in ("AND", "COMMA"):
                    out.pop()
            if size and whole and token.kind == first.kind == "PEOPLE":
                del out[-size - 1 :]
                token = Token("PEOPLE", "", first.start, token.end, first.who + token.who)
            out.append(token)
        return out


# --- parts of a line ------------------------------------------------------------------------------


def _is_person(token: Token) -> bool:
    return token.kind in ("PEOPLE", "PRON") or token.text in ("he", "she", "they")


def _apart(some: Sequence[Mention], others: Sequence[Mention]) -> bool:
    """Whether these are certain people, and different ones."""
    one, other = ({o for m in who for o in m.options} for who in (some, others))
    return bool(other) and not one & other and all(isinstance(o, Peer) for o in one)


@cache
def _grammar() -> Lark:
    from lark import Lark
    from lark.lexer import Lexer

    class Given(Lexer):
        """The tokens are made before; the parser is fed with them."""

        def __init__(self, conf: object) -> None: ...

        def lex(self, lexer_state: object, parser_state: object) -> Iterator[Token]:
            raise NotImplementedError

    rules = Path(__file__).with_name("orders.lark").read_text(encoding="utf-8")
    names = sorted(set(re.findall(r"\b[A-Z_]{2,}\b", re.sub("//.*", "", rules))))
    return Lark(f"{rules}\n%declare {' '.join(names)}\n", parser="lalr", lexer=Given)


class _Blocked(Exception):
    """Why the line orders nothing."""


class _Line:
    def __init__(self, typed: str, line: str, roster: Roster) -> None:
        self.typed, self.line, self.roster = typed, line, roster
        tokens = self._without_rooms(_lexed(line, roster))
        self.tokens = _People(line, roster).found(tokens)
        self.orders, self.reasons, self.told = list[Order](), list[str](), len(line) + 1

    def reading(self) -> Reading:
        why = ""
        try:
            orders = self._talk() or self._parts()
        except _Blocked as blocked:
            orders, why = (), str(blocked)
        if not orders:
            why = self._foreign() or why or "not_understood"
        outside = [one for one in self.tokens if one.start < self.told]
        ids = {
            one.text[-24:] for one in outside if one.kind == "ROOM" and _ROOM_ID.search(one.text)
        }
        people = tuple(m for one in outside for m in one.who)
        seen = outside if orders else self.tokens
        unknown = [one.text for one in seen if one.kind in ("WORD", "QUOTE")]
        unknown += [m.said for m in people if not m.options]
        return Reading(orders, why, frozenset(ids), people, tuple(unknown), tuple(self.tokens))

    def _without_rooms(self, tokens: list[Token]) -> list[Token]:
        """A room's id and "room" before it as one token."""
        out = list[Token]()
        for token in tokens:
            if token.kind == "WORD" and _ROOM_ID.fullmatch(token.text):
                while out and out[-1].kind in ("ROOM", "LEAD"):
                    token = token._replace(start=out.pop().start)
                token = token._replace(kind="ROOM")
            out.append(token)
        return out

    def _talk(self) -> tuple[Order, ...]:
        said = [
            "X" if one.kind in ("PEOPLE", "PRON") and one.text != "it" else one.text
            for one in self.tokens
            if one.kind not in ("COMMA", "STOP", "DASH")
        ]
        asked = said[-1:] == ["?"]
        plain = [one.kind for one in self.tokens]
        if said != ["?"]:
            said = [one for one in said if one != "?"]
        for first in range(len(said) + 1):
            if set(plain[:first]) - _COURTESY - {"COMMA", "BACK"}:
                break
            for last in range(len(said), first, -1):
                text = tuple(" ".join(said[first:last]).split())
                kind = w.talk().get(text)
                if kind and not (asked and kind in ("yes", "no", "other")):
                    rest = [t.kind for t in self.tokens if t.text in said[last:]]
                    if not set(rest) - _COURTESY - {"COMMA"}:
                        return (Order(kind),)
        return ()

    # Each part is read from a place on; what joins it to the part before, decides what it may be.

    def _parts(self) -> tuple[Order, ...]:
        i, before, taken, looks = 0, "", False, list[Order]()
        tokens = self.tokens
        while i < len(tokens):
            joint, i = self._joint(i)
            if i == len(tokens):
                break
            backs = i
            while (
                i < len(tokens)
                and tokens[i].kind in ("BACK", "negation", "COMMA", "STOP", "DASH", "PLEASE")
                and (
                    tokens[i].kind != "negation"
                    or before
                    or tokens[i].text in ("not", "don't", "dont", "do not")
                )
            ):
                i += 1
            said = {one.kind for one in tokens[backs:i]}
            if not said & {"BACK", "negation"}:
                i, said = backs, set()
            end = self._end(i)
            part = tokens[i:end]
            if said:
                direct = tokens[i - 1].kind not in ("COMMA", "STOP", "DASH")
                alone = [one.kind for one in part if one.kind != "PLEASE"] == ["PEOPLE"]
                if not part:
                    taken = bool(self.orders)
                    before = "back"
                    continue
                if alone and self.orders:
                    self._corrected(part, negated="negation" in said)
                    i, before, taken = end, "order", "negation" in said and not self.orders[-1].but
                    continue
                denied = self._order(i) if "negation" in said and not self.orders else (None, i, False)
                if denied[0]:
                    i, before = denied[1], "denied"
                    continue
                if "negation" in said or (direct and tokens[i - 1].text == "no"):
                    raise _Blocked("negation")
            order, after, asked = self._order(i)
            if order:
                barred = {"AND": ("statement", "look", "denied"), "COLON": ("look", "denied", "short", "order")}
                if joint in ("BECAUSE", "FOR") or before in barred.get(joint, ()):
                    raise _Blocked("not_understood")
                if self._ends_asked(after) and not asked:
                    raise _Blocked("question")
                rewords = not order.who and {one.kind for one in tokens[i:after]} <= _REWORDS
                self._ordered(order, instead=bool(said) or taken, rewords=rewords)
                i, before, taken = after, "order", False
                continue
            kinds = [one.kind for one in part]
            if not set(kinds) - _COURTESY or kinds in (["PEOPLE", "HERE"], ["FRONT", "PLEASE"]):
                if self._ends_asked(end) and "ASK" not in kinds and not _POLITE & {t.text for t in part}:
                    raise _Blocked("question")
                before = "courtesy" if before in ("", "courtesy") else before
            elif look := self._look(part, asked=self._ends_asked(end)):
                if before == "order" and self._ends_asked(end) and kinds[0] == "IS":
                    raise _Blocked("question")
                looks.append(look)
                before = "look"
            elif why := self._not_a_statement(part, joint, asked=self._ends_asked(end)):
                raise _Blocked(why)
            else:
                start = part[0].start
                if joint == "BECAUSE" and (match := re.search(r"as (\w+)$", tokens[i - 1].text)):
                    start = tokens[i - 1].end - len(match[1])
                self.reasons.append(self.typed[start : part[-1].end].strip(" .!,)"))
                before = "statement" if {"IS", "S", "HE"} & set(kinds) and len(kinds) > 2 else "short"
            i = end
        if taken or (before == "denied" and not self.orders):
            raise _Blocked("negation")
        changes = [order for order in self.orders if order.verb in CHANGES]
        others = [order for order in self.orders if order.verb not in CHANGES]
        if others:
            return tuple(others[:1]) if len(self.orders) == 1 else ()
        reason = "; ".join(self.reasons) or None
        told = [
            replace(one, words=one.words or reason or "") if one.verb == "tell" else replace(one, reason=reason)
            for one in changes
        ]
        return tuple(told) or tuple(looks[:1])

    def _joint(self, i: int) -> tuple[str, int]:
        kinds = list[str]()
        while i < len(self.tokens) and self.tokens[i].kind in _CUTS - {"HE", "BACK"}:
            kinds.append(self.tokens[i].kind)
            if (
                self.tokens[i].kind in ("BECAUSE", "FOR")
                and not self.orders
                and self.tokens[i].kind == "FOR"
            ):
                kinds.pop()
            if self.tokens[i].text == "so" or self.tokens[i].text.endswith("then"):
                kinds[-1] = "COMMA"
            i += 1
        ranked = ("BECAUSE", "FOR", "COLON", "AND", "COMMA", "DASH", "STOP", "PAREN", "ASKED")
        return next((one for one in ranked if one in kinds), ""), i

    def _end(self, i: int) -> int:
        """Where the part that begins here ends, if it is no order."""
        for j in range(i, len(self.tokens)):
            kind = self.tokens[j].kind
            if kind in ("COMMA", "STOP", "ASKED", "DASH", "PAREN", "COLON") or (
                kind == "AND" and self._starts(j)
            ):
                return j
            if kind == "BECAUSE" and j > i:
                return j
        return len(self.tokens)

    def _starts(self, i: int) -> bool:
        """Whether an order begins behind this joint."""
        kinds = [one.kind for one in self.tokens[i:] if one.kind not in _SKIPPED][:2]
        return kinds[:1] != [] and (kinds[0] in _STARTS or kinds in (["PEOPLE", "MUST"], ["PEOPLE", "OUT"]))

    def _ends_asked(self, i: int) -> bool:
        while i < len(self.tokens) and self.tokens[i].kind in ("PAREN", "PLEASE"):
            i += 1
        return i < len(self.tokens) and self.tokens[i].kind == "ASKED"

    def _ordered(self, order: Order, *, instead: bool, rewords: bool = False) -> None:
        last = self.orders[-1] if self.orders else Order("")
        if last.verb == "end" and order.verb in ("end", "end_it", "lock_only"):
            order = replace(last, lock=order.lock or last.lock or order.verb == "lock_only")
            instead = True
        if instead and self.orders:
            self.orders.pop()
        elif last.verb == order.verb == "tell" and rewords:
            order = replace(self.orders.pop(), words=order.words)
        self.orders.append(order)

    def _corrected(self, part: Sequence[Token], *, negated: bool) -> None:
        who, last = part[0].who if part[0].who else part[-1].who, self.orders[-1]
        if negated:
            if last.verb != "remove" or len(who) > 1:
                raise _Blocked("negation")
            self.orders[-1] = replace(last, but=who)
        elif last.who:
            self.orders[-1] = replace(last, who=who)
        else:
            raise _Blocked("not_understood")

    # --- statements and looks ---------------------------------------------------------------------

    def _not_a_statement(self, part: Sequence[Token], joint: str, *, asked: bool) -> str:
        """Why these words are no reason that may stand beside an order; "" if they are one."""
        kinds, texts = [one.kind for one in part], [one.text for one in part]
        held, ahead = set(kinds), self.tokens[self.tokens.index(part[-1]) + 1 :][:1]
        subject = kinds[0] in _SUBJECTS or (kinds[0] == "WORD" and bool({"IS", "negation"} & set(kinds[1:3])))
        ours = kinds[0] == "HE" and texts[0] in _OURS
        told = subject and not ours and len(kinds) > 3
        # "..., so kick him" and "... . Kick him": what was said is no longer part of the order.
        apart = told and bool(ahead) and (ahead[0].kind in ("STOP", "DASH") or self._so(part)) and not self.orders
        barred = ["injection", "unquoted", "OR", "exception", "condition"]
        barred += [] if joint == "BECAUSE" or apart else ["reported", "mood"]
        barred += [] if told else ["delay"]
        if why := next((one for one in barred if one in held), ""):
            return "exception" if why == "OR" else why
        if asked or (kinds[0] in ("question", "ASK") and joint != "BECAUSE"):
            return "question"
        denied = [n for n, one in enumerate(part) if one.kind == "negation" and not (n and one.text.startswith("keep"))]
        behind = kinds[denied[0] + 1 :] if denied else []
        wanted = set(behind[:3]) & {"TAKE", "KICK", "END", "MUST", "FRONT", "reported", "TO", "BE"}
        ours = any(one in _OURS for one in texts[: (denied or [0])[0]])
        if denied and joint != "BECAUSE" and (not subject or joint == "FOR" or (ours and (wanted or len(behind) < 2))):
            return "negation"
        if (denied and behind[:1] == ["PEOPLE"]) or kinds[0] == "BACK":
            return "exception"
        named = [one for one in part if one.kind == "PEOPLE"]
        if joint in ("BECAUSE", "FOR"):
            last = self.orders[-1] if self.orders else None
            which = re.match("who|that|which", self.tokens[self.tokens.index(part[0]) - 1].text)
            plural = last and (
                len(last.who) > 1
                or any(isinstance(o, RoleGroup) for m in last.who for o in m.options)
            )
            ends = last and last.verb == "end" and joint == "FOR"
            return "exception" if (which and plural) or ends else ""
        if joint == "AND" or kinds[0] in _ORDERS or (named and (not subject or len(kinds) < 2)):
            return "not_understood"
        return ""

    def _so(self, part: Sequence[Token]) -> bool:
        """Whether "so" stands behind these words."""
        behind = self.tokens[self.tokens.index(part[-1]) + 1 :][:2]
        return any(one.text in ("so", "and so") for one in behind)

    def _look(self, part: Sequence[Token], *, asked: bool) -> Order | None:
        """What is asked about the room or the people, if these words ask."""
        plain = [one for one in part if one.kind not in _COURTESY or one.kind == "HERE"]
        kinds = [one.kind for one in plain]
        start, held = kinds[0] if kinds else "", set(kinds)
        shows = start in ("TAKE", "SEND") and plain[0].text in _SHOWING and held <= _SHOWN
        named = asked and start in ("PEOPLE", "EVERYONE", "ROOM")
        is_look = start in _LOOKS or shows or named or "LIST" in kinds[:3] or "COUNT" in kinds[:4]
        barred = _NO_LOOK if shows or start in _LOOKS - {"STATE"} else _NO_LOOK | {"TAKE", "SEND"}
        late = "delay" in held and not asked and start in ("FIND", "question", "STATE")
        who = tuple(m for one in plain if _is_person(one) for m in self._whom(one))
        if not who and start in ("IS", "FIND") and kinds[1:2] == ["WORD"]:
            size = next((n for n, kind in enumerate(kinds[1:], 1) if kind != "WORD"), len(kinds))
            size = min(size, 2) if "here" not in kinds else size
            who = (Mention(self.line[plain[1].start : plain[size - 1].end]),)
        state = bool(held & {"STATE", "OVER"}) and not who and "COUNT" not in held
        if state and (is_look or asked or "ROOM" in held or len(kinds) < 3) and not held & _NO_STATE:
            return Order("status")
        if held & barred or late or not is_look:
            return None
        if start == "question" and not who and not held & {"COUNT", "LIST", "FIND"}:
            return None
        manner = "count" if "COUNT" in held else "find" if start in ("FIND", "IS") else "list"
        return Order("look", who, manner)

    def _whom(self, token: Token) -> tuple[Mention, ...]:
        return token.who or (Mention(token.text, is_pronoun=True),)

    def _foreign(self) -> str:
        """The reply to a line in another language, in it; "" if it is English, or not known."""
        from collections import Counter

        texts = [one.text for one in self.tokens]
        found = Counter[str]()
        for told, says in w.rows("languages"):
            words = told.split("|")
            found[says] = sum(
                len(re.findall(rf"(?<!\w){word}(?!\w)", self.line.lower())) for word in words
            )
        says, count = found.most_common(1)[0]
        strange = sum(ord(char) > 0x3FF and char.isalpha() for char in self.line)
        english = {
            "the",
            "kick",
            "remove",
            "end",
            "tell",
            "is",
            "are",
            "and",
            "to",
            "he",
            "she",
            "you",
            "of",
            "room",
            "my",
            "this",
            "what",
            "who",
            "from",
            "with",
            "if",
        }
        if (count >= 2 and not english & set(texts)) or (count and strange > 3):
            return f'{says} ("remove Sam Lee", "end the room".) Nothing was done.'
        return ""

    # --- orders -----------------------------------------------------------------------------------

    def _order(self, i: int) -> tuple[Order | None, int, bool]:
        """The order that begins here, where it ends, and whether it was asked for."""
        if not any(one.kind in _ORDERS | {"MUST", "OUT", "COLON"} for one in self.tokens[i:]):
            return None, i, False
        parser, asked, fed, j = _grammar().parse_interactive(), False, list[Token](), i
        told: tuple[Any, list[Token], int] | None = None
        fits = True
        while j < len(self.tokens) and fits:
            token = self.tokens[j]
            ahead = self.tokens[j + 1].kind if j + 1 < len(self.tokens) else ""
            joins = token.kind == "AND" and not self._joins(j, fed)
            joins = joins or (token.kind == "COMMA" and ahead in _ORDERS)
            if token.kind == "CANNOT" and not fed:
                return Order("cannot", words=token.text), len(self.tokens), asked
            words = fed and not joins and token.kind != "ASKED"
            if words and (further := _fed(parser, token._replace(kind="WORDS"))):
                told = further, [*fed], j
            if not joins and (further := _fed(parser, token)):
                parser = further
                fed.append(token)
            elif told and told[2] == j:
                fits = False
            elif token.kind in ("PLEASE", "ASK") or (not fed and token.kind in ("FRONT", "AND")):
                asked = asked or token.kind == "ASK"
            elif token.kind in _CUTS and fed:
                break
            else:
                fits = False
            j += 1
        tree, message = _fed(parser, None) if fits else None, ""
        if tree is None and told:
            parser, fed, start = told
            j, message, more = self._message(start, fed)
            for one in more:
                parser = parser and _fed(parser, one)
            tree = parser and _fed(parser, None)
            sure = fed[-1].kind in ("COLON", "EVERYONE", "QUOTE") and fed[-1].text != "all"
            fed += more
            first = self.tokens[start].start
            self.told = min(self.told, first if sure or self.roster.total else len(self.line))
        if tree is None:
            return None, i, asked
        return self._meant(tree.children[0], fed, message, i, asked=asked), j, asked

    def _joins(self, i: int, fed: Sequence[Token]) -> bool:
        """Whether the "and" here is part of one order, as in "message Ann and tell her to wave"."""
        kinds = [one.kind for one in self.tokens[i + 1 : i + 3]]
        verb = fed[0].kind if fed else ""
        return verb == "LOCK" or (
            verb == "TELL" and (kinds[:1] == ["SAY"] or kinds[1:] == ["PRON"])
        )

    def _message(self, i: int, fed: Sequence[Token]) -> tuple[int, str, list[Token]]:
        """The words of a message that begin here: where they end, they, and what follows of the
        order ("say hello to Ann")."""
        marked, end = fed[-1].kind in ("COLON", "MARK", "THAT"), len(self.tokens)
        for j in range(i + 1, len(self.tokens)) if not marked else ():
            if self.tokens[j].kind in ("AND", "COMMA", "STOP", "DASH") and self._starts(j):
                end = j
                break
        last, more = end, list[Token]()
        if fed[-1].kind == "SAY":
            while self.tokens[last - 1].kind in ("PLEASE", "STOP") and last > i + 1:
                last -= 1
            if [one.kind for one in self.tokens[last - 2 : last]] in (
                ["TO", "PEOPLE"],
                ["TO", "EVERYONE"],
                ["TO", "PRON"],
            ):
                more = self.tokens[last - 2 : last]
                stop = more[0].start
            else:
                last, stop = end, 0
        if not more:
            stop = self.tokens[end].start if end < len(self.tokens) else len(self.line)
        return end, self.typed[self.tokens[i].start : stop].strip(), more

    def _meant(
        self, tree: Tree, fed: Sequence[Token], words: str, i: int, *, asked: bool
    ) -> Order | None:
        rule, kinds = str(tree.data), [one.kind for one in fed]
        about = tuple(m for one in self.tokens[:i] if one.kind == "PEOPLE" for m in one.who)
        whom = next((one for one in fed if one.kind in _PERSON), None)
        who = self._whom(whom) if whom and whom.kind != "EVERYONE" else ()
        if whom and whom.kind == "HE" and whom.text not in ("he", "she", "they"):
            return None
        if rule == "remove":
            return Order("remove" if who else "everyone", who, about=about)
        if rule != "tell":
            if kinds == ["END"] and fed[0].text != "end":
                return None
            return Order(rule, lock="LOCK" in kinds)
        if (
            kinds[0] == "PEOPLE"
            and kinds[1:2] == ["COLON"]
            and not all(isinstance(o, RoleGroup) for m in who for o in m.options)
        ):
            return None
        if (
            fed[0].kind == "SEND"
            and fed[0].text in ("drop", "give", "put", "make")
            and kinds[-1] == "COLON"
            and "NOTE" not in kinds
        ):
            return None
        text = self._said(tree, fed, words, asked=asked)
        vague = (
            not whom and fed[0].text in ("say", "shout", "write") and about and "ROOM" not in kinds
        )
        if vague:
            return Order("who")
        return Order("tell", who, text, about=about)

    def _said(self, tree: Tree, fed: Sequence[Token], words: str, *, asked: bool) -> str:
        """The words of a message, as they are sent."""
        verb, last = fed[0].text, fed[-1].kind
        ways = {str(one.data) for one in tree.iter_subtrees()}
        quoted = next((one for one in fed if one.kind == "QUOTE"), None)
        if quoted:
            return self.typed[quoted.start + 1 : quoted.end - 1].strip()
        inner = re.fullmatch(r"""["'“‘](.*)["'”’][.! ]*""", words)
        if inner and not re.search('["“”]', inner[1]):
            return inner[1].strip()
        words = re.sub("(?i)^that ", "", words)
        marked = last in ("COLON", "MARK", "THAT", "DASH", "COMMA")
        warned = any("warning" in one.text for one in fed if one.kind == "NOTE")
        opening = w.section("openings").get("warn" if warned else verb.removesuffix(" back"), "")
        inside = [one for one in self.tokens if one.start >= self.told]
        kinds = [one.kind for one in inside]
        for n, one in enumerate(inside[1:], 1):
            after = [t.kind for t in inside[n + 1 : n + 4] if t.kind not in ("COMMA", "STOP", "PLEASE")]
            taken = one.kind == "BACK" and one.text not in ("no", "i mean", "i meant", "sorry no")
            taken = taken or (one.text in _DONT and (not after or after[0] in ("SAY", "SEND", "TELL")))
            if kinds[n - 1] in ("COMMA", "STOP", "DASH", "BACK") and (taken or one.kind == "unquoted"):
                raise _Blocked("negation")
        if not words:
            return opening
        if asked:
            words = words.rstrip("?")
        if marked or last == "CHAT":
            return words
        if words.lower().startswith("not to "):
            return f"Please do {words[:4]}{words[7:]}"
        if "asked" in ways:
            if verb.startswith(("welcome", "apolog", "wish")):
                return f"{opening} to {words}"
            telling = last == "TELLING"
            return (
                words
                if telling
                else f"Please {'do ' if words.lower().startswith('not ') else ''}{words}"
            )
        first = words.split()[0].strip(",.").lower()
        if words.endswith("?") and first not in (
            "can",
            "could",
            "are",
            "is",
            "do",
            "does",
            "what",
            "who",
            "how",
            "why",
            "when",
            "where",
            "which",
            "have",
            "has",
            "did",
            "will",
            "would",
        ):
            raise _Blocked("question")
        if "condition" in kinds[1:] and verb != "ask":
            raise _Blocked("condition")
        if "exception" in kinds or (kinds[-2:-1] == ["negation"] and kinds[-1] == "PEOPLE"):
            raise _Blocked("exception")
        if verb == "ask" and first not in [
            "if",
            "whether",
            "for",
            "about",
            "how",
            "why",
            "what",
            "when",
            "where",
            "who",
            "which",
        ]:
            raise _Blocked("no_end")
        clings = (
            first in w.section("clinging").split()
            or re.fullmatch(r"the \w+", words)
            or (len(words.split()) == 1 and first in ("off", "him", "her", "it", "that"))
        )
        if (
            clings
            and verb not in ("ask", "apologize to", "apologise to", "remind")
            and not (opening and first in ("for", "about", "on", "of"))
        ):
            raise _Blocked("no_end")
        if last == "SAY" and {"KICK", "reported"} & set(kinds):
            raise _Blocked("reported")
        if verb.startswith("apolog"):
            words = re.sub("^for ", "for ", words)
        return f"{opening} {words}".strip()


def _fed(parser: Any, token: Token | None) -> Any:
    """The parser that has taken this token too, of no token the tree; None: it does not take it."""
    from lark import Token as LarkToken
    from lark import UnexpectedInput

    if token and token.kind not in parser.choices():
        return None
    further = parser.copy()
    try:
        if token is None:
            return further.feed_eof()
        further.feed_token(LarkToken(token.kind, token.text))
    except UnexpectedInput:
        return None
    return further
