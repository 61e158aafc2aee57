"""Where the name of whom a message is for ends, and its words begin.

A colon, quotes, "that" or "to" mark the words. Without a mark, who is in the room decides, and
the words must begin like a message. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hms_active_rooms.moderator.offline.reading import (
    PRONOUNS,
    Order,
    fits,
    joins_order,
    taken_back,
)
from hms_active_rooms.moderator.offline.roster import EVERYONE, Roster, resolve

_MAX_NAME_WORDS: Final = 9
_QUOTED: Final = re.compile(r"\"[^\"]+\"|“[^”]+”|'(?:[^']|(?<=\w)'(?=\w))+'|‘[^’]+’")
_MARK: Final = re.compile(r"\s*(?::|[-–—](?=\s)|,(?=\s*[\"“']))\s*")
_JOIN: Final = re.compile(
    r"(?i)\s*,?\s*\b(that|saying(?: that)?|know that|to not|not to|to|about|for|whether|if|why|how|what|where|when|who|which|not)\b[\s:]+"
)
_NARROW: Final = re.compile(r"(?i)(?:who|whom|whose|with|without|in|on|at|from|except|excluding|but|else|other|apart|besides|named|called|near|of|about|over|under|for|by|not|and|or|after|before|until|later|tomorrow|tonight|soon|only|unless|if|when|privately|individually|online|offline|present|connected|muted|unmuted|older|younger|late|watching|listening|waiting|speaking|talking|sitting|left|then|than|as|because|since|got|wrote|said|says|is|was|has|had)\b")  # fmt: skip
_BEGINS: Final = re.compile(r"(?i)(?:can|could|are|is|will|did|what|when|where|how|i|we|you|he|she|they|it|hes|shes|its|theyre|youre|were|the|this|these|there|here|a|an|my|our|your|his|her|their|no|yes|ok|okay|please|pls|sorry|hi|hello|hey|bye|goodbye|good|great|welcome|thanks|thank|class|break|time|today|don't|do|be|stop|mute|unmute|let's|lets|all|see|well|nice|happy|congratulations|recording|next|last|five|ten|one|two|\d+)(?![\w-])|[a-z]+'")  # fmt: skip
_NO_WORDS: Final = re.compile(
    r"(?i)(?:that|this|it|something|nothing|so|the (?:news|truth|message|same|rules)|a (?:message|joke|story)|them|off|him|her|to|about it|yes|no)?[.!?\s]*"
)


@dataclass(frozen=True)
class Told:
    """For whom a message is, and its words; nobody named: everyone.

    Attributes:
        plain: the words were told about somebody, not asked of them.
    """

    who: tuple[str, ...]
    words: str
    plain: bool = True


def split(order: Order, roster: Roster | None) -> Told | str | None:
    """The audience and the words; a kind of refusal; None if the roster is needed, or does not tell."""
    text, manner = order.words.strip(), order.manner
    if manner == "words":
        return Told(order.who, text)
    if manner == "as is":
        return Told(order.who, text)
    if manner == "announce" or (manner == "say" and not re.search(r"(?i) to [^:\"“]+$", text)):
        return _broadcast(text, said=manner == "say")
    if manner in ("say", "note"):
        return _said_to(text, roster, note=manner == "note")
    if manner in ("send_note", "warning"):
        who = () if EVERYONE.fullmatch(order.who[0]) else order.who
        return (
            _words(_after_name(text), who, manner)
            if text or manner != "warning"
            else Told(who, "This is a warning.")
        )
    return _named_first(text, roster, manner)


def _broadcast(text: str, *, said: bool) -> Told | str:
    rest = re.sub(
        r"(?i)^(?:to (?:everyone|everybody|all)|in (?:the )?chat|a (?:message|note))\b\s*", "", text
    )
    mark = re.match(r"(?i)\s*(?:that\b|saying(?: that)?\b|:|[-–—]\s)\s*:?\s*", rest)
    words = rest[mark.end() :] if mark else rest
    marked = bool(mark) or bool(_QUOTED.fullmatch(words.rstrip(" .!")))
    if not marked and (
        _NARROW.match(words)
        or (said and not _BEGINS.match(words))
        or re.fullmatch(r"(?i)the \w+", words)
    ):
        return "no_message"
    return _checked(words, (), marked)


def _said_to(text: str, roster: Roster | None, *, note: bool) -> Told | str | None:
    """`"hello" to Sam`, `a message to Sam: hello`, `hello to everyone`."""
    if note and (match := re.match(r"(?i)(?:out )?to\s+", text)):
        return _named_first(text[match.end() :], roster, "tell")
    if note and (match := re.match(r"(?i)(?:that|saying(?: that)?|:)\s*", text)):
        return _checked(text[match.end() :], (), marked=True)
    match = re.fullmatch(
        rf"(?i)(?P<words>{_QUOTED.pattern}|\S+(?: \S+){{0,3}}) to (?P<who>[^:\"“]+?)[.! ]*", text
    )
    if match is None:
        return _broadcast(text, said=True) if not note else "no_end"
    who = match["who"].strip()
    return _checked(match["words"], () if EVERYONE.fullmatch(who) else _names(who), marked=True)


def _named_first(text: str, roster: Roster | None, manner: str) -> Told | str | None:
    """A name, and then the words."""
    if manner == "let_know" and not re.search(r"(?i)\bknow\b", text):
        return "no_end"
    text = (
        re.sub(r"(?i)\s+know\b(?!:)", " that" if manner == "let_know" else " know", text, count=1)
        if manner == "let_know"
        else text
    )
    text = text.replace(" that that ", " that ").replace(" that about ", " about ")
    if re.match(r"(?i)(?:me|us|you|yourself|myself)\b", text):
        return "reported"
    # "Sam Lee, not Sam Patel, that ...": the other one is left out.
    text = re.sub(r"(?i)^([^,:]+), not [^,:]+,\s+", r"\1 ", text)
    # Everyone with a role is a role.
    by_role = re.match(
        r'(?i)(?:everyone|everybody|all|those|people) (?:with|in|having|who has)(?: the)? (?:role (?:of )?(?:"[^"]+"|[\w-]+)|[\w-]+ role)(?!\w)',
        text,
    )
    everyone = None if by_role else re.match(rf"{EVERYONE.pattern}(?![\w'-])", text)
    if everyone and (everyone[0].lower() != "all" or _marked(text[3:])):
        return _words(text[everyone.end() :], (), manner)
    if roster is None:
        return None
    ends = [m.end() for m in re.finditer(r"(?:\"[^\"]*\"|[^\s:,?\"]+)", text)][:_MAX_NAME_WORDS]
    limit = text.find(":") if ":" in text else len(text)
    ends = [end for end in ends if end <= limit] or ends[:1]
    if by_role:
        ends = [by_role.end()]
    for end in reversed(ends):
        names = _names(text[:end])
        found = [resolve(name, roster) for name in names if name.lower() not in PRONOUNS]
        rest = text[end:]
        marked = _marked(rest)
        begun = end == ends[0] and bool(_BEGINS.match(rest.strip()))
        if all(one.sure for one in found) or (
            (marked or begun) and all(one.options for one in found)
        ):
            return _words(rest, names, manner)
    mark = _MARK.search(text) or _JOIN.search(text)
    if mark and 0 < mark.start() < 90:
        return _words(text[mark.start() :], _names(text[: mark.start()]), manner)
    return None


def _marked(rest: str) -> bool:
    return bool(
        _MARK.match(rest) or _JOIN.match(rest) or _QUOTED.match(rest.strip())
    ) or not rest.strip(" .!")


def _names(text: str) -> tuple[str, ...]:
    if _QUOTED.fullmatch(text.strip()):
        return (text.strip(),)
    return tuple(
        part
        for part in re.split(r"(?i)\s*(?:,\s*and|,|\band\b|&|\bplus\b)\s+", text.strip(" ,"))
        if part
    )


def _after_name(text: str) -> str:
    return text if text.startswith((":", " ", "-")) else f" {text}"


def _words(rest: str, who: tuple[str, ...], manner: str) -> Told | str:
    """What follows the name, as a message."""
    if not rest.strip(" .!"):
        return (
            Told(who, "This is a warning.")
            if manner in ("warn", "warning") and who
            else Told(who, "")
        )
    if mark := _MARK.match(rest):
        return _checked(rest[mark.end() :], who, marked=True)
    if _QUOTED.fullmatch(rest.strip(" .!")):
        return _checked(rest, who, marked=True)
    if join := _JOIN.match(rest):
        word, words = join[1].lower(), rest[join.end() :].strip()
        if word in ("that", "saying", "saying that", "know that"):
            return _checked(words, who, marked=True)
        if word in ("to", "not to", "to not"):
            if fits(words, "hard_condition") or joins_order(words):
                return "condition" if not joins_order(words) else "several"
            told = _checked(
                f"Please {'do not ' if 'not' in word else ''}{words}", who, marked=False, free=True
            )
            return told if isinstance(told, str) else Told(told.who, told.words, plain=False)
        if word in ("about", "for") and manner in (
            "warn",
            "warning",
            "thank",
            "remind",
            "tell",
            "let_know",
            "message",
        ):
            if fits(words, "condition", "exception") or joins_order(words):
                return "condition"
            lead = {
                "warn": "This is a warning",
                "warning": "This is a warning",
                "thank": "Thank you",
            }.get(manner, "")
            return Told(
                who,
                f"{lead} {word} {words}".strip() if lead else words[:1].upper() + words[1:],
                plain=False,
            )
        if manner == "ask" and word in (
            "whether",
            "if",
            "why",
            "how",
            "what",
            "where",
            "when",
            "who",
            "which",
            "for",
        ):
            return _checked(f"{word} {words}", who, marked=False, free=True)
        return "condition" if word in ("if", "when") else "no_end"
    if manner == "welcome":
        return Told(who, f"Welcome {rest.strip()}") if rest.strip() else Told(who, "Welcome")
    words = rest.strip(" ")
    if (
        manner in ("ask", "thank")
        or (manner == "message" and not _BEGINS.match(words))
        or _NARROW.match(words)
        or not (words[0].isalnum() or ord(words[0]) > 127)
    ):
        return "no_end"
    return _checked(words, who, marked=False)


def _checked(words: str, who: tuple[str, ...], marked: bool, *, free: bool = False) -> Told | str:
    words = words.strip()
    inner = words.rstrip(" .!") if _QUOTED.fullmatch(words.rstrip(" .!")) else ""
    if inner:
        words = inner[1:-1].strip()
    if _NO_WORDS.fullmatch(words) and not inner:
        return "no_message" if words else Told(who, "")
    if not inner and taken_back(words):
        return "negation"
    if marked or inner:
        return (
            "several"
            if not inner and re.search(r"[\"”'] (?:and|then) ", words)
            else Told(who, words)
        )
    if joins_order(words) or '"' in words:
        return "several"
    if words.endswith("?") and not re.match(
        r"(?i)(?:please )?(?:are|is|can|could|do|does|did|what|why|how|who|where|when|will|would|have|has|whether|if|which)\b",
        words,
    ):
        return "question"
    own = re.match(
        r"(?i)(?:he|she|they|you|we|i|it)(?:'ll| (?:will|get|gets|can|must|may|should|won't))\b",
        words,
    )
    if not free and not own and fits(words, "hard_condition"):
        return "condition"
    return "exception" if fits(words, "hard_exception") else Told(who, words)
