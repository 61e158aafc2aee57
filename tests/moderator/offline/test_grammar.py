"""Which sentences are orders, which are questions to the room, and which must never be either."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hms_active_rooms.moderator.offline.grammar import parse
from hms_active_rooms.moderator.offline.intents import (
    Answer,
    End,
    Find,
    Intent,
    ListPeople,
    Refused,
    Remove,
    Target,
    Tell,
    TellEveryone,
    Unknown,
)
from hms_active_rooms.moderator.offline.replies import EXAMPLES
from hms_active_rooms.moderator.offline.sentence import MAX_CHARS
from hms_active_rooms.moderator.offline.telling import WARNING
from moderator.offline.rooms_for_tests import changes, play, said


def _table(name: str) -> list[tuple[str, str]]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return [(key, sentence) for key, group in yaml.safe_load(text).items() for sentence in group]


UNDERSTOOD = _table("understood.yaml")
NEVER = _table("never.yaml")


def brief(intent: Intent) -> str:
    """An intent in the short form of the table."""
    match intent:
        case ListPeople(target=target, count=count):
            # Any way to name a role is read as a role here.
            role = replace(target, form="named") if target else None
            return f"{'count' if count else 'list'} {_who(role)}".strip()
        case Find(target=target):
            return f"find {_who(target)}"
        case TellEveryone(message=message):
            return f"everyone: {message}"
        case Tell(splits=splits):
            # "tell Priya come to the front" has several ends; the roster decides, tested there.
            found = [
                f"tell {_who(s.target)}: {s.message.replace(WARNING, 'WARNING')}" for s in splits
            ]
            return next((text for text in found if text in _KEYS), found[-1])
        case Remove(target=target, reason=reason):
            return f"remove {_who(target)}{_because(reason)}"
        case End(lock=lock, reason=reason):
            return f"end{' and lock' if lock else ''}{_because(reason)}"
        case Answer(yes=yes):
            return "yes" if yes else "no"
    return type(intent).__name__.lower()


_KEYS = {key for key, _ in UNDERSTOOD}


def _because(reason: str | None) -> str:
    return f" because {reason}" if reason else ""


def _who(target: Target | None) -> str:
    if target is None:
        return ""
    text = f'"{target.text}"' if target.form == "quoted" or "-" in target.text else target.text
    return {"role": f"role {text}", "the": f"the {text}"}.get(target.form, text)


def test_the_tables_are_as_large_as_promised() -> None:
    assert len(UNDERSTOOD) >= 150
    assert len(NEVER) >= 120
    assert not {sentence for _, sentence in UNDERSTOOD} & {sentence for _, sentence in NEVER}


@pytest.mark.parametrize(("wanted", "sentence"), UNDERSTOOD, ids=[s for _, s in UNDERSTOOD])
def test_a_plain_sentence_is_understood(wanted: str, sentence: str) -> None:
    assert brief(parse(sentence)) == wanted


@pytest.mark.parametrize(("why", "sentence"), NEVER, ids=[ascii(s) for _, s in NEVER])
def test_no_other_sentence_becomes_a_change(why: str, sentence: str) -> None:
    assert not isinstance(parse(sentence), TellEveryone | End), why
    history = play(sentence)
    assert changes(history) == [], why
    assert said(history)


@pytest.mark.parametrize("why", ["negations", "questions", "conditions", "delays", "exceptions"])
def test_a_sentence_that_is_no_plain_order_is_answered_with_nothing_was_done_and_why(
    why: str,
) -> None:
    sentences = [sentence for key, sentence in NEVER if key == why]
    explained = [s for s in sentences if isinstance(parse(s), Refused)]
    assert len(explained) > 0.8 * len(sentences)
    for sentence in explained:
        assert any(word in said(play(sentence)) for word in ("Nothing was", "did nothing"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_help_is_understood(example: str) -> None:
    assert not isinstance(parse(example), Refused | Unknown)


def test_a_text_of_more_than_2000_characters_is_not_read() -> None:
    long = "tell everyone: " + "a" * (MAX_CHARS - 15)
    assert isinstance(parse(long), TellEveryone)
    assert parse(long + "a") == Unknown(unreadable=True)


def test_words_in_quotes_or_behind_a_colon_are_sent_as_they_are() -> None:
    words = "If you don't stop, then I end the room; no joke!"
    for sentence in (f"tell everyone: {words}", f'tell everyone "{words}"', f"announce: {words}"):
        assert parse(sentence) == TellEveryone(words)


def test_a_message_keeps_its_case_its_quotes_and_its_letters() -> None:
    assert parse("tell everyone: It’s “DONE”, naïve Ünal") == TellEveryone(
        "It’s “DONE”, naïve Ünal"
    )


@pytest.mark.parametrize(
    "hidden", ["\n", "\t", "\x1b", "\x00", "\u200b", "\u202e", "\u00a0", "\u3164"]
)
def test_no_character_that_is_not_seen_is_sent_or_looked_for(hidden: str) -> None:
    for sentence in (
        f"tell everyone: hel{hidden}lo",
        f"kick Spam{hidden} Bot",
        f'kick "A{hidden}"',
    ):
        assert parse(sentence) == Unknown(unreadable=True)


def test_quotes_that_do_not_enclose_the_whole_message_are_not_guessed_at() -> None:
    assert isinstance(parse('tell everyone "stop" and "listen"'), Refused)
    assert isinstance(parse('tell everyone say "hi"'), Refused)
    assert isinstance(parse('tell everyone: "goodbye" and end the room'), Refused)
