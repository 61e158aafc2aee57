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
from hms_active_rooms.moderator.offline.roster import Mention, RoleGroup, Roster, key
from hms_active_rooms.untrusted import escaped

if TYPE_CHECKING:
    from lark import Lark, Tree

_MAX_CHARS: Final = 2000
_MAX_NAME_WORDS: Final = 9
_FEW: Final = 8
_QUOTES: Final = str.maketrans("“”„‟«»‘’‚‛", '""""""' + "''''")
_PLAIN: Final = r'[^\s,;:.!?"()…—–]+'
_TOKEN: Final = re.compile(
    r"""(?P<QUOTE>"[^"]+"|(?<!\S)'(?:[^']|(?<=\w)'(?=\w))+'(?!\w))"""
    rf"|(?P<WORD>{_PLAIN}(?:[:,.?!]{_PLAIN})*)|(?P<COMMA>,)|(?P<COLON>:)"
    r"|(?P<ASKED>[.!…]*\?[?!.]*)|(?P<STOP>[.!;…]+)|(?P<DASH>[–—])|(?P<PAREN>[()])"
)
_NUMBER: Final = re.compile(
    r"\d[\d.:]*(?:st|nd|rd|th|am|pm|min|m|h|s)?|two|three|four|five|six|seven|ten|noon"
)
_ROOM_ID: Final = re.compile("[0-9a-f]{24}")


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


CHANGES: Final = frozenset({"remove", "tell", "end"})
_ORDERS: Final = _set("KICK TAKE SEND END ENDALL LOCK TELL SAY LET NOTE CANNOT UNLOCK")
_STARTS: Final = _ORDERS - _set("NOTE LOCK UNLOCK")
_MARKS: Final = _set("COMMA STOP ASKED DASH PAREN")
_CUTS: Final = _MARKS | _set("COLON BECAUSE FOR AND BUT HE OURS BACK")
_COURTESY: Final = _set("PLEASE FRONT ASK AND HERE STOP")
_PEOPLE: Final = _set("NAME ROLE")
_PERSON: Final = _set("NAME ROLE PRON HE")
_LEADS: Final = _set("DET LEAD THAT EVERY BOTH ROLE_WORD")
_SUBJECTS: Final = _set("NAME ROLE DET THAT HE OURS IT LEAD EVERYONE ROOM IS PRON NUMBER")
_LOOKS: Final = _set("COUNT LIST FIND STATE IS question")
_SHOWING: Final = _set("show see get give clear")
_SHOWN: Final = _PEOPLE | _LEADS | _set("TAKE SEND ME EVERYONE LIST HERE IN ROOM OF COUNT STATE IS")
_NO_LOOK: Final = _set(
    "KICK END ENDALL TELL SAY MUST LET LOCK injection unquoted reported mood condition"
)
_MARKED: Final = _set("COLON MARK THAT DASH COMMA CHAT")
_REWORDS: Final = _set("PLEASE AND SEND SAY QUOTE STOP")
_ASKING: Final = _set(
    "can could are is do does what who how why when where which have has did will would"
)
_WHO: Final = ("one", "known", "unknown")
_VAGUE: Final = _set("say shout write")
_WANTED: Final = _set("TAKE KICK END MUST FRONT reported TO BE")
_UNJOINED: Final = {
    "AND": _set("statement short look denied"),
    "COLON": _set("look denied short order"),
}
"""After what no order may follow, joined so."""

_PLACES: Final = _set("IN OUT GONE HERE FRONT NUMBER PLEASE negation")
"""What makes no statement of a name: "Ann in" is another order."""

_THEM: Final = _set("he she they")
_OWN: Final = _set("his her their")
_OWNED: Final = _MARKS | _set("NAME PLEASE BECAUSE")
"""Behind what "her" begins a statement."""

_JOINTS: Final = _set("AND COMMA STOP DASH")
_AUDIENCE: Final = _PERSON | _LEADS | _set("EVERYONE WORD")
_POLITE: Final = _set("please pls plz now asap . !")
_THROWN: Final = _set("drop give put make")
_ASKED: Final = _set("if whether for about how why what when where who which")
_DONT: Final = _set("don't dont not") | {"do not"}


class Token(NamedTuple):
    """A word, a phrase, a mark or people: its class, its text in lower case, and its place."""

    type: str
    text: str
    start: int
    end: int
    who: Mention | None = None


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
    """

    orders: tuple[Order, ...] = ()
    why: str = ""
    rooms: frozenset[str] = frozenset()
    people: tuple[Mention, ...] = ()
    unknown: tuple[str, ...] = ()
    tokens: tuple[Token, ...] = ()


_NOBODY: Final = Roster(peers=(), total=0)


@lru_cache(maxsize=64)
def read(text: str, roster: Roster = _NOBODY) -> Reading:
    """What a text asks for, to somebody who knows this of the room."""
    typed = re.sub(" +", " ", text.strip())
    line = typed.translate(_QUOTES)
    seen = re.sub(r'["`<&\\\]]', "", line)
    if not line or len(line) > _MAX_CHARS or escaped(seen) != seen:
        return Reading(why="unreadable")
    return _Line(typed, line, roster).reading()


# --- tokens ---------------------------------------------------------------------------------------


def _raw(line: str) -> Iterator[Token]:
    """The words and marks of a line."""
    before = ""
    for match in _TOKEN.finditer(line):
        kind, text, start, end = str(match.lastgroup), match[0], *match.span()
        if text == "." and re.fullmatch(r"(?:.*\.)?\w|mr|mrs|ms|dr|prof", before):
            continue
        text = before = text.lower() if text.isascii() else text
        if kind == "WORD" and text.endswith("'s") and text not in w.lexicon():
            yield Token(kind, text[:-2], start, end - 2)
            yield Token(kind, "s", end - 2, end)
        else:
            yield Token("DASH" if not text.strip("-") else kind, text, start, end)


def _lexed(line: str, roster: Roster) -> list[Token]:
    """The words and marks of a line, its known phrases as one token each."""
    raw, found, i = list(_raw(line)), list[Token](), 0
    while i < len(raw):
        token = raw[i]
        if found and found[-1].type == "ASK" and (stem := _stem(token.text)):
            raw[i] = token = token._replace(text=stem)
        size, kind = _known(raw, i) if token.type == "WORD" else (1, token.type)
        if not kind and (mended := _mended(token.text, roster)):
            raw[i] = token._replace(text=mended)
            size, kind = _known(raw, i)
        behind = found[-1].type if found else ""
        if kind == "VOCATIVE":
            kind = "WORD" if behind in _LEADS - {"LEAD"} else "PLEASE"
        elif kind == "WHICH":
            asks = "THAT" if token.text.startswith("that") else "LIST"
            kind = {"EVERYONE": "ROLED", "WORD": "BECAUSE"}.get(behind, asks)
        if _ROOM_ID.fullmatch(token.text):
            while found and found[-1].type in ("ROOM", "LEAD"):
                token = token._replace(start=found.pop().start)
            kind = "ROOM"
        text = " ".join(one.text for one in raw[i : i + size])
        found.append(Token(kind or "WORD", text, token.start, raw[i + size - 1].end))
        i += size
    return found


def _known(raw: Sequence[Token], i: int) -> tuple[int, str]:
    """How many tokens the longest known phrase here has, and its class; "": there is none."""
    said = [one.text if one.type == "WORD" else "" for one in raw[i : i + w.LONGEST]]
    ways = w.lexicon().get(said[0], []) + (w.lexicon()["<n>"] if _NUMBER.fullmatch(said[0]) else [])
    fits = (
        (len(phrase), kind)
        for phrase, kind in ways
        if len(phrase) <= len(said) and all(map(_is, said, phrase))
    )
    return max(fits, key=lambda fit: fit[0], default=(1, ""))


def _is(said: str, word: str) -> bool:
    return said == word or (word == "<n>" and _NUMBER.fullmatch(said) is not None)


def _stem(word: str) -> str:
    """The known word of which this is a form, as "kicking" of "kick"."""
    match = re.fullmatch(r"(\w+?)(?:ing|ed)", word)
    ways = (match[1], f"{match[1]}e", match[1][:-1]) if match else ()
    return next((one for one in ways if one in w.lexicon()), "")


def _mended(word: str, roster: Roster) -> str:
    """The known word of which a letter is missing, doubled or moved here."""
    from rapidfuzz.distance import OSA

    if len(word) < 3 or not (word.isalpha() and word.isascii() and roster.room_id):
        return ""
    if key(word)[0] in roster.begins:
        return ""
    mended = w.section("mended").split()
    near = (one for one in mended if OSA.distance(word, one, score_cutoff=1) == 1)
    return next((one for one in near if len(word) < len(one) or sorted(word) == sorted(one)), "")


def _named(tokens: list[Token], line: str, roster: Roster) -> list[Token]:
    """The tokens with the people and roles of the room found among them."""
    out, i = list[Token](), 0
    while i < len(tokens):
        placed = bool(out) and out[-1].type in _LEADS
        size, mention = _mention(tokens, i, line, roster, placed)
        token = tokens[i]
        if mention:
            kind = "ROLE" if isinstance(mention.options[0], RoleGroup) else "NAME"
            end = tokens[i + size - 1].end
            token = Token(kind, line[token.start : end].lower(), token.start, end, mention)
        out.append(token)
        i += size
    kinds = [one.type for one in out]
    for i, one in enumerate(out):
        ahead = [kind for kind in kinds[i + 1 :] if kind not in ("DET", "LEAD", "BOTH")][:2]
        listed = {*kinds[i - 1 : i], *ahead[:1]} <= _PEOPLE and i > 0 < len(ahead)
        if one.text == "all" and one.type == "EVERYONE":
            noun = ahead[:1] == ["WORD"] and (
                out[i + 1].text.endswith(("s", "s'")) or ahead[1:] == ["TO"]
            )
            every = ahead[:1] == ["ROLE"] or noun or (not roster.total and ahead[:1] == ["WORD"])
            out[i] = one._replace(type="EVERY" if every else "EVERYONE")
        elif one.text == "her" and i > 0 and kinds[i - 1] in _OWNED and ahead[:1] == ["WORD"]:
            out[i] = one._replace(type="HE")
        elif one.type == "COMMA" and listed and set(ahead[1:]) <= _MARKS | {"AND"}:
            out[i] = one._replace(type="AND")
        elif one.type == "COMMA" and out[i + 1 : i + 2] and out[i + 1].text == "and":
            out[i] = one._replace(type="PLEASE")
        elif one.type == "ROLED" and not {"ROLE", "ROLE_WORD"} & set(kinds[i + 1 : i + 3]):
            out[i] = one._replace(type="IN" if one.text == "in the" else "WORD")
            if i > 0 and kinds[i - 1] == "EVERYONE" and one.text.endswith("role"):
                # A role that nobody has is told as an unknown name.
                out[i - 1 : i + 1] = (
                    out[i - 1]._replace(type="EVERY"),
                    one._replace(type="ROLE_WORD"),
                )
    return out


def _mention(
    tokens: list[Token], i: int, line: str, roster: Roster, placed: bool
) -> tuple[int, Mention | None]:
    """Whom the words from here on mean, as many of them as possible, and how many they are."""
    first = tokens[i]
    if first.type == "QUOTE":
        return 1, roster.named(line[first.start + 1 : first.end - 1], part=False)
    if not first.text[0].isalnum():
        return 1, None
    if first.type == "WORD" and (meant := roster.misspelled(first.text)):
        return 1, Mention(first.text, (meant,), sure=first.text.endswith("s"))
    begins = key(first.text.split()[0])[0]
    initial = len(begins) == 1
    if begins not in roster.begins and not initial and not re.search(r"\d|\W", first.text):
        return 1, None
    for size in range(min(_MAX_NAME_WORDS, len(tokens) - i), 0, -1):
        span = tokens[i : i + size]
        unknown = all(one.type in ("WORD", "S", "NUMBER") for one in span)
        titled = first.type in ("LEAD", "EVERYONE", "ROOM") or (placed and not unknown)
        role = size == 1 and titled
        single = size == 1 and (initial or not (unknown or role or " " in first.text))
        if single or span[-1].type == "S" or not span[-1].text[-1].isalnum():
            continue
        found = roster.named(line[first.start : span[-1].end], part=unknown)
        if found and (not role or unknown or isinstance(found.options[0], RoleGroup)):
            return size, found
    return 1, None


# --- parts of a line ------------------------------------------------------------------------------


@cache
def _grammar() -> Lark:
    from lark import Lark
    from lark.lexer import Lexer

    class Given(Lexer):
        """The tokens are made before; the parser is fed with them."""

        def __init__(self, conf: object) -> None: ...

        def lex(self, lexer_state: object, parser_state: object) -> Iterator[Any]:
            raise NotImplementedError

    rules = Path(__file__).with_name("orders.lark").read_text(encoding="utf-8")
    names = sorted(set(re.findall(r"\b[A-Z_]{2,}\b", re.sub("//.*", "", rules))))
    declared = f"{rules}\n%declare {' '.join(names)}\n"
    return Lark(declared, parser="lalr", lexer=Given, start="order")


def _fed(parser: Any, token: Token | None) -> Any:
    """The parser that has taken this token too, of no token the tree; None: it does not take it."""
    from lark import UnexpectedInput

    if token and token.type.upper() not in parser.choices():
        return None
    further = parser.copy()
    try:
        if token is None:
            return further.feed_eof()
        further.feed_token(token._replace(type=token.type.upper()))
    except UnexpectedInput:
        return None
    return further


class _Blocked(Exception):
    """Why the line orders nothing."""


class _Line:
    """Reads a line part by part; what joins a part to the one before decides what it may be."""

    def __init__(self, typed: str, line: str, roster: Roster) -> None:
        self.typed, self.line, self.roster = typed, line, roster
        self.tokens = _named(_lexed(line, roster), line, roster)
        self.kinds = [one.type for one in self.tokens]
        self.orders, self.reasons, self.told = list[Order](), list[str](), len(line) + 1

    def reading(self) -> Reading:
        why, orders = "", self._talk()
        try:
            orders = orders or self._parts()
        except _Blocked as blocked:
            why = str(blocked)
        if not orders:
            why = self._foreign() or why or "not_understood"
        outside = [one for one in self.tokens if one.start < self.told]
        ids = {one.text for one in outside if _ROOM_ID.fullmatch(one.text)}
        people = tuple(one.who for one in outside if one.who)
        seen = outside if orders else self.tokens
        unknown = [one.text for one in seen if one.type in ("WORD", "QUOTE")]
        unknown += [
            m.said for order in orders for m in order.who if not m.options and not m.is_pronoun
        ]
        return Reading(orders, why, frozenset(ids), people, tuple(unknown), tuple(self.tokens))

    def _talk(self) -> tuple[Order, ...]:
        """What a whole sentence is that is neither an order nor a look."""
        plain = [one for one in self.tokens if one.type not in _MARKS] or self.tokens
        texts = ["X" if one.type in _PERSON and one.text != "it" else one.text for one in plain]
        polite = [one.type in _COURTESY | {"BACK"} for one in plain]
        for first in range(len(plain)):
            for last in range(len(plain), first, -1):
                kind = w.talk().get(tuple(" ".join(texts[first:last]).split()))
                answers = kind in ("yes", "no", "other") and "ASKED" in self.kinds
                if kind and not answers and all(polite[:first] + polite[last:]):
                    return (Order(kind),)
        return ()

    def _parts(self) -> tuple[Order, ...]:
        i, before, looks = 0, "", list[Order]()
        while i < len(self.tokens):
            joint, i = self._joint(i)
            joint = joint if before or joint != "AND" else ""
            i, back = self._back(i, before) if joint != "BECAUSE" else (i, "")
            if i == len(self.tokens):
                before = "taken" if back and self.orders else before
                break
            end, (order, after, polite) = self._end(i), self._order(i)
            part, kinds = self.tokens[i:end], self.kinds[i:end]
            asked = self._ends_asked(end)
            plain = [kind for kind in kinds if kind not in _COURTESY | _LEADS]
            if back and self.orders and plain in (["NAME"], ["ROLE"]):
                self._corrected(part, negated=back == "negation")
                before = "spared" if back == "negation" else "order"
            elif back == "negation" and (before or not order):
                raise _Blocked("negation")
            elif back == "negation":
                end, before = after, "denied"
            elif order:
                end = after
                explains = joint in ("BECAUSE", "FOR") or before == "spared"
                if explains or before in _UNJOINED.get(joint, ()):
                    raise _Blocked("not_understood")
                if self._ends_asked(end) and not polite:
                    raise _Blocked("question")
                rewords = not order.who and set(self.kinds[i:end]) <= _REWORDS
                self._ordered(order, instead=bool(back) or before == "taken", rewords=rewords)
                before = "order"
            elif back == "BACK":
                raise _Blocked("negation")
            elif set(kinds) <= _COURTESY or kinds in (["NAME", "HERE"], ["IN", "ROOM"]):
                if asked and "ASK" not in kinds and not _POLITE & {one.text for one in part}:
                    raise _Blocked("question")
                before = before or "courtesy"
            elif joint not in ("BECAUSE", "FOR") and (look := self._look(part, asked=asked)):
                if self.orders and asked and not look.who and kinds[0] == "IS":
                    raise _Blocked("question")
                looks.append(look)
                before = "look"
            elif why := self._not_a_statement(i, end, joint, asked=asked):
                raise _Blocked(why)
            else:
                which = re.search(r"(?:as|for) (\w+)$", self.tokens[i - 1].text)
                start = self.tokens[i - 1].end - len(which[1]) if which else part[0].start
                self.reasons.append(self.typed[start : part[-1].end].strip(" .!,)"))
                told = {"IS", "S", "HE", "OURS"} & set(kinds) and len(kinds) > 2
                before = "statement" if told else "short"
            i = end
        if before in ("taken", "denied"):
            raise _Blocked("negation")
        if any(order.verb not in CHANGES for order in self.orders):
            return tuple(self.orders) if len(self.orders) == 1 else ()
        reason = "; ".join(self.reasons) or None
        tells = [one.verb == "tell" for one in self.orders]
        for n, one in enumerate(self.orders):
            said = one.words or reason or ""
            self.orders[n] = replace(one, words=said) if tells[n] else replace(one, reason=reason)
        return tuple(self.orders or looks[:1])

    def _joint(self, i: int) -> tuple[str, int]:
        """What joins the part behind these marks and words to the one before."""
        kinds = list[str]()
        while i < len(self.tokens) and self.kinds[i] in _CUTS - {"HE", "OURS", "BACK"}:
            plainly = self.tokens[i].text.endswith(("so", "then", "but"))
            early = self.kinds[i] == "FOR" and not self.orders
            kinds.append("COMMA" if plainly or early else self.kinds[i])
            i += 1
        ranked = ("BECAUSE", "FOR", "COLON", "AND", *_MARKS)
        return next((one for one in ranked if one in kinds), ""), i

    def _back(self, i: int, before: str) -> tuple[int, str]:
        """Where the words end that take something back, and their class; "" if there are none."""
        start, back, last = i, "", i
        while i < len(self.tokens):
            negated = self.kinds[i] == "negation" and (before or self.tokens[i].text in _DONT)
            ahead = set(self.kinds[i + 1 : i + 2])
            stops = self.tokens[i].text == "stop" and ahead <= _MARKS | {"PLEASE"}
            if self.kinds[i] == "BACK" or negated or stops:
                back, last = "negation" if negated or back == "negation" else "BACK", i
            elif self.kinds[i] not in ("COMMA", "STOP", "DASH", "PLEASE"):
                break
            i += 1
        # "No kick Ann" is not "no, kick Ann".
        direct = back and last == i - 1 and self.tokens[last].text == "no"
        return (i, "negation" if direct else back) if back else (start, "")

    def _end(self, i: int) -> int:
        """Where the part that begins here ends, if it is no order."""
        ends = (
            j
            for j in range(i, len(self.tokens))
            if self.kinds[j] in _MARKS | {"COLON", "BUT"}
            or (self.kinds[j] == "AND" and self._starts(j))
            or (self.kinds[j] == "BECAUSE" and j > i)
        )
        return next(ends, len(self.tokens))

    def _starts(self, i: int) -> bool:
        """Whether an order begins behind this joint."""
        skipped = _COURTESY | _set("COMMA DASH ASKED BACK negation")
        kinds = [kind for kind in self.kinds[i:] if kind not in skipped][:2]
        goes = kinds[0:1] and kinds[0] in _PEOPLE and kinds[1:] in (["MUST"], ["OUT"])
        return bool(goes or _STARTS & set(kinds[:1]))

    def _ends_asked(self, i: int) -> bool:
        ahead = [kind for kind in self.kinds[i:] if kind not in ("PAREN", "PLEASE")]
        return ahead[:1] == ["ASKED"]

    def _ordered(self, order: Order, *, instead: bool, rewords: bool) -> None:
        last = self.orders.pop() if self.orders else Order("")
        goes_on = last.verb == order.verb == "tell" and not last.words
        if last.verb == "end" and order.verb in ("end", "end_it", "lock_only"):
            order = replace(last, lock=order.lock or last.lock or order.verb == "lock_only")
        elif last.verb == order.verb == "tell" and rewords and last.words:
            order = replace(last, words=order.words)
        elif goes_on and all(m.is_pronoun for m in order.who):
            order = replace(order, who=last.who)
        elif last.verb and not instead:
            self.orders.append(last)
        self.orders.append(order)

    def _corrected(self, part: Sequence[Token], *, negated: bool) -> None:
        who, last = tuple(one.who for one in part if one.who), self.orders[-1]
        if negated and last.verb != "remove":
            raise _Blocked("negation")
        self.orders[-1] = replace(last, but=who) if negated else replace(last, who=who)

    # --- statements and looks ---------------------------------------------------------------------

    def _not_a_statement(self, i: int, end: int, joint: str, *, asked: bool) -> str:
        """Why these words are no reason that may stand beside an order; "" if they are one."""
        kinds, held = self.kinds[i:end], set(self.kinds[i:end])
        last = self.orders[-1] if self.orders else Order("")
        which = joint == "BECAUSE" and self.tokens[i - 1].text.startswith(("who", "that", "which"))
        because, joined = joint == "BECAUSE" and not which, joint in ("BECAUSE", "FOR")
        speaks = kinds[0] == "WORD" and bool({"IS", "negation"} & set(kinds[1:3]))
        subject = kinds[0] in _SUBJECTS or speaks
        told = subject and kinds[0] != "OURS" and len(kinds) > 3
        # "..., so kick him" and "... . Kick him": what was said is no longer part of the order.
        behind = self.tokens[end : end + 2]
        parted = any(one.type in ("STOP", "DASH") or one.text.endswith("so") for one in behind)
        apart = because or (told and parted and not self.orders)
        if asked or (kinds[0] in ("question", "ASK") and not because):
            return "question"
        barred = ["injection", "unquoted", "condition"]
        barred += [] if told and apart else ["exception"]
        barred += [] if apart else ["reported", "mood"]
        barred += [] if apart or (told and kinds[0] not in ("HE", "IT", "THAT")) else ["delay"]
        if "negation" in held and not because:
            place = kinds.index("negation")
            wanted = set(kinds[place + 1 : place + 4]) & _WANTED or len(kinds) < place + 3
            ours = "OURS" in kinds[:place] and wanted
            spared = kinds[place + 1 : place + 2] == ["NAME"]
            denied = which or joint == "FOR" or ours or spared or not subject
            barred += ["negation"] if denied else []
        if why := next((one for one in barred if one in held), ""):
            return why
        groups = len(last.who) > 1 or any(m.groups for m in last.who)
        if (which and groups) or (last.verb == "end" and joint == "FOR"):
            return "exception"
        aimless = kinds[0] in _ORDERS or (held & _PEOPLE and (not subject or len(kinds) < 2))
        aimless = aimless or (kinds[0] == "NAME" and set(kinds[1:]) <= _PLACES)
        # "Take him out for lunch" is no removal.
        outing = joint == "FOR" and self.kinds[i - 2] == "OUT"
        if outing and not any(one.text.endswith("ing") for one in self.tokens[i:end]):
            return "not_understood"
        return "not_understood" if joint == "AND" or (aimless and not joined) else ""

    def _look(self, part: Sequence[Token], *, asked: bool) -> Order | None:
        """What is asked about the room or the people, if these words ask."""
        plain = [one for one in part if one.type not in _COURTESY or one.type == "HERE"]
        kinds = [one.type for one in plain]
        start, held = kinds[0] if kinds else "", set(kinds)
        shows = start in ("TAKE", "SEND") and plain[0].text in _SHOWING and held <= _SHOWN
        named = asked and start in ("NAME", "ROLE", "EVERYONE", "ROOM")
        is_look = start in _LOOKS or shows or named or "LIST" in kinds[:3] or "COUNT" in kinds[:4]
        spoken = [t for t in plain if t.type in _PEOPLE | {"PRON"} or t.text in _THEM]
        who = tuple(t.who or Mention(t.text, is_pronoun=True) for t in spoken)
        called = start in ("IS", "FIND") and ("LEAD" in held or "LIST" not in held)
        if called and not who and "WORD" in kinds[1:4]:
            first = kinds.index("WORD")
            last = first + (kinds[first + 1 : first + 2] == ["WORD"])
            who = (Mention(self.line[plain[first].start : plain[last].end]),)
        state = held & {"STATE", "OVER"} and "COUNT" not in held and not (who and who[0].options)
        if state and (is_look or asked or len(kinds) < 3) and not held & _NO_LOOK - {"LOCK"}:
            return Order("status")
        shows = shows or (start == "TAKE" and kinds[1:2] in (["COUNT"], ["LIST"]))
        barred = _NO_LOOK if shows or start in _LOOKS - {"STATE"} else _NO_LOOK | {"TAKE", "SEND"}
        late = "delay" in held and not asked and start in ("FIND", "question", "STATE")
        aimless = start == "question" and not who and not held & {"COUNT", "LIST", "FIND"}
        if held & barred or late or not is_look or aimless:
            return None
        return Order("look", who, "count" if "COUNT" in held else "list")

    def _foreign(self) -> str:
        """The reply to a line in another language, in it; "" if it is English, or not known."""
        texts = re.findall(r"\w+", self.line.lower())
        strange = sum(ord(char) > 0x3FF and char.isalpha() for char in self.line) > 3
        english = bool(set(w.section("english").split()) & set(texts))
        for told, says in w.rows("languages"):
            count = sum(re.fullmatch(told, one) is not None for one in texts)
            if (count > 1 and not english) or (count and strange):
                return f'{says} ("remove Sam Lee", "end the room".) Nothing was done.'
        return ""

    # --- orders -----------------------------------------------------------------------------------

    def _order(self, i: int) -> tuple[Order | None, int, bool]:
        """The longest order that begins here, where it ends, and whether it was politely asked."""
        if not (_ORDERS | _set("MUST OUT GONE COLON")) & set(self.kinds[i:]):
            return None, i, False
        if self.kinds[i] == "CANNOT":
            return Order("cannot", words=self.tokens[i].text), len(self.tokens), True
        parser, fed, whole = _grammar().parse_interactive(), list[Token](), None
        told: tuple[Any, list[Token], int] | None = None
        for j in range(i, len(self.tokens) + 1):
            token = self.tokens[j] if j < len(self.tokens) else Token("STOP", "", 0, 0)
            # "Leave his phone at home" and "take him off his chair" are no removals.
            owned = token.text in _OWN and fed[-1:] and fed[-1].type == "GONE"
            cut = token.type in _CUTS and not owned
            if cut and fed and (tree := _fed(parser, None)):
                whole = tree, [*fed], j
            if cut and self.kinds[i] != "LOCK" and self._starts(j) and self._next(j):
                break
            later = told and (fed[-1].type == "LEAD" or len(fed) == len(told[1]))
            # Of "tell Ann hello, we start" the greeting is a part of the message.
            begins = self.tokens[told[2]] if told and fed[-1].type in _MARKS else token
            greeted = begins is not token and begins.type == "PLEASE" and begins.text not in _POLITE
            words = fed and token.type != "ASKED" and not (later or greeted)
            if words and j < len(self.tokens) and _fed(parser, token._replace(type="WORDS")):
                told = parser, [*fed], j
            if further := _fed(parser, token):
                parser = further
                fed.append(token)
            elif token.type not in ("PLEASE", "ASK") or (fed[-1:] and fed[-1].type == "SAY"):
                break
        polite = told and {one.text for one in self.tokens[told[2] :]} <= _POLITE
        if told and (not whole or (len(told[1]) >= len(whole[1]) and not polite)):
            return self._message(i, *told)
        if not whole:
            # "Make Ann the host" changes a role.
            if self.tokens[i].text == "make" and self.kinds[i + 1 : i + 2] == ["NAME"]:
                return Order("cannot", words="promote"), len(self.tokens), True
            return None, i, False
        tree, fed, end = whole
        return self._meant(tree, fed, "", i), end, "ASK" in self.kinds[i:end]

    def _next(self, j: int) -> bool:
        """Whether the order behind this mark follows at once, or behind a joint of its own."""
        marked = self.kinds[j] in ("COMMA", "COLON")
        return not marked or (self.kinds[j] == "COMMA" and self.kinds[j + 1] in _ORDERS | {"AND"})

    def _message(
        self, i: int, parser: Any, fed: list[Token], start: int
    ) -> tuple[Order | None, int, bool]:
        """A message, whose words begin there; they go on up to the next order, or to the end if
        they are marked."""
        end, more, first = len(self.tokens), list[Token](), self.tokens[start]
        names = {one.words[0] for one in (first.who.people if first.who else ())}
        if names and fed[-1].type == "NAME" and key(first.text)[0] not in names:
            # "Tell Ann Lee ..." with an Ann Berg and a Bob Lee here.
            raise _Blocked("no_end")
        joints = (j for j in range(start + 1, end) if self.kinds[j] in _JOINTS and self._starts(j))
        end = end if fed[-1].type in ("COLON", "MARK", "THAT") else next(joints, end)
        last = end
        while self.kinds[last - 1] in ("PLEASE", "STOP") and last > start + 1:
            last -= 1
        to = next((j for j in range(last - 1, start, -1) if self.kinds[j] == "TO"), last)
        if fed[-1].type == "SAY" and set(self.kinds[to + 1 : last]) <= _AUDIENCE:
            more = self.tokens[to:last]
        ends = [*more, *self.tokens[end:], Token("STOP", "", len(self.line), 0)]
        words = self.typed[self.tokens[start].start : ends[0].start].strip()
        for one in (self.tokens[start]._replace(type="WORDS"), *more, None):
            parser = parser and _fed(parser, one)
        if parser is None:
            return None, i, False
        if fed[-1].type == "ROOM" and set(self.kinds[start:last]) <= _LOOKS | {"TO", "NAME"}:
            return Order("status"), end, True
        sure = fed[-1].type in ("COLON", "EVERYONE") or bool(self.roster.total)
        self.told = min(self.told, self.tokens[start].start if sure else self.told)
        return self._meant(parser, fed, words, i), end, "ASK" in self.kinds[i:start]

    def _meant(self, tree: Tree[Token], fed: Sequence[Token], words: str, i: int) -> Order | None:
        """The order of a tree, whose message has these words."""
        root = next(one for one in tree.children if not isinstance(one, tuple))
        leaves = list(root.scan_values(lambda _: True))
        first, kinds = leaves[0], [one.type for one in leaves]
        parts = [one for one in root.iter_subtrees() if one.data in _WHO]
        named = sorted(parts, key=lambda one: next(one.scan_values(lambda _: True)).start)
        but = {id(one) for part in root.find_data("spared") for one in part.iter_subtrees()}
        who = tuple(m for one in named if id(one) not in but for m in self._who(one))
        spared = {o for one in named if id(one) in but for m in self._who(one) for o in m.options}
        everyone = any("EVERYONE" in kinds and not self._who(one) for one in named)
        many = everyone or any(m.groups for m in who)
        if spared & {o for m in who for o in m.options} or (but and many):
            raise _Blocked("exception")
        about = tuple(one.who for one in self.tokens[:i] if one.who)
        if any(one.type == "HE" and one.text not in _THEM for one in leaves):
            return None
        if root.data == "remove":
            return Order("everyone" if everyone else "remove", who, about=about)
        if root.data != "tell":
            bare = kinds == ["END"] and first.text != "end"
            return None if bare else Order(str(root.data), lock="LOCK" in kinds)
        addressed = not isinstance(root.children[0], tuple) and not _set("TELL NOTE TOLD") & set(
            kinds
        )
        thrown = first.type == "SEND" and first.text in _THROWN and "NOTE" not in kinds
        asks = "TOLD" in kinds and words.endswith("?")
        if asks or (addressed and not all(m.groups for m in who)) or (thrown and "COLON" in kinds):
            return None
        goes_on = bool(self.orders) and not self.orders[-1].words
        if not (named or goes_on) and first.text in _VAGUE and about and "ROOM" not in kinds:
            return Order("who")
        who = () if everyone else who
        return Order("tell", who, self._said(root, leaves, fed[-1].type, words, i), about=about)

    def _who(self, tree: Tree[Token]) -> tuple[Mention, ...]:
        """Whom a part of an order names; nobody: everyone."""
        parts = list(tree.scan_values(lambda _: True))
        held = {one.type: one for one in parts}
        name, role = (held[kind].who if kind in held else None for kind in ("NAME", "ROLE"))
        leads, every = bool(_LEADS & set(held)), bool({"EVERY", "EVERYONE"} & set(held))
        # 'The role "student"' is everybody who has it; "the student role" is not.
        every = every or ("ROLE_WORD" in held and role is not None and '"' in held["ROLE"].text)
        if tree.data != "one":
            spoken = [one for one in parts if one.type not in _LEADS]
            said = self.line[spoken[0].start : spoken[-1].end].strip("\"'")
            if "ROLE_WORD" in held:
                return (Mention(f"{said} role"),)
            near = self.roster.near(said, whole=name is not None)
            if name and not near and leads and parts[-1].type == "NAME":
                return (name,)
            begun = () if near or name or not leads else self.roster.begun(said)
            slip = len(near) == 1 and self.roster.slips(said, near[0])
            sure = slip or (name.sure and near == name.options if name else len(begun) == 1)
            return (Mention(said, near or begun, sure),)
        if name and role:
            return (name.of(self.roster.with_role(role.groups[0].role)),)
        if role and "ROLE_WORD" in held and not every:
            return (Mention(f"{role.groups[0].role} role"),)
        if role:
            [group] = role.groups
            people = self.roster.with_role(group.role)
            few = leads and not (every or role.sure) and len(people) == group.count <= _FEW
            few = few and bool({"DET", "THAT"} & set(held))
            some = Mention(role.said, people, sure=len(people) == 1)
            return (some if few else role._replace(sure=role.sure or every),)
        if name:
            both = "BOTH" in held and len({one.user_id for one in name.people}) == 2
            apart = tuple(Mention(name.said, (one,), sure=True) for one in name.people)
            return apart if both else (name,)
        return () if "EVERYONE" in held else (Mention(parts[-1].text, is_pronoun=True),)

    def _said(
        self, tree: Tree[Token], leaves: Sequence[Token], last: str, words: str, i: int
    ) -> str:
        """The words of a message, as they are sent."""
        verb, ways = leaves[0].text, {str(one.data) for one in tree.iter_subtrees()}
        if quote := next((one for one in leaves if one.type == "QUOTE"), None):
            return self.typed[quote.start + 1 : quote.end - 1].strip()
        inner = re.fullmatch(r"""["'“‘](.*)["'”’][.! ]*""", words)
        if inner and not re.search('["“”]', inner[1]):
            return inner[1].strip()
        warned = any("warning" in one.text for one in leaves if one.type == "NOTE")
        opening = w.section("openings").get("warn" if warned else verb.removesuffix(" back"), "")
        if not words:
            return str(opening)
        start = next(one.start for one in leaves if one.type == "WORDS")
        inside = [one for one in self.tokens if start <= one.start < start + len(words)]
        kinds = [one.type for one in inside]
        for n, one in enumerate(inside[1:], 1):
            after = [
                kind for kind in kinds[n + 1 : n + 4] if kind not in ("COMMA", "STOP", "PLEASE")
            ]
            taken = one.type == "BACK" and one.text not in ("no", "i mean", "i meant", "sorry no")
            taken = taken or (
                one.text in _DONT and (not after or after[0] in ("SAY", "SEND", "TELL"))
            )
            if kinds[n - 1] in ("COMMA", "STOP", "DASH", "BACK") and (
                taken or one.type == "unquoted"
            ):
                raise _Blocked("negation")
        words = re.sub("(?i)^that ", "", words)
        asked = "ASK" in self.kinds[: self.tokens.index(leaves[0]) + 1]
        words = words.rstrip("?") if asked else words
        denied = kinds[0] in ("negation", "BUT") or inside[0].text.startswith("not ")
        if last == "COMMA" and denied:
            raise _Blocked("exception")
        if last in _MARKED:
            return words
        if words.lower().startswith("not to "):
            return f"Please do {words[:4]}{words[7:]}"
        if "asked" in ways and verb.startswith(("welcome", "wish")):
            return f"{opening} to {words}"
        if "asked" in ways:
            please = (
                "" if last == "TELLING" else "Please do " if kinds[0] == "negation" else "Please "
            )
            return f"{please}{words}"
        first = words.split()[0].strip(",.").lower()
        if words.endswith("?") and first not in _ASKING:
            raise _Blocked("question")
        if "condition" in kinds[1:] and verb != "ask":
            raise _Blocked("condition")
        if (
            kinds[0] == "PAREN"
            or "exception" in kinds
            or (kinds[-2:-1] == ["negation"] and kinds[-1] == "NAME")
        ):
            raise _Blocked("exception")
        clings: object = first in w.section("clinging").split() or re.fullmatch(
            r"the \w+|off|him|her|it|that", words
        )
        clings = first not in _ASKED if verb == "ask" else clings
        if clings and verb != "remind" and not (opening and first in ("for", "about", "on", "of")):
            raise _Blocked("no_end")
        what = kinds in (["LIST"], ["question"])
        if last == "SAY" and (what or {"KICK", "reported"} & set(kinds)):
            raise _Blocked("reported")
        return f"{opening} {words}".strip()
