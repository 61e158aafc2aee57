"""Where the name of whom a message is for ends, and its words begin.

A colon, quotes, "that" or "to" mark the words. Without a mark, who is in the room decides. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hms_active_rooms.moderator.offline.reading import Order, fits, words
from hms_active_rooms.moderator.offline.roster import EVERYONE, PRONOUNS, Roster, resolve

_MAX_NAME_WORDS: Final = 9
_QUOTED: Final = re.compile(r"\"[^\"]+\"|“[^”]+”|'(?:[^']|(?<=\w)'(?=\w))+'|‘[^’]+’")
_LITERAL: Final = re.compile(
    r"(?i)\s*(?::|[-–—](?=\s)|,?\s*(?:saying(?: that)?|that)\b:?|,?\s*(?=[\"“'‘]))\s*"
)
_JOIN: Final = re.compile(r"(?i)\s*,?\s*(to not|not to|to|about|for|whether|if|why|how|what|where|when|who|which|not)\b[\s:]+")  # fmt: skip
_BY_ROLE: Final = re.compile(r'(?i)(?:everyone|everybody|all|those|people) (?:with|in|having|who has)(?: the)? (?:role (?:of )?(?:"[^"]+"|[\w-]+)|[\w-]+ role)(?!\w)')  # fmt: skip
_NOT_WORDS: Final = re.compile(r"(?i)(?:that|this|it|something|nothing|so|the (?:news|truth|message|same|rules)|a (?:message|joke|story)|them|off|him|her|to|about it|yes|no|in|know)?[.!?\s]*")  # fmt: skip


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
    if manner == "as is":
        return Told(order.who, text)
    if manner == "let":
        if not re.search(r"(?i)\bknow\b", text):
            return "no_end"
        text = re.sub(
            r"(?i)\s+know(?: that|(?= about))?(?!:)",
            lambda m: "" if m[0] == " know" and text[m.end() :].startswith(" about") else " that",
            text,
            count=1,
        )
    if re.match(r"(?i)(?:me|us|you|yourself|myself)\b", text):
        return "reported"
    # "Sam Lee, not Sam Patel, that ...": the other one is left out.
    text = re.sub(r"(?i)^([^,:]+), not [^,:]+,\s+", r"\1 ", text)
    by_role = _BY_ROLE.match(text)
    everyone = None if by_role else re.match(rf"{EVERYONE.pattern}(?![\w'-])", text)
    if everyone and (everyone[0].lower() != "all" or _is_marked(text[3:])):
        return _words(text[everyone.end() :], (), manner)
    if roster is None:
        return None
    limit = text.find(":") if ":" in text else len(text)
    ends = [m.end() for m in re.finditer(r'"[^"]*"|[^\s:,?"]+', text) if m.end() <= limit]
    ends = [by_role.end()] if by_role else ends[:_MAX_NAME_WORDS]
    # The longest words that mean somebody for sure; else the longest that could.
    for sure in (True, False):
        for end in reversed(ends):
            names = _names(text[:end])
            found = [resolve(name, roster) for name in names if name.lower() not in PRONOUNS]
            if all(one.sure if sure else one.options for one in found):
                return _words(text[end:], names, manner)
    mark = _LITERAL.search(text) or _JOIN.search(text)
    return (
        _words(text[mark.start() :], _names(text[: mark.start()]), manner)
        if mark and mark.start()
        else None
    )


def _is_marked(rest: str) -> bool:
    return bool(_LITERAL.match(rest) or _JOIN.match(rest)) or not rest.strip(" .!")


def _names(text: str) -> tuple[str, ...]:
    if _QUOTED.fullmatch(text.strip()):
        return (text.strip(),)
    parts = re.split(r"(?i)\s*(?:,\s*and|,|\band\b|&|\bplus\b)\s+", text.strip(" ,"))
    return tuple(part for part in parts if part)


def _words(rest: str, who: tuple[str, ...], manner: str) -> Told | str:
    """What follows the name, as a message."""
    if not rest.strip(" .!"):
        said = {"warn": "This is a warning.", "welcome": "Welcome"}.get(manner, "")
        return Told(who, said if who else "")
    if mark := _LITERAL.match(rest):
        return _checked(rest[mark.end() :], who, marked=True)
    if join := _JOIN.match(rest):
        word, said = join[1].lower(), rest[join.end() :].strip()
        free = (
            "Please " if word == "to" else "Please do not " if word in ("not to", "to not") else ""
        )
        if free:
            told = _checked(free + said, who, marked=False)
            return told if isinstance(told, str) else Told(told.who, told.words, plain=False)
        if word in ("about", "for") and manner != "ask":
            if fits(said, "condition", "exception"):
                return "condition"
            lead = {"warn": "This is a warning", "thank": "Thank you"}.get(manner, "")
            said = f"{lead} {word} {said}" if lead else said[:1].upper() + said[1:]
            return Told(who, said, plain=False)
        if manner == "ask":
            return Told(who, f"{word} {said}", plain=False)
        return "condition" if word in ("if", "when") else "no_end"
    said = rest.strip(" ")
    if manner == "welcome":
        return Told(who, f"Welcome {said}")
    if (
        manner in ("ask", "thank")
        or words().guards["narrow"].match(said)
        or (not said[:1].isalnum() and said[:1].isascii())
    ):
        return "no_end"
    return _checked(said, who, marked=False)


def _checked(said: str, who: tuple[str, ...], *, marked: bool) -> Told | str:
    said = said.strip()
    quoted = _QUOTED.fullmatch(said.rstrip(" .!"))
    if quoted:
        return Told(who, quoted[0][1:-1].strip())
    if _NOT_WORDS.fullmatch(said):
        return "no_message" if said else Told(who, "")
    if words().guards["taken_back"].search(said):
        return "negation"
    if marked:
        return Told(who, said)
    asks = re.match(r"(?i)(?:please )?(?:are|is|can|could|do|does|did|what|why|how|who|where|when|will|would|have|has|whether|if|which)\b", said)  # fmt: skip
    if said.endswith("?") and not asks:
        return "question"
    own = re.match(
        r"(?i)(?:he|she|they|you|we|i|it)(?:'ll| (?:will|get|gets|can|must|may|should|won't))\b",
        said,
    )
    if not own and fits(said, "hard_condition"):
        return "condition"
    return "exception" if fits(said, "hard_exception") else Told(who, said)
