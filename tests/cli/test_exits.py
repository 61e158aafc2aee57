"""Exit codes: one meaning each, for every error and every state."""

from __future__ import annotations

from typing import get_args

import pytest

from hms_active_rooms import errors
from hms_active_rooms.cli.main import BY_STATE, main, of_error
from hms_active_rooms.gate.journal.records import State


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidCall("x"), 2),
        (errors.ConfigurationError("x"), 2),
        (errors.PeerNotFound("x", status=404), 2),
        (errors.PolicyRefusal("x"), 4),
        (errors.OutcomeUnknown("x"), 5),
        (errors.JournalError("x"), 1),
        (errors.Unauthorized("x", status=401), 1),
        (errors.NotActive("x", status=404), 1),
        (errors.ServerError("x", executed="maybe"), 5),
    ],
)
def test_each_error_has_the_code_of_what_to_do_next(
    error: errors.ActiveRoomsError, code: int
) -> None:
    assert of_error(error) == code


def test_every_state_has_a_code_and_only_done_is_zero() -> None:
    codes = {state: BY_STATE[state] for state in get_args(State)}
    assert [state for state, code in codes.items() if code == 0] == ["done"]
    assert codes["proposed"] == 3
    assert codes["rejected"] == codes["expired"] == 4
    assert codes["unknown"] == codes["sent"] == 5


def test_the_help_text_lists_every_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    table = capsys.readouterr().out.partition("Exit codes:")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in table.strip().splitlines()] == [
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "129,",
        "141",
    ]
