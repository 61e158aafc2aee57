"""A whole sentence to an `Intent`, by anchored templates; whatever fits none does nothing.

The order matters only for replies: every template covers the sentence from its first
to its last character, and the open parts of the changing ones are guarded by
`refusals`, so a sentence with a condition, an exception, a second order or a "not"
fits none of them.
"""

from __future__ import annotations

import re
from typing import Final

from hms_active_rooms.moderator.offline import refusals
from hms_active_rooms.moderator.offline.intents import (
    Answer,
    End,
    Find,
    Hello,
    Help,
    Impossible,
    Intent,
    ListPeople,
    Refused,
    Remove,
    Status,
    Target,
    Thanks,
    Trick,
    Unknown,
    Why,
)
from hms_active_rooms.moderator.offline.sentence import (
    Polite,
    Sentence,
    polite,
    read,
    template,
    without_trailer,
)
from hms_active_rooms.moderator.offline.spoken import EVERYONE, PLACE, spoken
from hms_active_rooms.moderator.offline.telling import parse_telling

_ROOM: Final = r"(?:room|class|session|call|meeting|lesson|webinar|lecture|event)"
_HERE: Final = (
    rf"(?: (?:here|there|(?:in|on|inside)(?: (?:the|this|my|our))? {_ROOM}|online|connected|in here"
    r"|present|left|joined|around|right now|now|at the moment|currently))*"
)
_PEOPLE: Final = r"(?:people|persons|participants|peers|users|members|attendees|everyone|everybody|all|them all|names|roster|list of people)"

_social: Final = tuple(
    (template(pattern), intent)
    for pattern, intent in (
        (
            r"(?:hello|hi|hey|good (?:morning|afternoon|evening)|howdy|hiya)(?: there)?[ .!]*",
            Hello(),
        ),
        (
            r"(?:many )?(?:thanks|thank you|thx|cheers|ty)(?: (?:a lot|very much|so much|again))?[ .!]*",
            Thanks(),
        ),
        (
            r"(?:yes|yep|yeah|y|sure|ok|okay|approved?|confirm(?:ed)?|do it|go ahead|yes,? please|correct|right|i approve)[ .!]*",
            Answer(True),
        ),
        (
            r"(?:no|nope|n|reject(?:ed)?|cancel|stop|abort|never ?mind|forget it|no thanks|no thank you"
            r"|neither|none|none of (?:them|those)|neither of (?:them|those)|don'?t|do not|no one|nobody)[ .!]*",
            Answer(False),
        ),
        (
            r"(?:help|help me|commands|examples|\?|what can you do(?: for me)?|what can i (?:say|do|ask)"
            r"|how does this work|how do you work|who are you|what are you|what do you do|how can you help(?: me)?)[ .!?]*",
            Help(),
        ),
    )
)

_list: Final = tuple(
    (template(pattern), count)
    for pattern, count in (
        (rf"(?:who|who all)(?: is|'s|s| are)?(?: all)?(?: still)?(?P<here>{_HERE})", False),
        (rf"(?:who|which people) (?:do we have|have we got|is|are)(?: in)?{_HERE}", False),
        (
            rf"(?:list|show|see|get|display|read out)(?: me)?(?: all)?(?: of)?(?: the)? {_PEOPLE}{_HERE}",
            False,
        ),
        (rf"(?:list|show|get|display)(?: me)? who(?: is|'s){_HERE}", False),
        (rf"(?:what is|what's|show me) the (?:roster|list of people){_HERE}", False),
        (rf"(?:is|are there) (?:anyone|anybody|any people|people|somebody|someone){_HERE}", False),
        (
            rf"how many(?: {_PEOPLE})?(?: are| is| do we have| have joined| of us are)?(?: there)?{_HERE}",
            True,
        ),
        (rf"(?:count|count up)(?: all)?(?: the)? {_PEOPLE}{_HERE}", True),
        (
            rf"(?:what is|what's) the (?:headcount|head count|number of {_PEOPLE}){_HERE}|headcount|head count",
            True,
        ),
    )
)
_list_role: Final = tuple(
    (template(pattern), count)
    for pattern, count in (
        (rf"how many (?P<x>.+?)(?: are| is| do we have| have joined)(?: there)?{_HERE}", True),
        (rf"how many (?P<x>.+?){_HERE}", True),
        (rf"(?:count|count up) (?P<x>.+?){_HERE}", True),
        (rf"(?:list|show|display)(?: me)?(?: only)? (?P<x>.+?){_HERE}", False),
        (rf"(?:who are|which are) (?P<x>(?:the|our) .+?){_HERE}", False),
        (rf"(?:who|which people) (?:has|have) (?P<x>(?:the )?(?:role .+?|.+? role)){_HERE}", False),
        (rf"which (?P<x>.+?) are{_HERE}", False),
        (rf"are there(?: any)? (?P<x>.+?){_HERE}", False),
    )
)
_find: Final = tuple(
    template(pattern)
    for pattern in (
        r"(?:find|look for|look up|locate|search for|search|where is|where's)(?: me)? (?P<x>.+?)"
        + PLACE
        + "?",
        rf"is (?P<x>.+?)(?: still| already)? (?:here|there|in here|online|connected|present|around|(?:in|on)(?: (?:the|this))? {_ROOM})",
        r"(?:who|which one|which (?:person|peer|user)) is (?:called |named )?(?P<x>.+?)",
        r"who's (?:called |named )?(?P<x>.+?)",
        r"is there (?:a |an |any )?(?:someone|somebody|anyone|anybody|person|peer|user|participant) (?:called|named) (?P<x>.+?)"
        + _HERE,
    )
)
_status: Final = tuple(
    template(pattern)
    for pattern in (
        rf"(?:is|'s) (?:the|this|our) {_ROOM}(?: still| currently)? (?:live|active|on|open|running|going|up|alive|started|in progress)(?: or not)?",
        rf"(?:what is |what's )?(?:the |this )?(?:{_ROOM} )?(?:status|state)(?: of (?:the|this) {_ROOM})?",
        rf"(?:check|show|get|give me)(?: me)? (?:the |this )?(?:{_ROOM} )?(?:status|state|{_ROOM})(?: of (?:the|this) {_ROOM})?",
        r"(?:what|which) session(?: id)?(?: is (?:this|it|running|active|live|on))?(?: now)?",
        r"(?:what is|what's) the (?:current )?session(?: id)?",
        rf"when did (?:the|this) {_ROOM} (?:start|begin|open)",
        rf"how long has (?:the|this) {_ROOM} been (?:live|on|open|running|active|going)",
        r"are we live",
    )
)

_REMOVE: Final = r"(?:kick|remove|boot|throw|eject|expel|get rid of|chuck|toss|disconnect)"
_remove: Final = template(rf"{_REMOVE}(?: out| off)? (?P<x>.+)")
_out: Final = template(r"(?P<x>.+?)(?: (?:out|off))")
_placed: Final = template(rf"(?P<x>.+?)(?: (?:out|off))?{PLACE}")

_END: Final = rf"(?:end|close|stop|finish|terminate|shut down|conclude|shut) (?:the |this |our )?(?:whole )?(?:live |running |current )?{_ROOM}(?: down)?(?: for (?:everyone|everybody|all|today|the day))?"
_LOCK: Final = r"lock (?:it|the room|this room|the door|it down|it up|the room down)"
_NOBODY: Final = (
    r"(?:nobody|no one|no-one|noone|they|people|he|she) (?:can(?:'t|not)?|could|will be able to|is able to|may)"
    r" (?:come back|rejoin|re-join|return|re-enter|get back in|join|join again|come back in|enter|get in|reopen it)"
)
_end: Final = tuple(
    (template(pattern), lock)
    for pattern, lock in (
        (_END, False),
        (
            rf"{_END},?(?: (?:and|then|and then|and also))? {_LOCK}(?: (?:too|as well|afterwards|behind us))?",
            True,
        ),
        (
            rf"{_END},? (?:and )?(?:make sure|so|so that|ensure)(?: that)? {_NOBODY}(?: again)?",
            True,
        ),
        (rf"(?:lock and (?:end|close)|(?:end|close) and lock) (?:the |this |our )?{_ROOM}", True),
        (rf"{_LOCK} and (?:end|close) (?:it|the {_ROOM})", True),
        (rf"{_END} (?:with (?:a |the )?lock|locked)", True),
        (
            rf"{_END},?(?: (?:but|and))? (?:without locking(?: it| the room)?|(?:don'?t|do not) lock (?:it|the room))",
            False,
        ),
    )
)
_lock_only: Final = template(
    rf"(?:{_LOCK}|lock (?:the |this |our )?{_ROOM}|lock|keep (?:everyone|people|others) out)"
)
_everyone: Final = template(
    rf"{_REMOVE}(?: out)? {EVERYONE}(?: out)?{PLACE}?|(?:clear|empty|clear out) (?:the |this )?{_ROOM}"
)

_MARKS: Final = r"because of|because|due to|with (?:the |a )?reason(?: of)?|reason(?: is)?"
_ONE_THING: Final = ("for", "because of", "due to")
_REASON: Final = template(rf"[,;:]? (?:{_MARKS}|cause|for)(?::| )[ :]*(?=\S)")
# Not "for": "close the room for students" gives no reason.
_END_REASON: Final = template(rf"[,;:]? (?:{_MARKS})(?::| )[ :]*(?=\S)")

_TRICKS: Final[tuple[tuple[str, Trick], ...]] = (
    (r"\b(?:unban|un-ban)\w*|\bblock list\b", "unban"),
    (
        r"\bban(?:s|ned|ning)?\b|\bblock(?:s|ed|ing)? \w+|\bblacklist|\b(?:permanently|forever|for good)\b",
        "ban",
    ),
    (
        r"\b(?:un)?mut(?:e|es|ed|ing)\b|\bsilenc(?:e|ing)\b|\b(?:turn|switch) (?:off|on) .*\b(?:mic|microphone|audio)",
        "mute",
    ),
    (
        r"\b(?:stop|turn off|turn on|switch off|disable|enable|hide|shut off|start) .*\b(?:video|camera|cam|webcam|screen ?share|screen|sharing)\b",
        "video",
    ),
    (
        r"\b(?:promote|demote|upgrade|downgrade)\b|\b(?:change|set|switch|give|make) .*\b(?:role|moderator|host|co-host|teacher|speaker|presenter|viewer|student|guest|admin)\b|\b(?:bring|move) .*\b(?:stage|role)\b",
        "role",
    ),
    (r"\brecord(?:ing|ings)?\b|\blive ?stream|\b(?:start|stop) .*\bstream", "recording"),
    (r"\brename\b|\bchange .*\bname\b", "rename"),
    (r"\b(?:raise|lower) .*\bhands?\b|\bhands? (?:up|down)\b", "hand"),
    (r"\bbreak ?out\b|\bwaiting room\b|\bmove .*\broom\b", "breakout"),
    (r"\b(?:unlock|reopen|re-open|unfreeze)\b", "unlock"),
)
_impossible: Final[tuple[tuple[re.Pattern[str], Trick], ...]] = tuple(
    (template(pattern), trick) for pattern, trick in _TRICKS
)


def parse(text: str) -> Intent:
    """What this sentence, on its own, asks for."""
    sentence = read(text)
    if sentence is None:
        return Unknown(unreadable=True)
    edges = polite(sentence)
    found = _social_in(sentence) or _social_in(edges.core)
    found = found or _reading(edges) or parse_telling(edges) or _ending(edges) or _removing(edges)
    if found is not None and not isinstance(found, Refused):
        return found
    for pattern, trick in _impossible:
        if pattern.search(sentence.unquoted):
            return Impossible(trick)
    if isinstance(found, Refused) and found.why != "several":
        return found
    if why := refusals.why_not(sentence):
        return Refused(why)
    return found or Unknown()


def _social_in(words: Sentence) -> Intent | None:
    return next((i for pattern, i in _social if pattern.fullmatch(words.plain)), None)


def _reading(edges: Polite) -> Intent | None:
    words = edges.core.cut(0, len(without_trailer(edges.core.plain.rstrip("?! ."))))
    if match := _tell_me.match(words.plain):
        words = words.cut(match.end())
    if any(pattern.fullmatch(words.plain) for pattern in _status):
        return Status()
    for pattern, count in _list:
        if pattern.fullmatch(words.plain):
            return ListPeople(count=count)
    for pattern, count in _list_role:
        target = _somebody(pattern.fullmatch(words.plain), words)
        if target is not None:
            return ListPeople(target, count=count)
    for pattern in _find:
        target = _somebody(pattern.fullmatch(words.plain), words)
        if target is not None:
            return Find(target)
    return None


_tell_me: Final = template(
    r"(?:tell me|show me|i want to (?:know|see)|do you know|let me know) (?=(?:who|how|what|which|is|the (?:status|state|session|roster))\b)"
)


def _somebody(match: re.Match[str] | None, words: Sentence) -> Target | None:
    if match is None:
        return None
    target = spoken(words.group(match, "x"))
    return target if isinstance(target, Target) else None


def _ending(edges: Polite) -> Intent | None:
    whole = edges.order
    for head, reason, why in reversed(_with_reason(whole, _END_REASON)):
        for pattern, lock in _end:
            if pattern.fullmatch(head.plain):
                return Refused(why) if why else End(lock, reason)
    if _lock_only.fullmatch(whole.plain):
        return Refused("lock-only")
    return None


def _removing(edges: Polite) -> Intent | None:
    whole = edges.order
    if _everyone.fullmatch(whole.plain):
        return Refused("everyone")
    for head, reason, why in _with_reason(whole, _REASON):
        match = _remove.fullmatch(head.plain)
        if match is None:
            continue
        if why:
            return Refused(why)
        found = _target(head.group(match, "x"), edges.core.cut(match.start("x")))
        return Remove(found, reason) if isinstance(found, Target) else Refused(found)
    return None


def _target(words: Sentence, whole: Sentence) -> Target | Why:
    for pattern in (_placed, _out):
        if words.inside_quotes is None and (match := pattern.fullmatch(words.plain)):
            words = words.group(match, "x")
            break
    words = words.cut(0, len(without_trailer(words.plain)))
    return spoken(words, whole)


def _with_reason(
    whole: Sentence, mark: re.Pattern[str]
) -> list[tuple[Sentence, str | None, Why | None]]:
    """The ways to read an order: with the first reason in it cut off, or without one."""
    for match in mark.finditer(whole.plain):
        if any(start < match.start() < end for start, end in whole.quoted_spans):
            continue
        head, tail = whole.cut(0, match.start()), whole.cut(match.end())
        head = head.cut(0, len(without_trailer(head.plain)))
        if (inner := tail.inside_quotes) is not None:
            return [(head, inner, None), (whole, None, None)]
        mark_words = match[0].strip(" ,;:").lower()
        why = refusals.unsafe_reason(tail.plain, clause=mark_words not in _ONE_THING)
        return [(head, tail.raw, why), (whole, None, None)]
    return [(whole, None, None)]
