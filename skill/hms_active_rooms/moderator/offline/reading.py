"""A sentence as orders: the grammar `orders.lark`, and what stands before and behind an order.

A text is one line of visible characters. It fits the grammar as a whole, or it is an order with
plain statements around it, or several orders; anything else is none. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import yaml

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

MAX_CHARS: Final = 2000
_MAX_CUTS: Final = 8
_HERE: Final = Path(__file__).parent
_QUOTES: Final = str.maketrans("“”„‟«»‘’‚‛", '""""""' + "''''")
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
_BLANKS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufffc\U0001d159")

CHANGES: Final = frozenset({"remove", "tell", "end"})
PRONOUNS: Final = frozenset({"him", "her", "he", "she", "it", "them", "they", "this one", "that one",
                             "this person", "that person", "the guy", "this guy", "that guy", "both",
                             "them both", "both of them", "those", "'em", "em"})  # fmt: skip


@dataclass(frozen=True)
class Order:
    """One thing that is asked for.

    Attributes:
        verb: a rule of the grammar; `remove`, `tell` and `end` change the room.
        who: the names, as spoken.
        words: the message; for `tell` without `who`, the audience and then the message.
        manner: how a message was introduced, which decides what marks its beginning.
        about: what was said before it, where a pronoun finds its person.
    """

    verb: str
    who: tuple[str, ...] = ()
    words: str = ""
    manner: str = ""
    lock: bool = False
    reason: str | None = None
    about: str = ""


@dataclass(frozen=True)
class Reading:
    """What a text comes to.

    Attributes:
        orders: in their order; empty if it is no order.
        why: the kind of `words.yaml` that tells why not; or "several", "unreadable", "language:...".
        rooms: ids of rooms it names.
        corrected: who is meant instead, for "kick Sam Lee, no wait, Sam Patel".
    """

    orders: tuple[Order, ...] = ()
    why: str = ""
    rooms: frozenset[str] = frozenset()
    corrected: str = ""


@dataclass(frozen=True)
class Words:
    """What `words.yaml` holds."""

    why: dict[str, tuple[re.Pattern[str], str]]
    guards: dict[str, re.Pattern[str]]
    languages: tuple[tuple[re.Pattern[str], str], ...]
    says: dict[str, str]
    cannot: dict[str, str]


@cache
def words() -> Words:
    """The words of `words.yaml`."""
    data = yaml.load((_HERE / "words.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    return Words(
        {kind: (_any(entry["words"]), entry["says"]) for kind, entry in data["why"].items()},
        {kind: _any(listed) for kind, listed in data["guards"].items()},
        tuple(
            (re.compile(f"[{e['letters']}]") if "letters" in e else _any(e["words"]), e["says"])
            for e in data["languages"]
        ),
        data["says"],
        data["cannot"],
    )


def _any(listed: list[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w'])(?:{'|'.join(listed)})(?![\w'])", re.IGNORECASE)


# Alternatives that are one quoted text each.
_LISTED: Final = re.compile(
    r'(?:(?<=[:|] )|(?<=\())"[^"\n]+"(?: \| "[^"\n]+")*(?= \||\)|$)|"[^"\n]+"', re.MULTILINE
)
_PATTERN: Final = re.compile(r"(?<=[\s:(|])(/(?:\\.|[^/\n])+/i?s?)")


@cache
def _parser() -> Lark:
    """The grammar, its quoted words as whole words: a list of them is one pattern, which loads fast."""
    from lark import Lark

    lines = (_HERE / "orders.lark").read_text(encoding="utf-8").splitlines()
    [none] = [line for line in lines if line.startswith("NOT_IN_NAMES")]
    text = "\n".join(line for line in lines if line != none and not line.startswith("//"))
    pieces = _PATTERN.split(text)
    pieces[::2] = [
        _LISTED.sub(lambda m: f"/{_whole_words(m[0])}/i", piece) for piece in pieces[::2]
    ]
    grammar = "".join(pieces).replace("NOT_IN_NAMES", _whole_words(none))
    starts = ["sentence", "answer", "statement"]
    return Lark(grammar, parser="earley", start=starts, g_regex_flags=re.ASCII)


def _whole_words(listed: str) -> str:
    """A pattern for any of the texts in quotes, the longest first."""
    texts = sorted(re.findall(r'"([^"]+)"', listed), key=len, reverse=True)
    plain = "|".join(re.escape(text).replace("\\ ", "[ ]+").replace("/", "[/]") for text in texts)
    before = r"(?<![\w'-])" if all(text[0].isalnum() for text in texts) else ""
    after = r"(?![\w'-])" if all(text[-1].isalnum() for text in texts) else ""
    return f"{before}(?:{plain}){after}"


def parsed(text: str, start: Literal["sentence", "answer", "statement"]) -> Tree[Token] | None:
    """The tree of a text that fits the grammar as a whole."""
    from lark.exceptions import UnexpectedInput

    try:
        tree: Tree[Token] = _parser().parse(text.translate(_QUOTES), start=start)
    except UnexpectedInput:
        return None
    return tree


def tokens(tree: Tree[Token], *kinds: str) -> list[Token]:
    """The tokens of some kinds in a tree, in their order."""
    leaves: list[Any] = list(tree.scan_values(lambda value: True))
    found = [token for token in leaves if token.type in kinds]
    return sorted(found, key=lambda token: token.start_pos)


@lru_cache(maxsize=256)
def read(text: str) -> Reading:
    """What a text asks for."""
    line = re.sub(" +", " ", text.strip())
    if not line or len(line) > MAX_CHARS or not all(map(_shown, line)):
        return Reading(why="unreadable")
    line, rooms = _without_rooms(line)
    found = _order(line)
    told = found.orders[0] if found else None
    if told and told.verb == "tell" and joins_order(told.words) and not _marked(told.words):
        found = _several(line) or found
    if found is None:
        found = _corrected(line) or _around(line) or _several(line)
    if (found is None or [o.verb for o in found.orders] == ["bare"]) and (
        mended := _mended(line)
    ) is not None:
        found = _order(mended) or found
    if found is None or [order.verb for order in found.orders] == ["bare"]:
        found = replace(found or Reading(), why=_why_not(line))
    return replace(found, rooms=rooms)


_VERBS: Final = ("kick", "remove", "boot", "eject", "throw", "tell", "announce", "broadcast", "message", "close", "finish", "disconnect", "remind", "warn", "send")  # fmt: skip


def _mended(line: str) -> str | None:
    """The line with its verb, if a letter of it is missing, doubled or in the wrong place."""
    from rapidfuzz.distance import OSA

    for match in list(re.finditer(r"[A-Za-z]+", line))[:4]:
        word = match[0].lower()
        for verb in _VERBS:
            swapped = len(word) == len(verb) and sorted(word) == sorted(verb)
            if (
                word != verb
                and not word.startswith(verb)
                and OSA.distance(word, verb) == 1
                and (swapped or len(word) != len(verb))
            ):
                return line[: match.start()] + verb + line[match.end() :]
    return None


def _shown(char: str) -> bool:
    return char == " " or (unicodedata.category(char) not in _HIDDEN and char not in _BLANKS)


_ROOM_ID: Final = re.compile(r"(?i)(?:(?<=in )|(?<=from )|(?<=of )|(?:the |this )?room |^(?:in|for) )(?:the )?(?:room )?(?:id )?([0-9a-f]{24})(?![\w-])[,:]?")  # fmt: skip


def _without_rooms(line: str) -> tuple[str, frozenset[str]]:
    """The line with each room's id as "the room", and the ids. A message's words are left alone."""
    head, mark, tail = (
        line.partition(":")
        if not re.match(r"(?i)(?:in|for) (?:room )?[0-9a-f]{24}:", line)
        else (line, "", "")
    )
    if not mark and re.match(
        r"(?i)(?:please )?(?:tell|say|announce|message|remind|inform|let|broadcast)\b", line
    ):
        return line, frozenset()
    rooms = frozenset(match[1].lower() for match in _ROOM_ID.finditer(head))
    if not rooms:
        return line, rooms
    cut = _ROOM_ID.sub("the room", head)
    cut = re.sub(r"^(?:(?:in|for) )?the room(?= \w)(?! (?:is|has)\b)", "", cut).strip()
    return cut + mark + tail, rooms


# --- one order ------------------------------------------------------------------------------


def _order(line: str) -> Reading | None:
    tree = parsed(line, "sentence")
    if tree is None:
        return None
    rules = [
        child
        for child in tree.children
        if not isinstance(child, str) and child.data not in ("courtesy", "closing")
    ]
    [rule] = rules
    original = _own_letters(line)
    who = tuple(original(token) for token in tokens(rule, "WHO", "AUDIENCE"))
    rest = [original(token) for token in tokens(rule, "REST")]
    reasons = [original(token) for token in tokens(rule, "REST_REASON", "REASON_INSIDE")]
    asked = any(isinstance(child, str) and child.type == "ASK" for child in tree.children)
    if any(_VERB.match(name) for name in who[1:]):
        return None
    verb, lock = str(rule.data), any(True for _ in rule.find_data("lock"))
    if verb.startswith("impossible"):
        return Reading(
            (Order("impossible", manner=verb.removeprefix("impossible").strip("_") or "mute"),)
        )
    if verb in ("end", "end_locked"):
        order = Order("end", lock=lock or verb == "end_locked")
    elif verb in _TELLING:
        words = rest[0] if rest else ""
        order = Order("tell", who, words.rstrip("?") if asked else words, verb)
    else:
        order = Order(verb, who)
    if not reasons:
        return Reading((order,))
    kept = _as_reason(reasons[0], after_for=line[: line.rfind(reasons[0])].lower().endswith("for "))
    return Reading((replace(order, reason=kept),)) if kept else None


_TELLING: Final = frozenset({"tell", "message", "ask", "let_know", "warn", "warning", "send_note", "note", "say", "announce", "thank", "welcome"})  # fmt: skip


def _own_letters(line: str) -> Callable[[object], str]:
    """A token's text as the person wrote it: the grammar sees plain quotes instead of typographic ones."""

    def original(token: object) -> str:
        start = getattr(token, "start_pos", 0)
        return line[start : start + len(str(token))].strip()

    return original


_TRAILING: Final = re.compile(
    r"(?i)(?:[\s,]+(?:please|pls|plz|thanks|thank you|thx|now|right now|asap))+[.!\s]*$"
)
_AGAINST_REASON: Final = (
    "injection",
    "unquoted",
    "condition",
    "exception",
    "span",
    "reported_speech",
    "retraction",
)


def _as_reason(text: str, *, after_for: bool = False) -> str | None:
    """The text as a reason, or None if it says more than why."""
    text = _TRAILING.sub("", text).strip(" .!,")
    if not text or text.endswith("?") or _RETRACT.search(text) or joins_order(text):
        return None
    kinds = ["unquoted", "condition", "exception", "span"] + (
        ["negation", "delay"] if after_for else []
    )
    if (
        fits(text, *kinds)
        or fits(f"for {text}", "span")
        or (
            after_for
            and re.match(r"(?i)the \w+|all\b|every|no\b|good\b|ever\b|now\b|\d|me\b|us\b", text)
        )
    ):
        return None
    return None if re.search(r"(?i)\bor (?:maybe )?(?:not|else)\b|, not\b|\bwould be (?:wrong|bad|a mistake)\b|\b(?:is|was|would be) (?:wrong|a mistake|overkill|unfair|a bad idea)\b", text) else text  # fmt: skip


def fits(text: str, *kinds: str) -> bool:
    """Whether a text, but for what is quoted in it, has words of one of these kinds."""
    told = words()
    plain = _unquoted(text)
    return any((told.guards.get(k) or told.why[k][0]).search(plain) for k in kinds)


def taken_back(text: str) -> bool:
    """Whether the end of a text takes back what it says."""
    return re.search(r"(?i)(?:\b(?:but|no|and|then|or|please),? (?:don'?t|do not|not) (?:\w+ )?(?:send|tell|say|post|announce|message|do)\b.*|(?:[,.;…-] ?|\b)(?:never ?mind|scratch that|forget it|cancel that|just kidding|jk|nvm|no,? wait.*|wait,? no.*|actually (?:no|not|wait|don'?t).*)[.! ]*)$", text) is not None  # fmt: skip


def _unquoted(text: str) -> str:
    return re.sub(r'"[^"]*"', '""', text.translate(_QUOTES))


# --- an order with something around it ---------------------------------------------------------

_CUT: Final = re.compile(r"\s*(?:[,;.!]+|\.{2,}|…|\s[-–—]+)\s+|\s*[—…]\s*")
_RETRACT: Final = re.compile(r"(?i)(?<![\w'])(?:no,? wait|wait,? no|no,? sorry|sorry|oops|actually|scratch that|never ?mind|nvm|wait|hold on|i mean(?:t)?|no|not|don'?t|do not|forget it|cancel that|just kidding|jk|on second thoughts?|or (?:maybe|rather) not|undo)(?![\w'])")  # fmt: skip


def _cuts(line: str) -> Iterator[tuple[str, str]]:
    plain = re.sub(r'"[^"]*"', lambda m: '"' + "_" * (len(m[0]) - 2) + '"', line.translate(_QUOTES))
    for match in list(_CUT.finditer(plain))[:_MAX_CUTS]:
        left, right = line[: match.start()].strip(), line[match.end() :].strip()
        if left and right:
            yield left, right


def _change(text: str) -> Order | None:
    found = _order(text)
    only = found.orders[0] if found else None
    return only if only and (only.verb in CHANGES or only.verb == "end_it") else None


def _corrected(line: str) -> Reading | None:
    """An order that is taken back and said again in the same breath, or only taken back."""
    for left, right in _cuts(line):
        match = _RETRACT.match(right)
        first = _change(left) if match else None
        if (
            match is None
            or first is None
            or (first.verb == "tell" and match[0].lower() in ("no", "not", "don't"))
        ):
            continue
        rest, negated = right, False
        while match := _RETRACT.match(rest):
            negated = negated or match[0].lower() in ("not", "don't", "do not")
            rest = rest[match.end() :].strip(" ,.-–—:")
        if not rest:
            return Reading(why="negation")
        if again := _order(rest):
            if again.orders[0].verb in CHANGES:
                return again
            if again.orders[0].verb == "bare" and not negated and first.who:
                return Reading((first,), corrected=again.orders[0].who[0])
        if re.fullmatch(r"(?i)not .+", right) and first.verb == "remove" and parsed(rest, "answer"):
            return Reading((first,), corrected=f"not {rest}")
        return Reading(why="negation")
    return None


def _around(line: str) -> Reading | None:
    """An order with plain statements before or behind it, which are its reason."""
    parts = _clauses(line)
    for size in range(len(parts) - 1, 0, -1):
        for start in range(len(parts) - size + 1):
            end = start + size
            order = _change(line[parts[start][0] : parts[end - 1][1]])
            others = [line[a:b] for a, b in (*parts[:start], *parts[end:])]
            if order is None or not all(map(_statement, others)):
                continue
            if order.verb == "end_it" and not any(map(_ABOUT_ROOM.search, others)):
                continue
            if order.verb in ("end", "end_it"):
                order = replace(order, verb="end")
            about = line[: parts[start][0]]
            said = [said for other in others if (said := _reason_of(other))]
            if order.verb == "tell":
                return Reading((replace(order, about=about),)) if end == len(parts) else None
            return Reading(
                (replace(order, reason=order.reason or "; ".join(said) or None, about=about),)
            )
    return None


_ABOUT_ROOM: Final = re.compile(
    r"(?i)\b(?:class|lesson|room|session|meeting|call|time|done|show)\b"
)


def _clauses(line: str) -> list[tuple[int, int]]:
    """Where the parts between commas and full stops stand, as far as they are few."""
    plain = re.sub(r'"[^"]*"', lambda m: '"' + "_" * (len(m[0]) - 2) + '"', line.translate(_QUOTES))
    marks = [m.span() for m in re.finditer(rf"{_CUT.pattern}|(?i:\s+so\s+)|(?<=\?)\s+", plain)]
    edges = [0, *(edge for span in marks[: _MAX_CUTS - 2] for edge in span), len(line)]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def _reason_of(text: str) -> str | None:
    """What a statement says, unless it is only an exclamation."""
    tree = parsed(text, "statement")
    said = tree is not None and tokens(tree, "SUBJECT", "STATE", "THING_IS")
    return text.strip(" .!") if said else None


def _statement(text: str) -> bool:
    if re.match(r"(?i)because|since", text):
        return (
            not fits(text, "injection", "unquoted", "condition")
            and parsed(text, "statement") is not None
        )
    if text.endswith("?") or joins_order(text) or '"' in text.translate(_QUOTES):
        return False
    if fits(text, "injection", "unquoted", "condition", "reported", "delay") or re.search(
        r"(?i)\b(?:maybe|perhaps|almost|might|could|should|would|let me|pretend|wonder|kicked|removed|going to|gonna|will)\b",
        text,
    ):
        return False
    return parsed(text, "statement") is not None


_VERB: Final = re.compile(r"(?i)(?:to )?(?:kick|remove|boot|throw|eject|expel|ban|mute|warn|tell|message|announce|dm|lock|end|close|get rid of|disconnect|terminate|broadcast|chuck|toss|send|shut|stop (?:the|this)|give|let|thank|post|say|ask|finish|drop|take)\b")  # fmt: skip
_ORDER_WORD: Final = re.compile(r"(?i)(?:\b(?:and|then|plus|also|or)|[,;&+.!?]|->)(?: (?:then|also|please|just|to|not|so))* ?(?:kick|remove|boot|throw|eject|expel|ban|mute|warn|tell|message|announce|dm|lock|end|close|get rid of|disconnect|terminate|broadcast|chuck|toss|send|shut|stop (?:the|this))\b")  # fmt: skip


def joins_order(text: str) -> bool:
    """Whether the words go on with a second order."""
    return _ORDER_WORD.search(_unquoted(text)) is not None


_AND: Final = re.compile(
    r"(?i)\s*(?:[,;.]?\s+(?:and )?then\s+|[,;]?\s+(?:and|&|plus)\s+(?:also )?|[.;,]\s+)"
)


def _several(line: str) -> Reading | None:
    """Two orders, each of which is one on its own."""
    plain = re.sub(r'"[^"]*"', lambda m: '"' + "_" * (len(m[0]) - 2) + '"', line.translate(_QUOTES))
    for match in list(_AND.finditer(plain))[:_MAX_CUTS]:
        left, right = (
            _order(line[: match.start()].strip()),
            read(line[match.end() :].strip()).orders,
        )
        first = left.orders[0] if left else None
        if first is None or not right or any(o.verb not in CHANGES for o in right):
            continue
        if first.verb == "list":
            return Reading(right)
        if first.verb in CHANGES and not (
            first.verb == "tell" and re.search(rf"(?i)\bto {_VERB.pattern[4:]}", first.words)
        ):
            return Reading((first, *right))
    return None


def _marked(words: str) -> bool:
    """Whether a colon, quotes or "that" mark a message's words."""
    return re.search(r"(?i)[:\"“]|\b(?:that|saying)\b|\s[-–—]\s", words) is not None


# --- why not ------------------------------------------------------------------------------------


def _why_not(line: str) -> str:
    """The kind of `words.yaml` that shows why this is no order; "" if it is about none."""
    text = _unquoted(line)
    if re.match(r"(?i)(?:who|what|why|how|when|where|should|shall|did|does|do you|is|are|can|could|will|would|may|have|has|was|were)\b.*\?$|(?:who|what|why|how|should|shall|did|does)\b", text) and not re.search(r"(?i)\b(?:not|n't)\b", text):  # fmt: skip
        return "question"
    english = re.search(
        r"(?i)\b(?:the|kick|remove|end|tell|is|are|and|to|he|she|you|i|it|of|room|my|this|what|who|from|with|on|if)\b",
        text,
    )
    hits = [(len(pattern.findall(text)), says) for pattern, says in words().languages]
    count, says = max(hits, key=lambda hit: hit[0])
    foreign = sum(ord(c) > 0x3FF and c.isalpha() for c in text)
    if (count >= 2 and not english) or (count and foreign > 3):
        return f"language:{says}"
    for kind, (pattern, _) in words().why.items():
        if pattern.search(text):
            return kind
    return ""
