"""Where the name of whom a message is for ends, and its words begin.

A colon, quotes, "that" or "to" mark the words. Without a mark, who is in the room decides. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from hms_active_rooms.moderator.offline.reading import Order, fits, words
from hms_active_rooms.moderator.offline.roster import Roster, is_pronoun, resolve

_MAX_NAME_WORDS: Final = 9
_QUOTED: Final = re.compile(r"\"[^\"]+\"|“[^”]+”|'(?:[^']|(?<=\w)'(?=\w))+'|‘[^’]+’")
_LITERAL: Final = re.compile(
    r"(?i)\s*(?::|[-–—](?=\s)|,?\s*(?:saying(?: that)?|that)\b:?|,?\s*(?=[\"“'‘]))\s*"
)
_JOIN: Final = re.compile(r"(?i)\s*,?\s*(to not|not to|to|about|for|whether|if|why|how|what|where|when|who|which|not)\b[\s:]+")  # fmt: skip
_BY_ROLE: Final = re.compile(r'(?i)(?:everyone|everybody|all|those|people) (?:with|in|having|who has)(?: the)? (?:role (?:of )?(?:"[^"]+"|[\w-]+)|[\w-]+ role)(?!\w)')  # fmt: skip


@dataclass(frozen=True)
class Told:
    """For whom a message is, and its words; nobody named: everyone.

    Attributes:
        plain: the words were told about somebody, not asked of them.
    """

    who: tuple[str, ...]
    words: str
    plain: bool = True


def names(text: str) -> tuple[str, ...]:
    """The names of a list of names."""
    if _QUOTED.fullmatch(text.strip()):
        return (text.strip(),)
    parts = re.split(r"(?i)\s*(?:,\s*and|,|\band\b|&|\bplus\b)\s+", text.strip(" ,"))
    return tuple(filter(None, parts))


def split(order: Order, roster: Roster | None) -> Told | str | None:
    """The audience and the words; a kind of refusal; None if the roster is needed, or does not tell."""
    text, manner = order.words.strip(), order.manner
    if manner == "as is":
        return Told(order.who, text)
    if manner == "let":
        head, know, tail = text.partition(" know")
        if not know:
            return "no_end"
        text = head + re.sub("^(?: that)?(?= |$)(?! about)", " that", tail)
    if re.match(r"(?i)(?:me|us|you|yourself|myself)\b", text):
        return "reported"
    # "Sam Lee, not Sam Patel, that ...": the other one is left out.
    text = re.sub(r"(?i)^([^,:]+), not [^,:]+,\s+", r"\1 ", text)
    by_role = _BY_ROLE.match(text)
    everyone = None if by_role else words().names["everyone"].match(text)
    if everyone and (everyone[0].lower() != "all" or _is_marked(text[3:])):
        return _words(text[everyone.end() :], (), manner)
    if roster is None:
        return None
    before = text.partition(":")[0]
    ends = [m.end() for m in re.finditer(r'"[^"]*"|[^\s:,?"]+', text) if m.end() <= len(before)]
    # The longest words that mean somebody for sure; else the longest that could.
    for sure in (True, False):
        for end in [by_role.end()] if by_role else reversed(ends[:_MAX_NAME_WORDS]):
            who = names(text[:end])
            found = [resolve(name, roster) for name in who if not is_pronoun(name)]
            if all(one.sure if sure else one.options for one in found):
                return _words(text[end:], who, manner)
    mark = _LITERAL.search(text) or _JOIN.search(text)
    if not mark or not mark.start():
        return None
    return _words(text[mark.start() :], names(text[: mark.start()]), manner)


def _is_marked(rest: str) -> bool:
    return bool(_LITERAL.match(rest) or _JOIN.match(rest)) or not rest.strip(" .!")


def _words(rest: str, who: tuple[str, ...], manner: str) -> Told | str:
    """What follows the name, as a message."""
    lead = words().says.get(f"lead_{manner}", "")
    if not rest.strip(" .!"):
        return Told(who, f"{lead}." if who and lead else "")
    if mark := _LITERAL.match(rest):
        return _checked(rest[mark.end() :], who, marked=True)
    said = rest.strip(" ")
    if join := _JOIN.match(rest):
        word, said = join[1].lower(), rest[join.end() :].strip()
        if word in ("to", "not to", "to not"):
            told = _checked(f"Please {'' if word == 'to' else 'do not '}{said}", who, marked=False)
            return told if isinstance(told, str) else replace(told, plain=False)
        if manner == "ask":
            return Told(who, f"{word} {said}", plain=False)
        if word not in ("about", "for"):
            return "condition" if word in ("if", "when") else "no_end"
        if fits(said, "condition", "exception"):
            return "condition"
        said = f"{lead} {word} {said}" if lead else said[:1].upper() + said[1:]
        return Told(who, said, plain=False)
    if manner == "welcome":
        return Told(who, f"{lead} {said}")
    starts = said[:1].isalnum() or not said[:1].isascii()
    if manner in ("ask", "thank") or words().guards["narrow"].match(said) or not starts:
        return "no_end"
    return _checked(said, who, marked=False)


def _checked(said: str, who: tuple[str, ...], *, marked: bool) -> Told | str:
    guards, said = words().guards, said.strip()
    if quoted := _QUOTED.fullmatch(said.rstrip(" .!")):
        return Told(who, quoted[0][1:-1].strip())
    if guards["no_words"].fullmatch(said.rstrip(" .!?")):
        return "no_message" if said else Told(who, "")
    if guards["taken_back"].search(said):
        return "negation"
    if marked:
        return Told(who, said)
    if said.endswith("?") and not guards["asked"].match(said):
        return "question"
    if not guards["foretold"].match(said) and fits(said, "hard_condition"):
        return "condition"
    return "exception" if fits(said, "hard_exception") else Told(who, said)
