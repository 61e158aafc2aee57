"""Approvers' names and tokens, from the environment."""

from __future__ import annotations

import pytest

from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.serve.guard import approver_tokens, guard_settings
from hms_active_rooms.untrusted import quoted

ADA, BOB = "ada-token-0123456789abc", "bob-token-0123456789abc"


def test_each_variable_names_an_approver() -> None:
    environ = {"HMS_APPROVER_TOKEN": ADA, "HMS_APPROVER_TOKEN_BOB": BOB, "HMS_APPROVER": "x"}
    assert approver_tokens(environ) == {"approver": ADA, "bob": BOB}


@pytest.mark.parametrize(
    "names", [("_ADA", "_Ada"), ("_ada", "_ADA"), ("", "_APPROVER"), ("_Approver", "")]
)
def test_two_variables_for_one_name_are_an_error(names: tuple[str, str]) -> None:
    """Else one of the two people could not approve, and which one would be chance."""
    environ = {f"HMS_APPROVER_TOKEN{names[0]}": ADA, f"HMS_APPROVER_TOKEN{names[1]}": BOB}
    with pytest.raises(ConfigurationError, match="Two tokens have the name") as raised:
        approver_tokens(environ)
    assert ADA not in str(raised.value)
    assert BOB not in str(raised.value)


def test_an_empty_variable_is_nobodys() -> None:
    assert approver_tokens({"HMS_APPROVER_TOKEN_ADA": "", "HMS_APPROVER_TOKEN_Ada": ADA}) == {
        "ada": ADA
    }


@pytest.mark.parametrize("name", ["_", "_A B", "_A\nB", "_" + "x" * 41])
def test_a_malformed_name_is_an_error_that_names_the_variable_as_typed(name: str) -> None:
    with pytest.raises(ConfigurationError, match="does not end in a valid name") as raised:
        approver_tokens({f"HMS_APPROVER_TOKEN{name}": ADA})
    assert quoted(f"HMS_APPROVER_TOKEN{name}", 70) in str(raised.value)
    assert ADA not in str(raised.value)


def test_one_token_for_two_people_is_an_error() -> None:
    """Else the record could not tell who of them decided."""
    approvers = approver_tokens({"HMS_APPROVER_TOKEN_ADA": ADA, "HMS_APPROVER_TOKEN_BOB": ADA})
    with pytest.raises(ConfigurationError, match="same token") as raised:
        guard_settings("127.0.0.1", approvers=approvers)
    assert ADA not in str(raised.value)
