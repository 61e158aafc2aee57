"""Answers to "which one do you mean?": which of the options shown are chosen."""

from __future__ import annotations

from typing import Final, Literal

from hms_active_rooms.moderator.offline.intents import Answer, Intent, Remove, Unknown
from hms_active_rooms.moderator.offline.names import RoleGroup, Someone, by_option
from hms_active_rooms.moderator.offline.sentence import polite, read, template

_ORDINALS: Final = {
    word: place
    for place, words in enumerate(
        (
            ("first", "1st", "one"),
            ("second", "2nd", "two"),
            ("third", "3rd", "three"),
            ("fourth", "4th", "four"),
            ("fifth", "5th", "five"),
            ("sixth", "6th", "six"),
            ("seventh", "7th", "seven"),
            ("eighth", "8th", "eight"),
        ),
        start=1,
    )
    for word in words
}
_number: Final = template(
    r"(?:the )?(?:(?:number|no\.?|nr\.?|option|#) ?)?(?P<n>\d{1,2}|[a-z0-9]+)[.)]?"
    r"(?: (?:one|person|option))?"
)
_last: Final = template(r"(?:the )?last(?: one)?")
_both: Final = template(r"both(?: of them)?|the both")

Choice = tuple[Someone, ...] | Literal["none", "unclear"]


def choose(text: str, intent: Intent, options: tuple[Someone, ...]) -> Choice | None:
    """What an answer chooses, "none" of them, "unclear", or None: it is no answer.

    Args:
        text: the person's sentence.
        intent: the same, read as a command. A whole new command is no answer.
        options: as numbered in the question.
    """
    if isinstance(intent, Answer):
        if not intent.yes:
            return "none"
        return options if len(options) == 1 else "unclear"
    if isinstance(intent, Remove):
        # "kick the second one", "kick number 2"; "kick one" is not plain enough.
        if intent.target.form != "the" and not any(map(str.isdigit, intent.target.text)):
            return None
        by_place = _by_place(intent.target.text, options)
        return (by_place,) if by_place is not None else None
    if not isinstance(intent, Unknown) or intent.unreadable:
        return None
    sentence = read(text)
    if sentence is None:
        return None
    order = polite(sentence).order
    words = order.inside_quotes or order.raw
    if _both.fullmatch(words):
        people = not any(isinstance(option, RoleGroup) for option in options)
        return options if len(options) == 2 and people else "unclear"
    hits = by_option(words, options)
    place = _by_place(words, options)
    if place is not None and place not in hits:
        hits = [*hits, place]
    return (hits[0],) if len(hits) == 1 else "unclear"


def _by_place(words: str, options: tuple[Someone, ...]) -> Someone | None:
    if _last.fullmatch(words):
        return options[-1]
    match = _number.fullmatch(words)
    if match is None:
        return None
    said = match["n"].lower()
    place = int(said) if said.isdigit() else _ORDINALS.get(said, 0)
    return options[place - 1] if 0 < place <= len(options) else None
