"""Reads what a line asks for. The people of the room are known before. Pure.

An order can begin at the start of a line, behind a mark or "and", or behind "please" or "could
you". `orders.lark` says what an order is. Words between orders are courtesy, a reason, or a bar: a
negation, a condition, doubt. If there is a bar, nothing is ordered, and the reply names the bar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import dropwhile, pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hms_active_rooms.moderator.offline import words as w
from hms_active_rooms.moderator.offline.roster import Mention, Roster, forms, key
from hms_active_rooms.moderator.offline.tokens import (
    LEADS,
    MARKS,
    PEOPLE,
    POLITE,
    ROOM_ID,
    Token,
    classes,
    tokens_of,
)
from hms_active_rooms.untrusted import escaped

if TYPE_CHECKING:
    from lark import Lark, Tree

ANYBODY: Final = "somebody"
"""What a mention says that leaves open who is meant."""

_MAX_CHARS: Final = 2000
_QUOTES: Final = str.maketrans("“”„‟«»‘’‚‛", '""""""' + "''''")

CHANGES: Final = frozenset({"remove", "tell", "end"})

_BARS: Final = classes(
    "injection unquoted condition negation exception delay reported mood question"
)
_SOFT: Final = _BARS - classes("injection unquoted condition")
_NEVER: Final = classes("injection unquoted")
_BEHIND: Final = {
    "BECAUSE": _SOFT,
    "FOR": _SOFT - classes("delay question"),
    "HE": _SOFT - classes("question"),
    "subject": classes("negation exception"),
    "": frozenset(),
}
"""What bars no order before it, by how it begins."""

_SENTENCE: Final = ("STOP", "ASKED")
_ORDERS: Final = classes("KICK DROP TAKE SEND END ENDALL LOCK TELL SAY LET NOTE CANNOT UNLOCK")
_STARTS: Final = (_ORDERS | {"SAME"}) - classes("NOTE LOCK UNLOCK")
_JOINTS: Final = MARKS | classes("COLON AND BUT BECAUSE FOR")
_CUTS: Final = _JOINTS | classes("HE OURS BACK")
_LEADING: Final = classes("PLEASE FRONT ASK AND")
_COURTESY: Final = classes("PLEASE FRONT ASK AND HERE STOP")
_PERSON: Final = classes("NAME ROLE PRON HE")
_SUBJECTS: Final = classes(
    "NAME ROLE DET THAT HE IT LEAD EVERY EVERYONE ROOM IS PRON NUMBER WORD OURS ME THIS"
)
_LOOKS: Final = classes("COUNT LIST FIND STATE IS question")
_SHOWING: Final = classes("show see get give clear")
_SHOWN: Final = (
    PEOPLE | LEADS | classes("TAKE SEND ME EVERYONE LIST HERE IN ROOM OF COUNT STATE IS")
)
_NO_LOOK: Final = classes(
    "KICK END ENDALL TELL SAY MUST LET LOCK injection unquoted reported mood condition"
)
_PLACES: Final = classes("IN OUT GONE HERE FRONT NUMBER PLEASE negation WORD NAME")
"""What makes no statement of a name: "Ann in" is another order."""

_MARKED: Final = classes("COLON MARK THAT DASH COMMA CHAT")
_ENDS: Final = classes("AND COMMA STOP DASH")
_AUDIENCE: Final = _PERSON | LEADS | classes("EVERYONE WORD AND")
_REWORDS: Final = classes("PLEASE AND SEND SAY QUOTE STOP")
_TAKES_BACK: Final = classes("BACK negation")
_EMPTY: Final = (["IN", "ROOM"], ["NAME", "HERE"], ["UNLOCK"], ["DET", "ROOM"])

# Words, not classes.
_ASKING: Final = classes(
    "if whether for about how why what when where who which "
    "can could are is do does have has did will would"
)


@dataclass(frozen=True)
class Order:
    """One thing that the person asks for.

    Attributes:
        who: the people whom the order is for or about. A `tell` without people goes to everyone.
        words: the text of a `tell`, or what a `look` asks for: "count" or "list".
        lock: whether to lock the room at the end, so that nobody can join again.
        about: people whom the sentence names before this order. A pronoun in the order may mean them.
        again: whether to send the message of the order before once more.
        but: people to spare. If one of them is also in `who`, nothing is done.
    """

    verb: str  # "remove", "tell", "end" and "end_it" ("close it") ask for a change, others do not
    who: tuple[Mention, ...] = ()
    words: str = ""
    lock: bool = False
    reason: str | None = None
    about: tuple[Mention, ...] = ()
    again: bool = False
    but: tuple[Mention, ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a sentence of the person means.

    Attributes:
        orders: what the sentence asks for. Empty if the sentence asks for nothing, or is not clear.
        why: why there are no orders. `say(why)` returns the reply to the person.
        unknown: words that the model does not know. They may be names.
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
    """Return what the sentence `text` asks for. Only people and roles that `roster` has are recognised."""
    typed = re.sub(" +", " ", text.strip())
    line = typed.translate(_QUOTES)
    seen = re.sub(r'["`<&\\\]]', "", line)
    if not line or len(line) > _MAX_CHARS or escaped(seen) != seen:
        return Reading(why="unreadable")
    return _Line(typed, line, roster).reading()


def spares(tokens: Sequence[Token]) -> bool:
    """Whether a sentence with these tokens excepts somebody, as in "everyone but Ann"."""
    return any(one.who and one.type == "exception" for one in tokens)


@cache
def _grammar() -> Lark:
    from lark import Lark

    rules = Path(__file__).with_name("orders.lark").read_text(encoding="utf-8")
    names = sorted(set(re.findall(r"\b[A-Z_]{2,}\b", re.sub("//.*", "", rules))))
    declared = f"{rules}\n%declare {' '.join(names)}\n"
    return Lark(declared, parser="lalr", lexer="basic", start="order")  # it is fed with tokens


def _fed(parser: Any, token: Token | None) -> Any:
    """A copy of the parser that has also taken this token. None if the grammar does not allow the token
    here. If `token` is None: the tree of what was taken."""
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
    """Raised if the line orders nothing. Its text is a key of `says` in `words.yaml`: the reply."""


class _Part(NamedTuple):
    """Words between two joints: the joint before them, and their places."""

    joint: str
    start: int
    end: int
    asked: bool


class _Found(NamedTuple):
    """An order, where it ends, and whether it may end in a question mark."""

    order: Order | None
    end: int
    polite: bool


class _Line:
    """A line of tokens, and what was read of it so far."""

    def __init__(self, typed: str, line: str, roster: Roster) -> None:
        self.typed, self.line, self.roster = typed, line, roster
        self.tokens = tokens_of(line, roster)
        self.kinds = [one.type for one in self.tokens]
        self.orders, self.reasons, self.told = list[Order](), list[str](), len(line) + 1
        self.asked = False

    def reading(self) -> Reading:
        why, orders = "", self._talk()
        try:
            orders = orders or self._ordered()
        except _Blocked as blocked:
            why = str(blocked)
        if not orders:
            why = self._foreign() or why or "not_understood"
        outside = [one for one in self.tokens if one.start < self.told]
        ids = {one.text for one in outside if ROOM_ID.fullmatch(one.text)}
        people = tuple(one.who for one in outside if one.who)
        seen = outside if orders else self.tokens
        names = ("WORD", "QUOTE", "LEAD") if "ROLE_WORD" in self.kinds else ("WORD", "QUOTE")
        unknown = [one.text for one in seen if one.type in names]
        # "The attendees" may be a role.
        many = ("EVERYONE", "ROLE_WORD")
        unknown += [t.text for t in outside if t.type in many and t.text.endswith("s")]
        unknown += [
            m.said for order in orders for m in order.who if not m.options and not m.is_pronoun
        ]
        return Reading(orders, why, frozenset(ids), people, tuple(unknown), tuple(self.tokens))

    def _talk(self) -> tuple[Order, ...]:
        """An order that changes nothing, for a whole sentence such as "thanks". Empty for others."""
        plain = [one for one in self.tokens if one.type not in MARKS] or self.tokens
        texts = ["X" if one.type in _PERSON and one.text != "it" else one.text for one in plain]
        polite = [one.type in _COURTESY | {"BACK"} for one in plain]
        for first in range(len(plain)):
            for last in range(len(plain), first, -1):
                kind = w.talk().get(tuple(" ".join(texts[first:last]).split()))
                if kind and all(polite[:first] + polite[last:]):
                    if kind == "yes" and any(
                        one.type == "BACK" or one.text[:9] == "on second" for one in plain
                    ):
                        kind = "no"  # "yes, no wait"
                    return (Order(kind),)
        return ()

    def _foreign(self) -> str:
        """The reply to a line in another language, written in that language. "" if the line is in English,
        or in a language that `words.yaml` does not have."""
        texts = re.findall(r"\w+", self.line.lower())
        strange = sum(ord(char) > 0x3FF and char.isalpha() for char in self.line) > 3
        for told, says in w.rows("languages"):
            count = sum(re.fullmatch(told, one) is not None for one in texts)
            if count > 1 or (count and strange):
                return f'{says} ("remove Sam Lee", "end the room".) Nothing was done.'
        return ""

    # --- orders and what is between them ----------------------------------------------------------

    def _ordered(self) -> tuple[Order, ...]:
        """The orders of the line. If it has none: what it asks to see."""
        i = gap = 0
        while i < len(self.tokens):
            order, end, polite = (
                self._order(i) if self._may_begin(gap, i) else _Found(None, i, False)
            )
            if order is None:
                i += 1
                continue
            instead = self._between(gap, i, order)
            led = {one.text for one in (*self.tokens[gap : i + 1], self.tokens[end - 1])}
            if self._last == order.verb:
                texts = {one.text for one in self.tokens[gap : end + 1]}
                instead = instead or bool(texts & {"instead", "sorry", "sry"})
            hedged = any(text.startswith("if ") for text in led)
            if self.orders and (hedged or (led & w.listed("rethinks") and not instead)):
                raise _Blocked("negation")  # "warn Ann. If not, kick her. Sorry, end the room."
            if self._ends_asked(end) and not polite:
                raise _Blocked("question")
            self.asked = "ASK" in self.kinds[i:end]
            self._add(order, instead=instead, rewords=set(self.kinds[i:end]) <= _REWORDS)
            i = gap = end
        if not self.orders:
            return self._looked()
        self._between(gap, i, None)
        if any(order.verb not in CHANGES for order in self.orders):
            return tuple(self.orders) if len(self.orders) == 1 else ()
        if "UNLOCK" in self.kinds and any(one.lock for one in self.orders):
            raise _Blocked("negation")  # "end the room and lock it. No lock."
        reason = "; ".join(self.reasons) or None
        for n, one in enumerate(self.orders):
            tells = one.verb == "tell"
            corrects = "BACK" in self.kinds or any(t.text == "sorry" for t in self.tokens)
            other = "COLON" in self.kinds and {m.said for m in one.who} - {"him", "her"}
            several = tells and not one.words and len(self.reasons) > 1 < len(self.orders)
            if several or (one.again and reason and (corrects or other)):
                raise _Blocked(
                    "negation"
                )  # "sorry, it is 5, tell her that", "Ann: hi. Tell Bob that"
            if tells and self.reasons and len(self.orders) == 1:  # as it was typed
                first, last = self.reasons[0], self.reasons[-1]
                reason = self.typed[self.typed.find(first) : self.typed.find(last) + len(last)]
            words, why = (one.words or reason or "", None) if tells else (one.words, reason)
            self.orders[n] = replace(one, words=words, reason=why)
        return tuple(self.orders)

    def _looked(self) -> tuple[Order, ...]:
        parts = self._parts(0, len(self.tokens))
        looks = (self._look(one) for one in parts if one.joint not in ("BECAUSE", "FOR"))
        if look := next(filter(None, looks), None):
            people = tuple(one.who for one in self.tokens if one.who)
            asks = len(people) == 1 and look.who and all(one.is_pronoun for one in look.who)
            return (replace(look, who=people) if asks else look,)  # "Ann? Is she here?"
        raise _Blocked(next((kind for kind in self.kinds if kind in _BARS), "not_understood"))

    def _may_begin(self, gap: int, i: int) -> bool:
        """Whether an order may begin here, where `gap` is the end of the one before."""
        if self.kinds[i] in MARKS | {"COLON"}:
            return False
        j = i
        while j > gap and self.kinds[j - 1] in _COURTESY - {"STOP"}:
            j -= 1
        joined = MARKS | classes("COLON BUT BACK")
        if j == gap or self.kinds[j - 1] in joined or "AND" in self.kinds[j : i + 1]:
            return True
        # "Bean is screaming kick him" and "we are done close the room": a statement needs no mark.
        told, last = self.tokens[gap:j], self.tokens[j - 1]
        is_so = any(t.type in ("IS", "HE") and t.text.endswith(("s", "are")) for t in told)
        done = last.type == "OURS" and last.text[:3] in ("we'", "we ", "wer")
        states = is_so if last.type == "WORD" else done
        pointed = self.kinds[i] == "END" or self.kinds[i + 1 : i + 2] == ["PRON"]
        asks = "ASK" in self.kinds[j : i + 1] and len(told) > 2 and last.type != "TO"
        said = " ".join(one.told for one in self.tokens[gap : i + 1])
        asks = asks or bool(re.search(w.section("leads_on"), said))
        return (asks or (states and pointed)) and not _BARS & {*self.kinds[gap:j]}

    def _parts(self, start: int, end: int) -> Iterator[_Part]:
        i = start
        while i < end:
            joint = ""
            while i < end and self.kinds[i] in _JOINTS:
                so_that = self.tokens[i].text == "so" and self._last == "remove"
                kind = "BECAUSE" if so_that else self.kinds[i]
                joint = joint if joint in ("BECAUSE", "FOR") else kind
                i += 1
            ends = MARKS | classes("COLON BECAUSE")
            last = next((j for j in range(i, end) if self.kinds[j] in ends), end)
            said = next((j for j in range(i, last) if self.kinds[j] != "PLEASE"), i)
            i = i if {*self.kinds[said : said + 1]} & _ORDERS else said
            if i < last:
                polite = last - 1 > i and self.tokens[last - 1].text in POLITE
                yield _Part(joint, i, last - polite, self._ends_asked(last))
            i = last

    def _between(self, start: int, end: int, order: Order | None) -> bool:
        """Whether the words before `order` take back the order before it. Raises _Blocked if they show
        that nothing is ordered."""
        instead, so = False, self._led_in(start, end) if order else ""
        left = [one.text for one in self.tokens[start:end] if one.type not in MARKS]
        if not order and {*left[-1:]} & w.listed("unfinished"):
            raise _Blocked("several")  # "kick Ann and", "kick Ann after this"
        if self.orders and re.search(
            "(AND|COMMA) NAME (FOR|BECAUSE|COLON)", " ".join(self.kinds[start:end])
        ):
            raise _Blocked(
                "several"
            )  # "kick Ann for swearing and Bob for spam", "Ann: spam, Bob: noise"
        for part in self._parts(start, end):
            kinds = self.kinds[part.start : part.end]
            plain = [kind for kind in kinds if kind not in _COURTESY | LEADS]
            spoken = self.tokens[part.start : part.end]
            told = " ".join("NAME" if one.type == "NAME" else one.text for one in spoken)
            led = "so" if self.orders and self.orders[-1].lock else self.tokens[part.start - 1].text
            again = plain == ["END"] and (order or spoken[-1].text != "stop")
            if not (plain or order) and part.joint == "AND" and LEADS & {*kinds}:
                raise _Blocked("several")  # "kick Ann plus one"
            if plain in ([], ["KICK"]) or again or kinds in _EMPTY:
                if part.asked and "ASK" not in kinds and not POLITE & {t.text for t in spoken}:
                    raise _Blocked("question")
            elif (plain[0] in _TAKES_BACK or plain[-1] == "BACK") and {
                *plain
            } <= PEOPLE | _TAKES_BACK:
                who = tuple(one.who for one in spoken if one.who)
                withdrawn = part.asked or any(t.text in w.listed("withdrawn") for t in spoken)
                if withdrawn and (who or part.end == end):
                    raise _Blocked("negation")  # "never mind Ann"
                if who and self.orders and (part.joint != "STOP" or "BACK" in kinds):
                    self._correct(who, negated="negation" in kinds)
                    instead = False
                elif "BACK" in kinds and not who and "negation" not in kinds:
                    instead = True  # "No wait, I mean Ann": what follows may say what is meant
                elif (
                    "BACK" not in kinds or self.orders or not order
                ):  # not "I meant Ann. Kick her."
                    raise _Blocked("negation")
            elif self.orders and "NAME" in kinds and re.match("(leave|keep) |NAME .*stays?$", told):
                self._correct(tuple(one.who for one in spoken if one.who), negated=True)
            elif self.orders and "REASON" in kinds:
                at = kinds.index("REASON")
                said = [one for one in spoken[:at] if one.type not in _COURTESY | {"SEND"}]
                said = said or list(spoken[at + 1 :])
                self.reasons = [self.typed[said[0].start : said[-1].end].strip("\"'")]
            elif self._last == "end" and re.search(w.section("locking"), f"{led}| {told}"):
                self.orders[-1] = replace(self.orders[-1], lock=True)
            elif part.asked and not self.orders and "question" not in kinds and self._look(part):
                if {"WORD", "NUMBER", "TO"} & {*kinds}:
                    raise _Blocked("question")  # "Is Ann rude? Kick her.", not "Is Ann here?"
            elif order and not order.words and re.fullmatch(r"\w+ was (meant )?for NAME", told):
                pass  # "Oops, that was for Ann, send it to her."
            else:
                self._check(part, kinds, so, order)
                own = re.search(r"(?:as|for) (\w+)$", self.tokens[part.start - 1].text)
                at = self.tokens[part.start - 1].end - len(own[1]) if own else spoken[0].start
                ends = [one.end for one in spoken if one.type != "AND"]
                why = self.typed[at : ends[-1]].strip(" .!,)")
                self.reasons.append(why[1:-1] if kinds == ["QUOTE"] else why)
        if instead and not order:
            raise _Blocked("negation")
        return instead

    def _led_in(self, start: int, end: int) -> str:
        """How the words before an order lead to it.

        Returns "so" if they end in "so", "asked" if a polite request follows a comma, else the
        class of the last word, "" without words.
        """
        last = next((j for j in range(end, start, -1) if self.kinds[j - 1] not in _LEADING), start)
        verb = next(j for j in range(end, len(self.kinds)) if self.kinds[j] not in _LEADING)
        if any(re.match(r"(and )?so\b|therefore", one.text) for one in self.tokens[last:verb]):
            return "so"
        # "I forgot to shout and Ann out" is no order: it has no verb of its own.
        if "AND" in self.kinds[last : verb if self.kinds[verb] in PEOPLE else end]:
            return "AND"
        before = self.tokens[start:last]
        if not before:
            return ""
        asks = "ASK" in self.kinds[end - 1 : end + 1] or self.tokens[end].text in POLITE
        return "asked" if before[-1].type == "COMMA" and asks else before[-1].type

    def _check(self, part: _Part, kinds: list[str], so: str, order: Order | None) -> None:
        """Raises _Blocked if these words may not stand beside an order as a reason or a statement."""
        barred = _BARS - self._harmless(part, kinds, so, order)
        why = next((kind for kind in kinds if kind in barred), "")
        said = self.line[self.tokens[part.start].start : self.tokens[part.end - 1].end]
        if self.orders and part.joint != "BECAUSE" and re.search(w.section("withdraws"), said):
            why = "negation"
        first, behind = kinds[0], bool(self.orders)
        waits = behind and part.joint in _SENTENCE and "MUST" in kinds and first != "HE"
        if part.asked and not (behind and self.asked and part.joint not in _SENTENCE):
            why = "question"
        elif first == "MUST" or waits:
            why = "condition"  # "Should he come back, ..." and "Ann must agree first."
        elif behind and "BACK" in kinds and part.joint in _SENTENCE:
            why = "negation"
        elif behind and kinds == ["ALLOF"] and any(m.people for m in self.orders[-1].who):
            why = "exception"  # "kick Ann, all of them"
        elif not why and behind and not self._given(part) and self._spares(part, kinds):
            why = "exception"
        elif not why and self._aimless(part, kinds, so, order):
            why = "not_understood"
        if why:
            raise _Blocked(why)

    def _harmless(
        self, part: _Part, kinds: list[str], so: str, order: Order | None
    ) -> frozenset[str]:
        """The bars that do no harm in these words, because of how the words stand to an order."""
        first, behind, sentence = kinds[0], bool(self.orders), part.joint in _SENTENCE
        before = [one for one in self.tokens[: part.start] if one.text not in POLITE][-2:]
        if so == "so" or self._given(part):
            return _BARS - _NEVER
        if "UNLOCK" in {one.type for one in before} and first in _SUBJECTS:
            return _SOFT  # "do not lock it, the next class comes in later"
        said = self.line[self.tokens[part.start].start : self.tokens[part.end - 1].end]
        if part.joint == "BECAUSE" and re.search(w.section("past"), said):
            return _SOFT | {"condition"}
        if order and not behind:
            # "He hides when I look. Kick him." But not: "When I look, please kick him."
            begins = {first} - {"exception", "reported"} - ({"negation"} if so == "BUT" else set())
            near = so not in _SENTENCE and part.joint != "BECAUSE"
            late = {"delay"} & set(kinds[-3:]) if near else set()
            if order.verb == "tell" and not order.words:  # "Ann, two minutes. Tell her."
                return _SOFT - (set() if self.reasons else {first})
            if so in ("STOP", "BUT", "asked"):
                return (_SOFT | {"condition"}) - begins - late
            if part.joint in ("BECAUSE", "FOR"):
                return _SOFT - ({"delay"} & {first, kinds[-1]})
            said_last = next((kind for kind in reversed(kinds) if kind != "ME"), first)
            return _SOFT - {first, said_last} - late if first in _SUBJECTS else frozenset()
        if behind and re.search(w.section("goes_on"), said):
            return classes("delay mood")
        if behind and sentence:
            return _SOFT - {*[kind for kind in kinds if kind != "PLEASE"][:2]}
        about = first if first == "HE" else "subject" if first in _SUBJECTS else ""
        soft = _BEHIND[part.joint if part.joint in ("BECAUSE", "FOR") else about]
        # "Kick Ann, he is rude, tomorrow" and "... , or not"
        late = {"delay"} & set(kinds[-3:])
        return soft - (set(kinds[-2:]) - {"negation", "reported"}) - late - {kinds[-1]}

    def _given(self, part: _Part) -> bool:
        """Whether these words are given as the reason: "the reason is ..."."""
        return any("reason" in one.text for one in self.tokens[: part.start][-2:])

    def _spares(self, part: _Part, kinds: list[str]) -> bool:
        """Whether these words leave somebody out of the group of the previous order."""
        last = self.orders[-1]
        if part.joint == "FOR" and last.verb.startswith("end"):
            return "EVERYONE" not in kinds  # "end the room for the students"
        many = len(last.who) > 1 or any(m.groups for m in last.who)
        short = len(kinds) < 5 and part.joint not in ("BECAUSE", "FOR")  # "kick Ann, video only"
        ends = {kinds[-1]} if {"NAME", "DET"} & {*kinds} == {"NAME"} else {kinds[0], kinds[-1]}
        only = short and "ONLY" in ends and not {"IS", "THIS"} & {*kinds}
        some = (kinds[0] == "ONLY" and "IS" not in kinds) or ("NAME" in kinds and kinds[0] != "HE")
        some = some or kinds[-1] == "negation"  # "remove the viewers. The viewers stay."
        return only or (last.verb == "remove" and many and some)

    def _aimless(self, part: _Part, kinds: list[str], so: str, order: Order | None) -> bool:
        """Whether these words are no statement. Then it is not known what they do beside an order."""
        first, behind = kinds[0], bool(self.orders)
        taken = order is not None and any(m.is_pronoun for m in order.who)
        called = order is not None and taken and (order.verb == "tell" or so == "STOP")
        # "Mr Dunne, kick Bob" and "end the room, the students"
        bare = [one for one in kinds if one not in (LEADS if self._last == "end" else ("LEAD",))]
        short = {*bare[:1]} & PEOPLE and len(bare) < 3 and set(bare[1:]) <= _PLACES and not called
        short = short and part.joint != "BECAUSE"  # "kick Ann because of Bob"
        short = bool(short) or (first == "THIS" and order is not None and order.verb != "tell")
        if so in ("so", "STOP", "BUT") or (so == "asked" and first not in PEOPLE):
            return so == "STOP" and short  # "Ann! Kick Bob"
        if first == "TO" and part.joint != "BECAUSE" and order and order.verb != "tell":
            return True  # "to Ann - kick Bob"
        if first in _ORDERS or short or self.tokens[part.start].text == "better":
            return True  # "Ann in", and "Ann, kick Bob"
        if not behind:
            led = part.joint not in ("BECAUSE", "FOR") and so in ("COLON", "NAME", "AND")
            return led and not (so == "COLON" and order and self._explains(part, order))
        spoken = self.tokens[part.start : part.end]
        roles = {group.role for one in spoken if one.who for group in one.who.groups}
        if roles and set(kinds) <= LEADS | {"ROLE"} and self._last == "remove":
            # "kick Ann, the teacher"
            plural = any(t.type in ("EVERY", "BOTH") or t.text.endswith("s") for t in spoken)
            return plural or roles != {p.role for m in self.orders[-1].who for p in m.people}
        acts = re.search("(s|ed|ing)$", spoken[-1].text)  # not "her screen share"
        short = len(kinds) < 3 + (part.joint == "AND" or not acts)
        thing = (spoken[0].text in ("his", "her", "their") and short) or kinds == ["DET", "WORD"]
        if thing and part.joint not in ("BECAUSE", "FOR") and len(kinds) > 1:
            return True  # "kick Ann, her video" and "kick Ann and his friend"
        # "End the room. Confirm with Ann first." and "end the room, 5 pm"
        odd = first in ("NUMBER", "WORD") and (len(kinds) < 3 or "NAME" in kinds)
        loose = part.joint != "BECAUSE" and (odd or first not in _SUBJECTS)
        return (self._last == "end" and loose) or (part.joint == "AND" and first != "HE")

    def _explains(self, part: _Part, order: Order) -> bool:
        """Whether these words, before a colon, are a reason for the order: "Ann is loud: kick her"."""
        spoken = self.tokens[part.start : part.end]
        named = {o for t in spoken if t.who for o in t.who.options}
        about = order.verb == "end" or any(m.is_pronoun or named & {*m.options} for m in order.who)
        told = " ".join(one.told for one in spoken)
        return about and bool(re.search(w.section("explains")[order.verb], told))

    @property
    def _last(self) -> str:
        return self.orders[-1].verb if self.orders else ""

    def _add(self, order: Order, *, instead: bool, rewords: bool) -> None:
        last = self.orders.pop() if self.orders else Order("")
        named = any(not one.is_pronoun for one in order.who)
        if last.verb in ("end", "end_it") and order.verb in ("end", "end_it", "lock_only"):
            order = replace(last, lock=order.lock or last.lock or order.verb == "lock_only")
        elif last.verb == order.verb == "tell" and rewords and last.words and not order.who:
            order = replace(last, words=order.words)
        elif last.verb == order.verb == "tell" and not (last.words or named):
            order = replace(order, who=last.who)  # "message Ann and tell her to wave"
        elif last.verb and not instead:
            self.orders.append(last)
        self.orders.append(order)

    def _correct(self, who: tuple[Mention, ...], *, negated: bool) -> None:
        last = self.orders[-1]
        if negated and (last.verb != "remove" or len(who) > 1):
            raise _Blocked("negation")
        self.orders[-1] = replace(last, but=who) if negated else replace(last, who=who)

    def _starts(self, i: int) -> bool:
        """Whether an order begins behind this joint."""
        skipped = _COURTESY | classes("COMMA DASH ASKED BACK negation")
        at = [j for j in range(i, len(self.kinds)) if self.kinds[j] not in skipped][:2]
        kinds = [self.kinds[j] for j in at]
        if kinds[1:] == ["COLON"] and kinds[0] in ("TELL", "NOTE", "SEND"):
            return False
        if kinds[:1] == ["KICK"] and set(self.kinds[at[0] + 1 : at[0] + 2]) <= MARKS | {"IT"}:
            return False  # "Ann: remove." and "share the file and then remove it"
        goes = kinds[0:1] and kinds[0] in PEOPLE and kinds[1:] in (["MUST"], ["OUT"])
        return bool(goes or _STARTS & set(kinds[:1]))

    def _ends_asked(self, i: int) -> bool:
        ahead = [kind for kind in self.kinds[i:] if kind not in ("PAREN", "PLEASE")]
        return ahead[:1] == ["ASKED"]

    def _look(self, part: _Part) -> Order | None:
        """What these words ask about the room or its people. None if they ask nothing."""
        passed, spoken = _COURTESY - {"HERE"}, self.tokens[part.start : part.end]
        plain = [one for one in spoken if one.type not in passed]
        if plain and plain[0].text.startswith("before "):  # "before we start, who is here?"
            plain = [*dropwhile(lambda one: one.type not in ("LIST", "FIND", "COUNT"), plain)]
        # "is Ann here or did she leave?"
        plain = [*takewhile(lambda one: one.text != "or" or one is plain[0], plain)]
        kinds = [one.type for one in plain]
        start, held = kinds[0] if kinds else "", set(kinds)
        shows = start in ("TAKE", "SEND") and plain[0].text in _SHOWING and held <= _SHOWN
        said = next((kind for kind in kinds if kind not in LEADS | {"IN"}), "")
        named = part.asked and said in ("NAME", "ROLE", "EVERYONE", "ROOM")  # "and on the panel?"
        is_look = start in _LOOKS or shows or named or "LIST" in kinds[:3] or "COUNT" in kinds[:4]
        named_ = [
            t for t in plain if t.type in PEOPLE | {"PRON"} or t.text in ("he", "she", "they")
        ]
        if kinds[:2] == ["IS", "NAME"]:  # "is Ann a student?"
            named_ = [t for t in named_ if t.type != "ROLE"]
        who = tuple(t.who or Mention(t.text, is_pronoun=True) for t in named_)
        called = start in ("IS", "FIND") and ("LEAD" in held or "LIST" not in held)
        if called and not who and "WORD" in kinds[1:4]:
            first = kinds.index("WORD")
            last = first + (kinds[first + 1 : first + 2] == ["WORD"])
            who = (Mention(self.line[plain[first].start : plain[last].end]),)
        state = held & {"STATE", "OVER"} and "COUNT" not in held and not (who and who[0].options)
        if state and (is_look or part.asked or len(kinds) < 3) and not held & _NO_LOOK - {"LOCK"}:
            return Order("status")
        if held & _NO_LOOK or not is_look:
            return None
        return Order("look", who, "count" if "COUNT" in held else "list")

    # --- one order --------------------------------------------------------------------------------

    def _order(self, i: int) -> _Found:
        """The longest order that begins here."""
        if self.kinds[i] == "CANNOT":
            return _Found(Order("cannot", words=self.tokens[i].text), len(self.tokens), True)
        first = self.tokens[i + 1 if self.kinds[i : i + 2] == ["AND", "LOCK"] else i]
        if first.text.startswith("locked"):
            return _Found(None, i, False)  # "I ended the session and locked it"
        parser, fed = _grammar().parse_interactive(), list[Token]()
        whole: tuple[Any, list[Token], int] = None, [], i
        told: tuple[Any, list[Token], int] | None = None
        for j in range(i, len(self.tokens) + 1):
            token = self.tokens[j] if j < len(self.tokens) else Token("STOP", "", 0, 0)
            # "Leave his phone at home" and "take him off his chair" are no removals.
            behind = fed[-1].type if fed else ""
            owned = token.text in ("his", "her", "their", "there")
            owned = owned and behind in ("GONE", "END", "ENDALL")
            # "Drop Ann: he is loud" may be a message.
            dropped = token.type == "COLON" and fed[:1] and fed[0].type == "DROP"
            cut = token.type in _CUTS and not owned and not dropped
            if cut and fed and (tree := _fed(parser, None)):
                whole = tree, [*fed], j
            # Not in "take Ann and Bob out", "Ann and Bob out".
            both = token.type == "AND" and {*self.kinds[j + 1 : j + 3]} & PEOPLE
            parts = self.kinds[i] == "TAKE" or (both and self._verb(i) in PEOPLE | {"BOTH", "TAKE"})
            begun = whole[0] or not parts
            if cut and begun and self.kinds[i] != "LOCK" and self._starts(j):
                break
            # Of "tell Ann hello, we start" the greeting is a part of the message.
            begins = self.tokens[told[2]] if told and fed[-1].type in MARKS else token
            greeted = begins is not token and begins.type == "PLEASE" and begins.text not in POLITE
            further = greeted or bool(told and len(fed) == len(told[1]))
            words = fed and not further and token.type != "ASKED" and j < len(self.tokens)
            if words and _fed(parser, token._replace(type="WORDS")):
                told = parser, [*fed], j
            if taken := _fed(parser, token):
                parser = taken
                fed.append(token)
            elif token.type not in ("PLEASE", "ASK", "ALLOF") or (
                fed and fed[-1].type == "SAY" and token.text not in POLITE
            ):
                break
        tree, fed, end = whole
        last = self.tokens[end - 1].text
        again = fed and fed[-1].type in ("THAT", "IT", "SAME") and set(self.kinds[end:]) <= MARKS
        if told and len(told[1]) >= len(fed) and (not again or last in w.listed("greeting")):
            return self._message(i, *told)
        if tree is None:
            return _Found(None, i, False)
        polite = last in POLITE or "ASK" in self.kinds[i:end]
        return _Found(self._meant(tree, fed, "", i), end, polite)

    def _verb(self, i: int) -> str:
        return next((kind for kind in self.kinds[i:] if kind not in _COURTESY | {"DET"}), "")

    def _message(self, i: int, parser: Any, fed: list[Token], start: int) -> _Found:
        """A message, whose words begin there, up to the next order, or to the end if they are marked."""
        end, more, by = self._message_end(start, fed[-1].type), list[Token](), fed[-1].type
        cut = self._sent(start, end, fed)
        last = cut or end
        while self.kinds[last - 1] in ("PLEASE", "STOP", "ONLY", "COMMA") and last > start + 1:
            if self.kinds[last - 2] == "AND" and self.tokens[last - 1].text not in POLITE:
                break
            last -= 1
        mark = next((j for j in range(start, last) if self.kinds[j] == "MARK"), last)
        to = next((j for j in range(mark - 1, start, -1) if self.kinds[j] == "TO"), last)
        if by == "SAY" and set(self.kinds[to + 1 : mark]) <= _AUDIENCE | {"PLEASE"}:
            more = [one for one in self.tokens[to:mark] if one.type != "PLEASE"]
        heard = [kind for kind in self.kinds[start:last] if kind not in LEADS]
        people = _PERSON | {"EVERYONE"} if "BUT" in heard else _PERSON
        told = any(one == "TO" and next_ in people for one, next_ in pairwise(heard))
        if (
            (by == "SAY" and told and not more)
            or ("CHAT" in [one.type for one in fed] and by == "TO" and {*heard[:1]} <= _PERSON)
            or heard[:1] == ["S"]
        ):
            # "Say hello to Ann, not to Bob": to whom it goes is not clear.
            raise _Blocked("no_end")
        # "Could you tell Ann that we start? Thank you!"
        thanks = self.kinds[last - 1] == "ASKED" and "ASK" in self.kinds[i:start] and by != "COLON"
        behind = self.tokens[last if thanks or cut else end :]
        end = len(self.tokens) if cut else end
        ends = [*more, *behind, Token("STOP", "", len(self.line), 0)]
        words = self.typed[self.tokens[start].start : ends[0].start].strip(" ,")
        if more and mark < last:  # "say hello to Ann and tell her we start"
            fits = re.match("(THAT|OURS|HE|IT|ME) (?!COMMA)", " ".join(self.kinds[mark + 1 : end]))
            if {*self.kinds[start:to]} != {"PLEASE"} or not fits:
                raise _Blocked("no_end")
            behind = [*self.tokens[end:], ends[-1]]
            words += f", {self.typed[self.tokens[mark].end : behind[0].start].strip(' ,:')}"
        only = self.tokens[start]
        bare = last == start + 1 and (only.type == "TO" or only.text in w.listed("no_message"))
        if bare or not words.strip(" .,:;!?-…–—\"'()"):
            words = ""
        led = " ".join("-" if t.text in POLITE else t.type for t in self.tokens[i:start])
        if re.search("(NAME|ROLE) PLEASE AND", led):
            raise _Blocked("no_end")  # "tell Ann hi and Bob bye"
        for one in (self.tokens[start]._replace(type="WORDS"), *more, None):
            parser = parser and _fed(parser, one)
        if parser is None:
            return _Found(None, i, False)
        if by == "ROOM" and set(self.kinds[start:last]) <= _LOOKS | {"TO", "NAME"}:
            return _Found(Order("status"), end, True)
        single = by == "COLON" and "COLON" not in self.kinds[start:]
        single = (single or by == "EVERYONE") and "KICK" not in self.kinds[start:]
        if single or self.roster.total:
            self.told = min(self.told, only.start)
        return _Found(self._meant(parser, fed, words, i), end, "ASK" in self.kinds[i:start])

    def _sent(self, start: int, end: int, fed: Sequence[Token]) -> int:
        """Where "send it to them" begins, behind an announcement: "crew should know this: ..." Else 0."""
        kinds = {one.type for one in fed}
        sent = re.search(w.section("sent"), " ".join(one.told for one in self.tokens[start:]))
        if not sent or {"TELL", "SEND", "SAY", "LET"} & kinds:
            return 0
        framed = "MUST" in kinds or {"ONLY", "NOTE", "KNOW"} & {one.type for one in fed[-2:]}
        whole = sent["whole"] is not None and not sent["odd"]
        if framed and not whole:
            raise _Blocked("several")  # "... Send it to Bob."
        at = start + sent.string[: sent.start()].count(" ")
        return at if at <= end and whole and (framed or sent["to"] or sent["let"]) else 0

    def _message_end(self, start: int, by: str) -> int:
        """Where the words of a message end. Of marked words ("that ...") a further order is a part,
        unless "then" leads to it, or it is a message too."""
        ends = {"COLON": {"STOP"}, "THAT": {"STOP", "COMMA"}, "MARK": {"STOP", "COMMA"}}.get(by)
        infinitive = by == "TO" or self.kinds[start] == "negation"
        for j in range(start + 1, len(self.tokens)):
            if self.kinds[j] not in _ENDS:
                continue
            greets = {*self.kinds[start:j]} == {"PLEASE"} == {*self.kinds[j + 1 : j + 2]}
            greets = greets and self.tokens[j + 1].text.split()[0] in w.listed("greeting")
            if greets and self.kinds[j] == "AND":
                continue  # "tell everyone hello and thanks"
            joint = [one.text for one in self.tokens[j : j + 2] if one.type == "AND"]
            then = any(re.search("then|that|this|after", text) for text in joint)
            # ", and please kick Ann", but not ", and bring a pen"
            further = bool(joint) and (PEOPLE | {"END"}) & {*self.kinds[j : j + 5]}
            comma = by in ("THAT", "MARK") and further and self.tokens[j - 1].text == ","
            closed = comma or (self.kinds[j] in (ends or _ENDS) and (then or not ends))
            # "Tell Ann to wave and end the talk": she is to do both.
            named = PEOPLE & {*self.kinds[j : j + 6]}
            both = infinitive and self.kinds[j] == "AND" and not (then or named)
            # "Tell them thank you, you can take a break" is all said to them.
            you = (
                re.match("(you|u) ", self.tokens[j + 1].text) if j + 1 < len(self.tokens) else None
            )
            closed = closed and not both and not (you and self.kinds[j] == "COMMA")
            # "Tell Ann that she can come back and then kick her": she is not to kick herself.
            kicks = self.kinds[start] == "HE" and self.kinds[j + 1 : j + 3] == ["KICK", "PRON"]
            kicks = kicks and self.tokens[j + 2].text in ("him", "her")
            closed = closed or bool(then and kicks and "MUST" not in self.kinds[start:j])
            if (closed and self._starts(j)) or self._tells(j):
                return j
        return len(self.tokens)

    def _tells(self, i: int) -> bool:
        """Whether a further message begins behind this joint: "and tell Ann to", "then Ann that"."""
        skipped = ("AND", "DET", "PLEASE", "LEAD")
        head = [kind for kind in self.kinds[i : i + 8] if kind not in skipped][
            self.kinds[i] != "AND" :
        ]
        verb = head[:1] in (["TELL"], ["SEND"], ["LET"], ["TO"])
        rest, by = head[verb:], classes("TO THAT HE QUOTE" + " COLON KNOW" * verb)
        return bool(rest and rest[0] in PEOPLE | {"SAME"} and (by | PEOPLE) & set(rest[1:2]))

    def _meant(self, tree: Tree[Token], fed: Sequence[Token], words: str, i: int) -> Order | None:
        """The order that a tree of `orders.lark` means. `words`: the text of its message."""
        root = next(one for one in tree.children if not isinstance(one, tuple))
        leaves = list(root.scan_values(lambda _: True))
        first, kinds = leaves[0], [one.type for one in leaves]
        parts = [one for one in root.iter_subtrees() if one.data in ("one", "known", "unknown")]
        named = sorted(parts, key=lambda one: next(one.scan_values(lambda _: True)).start)
        but = {id(one) for part in root.find_data("spared") for one in part.iter_subtrees()}
        who = tuple(m for one in named if id(one) not in but for m in self._who(one))
        spared = {o for one in named if id(one) in but for m in self._who(one) for o in m.options}
        everyone = any("EVERYONE" in kinds and not self._who(one) for one in named)
        many = everyone or any(m.groups for m in who)
        if spared & {o for m in who for o in m.options} or (but and many):
            raise _Blocked("exception")
        who = (Mention("him", is_pronoun=True),) if kinds == ["KICKED"] else who
        it = next((m.said for m in who if m.is_pronoun), "")
        heard = [n for n, one in enumerate(self.tokens[:i]) if one.who]
        # Of "Professor Kim" the name tells more than the role; not of "the student Kim spoke of".
        titles = [n for n in heard if self.kinds[n : n + 2] == ["ROLE", "NAME"]]
        heard = [n for n in heard if n not in titles or {*self.kinds[:n][-1:]} & LEADS]
        said = " ".join("X" if t.who else t.text for t in self.tokens[:i])
        if it and re.search(w.section("harms"), said):
            if root.data != "remove" or len(heard) != 2 or it not in ("him", "her"):
                raise _Blocked("who")  # "Ann insults Bob, kick them" and "tell her"
            heard, said = heard[:1], ""
        told = [(self._acts(n, i, it), self.tokens[n].who) for n in heard]
        about = tuple(person for acts, person in told if acts and person)
        if spares(self.tokens[:i]) and any(m.is_pronoun for m in who):
            raise _Blocked("exception")  # "all but Ann can go, kick them"
        if root.data == "remove":
            things = first.text == "delete" and it[:2] in ("it", "th") and "ROLE" not in self.kinds
            other = re.search(w.section("innocent"), said) or (told and not told[-1][0])
            if things or (it and other):
                raise _Blocked("who")  # "Bob has a link. Delete it.", "a man hit Bob, kick him"
            return Order("everyone" if everyone else "remove", who, about=about)
        if root.data == "again":
            if not (
                self.orders or {"SEND", "TELL", "SAY", "LET"} & {*kinds} or first.text == "say that"
            ):
                return None  # what "same for Ann" means is in an earlier turn
            last = self.orders[-1] if self.orders else Order("tell")
            words = last.words if last.verb == "tell" else ""
            return Order("tell", () if everyone else who, words, about=about, again=True)
        if root.data != "tell":
            front = " ".join(t.text for t in tree.children if isinstance(t, tuple))
            closes = first.text in ("close", "wrap up") and re.search("let's|let us|time to", front)
            bare = kinds == ["END"] and first.text != "end" and not closes  # "stop!"
            skipped = _COURTESY | LEADS | MARKS | {"BUT", "BACK"}
            said = " ".join(one.told for one in self.tokens[:i] if one.type not in skipped)
            behind = " ".join(one.told for one in self.tokens if one.start > fed[-1].start)
            of_room = self.orders or re.fullmatch(w.section("of_room"), said)
            of_room = of_room or re.match(w.section("of_room_behind"), behind)
            if root.data == "end_it" and not of_room:
                raise _Blocked("end_it")  # "the window in the room is open, close it"
            over = {"OVER", "ROOM"} if first.text in ("end", "close", "finish") else {"OVER"}
            ended = first.text != "stop" and bool(over & set(self.kinds[:i]))
            ended = (ended and bool(of_room)) or (root.data == "end_it" and "LOCK" in kinds)
            verb = "end" if ended else str(root.data)
            return None if bare else Order(verb, lock="LOCK" in kinds)
        if first.type == "QUOTE" and {*self.kinds[:i]} - {"PLEASE", "COMMA"}:
            return None  # not: no "hi" to Ann
        called = isinstance(root.children[0], tuple) or {"TELL", "NOTE", "TOLD"} & {*kinds}
        asks = "TOLD" in kinds and words.endswith("?") and "ASK" not in self.kinds
        if [*root.find_data("further")]:
            called, asks = True, self._last != "tell"
        if asks or not (called or all(m.groups for m in who)):
            return None
        head = " ".join(one.text for one in leaves if one.type in ("NOTE", "TELL", "SEND"))
        to_some = re.search(r"private|direct|\b[dp]m\b|\bmake (?!.*announce)", head)
        goes_on = "ROOM" in kinds or (bool(self.orders) and not self.orders[-1].words)
        spoken = first.text in ("say", "shout", "write") and about and not goes_on
        if not named and (to_some or spoken):
            return Order("who")
        # Whoever speaks to "the student" of many speaks to all of them.
        who = tuple(m._replace(sure=m.sure or bool(m.groups and not m.people)) for m in who)
        who = () if everyone else who
        return Order("tell", who, self._said(root, leaves, fed[-1].type, words), about=about)

    def _acts(self, i: int, end: int, it: str) -> bool:
        """Whether this pronoun may mean the person whom the token at `i` names. In "somebody insulted
        Ann, kick him" it does not mean Ann, and in "Ann has a link, remove it" neither."""
        marks = [j for j, kind in enumerate(self.kinds[:end]) if kind in MARKS]
        start = max((j + 1 for j in marks if j < i), default=0)
        part = self.tokens[start : next((j for j in marks if i < j), end)]
        said = " ".join("X" if one is self.tokens[i] else one.text for one in part)
        thing = it == "it" and not re.search(w.section("thing"), f"{said} = {self.tokens[i].text}")
        one = " s " in said or [t.type for t in self.tokens[:end] if t.who] == ["NAME"]
        # "Ann's links are bad, remove them"
        if one and it in ("them", "'em", "em") and "KICK" in self.kinds[end:]:
            thing = bool(re.search(r"X (s .*|\w+ )\w\w+[^s\Wi]s\b", said))
        return not (thing or re.search(w.section("suffers"), said))

    def _who(self, tree: Tree[Token]) -> tuple[Mention, ...]:
        """Whom a part of an order names. Empty if it means everyone."""
        parts = list(tree.scan_values(lambda _: True))
        held = {one.type: one for one in parts}
        name, role = (held[kind].who if kind in held else None for kind in ("NAME", "ROLE"))
        if "ANYBODY" in held:
            return (Mention(ANYBODY, role.groups if role else ()),)
        leads, every = bool(LEADS & set(held)), bool({"EVERY", "EVERYONE", "GROUP"} & set(held))
        if tree.data != "one":
            spoken = [one for one in parts if one.type not in LEADS]
            said = self.line[spoken[0].start : spoken[-1].end].strip("\"'")
            if "ROLE_WORD" in held:
                return (Mention(f"{said} role"),)
            return (self.roster.unsure(said, name, leads=leads),)
        if role and (
            ("BOTH" in held and not name and role.groups[0].count != 2)
            or ("LEAD" in held and held["LEAD"].text.endswith(("one", " on", " on the")))
        ):
            raise _Blocked("exception")  # "both students" of twelve
        if name and role:
            found = name.of(self.roster.with_role(role.groups[0].role))
            many = held["ROLE"].text not in (role.groups[0].role, forms(role.groups[0].role)[0])
            return (found._replace(sure=found.sure and not many),)  # "the students Sam Lee"
        if role and "ROLE_WORD" in held and not every and '"' not in held["ROLE"].text:
            return (Mention(f"{role.groups[0].role} role"),)
        if role:
            [group] = role.groups
            people = self.roster.with_role(group.role)
            the = bool({"DET", "THAT"} & set(held))
            every = every or "ROLE_WORD" in held or (group.role in w.section("collective"))
            if the and not (every or role.sure) and len(people) == group.count <= 8:
                return (Mention(role.said, people, sure=len(people) == 1),)
            pointed = "THAT" in held and held["THAT"].text in ("that", "this")
            if pointed and not (every or role.sure or held["ROLE"].text.endswith("s")):
                return (Mention(ANYBODY, role.groups),)  # "tell that student hi"
            return (role._replace(sure=role.sure or every),)
        if name:
            unsure = self._plural(held["NAME"]) or "EVERY" in held
            # "Mrs Kelly" may be the mother of the only Kelly who is here.
            titled = "LEAD" in held and held["LEAD"].text in ("mr", "mrs", "ms", "mister")
            if titled and self.roster.group("parent"):
                unsure = unsure or any(p.role in w.section("young") for p in name.people)
            return (name._replace(sure=name.sure and not unsure),)
        return () if "EVERYONE" in held else (Mention(parts[-1].text, is_pronoun=True),)

    def _plural(self, name: Token) -> bool:
        people = name.who.people if name.who else ()
        names = {word for o in people for word in (*o.words, *key(o.user_id))}
        return name.text.endswith("s") and not {*key(name.text)[-1:]} & names

    def _said(self, tree: Tree[Token], leaves: Sequence[Token], by: str, words: str) -> str:
        """The words of a message, as they are sent. `by`: the class of the token before them."""
        verb, ways = leaves[0].text, {str(one.data) for one in tree.iter_subtrees()}
        if quote := next((one for one in leaves if one.type == "QUOTE"), None):
            return self.typed[quote.start + 1 : quote.end - 1].strip()
        head = " ".join(one.text for one in leaves if one.type in ("NOTE", "TELL"))
        opening = next((said for key, said in w.section("openings").items() if key in head), "")
        if not words:
            return str(opening)
        start = next(one.start for one in leaves if one.type == "WORDS")
        inside = [one for one in self.tokens if start <= one.start < start + len(words)]
        asked = "asked" in ways or words.lower().startswith("not to ")
        way = "marked" if by in _MARKED else "asked" if asked else "plain"
        told = [verb + "+" * bool(opening), way, f"{by}|"]
        told += [f"{one.type}:{one.text}" for one in inside]
        behind = [t for t in self.tokens if t.start > inside[-1].start]
        told += ["MORE"] * any(one.type not in ("STOP", "PLEASE") for one in behind)
        more = [f">{one.type}:{one.text}" for one in behind]
        line = "\n".join(" ".join(o.replace(" ", "_") for o in part) for part in (told, more))
        rules = ((re.search(f"(?m){rule}", line), why) for rule, why in w.rows("unclear"))
        if why := next((why for found, why in rules if found), ""):
            raise _Blocked(why)
        words = re.sub("(?i)^that ", "", words)
        led = {one.type for one in self.tokens if one.start < leaves[0].start}
        words = words.rstrip("?") if "ASK" in led else words
        doubted = words.endswith("?") and words.split()[0].lower() not in _ASKING
        if doubted and (way == "plain" or (by == "THAT" and "FRONT" not in led)):
            raise _Blocked("question")  # "tell Ann that we start?"
        some = {one.type for one in inside} & classes("COMMA AND BUT reported")
        if some and "asked" in ways and any(one.type == "TOLD" for one in leaves):
            raise _Blocked("no_end")  # "Ann should be told to wait, I think"
        if by in _MARKED:
            return words
        if words.lower().startswith("not to "):
            return f"Please do {words[:4]}{words[7:]}"
        if "asked" in ways and verb.startswith(("welcome", "wish")):
            return f"{opening} to {words}"
        if "asked" in ways:
            please = "Please do " if inside[0].text == "not" else "Please "
            words = re.sub("(?i)^(\\w+ )(him|her)self\\b", r"\1yourself", words)
            words = re.sub("(?i)^(\\w+ )themselves\\b", r"\1yourselves", words)
            return words if by == "TELLING" else f"{please}{words}"
        name = next((one for one in reversed(leaves) if one.type == "NAME"), None)
        plural = name and self._plural(name)
        unknown = inside[0].type == "WORD" and words[0].isupper()
        surname = unknown or re.match(r"[A-Z]\S*( [A-Z]\S*)?:", words)
        one_of = by == "ROLE" and unknown and not leaves[-2].text.endswith("s")  # "student Smith"
        if one_of or (by == "NAME" and (plural or surname)):
            raise _Blocked("no_end")  # "tell Ann Kelly hi" and "tell Anns friends hi"
        return f"{opening} {words}".strip()
