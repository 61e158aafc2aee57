"""Words that make a sentence something other than one plain order for now.

Two uses. `not_a_name`, `unsafe_reason` and `unsafe_message` guard the open parts of the
templates: a template that fits does not count if one of these words stands where a name,
a reason or an unmarked message would swallow it. `why_not` tells the person why a
sentence that fits no template was not carried out; it never makes anything run.
"""

from __future__ import annotations

import re
from typing import Final

from hms_active_rooms.moderator.offline.intents import Why
from hms_active_rooms.moderator.offline.sentence import Sentence, template

_UNIT = r"(?:s|secs?|seconds?|mins?|minutes?|m|h|hrs?|hours?|days?|weeks?|while|bit|moment|little)"
_NUMBER = (
    r"(?:\d+|an?|one|two|three|four|five|six|seven|eight|nine|ten|fifteen|twenty|thirty|half an?"
    r"|a couple(?: of)?|a few|some|several)"
)
# An apostrophe may be missing, as people type.
_NOT = r"(?:don'?t|doesn'?t|didn'?t|won'?t|can'?t|cannot|shouldn'?t|mustn'?t|isn'?t|wouldn'?t|not)"
_VERBS: Final = (
    r"(?:kick|remove|boot|throw|eject|expel|ban|unban|mute|unmute|warn|tell|message|announce|dm"
    r"|lock|unlock|end|close|get rid of|disconnect|terminate|broadcast|chuck|toss"
    r"|stop (?:the|this) (?:call|room|class|session|meeting|lesson))"
)
_CONDITION = (
    r"\b(?:if|unless|when|whenever|once|until|till?|while|in case|as soon as|as long as"
    r"|provided|providing|assuming|suppose|supposing|otherwise|or else|next time|every time"
    r"|each time|the moment|after (?:he|she|they|it|that|this|you|i|we)"
    r"|before (?:he|she|they|it|that|this|you|i|we)|depending)\b"
)
_DELAY = (
    rf"\b(?:(?:in|after|within) {_NUMBER} ?{_UNIT}|later|tomorrow|tonight|soon|eventually"
    r"|at \d|at (?:noon|midnight)|after|before|by \d|in a (?:sec|moment|minute|bit|while))\b"
)
_EXCEPTION = (
    r"\b(?:except|excluding|apart from|aside from|other than|besides|save for|leaving out"
    r"|(?:all|everyone|everybody|anyone|every \w+|all \w+) but|but not|instead of|rather than"
    r"|(?:keep|leave|spare|skip|ignore) )\b|, ?not\b|\bbut (?:the|for)\b"
)
_RETRACTION = (
    r"\b(?:actually|wait|never ?mind|nevermind|scratch that|forget (?:it|that|about)"
    r"|just kidding|jk|on second thoughts?|or (?:maybe )?not|kidding|cancel that|no no|nvm|undo)\b"
    rf"|[,.;!…-] ?(?:no|nope|don'?t|do not|{_NOT})\b"
)
_BREAK = r"[.!?;…]+ +\S"

_condition: Final = template(_CONDITION)
_delay: Final = template(_DELAY)
_exception: Final = template(_EXCEPTION)
_retraction: Final = template(_RETRACTION)
_break: Final = template(_BREAK)
_several: Final = template(
    rf"(?:\b(?:and|then|plus|also|or)|[,;&+/.!?]|->)(?: (?:then|also|please|just|to|not|so))* ?{_VERBS}\b"
)
_forbidden_order: Final = template(rf"\b{_NOT} (?:\w+ )?{_VERBS}\b|\bdo not\b.*\b{_VERBS}\b")
_span: Final = template(
    rf"(?:now|today|tonight|ever|good|life|later|a while|the (?:rest|day|time being|moment)|{_NUMBER} ?{_UNIT}"
    rf"|at least .*|about {_NUMBER} ?{_UNIT})\b.*"
)

_NO_NAME_WORDS: Final = """
    if unless when whenever while once until till after before because since although though
    and or then but nor plus not no never dont don't without except excluding besides instead
    who whom whose which that what why how where whether
    is are was were be been has have had did does do would should could can might must
    nobody none noone nothing everyone everybody anyone anybody someone somebody people
    said says saying asked wants wanted told please maybe perhaps probably
    tomorrow later tonight soon immediately also too only just really
    permanently forever for from by of about the a an all every to at on in with
"""
_NO_NAME: Final = frozenset(_NO_NAME_WORDS.split())
_NAME_MARKS: Final = re.compile(r'[,;:/&+?"<>|\\=]|\.\.|…|->')
_MAX_NAME_WORDS: Final = 5
_MAX_NAME_CHARS: Final = 80


def not_a_name(text: str) -> bool:
    """Whether bare words hold something that bare names do not; such a name needs quotes."""
    words = text.lower().split()
    return (
        not 0 < len(words) <= _MAX_NAME_WORDS
        or len(text) > _MAX_NAME_CHARS
        or any(word.strip(".!'()") in _NO_NAME for word in words)
        or _NAME_MARKS.search(text) is not None
    )


# "Removing him for that would be wrong": the words around the reason are a statement about it.
_statement: Final = template(
    r"\b(?:is|was|are|were|am|has|had|would|will|should|could|might|must|seems?|sounds?|does|did)\b"
)
_judged: Final = template(
    r"\b(?:bad|wrong|good|terrible|stupid|dumb) (?:idea|move|thing|call|choice|decision)\b"
    r"|\b(?:would|could|might|will) be\b|\b(?:is|was) (?:a mistake|overkill|unnecessary|unfair|what|why)\b"
)
_no_clause: Final = template(
    rf"(?:{_NOT}|do not|never|but|or|and|then|is|are|was|were|should|please|maybe|perhaps|so)\b"
)
_no_thing: Final = template(
    rf"(?<!^)\b{_NOT}\b|^(?!not \w+ing\b){_NOT}\b|\b(?:do not|never|then|but|or|nor|instead|that|who)\b|\b{_VERBS}\b"
    r"|^and\b|\band\Z"
)
_more: Final = template(r"[,&/]")
_more_people: Final = template(r" (?:and|plus|or) (?!\w+ing\b)")


def unsafe_reason(plain: str, *, clause: bool = False) -> Why | None:
    """What speaks against taking bare words as the reason of an order.

    Args:
        plain: the words.
        clause: a whole clause is expected, as after "because"; else, after "for", one thing.
    """
    if _judged.search(plain) or (not clause and _statement.search(plain)):
        return "reported"
    if not clause and _no_thing.search(plain):
        return "negation"
    if _more.search(plain) or (not clause and _more_people.search(plain)):
        return "several"
    checks: tuple[tuple[re.Pattern[str], Why], ...] = (
        (_retraction, "negation"),
        (_forbidden_order, "negation"),
        (_exception, "exception"),
        (_condition, "condition"),
        (_several, "several"),
        (_break, "several"),
    )
    if not any(map(str.isalnum, plain)):
        return "several"
    if _span.fullmatch(plain):
        return "span"
    if clause and _no_clause.match(plain):
        return "negation"
    if plain.endswith("?"):
        return "question"
    if _later.search(plain):
        return "delay"
    return next((why for pattern, why in checks if pattern.search(plain)), None)


_later: Final = template(
    rf"\b(?:tomorrow|later|tonight|at \d\S*|in {_NUMBER} ?{_UNIT}|after .*|before .*)\Z"
)

# "everyone who ...", "everyone in the back": the words would narrow the audience, not be said.
_narrowing: Final = template(
    r"(?:who|whom|whose|with|without|in|on|at|from|except|excluding|but|else|other|apart|besides"
    r"|named|called|near|of|about|over|under|what|how|why|where|when|whether|which|for|by|not"
    r"|and|or|after|before|until|later|tomorrow|tonight|again|now|except|only|until|if|privately"
    r"|individually|online|offline|present|connected|muted|unmuted|older|younger|late|new"
    r"|watching|listening|waiting|speaking|talking|sitting|left|there|then|said|says|asked|than|as|because|since)\b.*"
)
# "tell Sam hello not Alex": a capital after "not" is likely a name.
_not_them: Final = re.compile(r"\bnot [A-Z]\w*\W*\Z")
_no_words: Final = template(
    r"(?:nothing|something|anything|it|this|that|them|the same|so|off|him|her|none|some|no|yes"
    r"|about it|the following|the (?:news|truth|message|reason|rules?|time|answer|link)"
    r"|a (?:message|note|joke|story|secret))?[.!?]*"
)


def unsafe_message(plain: str, *, marked: bool) -> Why | None:
    """What speaks against sending these words as they are.

    Args:
        plain: the words after the audience.
        marked: they follow a colon, so all of them are the message, unless the last of them
            take it back.
    """
    if _taken_back.search(plain):
        return "negation"
    if marked:
        return None if plain else "no-message"
    if _retraction.search(plain):
        return "negation"
    if _no_words.fullmatch(plain):
        return "no-message"
    if _exception.search(plain) or _not_them.search(plain):
        return "exception"
    if _condition.search(plain):
        return "condition"
    if _several.search(plain) or _break.search(plain):
        return "several"
    if (
        _narrowing.fullmatch(plain)
        or '"' in plain
        or not (plain[0].isalnum() or ord(plain[0]) > 127)
    ):
        return "unclear-message"
    return None


_taken_back: Final = template(
    rf"\b(?:but|no|and|then|or|please) {_NOT} (?:\w+ )?(?:send|tell|say|post|announce|message|do)\b.*"
    r"|\b(?:never ?mind|scratch that|forget it|cancel that|just kidding|jk|nvm)[.! ]*\Z"
)

_DO: Final = template(
    rf"\b{_VERBS}(?:ed|ing|s)?\b|\b(?:kick|remov|boot|throw|eject|end|clos|lock|mut|warn|tell|send|stop"
    r"|messag|announc|say|told)\w*"
)
_negation: Final = template(
    rf"\b(?:{_NOT}|do not|never|no need|no one should|nobody should|stop (?:kick|remov|send|tell|warn|mut|end|clos|throw|boot)\w+"
    r"|avoid|refrain|leave \w+ alone|without|no longer|nothing|cancel|abort|hold off|forget|undo)\b"
)
_reported: Final = template(
    r"\b(?:said|says|saying|told|tells|asked|asks|wrote|writes|typed|wants|wanted|claims|claimed"
    r"|suggested|suggests|thinks|shouted|posted|according|ordered|orders|demands"
    r"|(?:message|chat|note)(?: from\b| is\b|:)|message ?\Z)"
)
_past: Final = template(
    r"\b(?:kicked|removed|booted|threw|thrown|ejected|expelled|ended|closed|stopped|warned|told"
    r"|sent|announced|messaged|locked|was|were|did|had|has|have|been|already|just)\b"
)
_question: Final = template(
    r"(?:who|whom|whose|what|when|where|why|which|how|should|shall|can|could|would|will|do|does"
    r"|did|is|are|was|were|has|have|had|may|might|must|am)\b.*|.*\?[ .!]*"
)
_joined: Final = template(r".*(?:\b(?:and|then|or|plus)\b|[,;&+/]).*|.*[.!…]+ +\S.*")


def why_not(sentence: Sentence) -> Why | None:
    """Why an order in these words is not carried out; None if they are not about an order."""
    text = sentence.unquoted
    if not _DO.search(text):
        return None
    whole: tuple[tuple[re.Pattern[str], Why], ...] = (
        (_negation, "negation"),
        (_exception, "exception"),
        (_condition, "condition"),
        (_delay, "delay"),
        (_reported, "reported"),
    )
    for pattern, why in whole:
        if pattern.search(text):
            return why
    if _question.fullmatch(text):
        return "question"
    if _joined.fullmatch(text):
        return "several"
    if _past.search(text):
        return "reported"
    return None
