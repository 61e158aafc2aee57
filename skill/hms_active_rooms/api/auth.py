"""Management tokens: one that the caller gives, or tokens that the client signs itself.

A management token opens every room of the account. It is kept in a `SecretStr`, which no log or repr
shows. Claims and signature follow the 100ms guide "Security and tokens".
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

LIFETIME_S: Final = 24 * 3600.0  # of a signed token, as in the samples of the 100ms docs
SKEW_S: Final = 10.0  # tokens are dated back so far, as in the official SDK, since clocks differ
REFRESH_MARGIN_S: Final = 300.0  # before a token expires it is replaced: on its way none expires

# Printable ASCII without spaces, quotes, and the brackets that placeholders have.
_PRINTABLE: Final = re.compile(r"[!#-&(-;=?-z|~]+")


class TokenSource(Protocol):
    """Gives the client its bearer token. The client may call it from any thread. If it raises an exception,
    the call of the client raises Unauthorized."""

    def token(self) -> SecretStr:
        """Return the token to send now."""

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        """Return another token than `after`, which the API has refused; None if there is no other."""


class StaticToken:
    """Gives one fixed management token (a JWT). Raises ConfigurationError if the token is empty or
    malformed. The error calls the token `source`."""

    def __init__(self, token: str | SecretStr, *, source: str = "The management token") -> None:
        self._token = _checked(token, source)

    def token(self) -> SecretStr:
        return self._token

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        """Return None, since there is no other token."""
        return None


class SignedTokens:
    """Signs management tokens with the app's key pair, and replaces each before it expires.

    Args:
        access_key: the app's access key.
        secret: the app's secret.
        clock: returns Unix time in seconds.
        sources: the names of key and secret in errors.

    Raises:
        ConfigurationError: the key or the secret is empty or malformed.
    """

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
            # If the clock was set back, the token is dated in the future: the API would refuse it.
            if self._cached is None or not 0 <= age < LIFETIME_S - SKEW_S - REFRESH_MARGIN_S:
                self._cached = self._sign()
            return self._cached

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        """Return the current token. If that is `after`, which the API has refused, sign and return a new
        token. Never returns None."""
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
    """Make a token source from HMS_ACCESS_KEY and HMS_SECRET, or else from the variable `token_variable`.
    Raises ConfigurationError if a variable is missing or wrong."""
    key, secret = environ.get(ACCESS_KEY_VARIABLE, ""), environ.get(SECRET_VARIABLE, "")
    names = (ACCESS_KEY_VARIABLE, SECRET_VARIABLE)
    if key and secret:
        if environ.get(token_variable):
            _log.warning("%s is not used, because %s and %s are set too.", token_variable, *names)
        return SignedTokens(key, secret, sources=names)
    if key or secret:
        missing = SECRET_VARIABLE if key else ACCESS_KEY_VARIABLE
        raise ConfigurationError(
            f"{missing} is not set.", hint=f"Set both {ACCESS_KEY_VARIABLE} and {SECRET_VARIABLE}."
        )
    if token := environ.get(token_variable, ""):
        return StaticToken(token, source=token_variable)
    raise ConfigurationError(
        "There are no 100ms credentials.",
        hint=f"Set {token_variable}, or both {ACCESS_KEY_VARIABLE} and {SECRET_VARIABLE}.",
    )


def _checked(given: str | SecretStr, source: str) -> SecretStr:
    secret = given if isinstance(given, SecretStr) else SecretStr(given)
    value: object = secret.get_secret_value()
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{source} is empty.")
    if not _PRINTABLE.fullmatch(value):
        raise ConfigurationError(
            f"{source} holds a space, a line break or another character that no key or token has.",
            hint="Perhaps you copied a line break, quotes or brackets with the value. Remove them.",
        )
    return secret
