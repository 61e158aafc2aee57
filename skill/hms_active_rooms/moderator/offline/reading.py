"""A sentence as orders: `orders.lark` for what changes the room, `words.yaml` for the rest. Pure.

A line is cut at punctuation, at "and", and where a reason begins. Each part is an order, a reason,
a taking back, a look or courtesy; if one is none of these, nothing is ordered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from hms_active_rooms.untrusted import escaped

if TYPE_CHECKING:
    from lark import Lark

    from hms_active_rooms.moderator.offline.roster import Roster

_HERE: Final = Path(__file__).parent
_MAX_CHARS: Final = 2000
_MAX_CUTS: Final = 12
_QUOTES: Final = str.maketrans("“”„‟«»‘’‚‛", '""""""' + "''''")
_QUOTED: Final = re.compile(r"\"[^\"]+\"|'(?:[^']|(?<=\w)'(?=\w))+'")

CHANGES: Final = frozenset({"remove", "tell", "end"})


# --- the words of `words.yaml`: patterns of whole words, and texts -----------------------------------


@cache
def _file() -> Any:
    return yaml.load((_HERE / "words.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)


@cache
def filled(text: str) -> str:
    """A pattern with its macros filled in; a new line, but for the last, is one more alternative.

    The groups written in the pattern itself capture; those that come from a macro do not.
    """

    def put(macro: re.Match[str]) -> str:
        told = filled(_file()["macros"][macro[1]].strip().replace("\n", "|"))
        return re.sub(r"(?<![\\\"])\((?!\?)", "(?:", told)

    return re.sub(r"\{([a-z_]+)\}", put, text)


def whole(text: str) -> str:
    return rf"(?<![\w'-])(?:{filled(text.strip().replace(chr(10), '|'))})(?![\w'-])"


@cache
def pattern(kind: str, section: str = "words") -> re.Pattern[str]:
    return re.compile(whole(_file()[section][kind]), re.IGNORECASE)


def begins(text: str, words: str) -> re.Match[str] | None:
    """The words of a pattern at the beginning of a text."""
    return re.match(f"(?i){whole(words)}", text)


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
    if reply not in _file()["says"]:
        return reply
    examples = kinds("examples")
    parts["shown"] = ", ".join(f'"{examples[place]}"' for place in (0, 4, 8))
    parts["examples"] = "\n".join(f"- {one}" for one in examples)
    text = str(_file()["says"][reply].format(**parts))
    return f"{text[:-1]}Nothing was done." if text.endswith(" -") else text


EXAMPLES: Final = kinds("examples")
"""Sentences that are understood, every one tested. Some are shown when another is not."""

CAPABILITIES_TEXT: Final = say("help")


def is_pronoun(name: str) -> bool:
    """Whether the words stand for somebody named before."""
    return pattern("pronoun").fullmatch(name.strip(" .!")) is not None


def is_name(text: str) -> bool:
    """Whether a text could be one name, and is no order."""
    told = pattern("who", "macros").fullmatch(text) and not re.search(r"[,;:!?()]", text)
    return bool(told) and not pattern("verbs").match(text)


def names(text: str) -> tuple[str, ...]:
    """The names in a list such as "Ann, Bob and Cy"."""
    if _QUOTED.fullmatch(text.strip()):
        return (text.strip(),)
    parts = re.split(r"(?i)\s*(?:,\s*and|,|\band\b|&|\bplus\b)\s+", text.strip(" ,"))
    return tuple(filter(None, parts))


@dataclass(frozen=True)
class Order:
    """One thing that is asked for.

    Attributes:
        verb: `remove`, `tell` and `end` change the room; `look`, `status` and what `words.yaml`
            has under `talk` do not.
        who: the names, as spoken.
        words: for `tell` the audience and then the message, for `look` what is looked for.
        manner: the word a message or a look began with; "told" once its audience is apart.
        about: what was said before it, where a pronoun finds its person.
        but: who is named as not meant.
    """

    verb: str
    who: tuple[str, ...] = ()
    words: str = ""
    manner: str = ""
    lock: bool = False
    reason: str | None = None
    about: str = ""
    but: str = ""


@dataclass(frozen=True)
class Reading:
    """What a text means: its orders, or the reply that says why there are none; and rooms it names."""

    orders: tuple[Order, ...] = ()
    why: str = ""
    rooms: frozenset[str] = frozenset()


@lru_cache(maxsize=256)
def read(text: str) -> Reading:
    """What a text asks for."""
    line = re.sub(" +", " ", text.strip()).translate(_QUOTES)
    seen = re.sub(r'["`<&\\\]]', "", line)
    if not line or len(line) > _MAX_CHARS or escaped(seen) != seen:
        return Reading(why="unreadable")
    line, rooms = _without_rooms(line)
    orders = _talk(line) or _combined(line) or _look(line) or _mended(line)
    return Reading(orders, "" if orders else _why_not(line), rooms)


def _fits(text: str, *kinds_of_why: str) -> bool:
    """Whether the text outside its quotes shows one of these reasons not to take it as an order."""
    return any(pattern(kind, "why").search(_unquoted(text)) for kind in kinds_of_why)


def _unquoted(text: str) -> str:
    return re.sub(r'"[^"]*"', lambda m: '"' + "_" * (len(m[0]) - 2) + '"', text)


def as_typed(words: str, said: str) -> str:
    """The words with the quotes of what was said, as far as their end stands there."""
    typed = re.sub(" +", " ", said)
    for start in range(len(words)):
        if (place := typed.translate(_QUOTES).rfind(words[start:])) >= 0:
            return words[:start] + typed[place : place + len(words) - start]
    return words


def plainly(text: str) -> str:
    """The text without the courtesy around it."""
    start, end = whole("{ask}|{front}|{tail}|no|wow|not again"), whole("{tail}")
    return re.sub(rf"(?i)^(?:{start}|[ ,.!?])+|(?:{end}|[ ,.!?])+$", "", text)


def _without_rooms(line: str) -> tuple[str, frozenset[str]]:
    """The line with each room's id as "the room", and the ids. A message's words are left alone."""
    room = r"(?i)\b((?:in |from |of |for )?)(?:(?:the|this) )?(?:room )?(?:id )?([0-9a-f]{24})(?![\w-])[,:]?"
    first = re.match(room, line)
    rest = line[first.end() :].strip() if first else line
    head, colon, tail = rest.partition(":")
    found = [] if not colon and pattern("message", "macros").match(rest) else re.findall(room, head)
    ids = [told[1] for told in found] + ([first[2]] if first else [])
    line = re.sub(room, r"\1the room", head) + colon + tail if found else rest
    return line, frozenset(map(str.lower, ids))


def _talk(line: str) -> tuple[Order, ...]:
    for kind in kinds("talk"):
        told, asked = pattern(kind, "talk"), line.endswith("?") and kind in ("yes", "no", "other")
        if not asked and (told.fullmatch(line.strip(" ,.!?")) or told.fullmatch(plainly(line))):
            return (Order(kind),)
    return ()


def _mended(line: str) -> tuple[Order, ...]:
    """The line as it is also said, its known words mended if a letter is missing, doubled or moved."""
    from rapidfuzz.distance import OSA

    spoken = line
    for told, text in rows("spoken"):
        spoken = re.sub(told, text, spoken, count=1, flags=re.IGNORECASE)
    head = re.split('[:"]', spoken)[0]

    def known(match: re.Match[str]) -> str:
        word, words = match[0].lower(), () if pattern("verbs").match(match[0]) else kinds("mended")
        near = (one for one in words if OSA.distance(word, one, score_cutoff=1) == 1)
        fits = (one for one in near if len(word) < len(one) or sorted(word) == sorted(one))
        return next(fits, match[0])

    fixed = re.sub(r"(?i)(?!bot\b)[^\W\d_]{3,}", known, head) + spoken[len(head) :]
    return (_combined(fixed) or _look(fixed)) if fixed != line else ()


# --- the parts of a line --------------------------------------------------------------------------

_Part = tuple[str, str, Order]
"""What joins it to the part before, its kind, and its order, whose words are the part."""

_ORDERED: Final = ("order", "courtesy")
_HARD: Final = ("injection", "unquoted", "exception", "condition", "delay")
_SOFT: Final = ("negation", "mood", "reported")
_REASONS: Final = {"why": _HARD, "for": (*_HARD, *_SOFT), "which": (*_HARD, *_SOFT)}
"""What a reason must not show, by how it is joined to the order."""


@cache
def _cut() -> re.Pattern[str]:
    joint, subject = whole("{joint}"), filled("{doer}")
    return re.compile(
        rf"(?i)(?P<why>(?:[\s,;.(]+|^)(?!for|\s+for){joint}\s+|:\s+(?={subject}))"
        rf"|(?P<for>\s+{joint}\s+|\s*\((?=[^()]+\)))"
        r"|(?P<which>\s+(?:who|that|which)(?=(?:'?s| is| keeps| has been) ))"
        r"|(?P<and>,?\s+(?:and then|and|&|plus|n)\s+(?:also |then )?)"
        r"|(?P<mark>\s*(?:[,;.!?]+|…)\s+(?:(?:then|so|and)\s+)?|\s[-–—]+\s+|\s*[—…]\s*"
        rf"|,?\s+(?:then|so)\s+|\s+(?={subject}))"
    )


def _combined(line: str) -> tuple[Order, ...]:
    """The orders of a line of which every part is understood, each part as long as possible."""
    cuts = list(_cut().finditer(_unquoted(line)))[:_MAX_CUTS]
    edges = [0, *(edge for one in cuts for edge in one.span()), len(line)]
    joints = ["", *(str(one.lastgroup) for one in cuts)]
    spans = zip(edges[::2], edges[1::2], joints, strict=True)
    places = [span for span in spans if line[span[0] : span[1]].strip()]

    @cache
    def parts(first: int) -> list[_Part] | None:
        for last in range(len(places), first, -1):
            (start, _, joint), end = places[first], places[last - 1][1]
            asked = line[end:].lstrip()[:1] == "?" or line[start:end].endswith("?")
            inner = places[first + 1 : last]
            single = all(by == "and" and not _order(line[a:b]) for a, b, by in inner)
            part = _part(line[start:end], line[:start], joint, single=single, asked=asked)
            if part and (rest := parts(last)) is not None:
                return [(joint, *part), *rest]
        return [] if first == len(places) else None

    orders, reasons, taken, before = list[Order](), list[str](), False, "order"
    for joint, kind, what in parts(0) or ():
        last = orders[-1] if orders else Order("")
        further = before == "not" and kind != "courtesy" and joint not in _REASONS
        if further or (kind == "not" and last.verb != "remove"):
            return ()
        # What is joined to a statement by "and" is part of it, and so is a statement of an order.
        if joint == "and" and (kind in _ORDERED) != (before in _ORDERED):
            return ()
        plural = re.match(r"(?i)(?:all|any|both|each|every)|.*s$|$", "".join(last.who[-1:]))
        if (joint == "for" and last.verb == "end") or (joint == "which" and plural):
            return ()
        if kind in ("order", "instead", "look"):
            if last.verb == "end" and what.verb in ("end", "end_it", "lock_only"):
                lock = what.lock or last.lock or what.verb == "lock_only"
                what, kind = replace(last, lock=lock), "instead"
            orders = [*orders[: -1 if taken or kind == "instead" else None], what]
            taken = False
        elif kind == "reason":
            reasons.append(what.words)
        elif kind == "back" and what.who and last.who:
            orders[-1], taken = replace(last, who=what.who), False
        elif kind == "not":
            orders[-1] = replace(last, but=what.who[0])
        elif kind == "back":
            taken = bool(orders)
        before = kind
    changes = [order for order in orders if order.verb in CHANGES]
    if taken or any(o.verb not in ("look", "status", *CHANGES) for o in orders[1:] and orders):
        return ()
    reason = "; ".join(reasons) or None
    told = [o if o.verb == "tell" else replace(o, reason=reason) for o in changes]
    return tuple(told or orders[:1])


def _part(
    text: str, before: str, joint: str, *, single: bool, asked: bool
) -> tuple[str, Order] | None:
    plain, none = plainly(text), Order("", words=text.strip(" .!)"))
    back = pattern("back").pattern
    taken = re.match(rf"(?i){back}(?:[\s,]+{back})*", text)
    if joint in _REASONS:
        barred = bool(taken) or asked or _fits(f"{joint} {text}", *_REASONS[joint])
        return ("reason", none) if single and not barred and not _joins_order(text) else None
    if re.fullmatch("(?i)stop(?: it| that)?", plain):
        return "back" if before else "courtesy", none
    if order := _order(text.rstrip("?") + "?" * asked):
        return "order", replace(order, about=before)
    if not plain and not (before and pattern("back").search(text)):
        polite = not asked or re.search(f"(?i){whole('{please}')}", text)
        return ("courtesy", none) if polite and not _fits(text, "unquoted") else None
    if not single:
        return None
    if before and taken:
        # What follows may be nothing, another order, or a name.
        rest, negated = text[taken.end() :].strip(" ,:-–—"), re.search(r"(?i)n[o']t\b", taken[0])
        name = rest.rstrip(" .!")
        if (again := _order(rest)) and again.verb in CHANGES and not negated:
            return "instead", again
        if name and (again or not is_name(name)):
            return None
        return "not" if name and negated else "back", replace(none, who=(name,) if name else ())
    if asked or re.match(r"(?i)(?:list|show|count|check|who|how many)\b", plain):
        of_order = re.match(r"(?i)(?:is|was) (?:that|this|it)\b", text)
        barred = of_order is not None or _fits(text, "condition", "delay", "negation", "mood")
        return ("look", look[0]) if not barred and (look := _look(text)) else None
    told = _is_statement(text) and not (plainly(before) and re.match("(?i)(that|this) ", text))
    return ("reason", none) if told else None


def _is_statement(text: str) -> bool:
    barred = _fits(text, *_HARD, "reported", "mood") or pattern("asks", "macros").match(text)
    return bool(pattern("statement").match(text)) and not barred and not _joins_order(text)


def _joins_order(text: str, begin: str = ". ") -> bool:
    joint = r"(?:\b(?:and|then|plus|also|or)|[,;&+.!?]|->)(?: (?:then|also|please|just|to|not|so))*"
    return bool(re.search(rf"(?i){joint} ?{pattern('verbs').pattern}", begin + _unquoted(text)))


# --- one order ------------------------------------------------------------------------------------


@cache
def _parser() -> Lark:
    from lark import Lark

    cannot = "|".join(told for told, _ in rows("cannot"))
    terms = {name: whole(one.replace("{cannot}", cannot)) for name, one in _file()["terms"].items()}
    rules = filled((_HERE / "orders.lark").read_text(encoding="utf-8"))
    text = rules + "".join(f"\n{name}: /{one}/i" for name, one in terms.items())
    return Lark(text, parser="lalr", g_regex_flags=re.ASCII)


def _bare(text: str) -> tuple[str, bool]:
    """The words of an order without the courtesy before them, and whether they were asked for."""
    asked, plain = False, ""
    while plain != text:
        plain = text = text.lstrip(" ,.!")
        for kind in ("ask", "front", "please"):
            if match := begins(text, f"{{{kind}}}"):
                asked, text = asked or kind == "ask", text[match.end() :].lstrip(" ,.!:–—-")
                break
    if asked and (match := re.match(r"(?i)(\w+?)(?:ing|ed)\b", text)):
        stem = match[1].lower()
        verbs = (v for v in (stem, f"{stem}e", stem[:-1]) if v in kinds("mended"))
        text = next(verbs, match[0]) + text[match.end() :]
    return text, asked


def _order(text: str) -> Order | None:
    # Nothing that begins so is an order, and the grammar takes long to load.
    if re.match(r"(?i)(?:who|what|which|how|why|where)\b", text):
        return None
    from lark import Tree, UnexpectedInput

    text, asked = _bare(text)
    if not begins(text, "{message}"):
        text = re.sub(rf"(?i){whole('{filler}')} ?", "", text)
    try:
        tree = _parser().parse(text)
    except UnexpectedInput:
        return None
    rule, *tails = (child for child in tree.children if isinstance(child, Tree))
    said: dict[str, list[str]] = {}
    for token in rule.scan_values(lambda _: True):
        said.setdefault(token.type, []).append(str(token).strip())
    asked = asked or len(tails) + 1 < len(tree.children)
    verb, who = str(rule.data), tuple(said.get("WHO", ()))
    if verb == "cannot":
        return Order(verb, words=said["CANNOT"][0])
    if verb == "tell":
        return _message(said["MESSAGE"][0], asked=asked)
    left = re.sub(rf"(?i){whole('{unlocked}|{lock}')}", "", plainly(text))
    if (text.rstrip(" .!").endswith("?") and not asked) or _fits(left, "negation", *_HARD):
        return None
    listed = any(joint != "," for joint in said.get("AND", ()))
    if any(pattern("verbs").match(o) or (not listed and _is_statement(o)) for o in who[1:]):
        return None
    return Order(verb, who, lock="LOCK" in said)


def _message(said: str, *, asked: bool) -> Order | None:
    said = said.rstrip("?") if asked else said
    ways = ((re.fullmatch(filled(form), said, re.IGNORECASE), to) for form, to in rows("messages"))
    text = next((to.format(way[0], *way.groups()) for way, to in ways if way), "")
    plain = _unquoted(text).strip(" .!")
    inner = re.search('(?<!^)(?<!and )"_*"', plain)
    marked = inner or re.search(r"(?i):|\b(?:that|saying)\b", plain)
    barred = inner.end() < len(plain) if inner else not marked and _joins_order(plain, "")
    if barred or not text or re.search(rf"(?i)[,;.–—-] *{pattern('back').pattern}$", plain):
        return None
    manner = re.sub(filled(r"(?i)^{give} (?:{who} )?(?:an? )?warning\b"), "warn", said).lower()
    return Order("tell", words=text, manner=re.split("[ (:]", manner)[0])


# --- what is no order -----------------------------------------------------------------------------


def _look(text: str) -> tuple[Order, ...]:
    said = plainly(text)
    for kind in kinds("looks"):
        match = pattern(kind, "looks").match(said)
        if match and (kind != "status" or match.end() == len(said)):
            left = re.sub(" +", " ", pattern("seen").sub("", said[match.end() :])).strip(" ,.?!'")
            if kind == "find" and pattern("verbs").search(left):
                return ()
            return (Order(kind if kind == "status" else "look", words=left, manner=kind),)
    return ()


def _why_not(line: str) -> str:
    """Why nothing is done about a line that is no order: the name of the reply that says so."""
    text = _unquoted(line)
    if pattern("asks", "macros").match(text) and not re.search(r"(?i)\b(?:not|n't)\b", text):
        return "question"
    told = ((len(re.findall(f"(?i){whole(one)}", text)), says) for one, says in rows("languages"))
    count, says = max(told, key=lambda one: one[0])
    foreign = sum(ord(char) > 0x3FF and char.isalpha() for char in text)
    if (count >= 2 and not pattern("english").search(text)) or (count and foreign > 3):
        return f'{says} ("remove Sam Lee", "end the room".) Nothing was done.'
    return next((kind for kind in kinds("why") if _fits(line, kind)), "not_understood")


# --- whom a message is for -------------------------------------------------------------------------

_MARK: Final = re.compile(
    r"(?i)\s*(?:only|privately|in private)?\s*"
    r"(?::|[-–—](?=\s)|,?\s*(?:saying(?: that)?|that)\b:?|,?\s*(?=[\"'])|,(?=\s*(?:please|pls)\b))\s*"
)
_JOIN: Final = re.compile(
    r"(?i)\s*,?\s*(?:to|not|about|for|whether|if|why|how|what|where|when)\b\s+"
)


class Unclear(Exception):
    """Not clear whom a message is for, or what it says. The text is the reply that says so."""


def addressed(order: Order, look: Callable[[Sequence[str]], Roster]) -> Order:
    """The order to say something with its audience (nobody named: everyone) and words apart.

    A colon, quotes, "that" or "to" mark the words. Without a mark, who is in the room decides.

    Args:
        look: who is in the room, for the names it gets; called if only that tells.

    Raises:
        Unclear: even the roster does not tell, or the words hold a condition or a question.
    """
    text = order.words.strip()
    if order.manner == "told":
        return replace(order, words=text)
    text = re.sub(r"(?i)^both (?=\S+ (?:and|&) )", "", text)
    by_role = pattern("by_role", "macros").match(text)
    everyone = None if by_role else pattern("everyone").match(text)
    rest = re.sub("^,(?= [^ ,]+ )", "", text[everyone.end() :]) if everyone else ""
    if everyone and (everyone[0].lower() != "all" or _MARK.match(rest) or _JOIN.match(rest)):
        return _told(rest, (), order)
    roster = look(order.who or re.findall(r'"[^"]+"|[^\s:,]+', text)[:1])
    if not (end := roster.audience(text)):
        mark = _MARK.search(text) or _JOIN.search(text)
        end = mark.start() if mark else 0
    if not end:
        raise Unclear("no_end")
    return _told(text[end:], names(text[:end]), order)


def _told(rest: str, who: tuple[str, ...], order: Order) -> Order:
    manner = order.manner
    # "send Ann a message asking her to ..." is "ask Ann to ...".
    if asks := re.match(r"(?i)[\s,]*(tell|ask|remind)ing(?: (?:him|her|them))?\b", rest):
        manner, rest = asks[1].lower(), rest[asks.end() :]
    rest = rest.rstrip() if rest.strip(" .!") else ""
    if who and (but := re.match(r"(?i),? not ([^:,]+)(?=[:,])", rest)):
        order, rest = replace(order, but=but[1]), rest[but.end() :]
    mark = _MARK.match(rest) if rest else None
    said = rest[mark.end() :].strip() if mark else f"{manner}{rest}"
    order = replace(order, who=who, words="", manner="told")
    if quoted := _QUOTED.fullmatch(said.rstrip(" .!")):
        return replace(order, words=quoted[0][1:-1].strip())
    for form, words in () if mark else rows("told"):
        if match := re.fullmatch(form, said, re.IGNORECASE):
            if words.startswith("!"):
                raise Unclear(words[1:])
            said = words.format(match[0], *match.groups()).strip()
            break
    if pattern("no_words").fullmatch(said.rstrip(" .!?")):
        if said:
            raise Unclear("no_message")
        return order
    outside = re.sub(r'"[^"]*"', '""', said)
    if pattern("unsaid").fullmatch(outside):
        raise Unclear("negation")
    if not mark and pattern("unasked").fullmatch(outside):
        raise Unclear("question")
    if not mark and manner != "ask" and pattern("unless").search(outside):
        raise Unclear("condition")
    return replace(order, words=said)
