"""Management tokens: a token from outside, or tokens that the client signs itself.

A management token opens every room of the account. A `SecretStr` holds the token, so that no log or
repr shows it. Claims and signature follow the 100ms guide "Security and tokens".
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from pydantic import SecretStr

from hms_active_rooms.errors import ConfigurationError

_log = logging.getLogger(__name__)

ACCESS_KEY_VARIABLE: Final = "HMS_ACCESS_KEY"
SECRET_VARIABLE: Final = "HMS_SECRET"  # noqa: S105 - a name, not a secret

LIFETIME_S: Final = 24 * 3600.0
"""How long a token that we sign is valid, as in the samples of the docs."""

SKEW_S: Final = 10.0
"""`iat` and `nbf` are set back by these seconds, since clocks differ. The official SDK does so."""

REFRESH_MARGIN_S: Final = 300.0
"""A token is renewed this long before its end, so that every token is valid when it arrives."""

# Printable ASCII without space, quotes, and brackets like those around a placeholder.
_PRINTABLE: Final = re.compile(r"[!#-&(-;=?-z|~]+")


class TokenSource(Protocol):
    """Where the client gets its bearer token. Both methods may be called from any thread."""

    def token(self) -> SecretStr:
        """The token to send now."""

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        """The token to send if the API has refused the token `after`. None if there is no other."""


class StaticToken:
    """One management token (a JWT) that comes from the dashboard or from your backend. Error texts
    call it `source`. Raises ConfigurationError if it is empty, or has a forbidden character."""

    def __init__(self, token: str | SecretStr, *, source: str = "The management token") -> None:
        self._token = _checked(token, source)

    def token(self) -> SecretStr:
        return self._token

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        """Always None, since nobody can renew a token that came from outside."""
        return None


class SignedTokens:
    """Signs management tokens with the access key and the secret, which error texts call `sources`.
    Renews a token before it expires. `clock` returns Unix time in seconds. Raises ConfigurationError
    if the key or the secret is empty, or has a forbidden character."""

    def __init__(
        self,
        access_key: str,
        secret: str | SecretStr,
        *,
        clock: Callable[[], float] = time.time,
        sources: tuple[str, str] = ("The access key", "The app secret"),
    ) -> None:
        self._access_key = _checked(access_key, sources[0])
        self._secret = _checked(secret, sources[1])
        self._clock = clock
        self._lock = threading.Lock()
        self._cached: SecretStr | None = None
        self._made_at = 0.0

    def token(self) -> SecretStr:
        """Return a token that is valid for at least five minutes. Sign a new token if necessary."""
        with self._lock:
            age = self._clock() - self._made_at
            # If the clock was set back, the token begins in the future, so the API would refuse it.
            if self._cached is None or not 0 <= age < LIFETIME_S - SKEW_S - REFRESH_MARGIN_S:
                self._cached = self._sign()
            return self._cached

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        """Return a new token. If a newer token than `after` exists already, return that token."""
        with self._lock:
            if self._cached is None or self._cached == after:
                self._cached = self._sign()
            return self._cached

    def _sign(self) -> SecretStr:
        self._made_at = self._clock()
        starts = int(self._made_at - SKEW_S)
        claims = {
            "access_key": self._access_key.get_secret_value(),
            "type": "management",
            "version": 2,
            "iat": starts,
            "nbf": starts,
            "exp": starts + int(LIFETIME_S),
            "jti": str(uuid.uuid4()),
        }
        head = {"alg": "HS256", "typ": "JWT"}
        text = b".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        signature = hmac.digest(self._secret.get_secret_value().encode(), text, "sha256")
        return SecretStr((text + b"." + _base64(signature)).decode())


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def from_env(token_variable: str, environ: Mapping[str, str]) -> TokenSource:
    """Make a token source from environment variables. An empty variable counts as not set. If
    HMS_ACCESS_KEY and HMS_SECRET are set, `token_variable` is ignored: its token would expire within
    days. Raises ConfigurationError for values that are missing or cannot be used."""
    key, secret = environ.get(ACCESS_KEY_VARIABLE, ""), environ.get(SECRET_VARIABLE, "")
    names = (ACCESS_KEY_VARIABLE, SECRET_VARIABLE)
    if key and secret:
        if environ.get(token_variable):
            _log.warning("%s is not used, because %s and %s are set too.", token_variable, *names)
        return SignedTokens(key, secret, sources=names)
    if key or secret:
        missing = SECRET_VARIABLE if key else ACCESS_KEY_VARIABLE
        raise ConfigurationError(
            f"{missing} is not set.",
            hint=f"Set both {ACCESS_KEY_VARIABLE} and {SECRET_VARIABLE}.",
        )
    if token := environ.get(token_variable, ""):
        return StaticToken(token, source=token_variable)
    raise ConfigurationError(
        "There are no 100ms credentials.",
        hint=f"Set {token_variable}, or {ACCESS_KEY_VARIABLE} and {SECRET_VARIABLE}.",
    )


def _checked(given: str | SecretStr, source: str) -> SecretStr:
    secret = given if isinstance(given, SecretStr) else SecretStr(given)
    value: object = secret.get_secret_value()
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{source} is empty.")
    if not _PRINTABLE.fullmatch(value):
        raise ConfigurationError(
            f"{source} holds a space, a line break or another character that no key or token has.",
            hint="Perhaps a line break, quotes or brackets were copied with the value.",
        )
    return secret
