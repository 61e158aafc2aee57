"""Splits an order to say something into the people it is for and the words. Pure.

A colon, quotes, "that" or "to" mark the words. Without a mark, who is in the room decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from hms_active_rooms.moderator.offline.reading import Order, is_pronoun, pattern, rows
from hms_active_rooms.moderator.offline.roster import Roster

_MAX_NAME_WORDS: Final = 9
_QUOTED: Final = re.compile(r"\"[^\"]+\"|“[^”]+”|'(?:[^']|(?<=\w)'(?=\w))+'|‘[^’]+’")
_MARK: Final = re.compile(
    r"(?i)\s*(?:only|privately|in private)?\s*"
    r"(?::|[-–—](?=\s)|,?\s*(?:saying(?: that)?|that)\b:?|,?\s*(?=[\"“'‘])|,(?=\s*(?:please|pls)\b))\s*"
)
_JOIN: Final = re.compile(
    r"(?i)\s*,?\s*(?:to|not|about|for|whether|if|why|how|what|where|when)\b\s+"
)


class Unclear(Exception):
    """Not clear whom a message is for, or what it says. The text is the reply that says so."""


def names(text: str) -> tuple[str, ...]:
    """The names in a list such as "Ann, Bob and Cy"."""
    if _QUOTED.fullmatch(text.strip()):
        return (text.strip(),)
    parts = re.split(r"(?i)\s*(?:,\s*and|,|\band\b|&|\bplus\b)\s+", text.strip(" ,"))
    return tuple(filter(None, parts))


def split(order: Order, look: Callable[[Sequence[str]], Roster]) -> Order:
    """The order with its audience (nobody named: everyone) and words apart, its manner "told".

    Args:
        order: to tell somebody something.
        look: who is in the room, for the names it gets; called if only that tells.

    Raises:
        Unclear: even the roster does not tell, or the words hold a condition or a question.
    """
    text = order.words.strip()
    if order.manner == "told":
        return replace(order, words=text)
    if order.manner == "let":
        head, know, tail = text.partition(" know")
        if not know:
            raise Unclear("no_end")
        text = head + re.sub("^(?: that)?(?= |$)(?! about)", " that", tail)
    text = re.sub(r"(?i)^both (?=\S+ (?:and|&) )", "", text)
    by_role = pattern("by_role", "macros").match(text)
    everyone = None if by_role else pattern("everyone").match(text)
    rest = re.sub("^,(?= [^ ,]+ )", "", text[everyone.end() :]) if everyone else ""
    if everyone and (everyone[0].lower() != "all" or _MARK.match(rest) or _JOIN.match(rest)):
        return _told(rest, (), order)
    before = text.partition(":")[0]
    roster = look(order.who or re.findall(r'"[^"]+"|[^\s:,]+', text)[:1])
    ends = [m.end() for m in re.finditer(r'"[^"]*"|[^\s:,?"]+', text) if m.end() <= len(before)]
    # The longest words that mean somebody for sure, else that several have, else nearly so.
    for least in ("sure", "named", "near"):
        for end in [by_role.end()] if by_role else reversed(ends[:_MAX_NAME_WORDS]):
            who = names(text[:end])
            found = [roster.resolve(name) for name in who if not is_pronoun(name)]
            near = least == "near" or not any(one.near for one in found)
            if near and all(one.sure if least == "sure" else one.options for one in found):
                return _told(text[end:], who, order)
    mark = _MARK.search(text) or _JOIN.search(text)
    if not mark or not mark.start():
        raise Unclear("no_end")
    return _told(text[mark.start() :], names(text[: mark.start()]), order)


def _told(rest: str, who: tuple[str, ...], order: Order) -> Order:
    # "send Ann a message asking her to ..." is "ask Ann to ...".
    if asks := re.match(r"(?i)[\s,]*(tell|ask|remind)ing(?: (?:him|her|them))?\b", rest):
        order, rest = replace(order, manner=asks[1].lower()), rest[asks.end() :]
    rest = rest.rstrip() if rest.strip(" .!") else ""
    mark = _MARK.match(rest) if rest else None
    said = rest[mark.end() :].strip() if mark else f"{order.manner}{rest}"
    order, asking = replace(order, who=who, words="", manner="told"), order.manner == "ask"
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
    if pattern("unsaid").fullmatch(outside) or (not mark and pattern("unasked").fullmatch(outside)):
        raise Unclear("negation" if pattern("unsaid").fullmatch(outside) else "question")
    if not mark and not asking and pattern("unless").search(outside):
        raise Unclear("condition")
    return replace(order, words=said)
