"""A setting with a wrong value is named, with the value and with what is allowed."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Mapping

import pytest

from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.cli import chat
from hms_active_rooms.cli.serving import public_url
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.gate.journal import Journal, default_url
from hms_active_rooms.gate.policy import Policy
from hms_active_rooms.serve.notify import notify_settings

Read = Callable[[Mapping[str, str]], object]


def journal(environ: Mapping[str, str]) -> object:
    return Journal(environ["HMS_JOURNAL"])


def langgraph_dev(environ: Mapping[str, str]) -> object:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        return runpy.run_module("hms_active_rooms.moderator.graph")


@pytest.mark.parametrize(
    ("read", "variable", "value", "allowed"),
    [
        (Policy.from_env, "HMS_POLICY_MAX_PEERS", "many", "a whole number"),
        (Policy.from_env, "HMS_POLICY_MAX_PEERS", "0", "at least 1"),
        (Policy.from_env, "HMS_POLICY_MAX_PEERS", "2.5", "a whole number"),
        (Policy.from_env, "HMS_POLICY_GRANT_TTL_S", "0", "more than 0."),
        (Policy.from_env, "HMS_POLICY_VERIFY_S", "nan", "at most 120."),
        (Policy.from_env, "HMS_POLICY_ROOMS", "x", "24 hex"),
        (Policy.from_env, "HMS_POLICY_PROTECTED_ROLES", "a;b", "commas"),
        (Policy.from_env, "HMS_POLICY_RELAXED", "send", "hms-send-message"),
        (Policy.from_env, "HMS_POLICY_RELAXED", "hms-end-active-room", "unattended"),
        (Policy.from_env, "HMS_POLICY_UNATTENDED", "hms-end-active-room", "unattended"),
        (Policy.from_env, "HMS_POLICY_FILE", "none.toml", "No such file"),
        (ActiveRoomsClient.from_env, "HMS_TRANSPORT", "pigeon", "httpx or aiohttp"),
        (notify_settings, "HMS_NOTIFY_FORM", "irc", "slack, teams or discord"),
        (notify_settings, "HMS_NOTIFY_NAMES", "yes", "0 or 1"),
        (journal, "HMS_JOURNAL", "mysql://x", "sqlite:///"),
        (public_url, "HMS_SERVER_URL", "rooms", "https://rooms.example"),
        (langgraph_dev, "HMS_PLAIN_ANSWERS", "yes", "0 or 1"),
        (langgraph_dev, "HMS_ROOM", "here", "24 hex"),
        (langgraph_dev, "HMS_MODEL", "nowhere:none", "commands"),
    ],
)
def test_a_wrong_setting_is_told_with_its_value_and_what_is_allowed(
    read: Read, variable: str, value: str, allowed: str
) -> None:
    others = {"HMS_NOTIFY_URL": "https://x.example", "HMS_MANAGEMENT_TOKEN": "t"}
    others |= {"HMS_POLICY_ROOMS": "*", "HMS_JOURNAL": ":memory:"}
    with pytest.raises(ConfigurationError) as caught:
        read({**others, variable: value})
    told = caught.value.for_model()
    assert told.startswith(variable) or variable in caught.value.hint
    assert f'"{value}"' in told.replace("\\", "")
    assert allowed in told


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows each user's folders")
def test_where_the_user_has_no_home_the_error_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pwd

    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # as in a container: KeyError
    for find in (default_url, chat.path):
        with pytest.raises(ConfigurationError, match="no home folder") as caught:
            find()
        assert "HOME" in caught.value.hint


@pytest.mark.parametrize(
    ("read", "variable", "value"),
    [
        (ActiveRoomsClient.from_env, "HMS_BASE_URL", "https://ada:secret@x.example"),
        (ActiveRoomsClient.from_env, "HMS_MANAGEMENT_TOKEN", "secret secret"),
        (notify_settings, "HMS_NOTIFY_URL", "hooks.example/secret"),
    ],
)
def test_a_setting_that_may_hold_a_secret_is_named_without_its_value(
    read: Read, variable: str, value: str
) -> None:
    with pytest.raises(ConfigurationError, match=variable) as caught:
        read({"HMS_MANAGEMENT_TOKEN": "t", variable: value})
    assert "secret" not in caught.value.for_model()
