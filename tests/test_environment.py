"""A variable that nobody reads is an error, and every one that the docs name is read."""

from __future__ import annotations

import re

import pytest

from docs import PROJECT
from hms_active_rooms.environment import check_variables
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

FIELDS = tuple(Policy.model_fields)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("HMS_POLICY", "HMS_POLICY_FILE"),
        ("HMS_POLICY_MAXPEERS", "HMS_POLICY_MAX_PEERS"),
        ("hms_secret", "HMS_SECRET"),
        ("Hms_Policy_Rooms", "HMS_POLICY_ROOMS"),
        ("HMS_APPROVER_TOKENS", "HMS_APPROVER_TOKEN"),
        ("HMS_", "HMS_"),
    ],
)
def test_an_unknown_variable_is_an_error_that_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_variables({"PATH": "x", name: "1"}, FIELDS)
    assert name in str(caught.value)
    assert f"Did you mean {nearest}" in caught.value.hint
    check_variables({name: ""}, FIELDS)


def test_a_program_that_builds_its_tools_from_the_environment_is_told_too() -> None:
    environ = {"HMS_POLICY": "p.toml", "HMS_MANAGEMENT_TOKEN": "x", "HMS_JOURNAL": ":memory:"}
    with pytest.raises(ConfigurationError, match="HMS_POLICY"):
        ActiveRoomsToolkit.from_env(environ=environ)


def test_every_variable_that_the_docs_name_is_read() -> None:
    pages = [PROJECT / "README.md", PROJECT / "SKILL.md", *PROJECT.glob("skill/references/*.md")]
    names = {
        name
        for page in pages
        for name in re.findall(r"\bHMS_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8"))
    }
    assert "HMS_POLICY_ROOMS" in names
    check_variables(dict.fromkeys(names - {"HMS_POLICY"}, "1"), FIELDS)
