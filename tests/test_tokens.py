"""The bound on tokens holds against the real tokenizers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_active_rooms.tokens import MARKS, MERGING, WORDS, token_bound
from tokenizer import VOCABULARIES, encode, real_tokens

mixed = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("abcdeimnorstuvxyzqjkwABQJXZ 0123456789"),
        st.sampled_from("'\"[],\\/\n\r\t ().:=-_…²½٣éüßñабвжאבعلیかが中王😀\u0301\u200d\u00a0"),
    ),
    max_size=60,
)
wordy = st.lists(
    st.sampled_from(
        [*WORDS, *MARKS, '["', '"]\n', ", ", " ", "'s", "'", "/", "\n", "12", "²", "é", "A", "a"]
    ),
    max_size=20,
).map("".join)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_every_entry_of_the_lists_is_one_token(vocabulary: str) -> None:
    small = "abcdefghijklmnopqrstuvwxyz"
    entries = [a + b for a in MERGING for b in MERGING]
    entries += [f" {letter}" for letter in small + small.upper()]
    entries += [*WORDS, '["', '"]\n']
    entries += [f"{n:0{digits}}" for digits in (1, 2, 3) for n in range(10**digits)]
    counts = {entry: len(encode(vocabulary, entry)) for entry in entries}
    assert {entry: count for entry, count in counts.items() if count != 1} == {}


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_every_mark_costs_what_is_said_between_letters_or_digits(vocabulary: str) -> None:
    texts = [
        (before + mark + after, cost)
        for mark, cost in MARKS.items()
        for before in "aZ0"
        for after in "aZ0"
    ]
    assert [text for text, cost in texts if len(encode(vocabulary, text)) > cost + 2] == []


@given(st.one_of(mixed, wordy, st.tuples(wordy, mixed, wordy).map("".join)))
def test_no_text_has_more_tokens_than_the_bound(text: str) -> None:
    assert token_bound(text) >= real_tokens(text)


def test_the_bound_holds_for_texts_made_to_cost_tokens() -> None:
    for text in [
        "qjqjqjqj" * 9,
        "zuxofiwevo" * 9,
        "\U000e0041" * 40,
        "😀" * 40,
        "\ud800" * 9,
        "'vEm'bb",
        "'Read'LLama",
        "1123٣12٣12",
        "бвгджбвгдж" * 4,
        "x" * 5000,
    ]:
        assert token_bound(text) >= real_tokens(text)


def test_nothing_costs_nothing() -> None:
    assert token_bound("") == 0


def test_an_ordinary_row_comes_out_close_to_the_real_count() -> None:
    row = '["1f3c9a2b","Priya Raman","student","student-12"]\n'
    assert real_tokens(row) <= token_bound(row) <= 1.6 * real_tokens(row)
