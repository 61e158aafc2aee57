"""How people are spoken of: words for somebody to a `Target`, or why they name nobody."""

from __future__ import annotations

from typing import Final

from hms_active_rooms.moderator.offline.intents import Target, Why
from hms_active_rooms.moderator.offline.refusals import not_a_name
from hms_active_rooms.moderator.offline.sentence import Sentence, template

EVERYONE: Final = (
    r"(?:everyone|everybody|every one|all of (?:them|you|us)|them all|you all|all"
    r"|(?:all (?:the )?|every )(?:people|persons?|participants?|peers?|users?|members?|attendees|one)"
    r"|(?:the )?(?:whole|entire) (?:room|class|group|call|meeting|audience)|the (?:room|class|group))"
    r"(?: (?:who is |that is )?(?:here|in (?:here|there)|(?:in|on|from) (?:the|this) (?:room|call|class|meeting|session)))?"
)
"""Words for all people in the room."""

PLACE: Final = (
    r"(?: (?:from|out of|off|in|of|on)(?: (?:the|this|our))?"
    r" (?:room|call|class|session|meeting|lesson|chat|here))"
)
"""Words for the room behind a name: "kick Bob from the call"."""

_KIND: Final = (
    r"(?:guy|girl|man|woman|person|user|participant|peer|one|account|kid|member|attendee|dude)"
)
_everyone: Final = template(EVERYONE)
_pronoun: Final = template(
    rf"(?:him|her|them|it|(?:that|this|the same)(?: {_KIND})?|(?:him|her)self|the {_KIND})"
)
_somebody: Final = template(
    r"(?:a|an|some|any|another|one of|two|three|few|most|half|both|either|others?)(?: .*)?"
    r"|(?:someone|somebody|anyone|anybody|nobody|no one|none)(?: .*)?"
    r"|(?:people|users?|participants?|peers?|members?|persons?|folks|the (?:others?|rest|people)"
    r"|me|us|you|myself|yourself)"
)
_role: Final = tuple(
    template(pattern)
    for pattern in (
        rf"(?:{EVERYONE}|anyone|those|people|the people|{_KIND}s|all {_KIND}s)"
        r" (?:with|in|having|who has|who have|whose role is)(?: the)?(?: role)?(?: of)? (?P<x>.+?)",
        r"(?:the )?(?:whole |entire )?role(?: of)?:? (?P<x>.+?)",
        r"(?:the |all of the |all )?(?P<x>.+?) role",
        r"(?:all|every|each|every single)(?: of)?(?: the| our)? (?P<x>.+?)",
    )
)
_with_role: Final = template(r".*\b(?:with|in|having|has|have|is)\b.*")
_says_role: Final = template(r".*\brole\b.*")
_called: Final = tuple(
    template(pattern)
    for pattern in (
        rf"(?:the |that |this )?(?:{_KIND} )?(?:who is |who's |that is )?(?:called|named|with (?:the )?(?:(?:user |peer )?id|name)|whose name is):? (?P<x>.+)",
        rf"(?:the |that |this )?(?:{_KIND}|user id|peer id|id|name):? (?P<x>.+)",
    )
)
_described: Final = template(r"(?:the|that|this|our) (?P<x>.+)")


def spoken(words: Sentence, whole: Sentence | None = None) -> Target | Why:
    """The person or role these words speak of.

    Args:
        words: what stands where the template expects somebody.
        whole: the words before a reason, a place or politeness was cut off behind them.
    """
    said = whole.raw if whole is not None and whole.raw != words.raw else words.raw
    if (name := words.inside_quotes) is not None:
        return Target(name, "quoted")
    plain = words.plain
    if _everyone.fullmatch(plain):
        return "everyone"
    if _pronoun.fullmatch(plain):
        return Target(words.raw, "pronoun")
    if (role := _explicit_role(words)) is not None:
        return role
    if _somebody.fullmatch(plain):
        return "somebody"
    for pattern in _called:
        if match := pattern.fullmatch(plain):
            return _bare(words.group(match, "x"), "named", said)
    if match := _described.fullmatch(plain):
        return _bare(words.group(match, "x"), "the", said)
    return _bare(words, "named", said)


def _bare(name: Sentence, form: str, said: str) -> Target | Why:
    if (inner := name.inside_quotes) is not None:
        return Target(inner, "quoted")
    name = name.cut(0, len(name.plain.rstrip(".!")))
    if not_a_name(name.plain):
        return "several"
    return Target(name.raw, "the" if form == "the" else "named", said)


def _explicit_role(words: Sentence) -> Target | Why | None:
    for pattern in _role:
        match = pattern.fullmatch(words.plain)
        if match is None:
            continue
        role = words.group(match, "x")
        if (inner := role.inside_quotes) is not None:
            return Target(inner, "role")
        return "several" if not_a_name(role.plain) else Target(role.raw, "role")
    return None
