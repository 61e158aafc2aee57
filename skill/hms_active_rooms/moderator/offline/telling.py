"""Sentences that send a message: who hears it, and exactly which words.

The message is the person's own words. Only what belongs to the order goes: "that" and
"to" in front ("tell Bob to stop" sends "stop"), quotes, a colon; "not to" becomes
"do not". Where the audience ends is unclear without a mark, so every possible end is
kept and the roster decides.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from hms_active_rooms.moderator.offline import refusals
from hms_active_rooms.moderator.offline.intents import (
    Refused,
    Split,
    Target,
    Tell,
    TellEveryone,
    Telling,
    Why,
)
from hms_active_rooms.moderator.offline.sentence import (
    Polite,
    Sentence,
    template,
    without_trailer,
)
from hms_active_rooms.moderator.offline.spoken import EVERYONE, spoken

WARNING: Final = "This is a warning from the moderator. Please follow the rules of this room."
"""Sent by a bare "warn Bob"; the person sees it before it is sent."""

Manner = Literal["tell", "write", "warn", "ask"]
"""How an order began. The words of `write` are nouns too: "message everyone got was rude"."""

_NOTE: Final = (
    r"(?:a |an |the |this |one )?(?:private |direct |short |quick )?"
    r"(?:message|announcement|note|dm|reminder|chat message)"
)
_QUOTED: Final = r"(?:\"[^\"]+\"|'.+?')"

# In each: `who` is the audience, `rest` the words after it, `open` both without a mark between.
_quoted_to: Final = template(
    rf"(?:say|send|announce|broadcast|post|message|write)(?: the (?:message|words))?:?"
    rf" (?P<words>{_QUOTED}|hi|hello|goodbye|bye|thanks|thank you|sorry|welcome) to (?P<who>.+?)[ .!]*"
)
_to_everyone: Final = template(
    rf"(?:announce|broadcast|make {_NOTE}|send {_NOTE}|post {_NOTE})(?P<rest>(?::| that | saying |,? ?\").+)"
    r"|(?:announce|broadcast) (?!to\b)(?P<bare>[^ ]+ [^ ]+ .+)"
)
_fixed: Final = tuple(
    template(pattern)
    for pattern in (
        r"let (?P<who>.+?) know(?P<rest>(?: that|:|,)? .+)",
        rf"(?:send|write|give) (?P<who>.+?) {_NOTE}(?P<rest>(?::| saying| that).+)",
        rf"(?:send|write|give) {_NOTE} to (?P<who>.+?)(?P<rest>(?::| saying| that).+)",
    )
)
_fixed_warning: Final = template(
    r"(?:give|send) (?P<who>.+?) (?:a|one|one last|a last|a final) warning"
    r"(?P<rest>(?: (?:about|for|that|to)|:).+)?"
)
_warn: Final = template(
    r"(?:warn|(?:give|send) (?:a |one )?(?:last |final )?warning to) (?P<open>.+)"
)
_tell: Final[tuple[tuple[re.Pattern[str], Manner], ...]] = (
    (template(rf"(?:announce|broadcast|say|post|send)(?: {_NOTE})? to (?P<open>.+)"), "tell"),
    (template(r"(?:tell|remind|inform|notify|dm|write to|whisper to) (?P<open>.+)"), "tell"),
    (template(r"(?:message|text|write|ping) (?P<open>.+)"), "write"),
)
_ask: Final = template(r"ask (?P<open>.+)")

_everyone: Final = template(rf"{EVERYONE.replace('|all|', '|')}(?=[ :,]|\Z)")
_role_words: Final = template(
    r"(?:everyone|everybody|all people|all|those|the people|people) (?:with|in|having)(?: the)? "
    rf"(?:role(?: of)? (?P<a>{_QUOTED}|[^ :,]+)|(?P<b>[^ :,]+) role)(?=[ :,]|\Z)"
)
_first_quoted: Final = template(rf"(?P<who>{_QUOTED})(?P<rest>[ :,].*)?")
_colon: Final = template(r"(?P<who>[^:\"]{1,90}?) ?:(?P<rest>(?: |\"|').+)")
_last_quoted: Final = template(
    r"(?P<who>[^\"]{1,90}?)(?: that| saying|,)? (?P<rest>\"[^\"]+\"|'.+')[ .!]*"
)
_not_us: Final = template(r"(?:me|us|you|yourself|myself)\b.*")

_marked: Final = template(r" ?: ?(?P<x>.+)")
_joined: Final = template(
    r"(?:[,-] ?)?(?P<word>that|saying(?: that)?|to not|not to|to)[ :]+(?P<x>.+)"
)
_about: Final = template(r"(?:about|for) (?P<x>.+)")
# Words a message begins with and hardly a surname. Behind a name without a mark, any other
# word may be the rest of the name: "tell Bob Smith hello" must not reach a Bob Jones.
_BEGINNINGS: Final = (
    r"(?:i|i'm|i'll|i've|we|we're|we'll|we've|you|you're|your|he|he's|she|she's|they|they're|it|it's"
    r"|this|these|those|there|there's|here|here's|the|a|an|my|our|his|their|its|all|everyone|nobody"
    r"|no|yes|ok|okay|please|pls|sorry|hi|hello|hey|bye|goodbye|welcome|thanks|thank|congratulations"
    r"|congrats|good|great|well|nice|happy|quiet|silence|enough|be|do|don't|dont|stop|wait|listen|look"
    r"|come|go|get|give|take|try|stay|sit|stand|move|open|close|speak|talk|use|turn|put|leave|join"
    r"|start|begin|keep|let|let's|check|read|write|say|send|show|share|mute|unmute|hurry|let|have"
    r"|can|could|will|would|do|does|did|what|next|last|one|two|class|today|time|see|just)"
)
_begins_message: Final = template(rf"{_BEGINNINGS}(?![\w'-]).*")
_MAX_NAME_WORDS: Final = 5


def parse_telling(edges: Polite) -> Telling | Refused | None:
    """The message this sentence orders; `Refused` for one it starts but does not plainly order."""
    words = edges.core
    if edges.asked:
        words = words.cut(0, len(words.plain.rstrip("? ")))
    if match := _quoted_to.fullmatch(words.plain):
        said = words.group(match, "words")
        return _to(words.group(match, "who"), said.inside_quotes or said.raw)
    if match := _to_everyone.fullmatch(words.plain):
        rest = words.group(match, "rest" if match["rest"] else "bare")
        if not _everyone.match(rest.plain):
            return _to(None, *_message(rest, "tell"))
    for pattern in (*_fixed, _fixed_warning):
        if match := pattern.fullmatch(words.plain):
            manner: Manner = "warn" if pattern is _fixed_warning else "tell"
            rest = words.group(match, "rest") if match["rest"] else Sentence("")
            return _to(words.group(match, "who"), *_message(rest, manner))
    heads: tuple[tuple[re.Pattern[str], Manner], ...] = (
        (_warn, "warn"),
        (_ask, "ask"),
        *_tell,
    )
    for pattern, manner in heads:
        if match := pattern.fullmatch(words.plain):
            return _open(words.group(match, "open"), manner)
    return None


def _to(who: Sentence | None, message: str | None, why: Why | None = None) -> Telling | Refused:
    """To exactly these words' audience; None is everyone."""
    target = "everyone" if who is None else spoken(who)
    if message is None:
        return Refused(why or "no-message")
    if isinstance(target, Target):
        return Tell((Split(target, message, sure=True),))
    return TellEveryone(message) if target == "everyone" else Refused(target)


def _open(words: Sentence, manner: Manner) -> Telling | Refused | None:
    if _not_us.fullmatch(words.plain):
        return None
    if match := _role_words.match(words.plain):
        role = words.group(match, "a" if match["a"] else "b")
        found = spoken(Sentence(f"role {role.raw}"))
        return _split(found, words.cut(match.end()), manner)
    if match := _everyone.match(words.plain):
        rest = words.cut(match.end())
        return _to(None, *_message(rest, manner, unmarked=manner == "write"))
    if match := _first_quoted.fullmatch(words.plain):
        rest = words.group(match, "rest") if match["rest"] else Sentence("")
        return _split(spoken(words.group(match, "who")), rest, manner)
    return _splits(words, manner)


def _split(target: Target | Why, rest: Sentence, manner: Manner) -> Tell | Refused:
    message, why = _message(rest, manner)
    if isinstance(target, str):
        return Refused(target)
    if message is None:
        return Refused(why or "no-message")
    return Tell((Split(target, message, sure=True),))


def _splits(words: Sentence, manner: Manner) -> Tell | Refused:
    """Every way to cut unmarked words into an audience and a message."""
    found: list[Split] = []
    whys: list[Why] = []

    def add(who: Sentence, rest: Sentence, *, sure: bool) -> None:
        target = spoken(who)
        message, why = _message(rest, manner, unmarked=not sure)
        if isinstance(target, str):
            whys.append("several" if target == "everyone" else target)
        elif message is None:
            whys.append(why or "no-message")
        else:
            found.append(Split(target, message, sure))

    if match := _colon.fullmatch(words.plain):
        add(words.group(match, "who"), Sentence(":" + words.group(match, "rest").raw), sure=True)
    elif (match := _last_quoted.fullmatch(words.plain)) and words.group(
        match, "rest"
    ).inside_quotes:
        add(words.group(match, "who"), words.group(match, "rest"), sure=True)
    else:
        ends = [i for i, char in enumerate(words.plain) if char == " "] + [len(words.plain)]
        for end in ends[:_MAX_NAME_WORDS]:
            add(words.cut(0, end), words.cut(end), sure=False)
    pronouns = [split for split in found if split.target.form == "pronoun"]
    # "her" is also whose: "tell her mother" is not a message to her.
    pronouns = [s for s in pronouns if s.sure or not _whose(words, s)]
    if any(split.target.form == "pronoun" for split in found):
        found = pronouns[-1:]
    return Tell(tuple(found)) if found else Refused(whys[0] if whys else "no-message")


def _whose(words: Sentence, split: Split) -> bool:
    after = words.plain[len(split.target.text) :].strip(" ")
    return split.target.text.lower() == "her" and bool(after) and not _joined.fullmatch(after)


def _message(
    rest: Sentence, manner: Manner, *, unmarked: bool = False
) -> tuple[str | None, Why | None]:
    """The words to send, or why these are not plainly words to send.

    Args:
        rest: the words behind the audience.
        manner: how the order began.
        unmarked: where the audience ends is a guess.
    """
    plain = rest.plain
    if not without_trailer(f" {plain}").strip(" ,"):
        return (WARNING, None) if manner == "warn" else (None, "no-message")
    if match := _marked.fullmatch(plain):
        words = rest.group(match, "x")
        if words.inside_quotes is None and words.plain[0] in "\"'":
            return None, "unclear-message"
        why = refusals.unsafe_message(words.plain, marked=True)
        return (words.inside_quotes or words.raw, None) if why is None else (None, why)
    if rest.inside_quotes is not None:
        return rest.inside_quotes, None
    if manner == "warn" and (match := _about.fullmatch(plain)):
        about = rest.group(match, "x")
        about = about.cut(0, len(without_trailer(about.plain)))
        why = refusals.unsafe_reason(about.plain)
        return (f"{WARNING} Reason: {about.raw}", None) if why is None else (None, why)
    match = _joined.fullmatch(plain)
    words = rest.group(match, "x") if match else rest.cut(len(plain) - len(plain.lstrip(", -")))
    joint = match["word"].lower() if match else ""
    if words.inside_quotes is not None:
        return words.inside_quotes, None
    if why := refusals.unsafe_message(words.plain, marked=False):
        return None, why
    if not joint and (manner == "ask" or (unmarked and not _begins_message.fullmatch(plain))):
        return None, "unclear-message"
    return (f"do not {words.raw}" if "not" in joint else words.raw), None
