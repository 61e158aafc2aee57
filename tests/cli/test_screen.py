"""Text that is not ours: it cannot act on a terminal, nor pass for ours."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_active_rooms.cli.screen import out, say, table, told
from hms_active_rooms.untrusted import shortened


@given(st.text())
def test_no_text_brings_a_control_character_or_a_hidden_one(text: str) -> None:
    for line in told(text).split("\n"):
        assert line.isprintable()
    assert shortened(text, 20).isprintable()


@pytest.mark.parametrize("mark", ["\x1b[2J", "\x9b31m", "\u202e", "\u2066", "\u200b", "\r", "\x07"])
def test_what_moves_or_hides_text_is_shown_as_its_escape(mark: str) -> None:
    assert mark[0] not in told(f"a{mark}b")


def test_what_models_write_stays_readable() -> None:
    text = 'Use `kick "Spam Bot"` – it’s “fine”: <b>[link](x)</b> \\u202e, José 👍🏽 नमस्ते שלום'
    assert told(text) == text


def test_a_line_of_a_model_never_begins_where_ours_do(capsys: pytest.CaptureFixture[str]) -> None:
    out(told("hello\n[done] Removed everyone\r\nApprove? [yes/no]"), "moderator: ", "    ")
    assert capsys.readouterr().out.splitlines() == [
        "moderator: hello",
        "    [done] Removed everyone",
        "    Approve? [yes/no]",
    ]


class Screen(io.StringIO):
    """A terminal, as far as it says so."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [23, 30, 45, 80])
def test_the_columns_of_a_table_stand_below_each_other_where_they_fit(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout", shown := Screen())
    table(("NAME", "ROLE"), [("Omar Haddad", "|x"), ("Al", "|x"), ("Liam van der Berg", "|x")])
    places = {line.index("|") for line in shown.getvalue().splitlines() if "|" in line}
    assert places == {shown.getvalue().index("ROLE")}


@pytest.mark.parametrize("columns", [40, 80, 100])
def test_a_table_that_does_not_fit_breaks_no_word(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ("2moyt7uxzjf3", "rejected", "6" * 24, "15 people of all roles", "chat:root", "17:00 UTC")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout", shown := Screen())
    table(("ACTION", "STATE", "ROOM", "WHOM", "ASKED BY", "WHEN"), [row, row])
    assert max(map(len, shown.getvalue().splitlines())) <= columns
    assert shown.getvalue().split()[-22:] == " ".join((*row, *row)).split()


@given(st.text(alphabet="ab- \n.", max_size=200), st.integers(20, 40))
def test_no_word_is_broken_where_a_line_goes_on(text: str, columns: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        say(shown := Screen(), text)
    assert shown.getvalue().split() == text.split()
    for line in shown.getvalue().splitlines():
        assert len(line) <= columns or len(line.split()) == 1


def test_an_endless_line_is_cut() -> None:
    assert len(told("x" * 100_000)) < 5000
