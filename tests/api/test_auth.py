"""Tokens: signed by the docs, renewed before expiry, checked before use, never shown."""

from __future__ import annotations

import logging
import pickle
import threading
import warnings
from dataclasses import dataclass
from uuid import UUID

import jwt
import pytest

from hms_active_rooms.api import SignedTokens, StaticToken
from hms_active_rooms.api.auth import from_env
from hms_active_rooms.errors import ActiveRoomsError, ConfigurationError

KEY = "access-key-5f0c"
SECRET = "the-app-secret-of-forty-characters-12345"
NOW = 1_790_000_000.0


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


def signed(clock: Clock) -> SignedTokens:
    return SignedTokens(KEY, SECRET, clock=clock)


def test_a_signed_token_has_the_documented_claims() -> None:
    token = signed(Clock()).token().get_secret_value()
    claims = jwt.decode(
        token,
        SECRET,
        algorithms=["HS256"],
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    assert UUID(claims.pop("jti")).version == 4
    assert claims == {
        "access_key": KEY,
        "type": "management",
        "version": 2,
        "iat": int(NOW) - 10,
        "nbf": int(NOW) - 10,
        "exp": int(NOW) - 10 + 24 * 3600,
    }


def test_a_signed_token_is_renewed_before_it_expires_and_not_earlier() -> None:
    clock = Clock()
    tokens = signed(clock)
    first = tokens.token()
    clock.now = NOW + 24 * 3600 - 10 - 300 - 1
    assert tokens.token() == first
    clock.now += 2
    assert tokens.token() != first


def test_a_clock_that_was_set_back_makes_a_new_token() -> None:
    clock = Clock()
    tokens = signed(clock)
    first = tokens.token()
    clock.now -= 3600
    assert tokens.token() != first


def test_a_refused_token_is_replaced_once_however_many_calls_it_failed() -> None:
    tokens = signed(Clock())
    refused = tokens.token()
    replacement = tokens.refresh(after=refused)
    assert replacement != refused
    assert tokens.refresh(after=refused) == replacement
    assert tokens.token() == replacement


def test_many_threads_get_the_same_token() -> None:
    tokens = signed(Clock())
    refused = tokens.token()
    start, got = threading.Barrier(8), []

    def work() -> None:
        start.wait()
        got.append(tokens.refresh(after=refused))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({token.get_secret_value() for token in got if token}) == 1


def test_a_static_token_is_used_as_it_is_and_cannot_be_renewed() -> None:
    source = StaticToken("opaque-token")
    assert source.token().get_secret_value() == "opaque-token"
    assert source.refresh(after=source.token()) is None


BAD = [
    "",
    "tok en",
    "token\n",
    "\ttoken",
    "tok\x00en",
    "tökén",
    "tok\u200ben",
    *('"eyJ.a.b"', "'eyJ.a.b'", "<token>", "${TOKEN}", "{{token}}"),
]


@pytest.mark.parametrize("value", BAD, ids=ascii)
def test_characters_that_no_token_has_are_refused_without_showing_them(value: str) -> None:
    for make in (
        lambda: StaticToken(value),
        lambda: SignedTokens(value, SECRET),
        lambda: SignedTokens(KEY, value),
    ):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert not value or value not in caught.value.for_model()


def pair() -> dict[str, str]:
    return {"HMS_ACCESS_KEY": KEY, "HMS_SECRET": SECRET}


def test_the_key_pair_wins_over_a_static_token() -> None:
    environ = {"HMS_ACCESS_KEY": KEY, "HMS_SECRET": SECRET, "HMS_MANAGEMENT_TOKEN": "token"}
    assert isinstance(from_env("HMS_MANAGEMENT_TOKEN", environ), SignedTokens)


def test_a_token_beside_a_key_pair_is_said_to_be_unused_and_never_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from_env("HMS_MANAGEMENT_TOKEN", pair())
    assert not caplog.text
    from_env("HMS_MANAGEMENT_TOKEN", {**pair(), "HMS_MANAGEMENT_TOKEN": "gar bage"})
    assert "HMS_MANAGEMENT_TOKEN is not used" in caplog.text
    assert "gar bage" not in caplog.text


@pytest.mark.parametrize("variable", ["HMS_ACCESS_KEY", "HMS_SECRET"])
def test_a_key_that_cannot_be_one_is_told_by_the_name_of_its_variable(variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable} holds"):
        from_env("HMS_MANAGEMENT_TOKEN", {**pair(), variable: "a b"})


def test_a_static_token_alone_is_used() -> None:
    environ = {"HMS_ACCESS_KEY": "", "HMS_MANAGEMENT_TOKEN": "token"}
    assert isinstance(from_env("HMS_MANAGEMENT_TOKEN", environ), StaticToken)


@pytest.mark.parametrize("given", ["HMS_ACCESS_KEY", "HMS_SECRET"])
def test_half_a_key_pair_is_an_error_even_beside_a_token(given: str) -> None:
    (missing,) = {"HMS_ACCESS_KEY", "HMS_SECRET"} - {given}
    with pytest.raises(ConfigurationError, match=f"{missing} is not set"):
        from_env("HMS_MANAGEMENT_TOKEN", {given: "x", "HMS_MANAGEMENT_TOKEN": "token"})


def test_no_credentials_is_an_error_that_names_the_variables() -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_env("HMS_MANAGEMENT_TOKEN", {})
    text = caught.value.for_model()
    assert all(name in text for name in ("HMS_MANAGEMENT_TOKEN", "HMS_ACCESS_KEY", "HMS_SECRET"))


def test_no_repr_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    tokens = signed(Clock())
    token = tokens.token()
    given = StaticToken("opaque-token")
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("%r %s %r %r", tokens, token, given, vars(tokens))
    for secret in (SECRET, KEY, token.get_secret_value(), "opaque-token"):
        assert secret not in caplog.text


@pytest.mark.parametrize("kind", ActiveRoomsError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_errors_survive_pickling(kind: type[ActiveRoomsError]) -> None:
    for cls in (kind, *kind.__subclasses__()):
        error = cls("what happened", hint="what next")
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is cls
        assert (str(copy), copy.executed, copy.hint) == (str(error), error.executed, error.hint)


def test_a_short_secret_is_signed_with_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    warnings.simplefilter("always")
    SignedTokens("key", "short").token()
    assert not recwarn.list
