"""A sentence as orders: `orders.lark` for what changes the room, `words.yaml` for the rest.

A text is one line of visible characters, cut at commas, full stops and "and". Each part is an
order, a statement (which may be the reason), a taking back, or a look; if one is none of these,
nothing is ordered. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

MAX_CHARS: Final = 2000
_MAX_PARTS: Final = 10
_HERE: Final = Path(__file__).parent
_QUOTES: Final = str.maketrans("“”„‟«»‘’‚‛", '""""""' + "''''")
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})
_BLANKS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufffc\U0001d159")

CHANGES: Final = frozenset({"remove", "tell", "end"})


@dataclass(frozen=True)
class Order:
    """One thing that is asked for.

    Attributes:
        verb: `remove`, `tell` and `end` change the room; `look`, `status` and what `words.yaml`
            has under `talk` do not.
        who: the names, as spoken.
        words: for `tell` the audience and then the message; for `look` what is looked for.
        manner: the word a message or a look began with.
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


# --- the words and the grammar --------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    """What `words.yaml` holds: patterns of whole words, and texts."""

    talk: dict[str, re.Pattern[str]]
    looks: dict[str, re.Pattern[str]]
    why: dict[str, re.Pattern[str]]
    guards: dict[str, re.Pattern[str]]
    names: dict[str, re.Pattern[str]]
    languages: tuple[tuple[re.Pattern[str], str], ...]
    texts: dict[str, dict[str, str]]
    lists: dict[str, tuple[str, ...]]

    @property
    def says(self) -> dict[str, str]:
        """The replies."""
        return self.texts["says"]


@cache
def words() -> Words:
    """The words of `words.yaml`."""
    text = (_HERE / "words.yaml").read_text(encoding="utf-8")
    head = yaml.load(text.partition("\n\n")[0], yaml.CSafeLoader)
    data = yaml.load(text.replace("{rooms}", head["rooms"]), yaml.CSafeLoader)
    data["texts"]["why"] = {kind: entry["says"] for kind, entry in data["why"].items()}
    data["why"] = {kind: entry["words"] for kind, entry in data["why"].items()}
    talk, looks, why, guards, names = (
        {kind: whole(listed) for kind, listed in data[section].items()}
        for section in ("talk", "looks", "why", "guards", "names")
    )
    languages = tuple((whole(one["words"]), one["says"]) for one in data["languages"])
    lists = {"rooms": (head["rooms"],), **{k: tuple(v) for k, v in data["lists"].items()}}
    return Words(talk, looks, why, guards, names, languages, data["texts"], lists)


def whole(listed: Sequence[str]) -> re.Pattern[str]:
    """A pattern for any of these whole words."""
    return re.compile(_whole(listed), re.IGNORECASE)


def _whole(listed: Sequence[str]) -> str:
    return rf"(?<![\w'-])(?:{'|'.join(listed)})(?![\w'-])"


@cache
def _parser() -> Lark:
    from lark import Lark

    text = (_HERE / "orders.lark").read_text(encoding="utf-8")
    text = re.sub(r"^//.*\n", "", text, flags=re.MULTILINE)
    text = text.replace("{rooms}", words().lists["rooms"][0])
    text = text.replace("{stop}", words().guards["stop"].pattern)
    # Texts in quotes that stand side by side are one pattern of whole words, which loads fast.
    lists = re.compile(r'"[^"\n]+"(?:\s+"[^"\n]+")*')
    pieces = re.split(r"(?<=[\s:(|])(/(?:\\.|[^/\n])+/i?s?)", text)
    pieces[::2] = [lists.sub(_listed, piece) for piece in pieces[::2]]
    return Lark("".join(pieces), parser="lalr", g_regex_flags=re.ASCII)


def _listed(match: re.Match[str]) -> str:
    listed = re.findall('"([^"]+)"', match[0])
    return f"/{_whole(listed)}/i".replace(" ", " +")


def fits(text: str, *kinds: str) -> bool:
    """Whether a text, but for what is quoted in it, has words of one of these kinds."""
    told, plain = words(), _unquoted(text)
    return any((told.guards.get(k) or told.why[k]).search(plain) for k in kinds)


def _unquoted(text: str) -> str:
    return re.sub(r'"[^"]*"', lambda m: '"' + "_" * (len(m[0]) - 2) + '"', text.translate(_QUOTES))


# --- a whole text -----------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def read(text: str) -> Reading:
    """What a text asks for."""
    line = re.sub(" +", " ", text.strip())
    if not line or len(line) > MAX_CHARS or not all(map(_shown, line)):
        return Reading(why="unreadable")
    line, rooms = _without_rooms(line)
    found = _talk(line) or _combined(line)
    if found is None:
        look = _look(line)
        found = Reading((look,)) if look else _combined(_mended(line))
    return replace(found or Reading(why=_why_not(line)), rooms=rooms)


def _talk(line: str) -> Reading | None:
    said, told = plainly(line), words()
    for kind, pattern in told.talk.items():
        asked = line.endswith("?") and kind not in told.lists["may_be_asked"]
        if not asked and (pattern.fullmatch(line.strip(" ,.!?")) or pattern.fullmatch(said)):
            return Reading((Order(kind),))
    return None


def plainly(text: str) -> str:
    """The text without the courtesy around it."""
    words_of = rf"(?:{words().guards['courtesy'].pattern}|[ ,.!?])+"
    return re.sub(rf"(?i)^{words_of}|{words_of}$", "", text)


def _shown(char: str) -> bool:
    return char == " " or (unicodedata.category(char) not in _HIDDEN and char not in _BLANKS)


_ROOM_ID: Final = re.compile(r"(?i)(?:(?<=in )|(?<=from )|(?<=of )|(?:the |this )?room |^(?:in|for) )(?:the )?(?:room )?(?:id )?([0-9a-f]{24})(?![\w-])[,:]?")  # fmt: skip


def _without_rooms(line: str) -> tuple[str, frozenset[str]]:
    """The line with each room's id as "the room", and the ids. A message's words are left alone."""
    head, mark, tail = line.partition(":")
    if re.match(r"(?i)(?:in|for) (?:room )?[0-9a-f]{24}:", line):
        head, mark, tail = line, "", ""
    if not mark and re.match(r"(?i)(?:please )?(?:tell|say|announce|message|remind|inform|let|broadcast)\b", line):  # fmt: skip
        return line, frozenset()
    rooms = frozenset(match[1].lower() for match in _ROOM_ID.finditer(head))
    if not rooms:
        return line, rooms
    cut = _ROOM_ID.sub("the room", head)
    cut = re.sub(r"^(?:(?:in|for) )?the room(?= \w)(?! (?:is|has)\b)", "", cut).strip()
    return cut + mark + tail, rooms


def _mended(line: str) -> str:
    """The line with its verb, if a letter of it is missing, doubled or in the wrong place."""
    from rapidfuzz.distance import OSA

    said = plainly(line)
    word, *rest = said.split(" ", 1) if said else [""]
    for verb in words().lists["mended"]:
        moved = len(word) != len(verb) or sorted(word.lower()) == sorted(verb)
        if moved and not word.startswith(verb) and OSA.distance(word.lower(), verb) == 1:
            return " ".join((verb, *rest))
    return ""


# --- the parts of a line ------------------------------------------------------------------------------

Part = tuple[str, Order | str]
"""What a part is ("order", "instead", "look", "statement", "courtesy", "back"), with the order or its words."""

_CUT: Final = re.compile(r"\s*(?:[,;.!?]+|\.{2,}|…|\s[-–—]+)\s+|\s*[—…]\s*|(?i:,?\s+(?:and then|and|&|plus|then|so)\s+(?:also |then )?)")  # fmt: skip


def _combined(line: str) -> Reading | None:
    """The orders of a line of which every part is understood."""
    marks = [m.span() for m in _CUT.finditer(_unquoted(line))][:_MAX_PARTS]
    edges = [0, *(edge for span in marks for edge in span), len(line)]
    places = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
    parts = (_parts(line, places, 0, {}) if places else None) or []
    orders, reasons, corrected, taken = list[Order](), list[str](), "", False
    for kind, what in parts:
        if isinstance(what, Order):
            if orders and orders[-1].verb == "end" and what.verb in ("end", "lock_only"):
                lock = what.lock or orders[-1].lock or what.verb == "lock_only"
                what, orders = replace(orders[-1], lock=lock), orders[:-1]
            orders = [*orders[: -1 if taken or kind == "instead" else None], what]
            taken = False
        elif kind == "statement":
            reasons.append(what)
        elif kind == "back" and orders:
            taken, corrected = not what, what
    changes = [o for o in orders if o.verb in CHANGES]
    if taken:
        return Reading(why="negation")
    if corrected and (len(changes) != 1 or not changes[0].who):
        return Reading(why="negation")
    reason = "; ".join(reasons) or None
    mended = [o if o.verb == "tell" or o.reason else replace(o, reason=reason) for o in changes]
    if len(orders) > 1 and any(o.verb not in ("look", "status", *CHANGES) for o in orders):
        return None
    found = tuple(mended) or tuple(orders[:1])
    return Reading(found, corrected=corrected) if found else None


def _parts(
    line: str,
    places: Sequence[tuple[int, int]],
    first: int,
    known: dict[tuple[int, int], Part | None],
) -> list[Part] | None:
    """What the parts from `first` on are, each as long as possible; None if one is nothing."""
    if first == len(places):
        return []
    for last in range(len(places) - 1, first - 1, -1):
        text = line[places[first][0] : places[last][1]]
        following = line[places[last][1] :].lstrip()[:1]
        key = first, last
        if key not in known:
            known[key] = _part(text, last == first, following, line[: places[first][0]])
        part = known[key]
        if part and (rest := _parts(line, places, last + 1, known)) is not None:
            return [part, *rest]
    return None


def _part(text: str, single: bool, following: str, before: str) -> Part | None:
    asked = "?" if following == "?" else ""
    if order := _order(text + asked):
        return "order", replace(order, about=before)
    if not single:
        return None
    if before and (back := _back().match(text)):
        return _instead(text[back.end() :].strip(" ,:-–—"), back[0])
    if not plainly(text):
        return "courtesy", ""
    if not asked:
        return ("statement", text.strip(" .!")) if _is_statement(text) else None
    barred = fits(text, "condition", "delay", "negation", "mood")
    look = None if barred else _look(text)
    return ("look", look) if look else None


def _instead(rest: str, back: str) -> Part | None:
    """What follows words that take back what was said before: nothing, another order, or a name."""
    if not rest:
        return "back", ""
    again, negated = _order(rest), re.search(r"(?i)n[o']t\b", back)
    if again and again.verb in CHANGES:
        return None if negated else ("instead", again)
    name = rest.rstrip(" .!")
    if not is_name(name) or words().guards["verbs"].match(name):
        return None
    return "back", f"not {name}" if negated else name


@cache
def _back() -> re.Pattern[str]:
    """Words that take back what was said before them."""
    one = words().guards["back"].pattern
    return re.compile(rf"{one}(?:[\s,]+{one})*", re.IGNORECASE)


_BY_ID: Final = re.compile(r"(?i)^(?:the |that )?(?:one|user|person|guy|account) (?:with|whose) (?:the )?(?:user )?id (?:is )?")  # fmt: skip


def is_name(text: str) -> bool:
    """Whether a text could be one name."""
    text = _BY_ID.sub("", text)
    stopped = text[:1] != '"' and words().guards["stop"].search(text)
    return bool(text) and not stopped and not re.search(r"[,;:!?()]", text)


# --- one order ---------------------------------------------------------------------------------------


def _leaves(rule: Tree[Token]) -> list[Token]:
    return sorted(rule.scan_values(lambda _: True), key=lambda token: token.start_pos or 0)


_ASKING: Final = re.compile(r"(?i)(?:who|what|which|how|why|where)\b")


def _order(text: str) -> Order | None:
    # Nothing that begins so is an order, and the grammar takes long to load.
    if _ASKING.match(text):
        return None
    from lark.exceptions import UnexpectedInput

    try:
        tree: Tree[Token] = _parser().parse(text.translate(_QUOTES))
    except UnexpectedInput:
        return None
    [rule] = [
        c for c in tree.children if not isinstance(c, str) and c.data not in ("polite", "tail")
    ]
    tokens: dict[str, list[str]] = {}
    for token in _leaves(rule):
        # The grammar sees plain quotes; a name and a message keep theirs.
        at = token.start_pos or 0
        tokens.setdefault(token.type, []).append(text[at : at + len(token)].strip())
    verb, who = str(rule.data), tuple(tokens.get("WHO", ()))
    if verb == "impossible":
        return Order(verb, manner=next(iter(tokens)).removeprefix("CANNOT_").lower())
    asked = any(isinstance(c, str) and c.type in ("ASK", "MIND") for c in tree.children)
    if verb in ("tell", "sent", "said", "announced"):
        return _told(verb, rule, tokens, asked)
    if any(words().guards["verbs"].match(name) for name in who[1:]):
        return None
    listed = [joint for joint in tokens.get("AND", ()) if joint != ","]
    if len(who) > 1 and not listed and words().guards["exclaimed"].fullmatch(who[-1]):
        return None
    reason = None
    if given := [*tokens.get("REASON", ()), *tokens.get("PAREN", ())]:
        reason = _as_reason(given[0].strip("()"), after_for="FOR" in tokens)
        if reason is None:
            return None
    lock = verb == "locked" or "LOCK" in tokens
    return Order("end" if verb == "locked" else verb, who, lock=lock, reason=reason)


_JOINER: Final = re.compile(r"(?i)\s*(?:[:\"'(-]|(?:that|saying|about|to|for|if|whether)\b)")


def _told(verb: str, rule: Tree[Token], tokens: dict[str, list[str]], asked: bool) -> Order | None:
    """A message as the word it began with, and its audience and words in this order."""
    rest = tokens.get("REST", [""])[0]
    rest = rest.rstrip("?") if asked else rest
    manner = re.split(r"[ (]", str(_leaves(rule)[0]).lower())[0]
    note = tokens.get("NOTE", [""])[0].lower()
    manner = "warn" if "warning" in note else manner
    joined = bool(_JOINER.match(rest))
    if verb == "sent":
        rest = f"{' and '.join(tokens['WHO'])}{' ' if joined or not rest else ': '}{rest}"
    elif "QUOTED" in tokens:
        rest = f"{rest.rstrip(' .!')}: {tokens['QUOTED'][0]}"
    elif verb in ("said", "announced"):
        rest = re.sub(r"(?i)^(?:to (?:everyone|everybody|all)|in (?:the )?chat)\b\s*", "", rest)
        to = re.fullmatch(r"(?i)(\"[^\"]+\"|'.+'|\S+(?: \S+){0,3}) to ([^:\"]+?)[.! ]*", rest)
        if verb == "said" and to:
            rest = f"{to[2]}: {to[1]}"
        elif re.match(r"(?i)(?:out )?(?:to|for) ", rest):
            rest = re.sub(r"(?i)^(?:out )?(?:to|for) ", "", rest)
        elif (verb == "announced" and note and not joined) or re.fullmatch(r"(?i)the \w+", rest):
            return None
        else:
            rest, manner = f"everyone {rest}", manner if joined else "say"
    plain = _unquoted(rest).strip(" .!")
    if quoted := re.search(r'".*"', plain):
        return Order("tell", words=rest, manner=manner) if quoted.end() == len(plain) else None
    marked = re.search(r"(?i):|\b(?:that|saying)\b", plain)
    return None if not marked and joins_order(plain) else Order("tell", words=rest, manner=manner)


def joins_order(text: str) -> bool:
    """Whether the words go on with a second order."""
    verbs = words().guards["verbs"].pattern
    joint = r"(?:\b(?:and|then|plus|also|or)|[,;&+.!?]|->)(?: (?:then|also|please|just|to|not|so))*"
    return re.search(rf"(?i){joint} ?{verbs}", _unquoted(text)) is not None


def _as_reason(text: str, *, after_for: bool) -> str | None:
    """The text as a reason, or None if it says more than why."""
    text = words().guards["behind_reason"].sub("", text.rstrip(" .!")).strip(" .!,")
    kinds = ("unquoted", "condition", "exception", "span", "no_reason")
    barred = (
        fits(text, *kinds, *(("negation", "delay", "no_for") if after_for else ()))
        or fits(f"for {text}", "span")
        or _back().search(_unquoted(text).replace("not", ""))
    )
    return None if not text or text.endswith("?") or joins_order(text) or barred else text


# --- what is no order ------------------------------------------------------------------------------------


def _look(text: str) -> Order | None:
    said = plainly(text)
    for kind, head in words().looks.items():
        if kind == "status" and head.fullmatch(said):
            return Order("status")
        if kind != "status" and (match := head.match(said)):
            left = words().guards["seen"].sub("", said[match.end() :]).strip(" ,.?!'")
            return Order("look", words=re.sub(" +", " ", left), manner=kind)
    return None


def _is_statement(text: str) -> bool:
    """Whether a text only tells something: it has a subject and what it does, and orders nothing."""
    told, kinds = words().guards, ["injection", "unquoted", "condition"]
    if not re.match(r"(?i)because|since|due to", text):
        kinds += ["reported", "delay", "not_told", "asks"]
    if fits(text, *kinds) or joins_order(text):
        return False
    return bool(told["statement"].search(text) or told["exclaimed"].fullmatch(text.strip(" .!")))


def _why_not(line: str) -> str:
    """The kind of `words.yaml` that shows why this is no order; "" if it is about none."""
    told, text = words(), _unquoted(line)
    asks = told.guards["question_word"].match(text) or (
        text.endswith("?") and told.guards["question_verb"].match(text)
    )
    if asks and not re.search(r"(?i)\b(?:not|n't)\b", text):
        return "question"
    hits = ((len(pattern.findall(text)), says) for pattern, says in told.languages)
    count, says = max(hits, key=lambda hit: hit[0])
    foreign = sum(ord(c) > 0x3FF and c.isalpha() for c in text)
    if (count >= 2 and not told.guards["english"].search(text)) or (count and foreign > 3):
        return f"language:{says}"
    return next((kind for kind, pattern in told.why.items() if pattern.search(text)), "")
