"""A sentence as orders: `orders.lark` for what changes the room, `words.yaml` for the rest. Pure.

A line is cut at commas, full stops and "and". Each part is an order, a statement (which may be the
reason), a taking back, or a look; if one is none of these, nothing is ordered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from hms_active_rooms.untrusted import escaped

if TYPE_CHECKING:
    from lark import Lark

_HERE: Final = Path(__file__).parent
_MAX_CHARS: Final = 2000
_MAX_PARTS: Final = 10
_QUOTES: Final = str.maketrans("“”„‟«»‘’‚‛", '""""""' + "''''")

CHANGES: Final = frozenset({"remove", "tell", "end"})


# --- the words of `words.yaml`: patterns of whole words, and texts -----------------------------------


@cache
def _file() -> Any:
    return yaml.load((_HERE / "words.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)


@cache
def filled(text: str) -> str:
    """A pattern with its macros filled in, and its lines as alternatives.

    The groups written in the pattern itself capture; those that come from a macro do not.
    """

    def put(macro: re.Match[str]) -> str:
        return re.sub(r"(?<![\\\"])\((?!\?)", "(?:", filled(_file()["macros"][macro[1]]))

    return re.sub(r"\{([a-z_]+)\}", put, text.strip().replace("\n", "|"))


def whole(text: str) -> str:
    return rf"(?<![\w'-])(?:{filled(text)})(?![\w'-])"


@cache
def pattern(kind: str, section: str = "words") -> re.Pattern[str]:
    told = _file()[section][kind]
    return re.compile(filled(told) if section == "macros" else whole(told), re.IGNORECASE)


def is_pronoun(name: str) -> bool:
    """Whether the words stand for somebody named before."""
    return pattern("pronoun").fullmatch(name.strip(" .!")) is not None


def slip(word: str, known: str) -> bool:
    """Whether a letter of the known word is missing, doubled or in the place of its neighbour."""
    from rapidfuzz.distance import OSA

    if len(word) < 3 or OSA.distance(word, known, score_cutoff=1) != 1:
        return False
    doubled = re.sub(r"(.)\1", r"\1", word) == re.sub(r"(.)\1", r"\1", known)
    return len(word) < len(known) or doubled or sorted(word) == sorted(known)


@cache
def rows(section: str) -> tuple[tuple[str, str], ...]:
    """The lines "pattern => text" of a section; the patterns are not filled."""
    lines = (line.partition(" =>") for line in _file()[section].splitlines())
    return tuple((told, text.strip()) for told, _, text in lines)


def kinds(section: str) -> tuple[str, ...]:
    """The names in a section, or its words."""
    told = _file()[section]
    return tuple(told.split() if isinstance(told, str) else told)


def say(reply: str, **parts: object) -> str:
    """A reply by its name; a text that is no name as it is."""
    examples = kinds("examples")
    if reply not in _file()["says"]:
        return reply
    shown = ", ".join(f'"{examples[place]}"' for place in (0, 4, 8))
    listed = "\n".join(f"- {one}" for one in examples)
    return str(_file()["says"][reply].format(shown=shown, examples=listed, **parts))


@dataclass(frozen=True)
class Order:
    """One thing that is asked for.

    Attributes:
        verb: `remove`, `tell` and `end` change the room; `look`, `status` and what `words.yaml`
            has under `talk` do not.
        who: the names, as spoken.
        words: for `tell` the audience and then the message, for `look` what is looked for.
        manner: the word a message or a look began with.
        about: what was said before it, where a pronoun finds its person.
        spared: who is named as not meant.
    """

    verb: str
    who: tuple[str, ...] = ()
    words: str = ""
    manner: str = ""
    lock: bool = False
    reason: str | None = None
    about: str = ""
    spared: str = ""


@dataclass(frozen=True)
class Reading:
    """What a text means: its orders, or the reply that says why there are none; and rooms it names."""

    orders: tuple[Order, ...] = ()
    why: str = ""
    rooms: frozenset[str] = frozenset()


@lru_cache(maxsize=256)
def read(text: str) -> Reading:
    """What a text asks for."""
    line = re.sub(" +", " ", text.strip())
    seen = re.sub(r'["`<&\\\]]', "", line.translate(_QUOTES))
    if not line or len(line) > _MAX_CHARS or escaped(seen) != seen:
        return Reading(why="unreadable")
    line, rooms = _without_rooms(line)
    found = _talk(line) or _combined(line) or _look(line) or _mended(line)
    return replace(found or Reading(why=_why_not(line)), rooms=rooms)


def fits(text: str, *kinds_of_why: str) -> bool:
    """Whether the text outside its quotes shows one of these reasons not to take it as an order."""
    return any(pattern(kind, "why").search(_unquoted(text)) for kind in kinds_of_why)


def _unquoted(text: str) -> str:
    return re.sub(r'"[^"]*"', lambda m: '"' + "_" * (len(m[0]) - 2) + '"', text.translate(_QUOTES))


def plainly(text: str) -> str:
    """The text without the courtesy around it."""
    around = rf"(?:{pattern('courtesy').pattern}|[ ,.!?])+"
    return re.sub(rf"(?i)^{around}|{around}$", "", text)


def _bare(text: str) -> tuple[str, bool]:
    """The words of an order without the courtesy before them, and whether they were asked for."""
    asked, plain = False, ""
    while plain != text:
        plain = text
        for kind in ("ask", "mind", "front", "please"):
            if match := re.match(rf"(?i){whole('{' + kind + '}')}[\s,.!:–—-]*", text):
                asked, text = asked or kind in ("ask", "mind"), text[match.end() :]
                break
        else:
            text = text.lstrip(" ,.!")
        if asked and (match := re.match(r"(?i)(\w+?)(?:ing|ed)\b", text)):
            stem = match[1]
            known = {*kinds("mended"), *kinds("verbs_in_ing")}
            verb = next((v for v in (stem, f"{stem}e", stem[:-1]) if v.lower() in known), match[0])
            text = verb + text[match.end() :]
    return text, asked


def is_name(text: str) -> bool:
    """Whether a text could be one name, and is no order."""
    told = pattern("who", "macros").fullmatch(text) and not re.search(r"[,;:!?()]", text)
    return bool(told) and not pattern("verbs").match(text)


def _without_rooms(line: str) -> tuple[str, frozenset[str]]:
    """The line with each room's id as "the room", and the ids. A message's words are left alone."""
    room = r"(?i)\b((?:in |from |of |for )?)(?:(?:the|this) )?(?:room )?(?:id )?([0-9a-f]{24})(?![\w-])[,:]?"
    first = re.match(room, line)
    rest = line[first.end() :].strip() if first else line
    head, colon, tail = rest.partition(":")
    found = [] if not colon and re.match(whole("{message}"), rest) else re.findall(room, head)
    ids = [told[1] for told in found] + ([first[2]] if first else [])
    line = re.sub(room, r"\1the room", head) + colon + tail if found else rest
    return line, frozenset(map(str.lower, ids))


def _talk(line: str) -> Reading | None:
    for kind in kinds("talk"):
        told, asked = pattern(kind, "talk"), line.endswith("?") and kind in ("yes", "no", "other")
        if not asked and (told.fullmatch(line.strip(" ,.!?")) or told.fullmatch(plainly(line))):
            return Reading((Order(kind),))
    return None


def _mended(line: str) -> Reading | None:
    """The line as it is also said, its known words mended if a letter is missing, doubled or moved."""
    spoken = line
    for told, text in rows("spoken"):
        spoken = re.sub(told, text, spoken, count=1, flags=re.IGNORECASE)
    head = re.match(r'[^:"]*', spoken)
    end = head.end() if head else 0

    def known(match: re.Match[str]) -> str:
        word, known = match[0], None if pattern("verbs").match(match[0]) else kinds("mended")
        return next((one for one in known or () if slip(word.lower(), one)), word)

    fixed = re.sub(r"[^\W\d_]{3,}", known, spoken[:end]) + spoken[end:]
    return (_combined(fixed) or _look(fixed)) if fixed != line else None


# --- the parts of a line --------------------------------------------------------------------------

_Part = tuple[str, Order | str]  # its kind, and its order or words

_CUT: Final = re.compile(
    r"\s*(?:[,;.!?]+|\.{2,}|…|\s[-–—]+)\s+|\s*[—…]\s*"
    r"|(?i:,?\s+(?:and then|and|&|plus|then|so)\s+(?:also |then )?)"
)


def _combined(line: str) -> Reading | None:
    """The orders of a line of which every part is understood, each part as long as possible."""
    marks = [m.span() for m in _CUT.finditer(_unquoted(line))][:_MAX_PARTS]
    edges = [0, *(edge for span in marks for edge in span), len(line)]
    places = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]

    @cache
    def parts(first: int) -> list[_Part] | None:
        for last in range(len(places), first, -1):
            start, end = places[first][0], places[last - 1][1]
            asked = line[end:].lstrip()[:1] == "?" or line[start:end].endswith("?")
            part = _part(line[start:end], line[:start], single=last == first + 1, asked=asked)
            if part and (rest := parts(last)) is not None:
                return [part, *rest]
        return [] if first == len(places) else None

    orders, reasons, taken = list[Order](), list[str](), False
    before = ""
    for kind, what in parts(0) or ():
        last = orders[-1] if orders else Order("")
        if isinstance(what, Order):
            if before in ("statement", "look") and pattern("governs").search(what.about):
                return None
            if last.verb == "end" and what.verb in ("end", "end_it", "lock_only"):
                lock = what.lock or last.lock or what.verb == "lock_only"
                what, kind = replace(last, lock=lock), "instead"
            orders = [*orders[: -1 if taken or kind == "instead" else None], what]
            taken = False
        elif kind == "statement":
            reasons.append(what)
        elif kind == "back" and what and last.who:
            other, taken = what.removeprefix("not "), False
            orders[-1] = (
                replace(last, spared=other) if other != what else replace(last, who=(what,))
            )
        elif kind == "back":
            taken = bool(orders)
        before = kind
    changes = [order for order in orders if order.verb in CHANGES]
    if taken:
        return Reading(why="negation")
    if len(orders) > 1 and any(o.verb not in ("look", "status", *CHANGES) for o in orders):
        return None
    reason = "; ".join(reasons) or None
    told = [o if o.verb == "tell" or o.reason else replace(o, reason=reason) for o in changes]
    return Reading(tuple(told or orders[:1])) if orders else None


def _part(text: str, before: str, *, single: bool, asked: bool) -> _Part | None:
    bare = before and re.fullmatch(r"(?i)(?:just )?stop(?: it| that)?[.! ]*", text)
    if not bare and (order := _order(text.rstrip("?") + "?" * asked)):
        return "order", replace(order, about=before)
    if not plainly(text) and not (before and pattern("back").search(text)):
        return None if asked and not pattern("please", "macros").search(text) else ("courtesy", "")
    if not single:
        return None
    if bare:
        return "back", ""
    back = pattern("back").pattern
    if before and (match := re.match(rf"(?i){back}(?:[\s,]+{back})*", text)):
        # What follows may be nothing, another order, or a name.
        rest, negated = text[match.end() :].strip(" ,:-–—"), re.search(r"(?i)n[o']t\b", match[0])
        if (again := _order(rest)) and again.verb in CHANGES:
            return None if negated else ("instead", again)
        name = rest.rstrip(" .!")
        return (
            ("back", f"not {name}" if name and negated else name)
            if not name or is_name(name)
            else None
        )
    if asked and re.match(r"(?i)(?:is|was|would) (?:that|this|it)\b", text):
        return None
    looking = asked or _ASKS.match(plainly(text))
    if not looking:
        stands = _is_statement(text) and (not plainly(before) or _as_reason(text))
        return ("statement", text.strip(" .!")) if stands else None
    look = None if fits(text, "condition", "delay", "negation", "mood") else _look(text)
    return ("look", look.orders[0]) if look else None


_ASKS: Final = re.compile(r"(?i)(?:list|show|count|check|who|how many)\b")


# --- one order ------------------------------------------------------------------------------------


@cache
def _parser() -> Lark:
    from lark import Lark

    text = re.sub(r"(?m)^//.*\n", "", (_HERE / "orders.lark").read_text(encoding="utf-8"))
    text = text.replace("{cannot}", "|".join(told for told, _ in rows("cannot")))
    # Texts in quotes that stand side by side are one pattern of whole words, which loads fast.
    pieces = re.split(r"(?<=[\s:(|])(/(?:\\.|[^/\n])+/i?s?)", text)
    pieces[1::2] = map(filled, pieces[1::2])
    pieces[::2] = [re.sub(r'"[^"\n]+"(?:\s+"[^"\n]+")*', _listed, piece) for piece in pieces[::2]]
    return Lark("".join(pieces), parser="lalr", g_regex_flags=re.ASCII)


def _listed(match: re.Match[str]) -> str:
    told = whole("|".join(re.findall('"([^"]+)"', match[0])))
    return f"/{told}/i"


def _order(text: str) -> Order | None:
    # Nothing that begins so is an order, and the grammar takes long to load.
    if re.match(r"(?i)(?:who|what|which|how|why|where)\b", text):
        return None
    from lark import Tree, UnexpectedInput

    text, asked = _bare(text)
    if not re.match(whole("(?i:{message})"), text):
        text = re.sub(rf"(?i){whole('{filler}')} ?", "", text)
    try:
        tree = _parser().parse(text.translate(_QUOTES))
    except UnexpectedInput:
        return None
    rule, *tails = (child for child in tree.children if isinstance(child, Tree))
    said: dict[str, list[str]] = {}
    for token in rule.scan_values(lambda _: True):
        # The grammar sees plain quotes; a name and a message keep theirs.
        said.setdefault(token.type, []).append(text[token.start_pos : token.end_pos].strip())
    asked = asked or len(tails) + 1 < len(tree.children)
    verb, who = str(rule.data), tuple(said.get("WHO", ()))
    if verb == "cannot":
        return Order(verb, words=said["CANNOT"][0])
    if verb == "tell":
        return _message(said["MESSAGE"][0], asked=asked)
    if (text.rstrip(" .!").endswith("?") and not asked) or fits(text, "unquoted", "injection"):
        return None
    if "RELATIVE" in said and re.match(r"(?i)(?:all|any|both|each|every)|.*s$", who[-1]):
        return None
    listed = any(joint != "," for joint in said.get("AND", ()))
    if any(map(pattern("verbs").match, who[1:])) or (
        not listed and any(map(_is_statement, who[1:]))
    ):
        return None
    given = [
        one for kind in ("REASON", "PAREN", "STATED", "RELATIVE") for one in said.get(kind, ())
    ]
    reason = _as_reason(given[0].strip(" ()"), after_for="FOR" in said) if given else None
    if given and not reason:
        return None
    return Order(verb, who, lock="LOCK" in said or "LOCK_AND" in said, reason=reason)


def _message(said: str, *, asked: bool) -> Order | None:
    said = said.rstrip("?") if asked else said
    plain = said.translate(_QUOTES)
    matches = (
        (re.fullmatch(filled(form), plain, re.IGNORECASE), to) for form, to in rows("messages")
    )
    match, to = next(((match, to) for match, to in matches if match), (None, ""))
    if match is None:
        return None
    text = to.format(*(said[start:end] for start, end in match.regs))
    manner = re.sub("(?:(?<=t)t)?ing$", "", re.split(r"[ (:]", said.lower())[0])
    manner = "warn" if pattern("warning").match(said) else manner
    plain = _unquoted(text).strip(" .!")
    inner = re.search(r'".*"', plain)
    marked = inner or re.search(r"(?i):|\b(?:that|saying)\b", plain)
    barred = inner.end() < len(plain) if inner else not marked and _joins_order(plain)
    barred = barred or bool(re.search(rf"(?i)[,;.–—-] *{pattern('back').pattern}$", plain))
    return None if barred else Order("tell", words=text, manner=manner)


def _joins_order(text: str) -> bool:
    joint = r"(?:\b(?:and|then|plus|also|or)|[,;&+.!?]|->)(?: (?:then|also|please|just|to|not|so))*"
    return bool(re.search(rf"(?i){joint} ?{pattern('verbs').pattern}", _unquoted(text)))


def _as_reason(text: str, *, after_for: bool = False) -> str | None:
    """The text after an order, as its reason. None if it may be more than a reason: another order,
    or words that take the order back, limit it or put it off."""
    plain = _unquoted(text)
    barred = fits(text, "unquoted", "condition", "exception", "span") or fits(f"for {text}", "span")
    if after_for:
        barred = barred or fits(text, "negation", "delay") or bool(pattern("no_for").search(plain))
    taken = pattern("no_reason").search(plain) or pattern("back").search(plain.replace("not", ""))
    further = re.split(r"[.;!]+\s+", plain)[1:]
    barred = barred or any(plainly(one) and not _is_statement(one) for one in further)
    if barred or taken or "?" in text or _joins_order(text):
        return None
    courtesy = rf"{whole('{tail}')}|reason:|[\s,.!]"
    return re.sub(rf"(?i)^(?:{courtesy})+|(?:{courtesy})+$", "", text)


# --- what is no order -----------------------------------------------------------------------------


def _look(text: str) -> Reading | None:
    said = plainly(text)
    for kind in kinds("looks"):
        match = pattern(kind, "looks").match(said)
        if match and (kind != "status" or match.end() == len(said)):
            left = re.sub(" +", " ", pattern("seen").sub("", said[match.end() :])).strip(" ,.?!'")
            if kind == "find" and pattern("verbs").search(left):
                return None
            verb = kind if kind == "status" else "look"
            return Reading((Order(verb, words=left, manner=kind),))
    return None


def _is_statement(text: str) -> bool:
    barred = fits(text, "injection", "unquoted", "condition") or _joins_order(f". {text}")
    if not re.match(r"(?i)because|since|due to", text):
        told = pattern("asks").match(text) or pattern("not_told").search(_unquoted(text))
        barred = barred or bool(told) or fits(text, "reported", "delay")
    said = pattern("statement").search(text) or pattern("exclaimed").fullmatch(text.strip(" .!"))
    return bool(said) and not barred


def _why_not(line: str) -> str:
    """Why nothing is done about a line that is no order: the name of the reply that says so."""
    text = _unquoted(line)
    if pattern("asks").match(text) and not re.search(r"(?i)\b(?:not|n't)\b", text):
        return "question"
    found = [
        (len(re.findall(f"(?i){whole(told)}", text)), says) for told, says in rows("languages")
    ]
    count, says = max(found, key=lambda one: one[0])
    foreign = sum(ord(char) > 0x3FF and char.isalpha() for char in text)
    if (count >= 2 and not pattern("english").search(text)) or (count and foreign > 3):
        return says
    return next((kind for kind in kinds("why") if fits(line, kind)), "not_understood")
