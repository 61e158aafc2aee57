"""Names that a person would take for one another have one skeleton."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hms_active_rooms
from hms_active_rooms.looks import SCANNED_CHARS, SEEN_CHARS, folded, skeleton
from hms_active_rooms.untrusted import lookalikes


def test_disguises_of_a_name_have_its_skeleton() -> None:
    for other in [
        "Ѕраm Вot",
        "ЅРАМ ВОТ",
        "ѕраm воt",
        "ｓｐａｍ　ｂｏｔ",
        "𝓢𝓹𝓪𝓶 𝓑𝓸𝓽",
        "Ⓢⓟⓐⓜ Ⓑⓞⓣ",
        "Sparn Bot",
        "Spam B0t",
        "Sρam Bοt",
        "Späm Bót",
        "S\u0336pam Bot",
        "Sp\u200bam Bo\u202et",
        "\u3164Spam\u00a0\u2800Bot\U000e0041",
        "Spa\ufe0fm\nBot",
        "\u200b" * 900 + "Spam Bot",
    ]:
        assert skeleton(other) == skeleton("Spam Bot")


def test_pairs_a_person_mixes_up_share_a_skeleton() -> None:
    for one, other in [
        ("Alice", "AIice"),
        ("Alice", "A1ice"),
        ("Alice", "АLІСЕ"),
        ("ADMIN", "admin"),
        ("Oleg", "0leg"),
        ("Mark", "маrк"),
        ("Straße", "STRASSE"),
        ("Łukasz", "Lukasz"),
        ("Chris", "\u03f9hris"),
        ("Admin", "\U0001ccd6dmin"),
        ("محمد", "مُحَمَّد"),
        ("שלום", "שָׁלוֹם"),
    ]:
        assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(
    "twin", ["5am Lee", "Sann Lee", "Sam Lee.", "SamLee", "sam_lee", "Sarn  Lee"]
)
def test_a_question_warns_of_a_name_that_is_another_one_at_a_glance(twin: str) -> None:
    assert lookalikes("Sam Lee", [twin, "Sam Patel"]) == [twin]
    assert lookalikes(twin, ["Sam Lee"]) == ["Sam Lee"]


def test_names_that_differ_to_the_eye_do_not() -> None:
    for one, other in [
        ("Anna", "Hanna"),
        ("Nina", "Vina"),
        ("Tom", "Tim"),
        ("王小明", "王小红"),
        ("हिन्दी", "हन्द"),
        ("が", "か"),
        ("😀", "😎"),
        ("Иван", "Пётр"),
        ("u-1", "u-2"),
        ("Spam Bot", "SpamBot"),
    ]:
        assert skeleton(one) != skeleton(other)


def test_characters_look_like_what_unicode_says() -> None:
    table = Path(hms_active_rooms.__file__).with_name("confusables.txt").read_text("utf-8")
    lines = [line.split() for line in table.splitlines() if not line.startswith("#")]
    assert sum(len(line) - 1 for line in lines) == 6355
    for prototype, *characters in lines:
        like = "".join(chr(int(code, 16)) for code in prototype.split("+"))
        for char in (chr(int(code, 16)) for code in characters):
            # An accent goes first, as "Späm" is "Spam".
            if not unicodedata.combining(char) and unicodedata.normalize("NFD", char) == char:
                assert skeleton(f"a{char}b") == skeleton(f"a{like}b")


@given(st.text())
def test_a_skeleton_is_its_own(name: str) -> None:
    assert skeleton(skeleton(name)) == skeleton(name)


@given(st.text(), st.sampled_from("\u200b\u202e\U000e0041\ufe0f\x00\u00ad\ud800"), st.data())
def test_what_is_not_seen_changes_no_key(name: str, hidden: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name)))
    disguised = name[:place] + hidden + name[place:]
    assert folded(disguised) == folded(name)
    assert skeleton(disguised) == skeleton(name)


def test_only_the_beginning_that_is_seen_is_compared() -> None:
    long = "a" * SEEN_CHARS
    assert folded("é" + long + "b") == folded("é" + long + "c")
    assert skeleton(long + "b") == skeleton(long + "c" * 10_000_000)
    assert skeleton("\u200b" * SCANNED_CHARS * 1000 + "a") == ""


def test_folding_keeps_accents_and_scripts_apart() -> None:
    assert folded("ＪＯＳÉ\u200b") == "josé" != folded("Jose")
    assert folded("Ѕpam") != folded("Spam")
