"""Management tokens, given or signed here. No log ever shows one.

A management token opens every room of the account. A `SecretStr` holds it, so that no log or repr
shows it. An expired token, or an app token (with which people join a room), is refused before it is
sent: our error says more than a 401. Claims and signature follow the 100ms guide "Security and
tokens".
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import logging
import math
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from pydantic import SecretStr

from hms_active_rooms.errors import ConfigurationError, Unauthorized

_log = logging.getLogger(__name__)

ACCESS_KEY_VARIABLE: Final = "HMS_ACCESS_KEY"
SECRET_VARIABLE: Final = "HMS_SECRET"  # noqa: S105 - a name, not a secret

LIFETIME_S: Final = 24 * 3600.0
"""How long a token that we sign is valid, as in the samples of the docs."""

SKEW_S: Final = 10.0
"""`iat` and `nbf` are set back by these seconds, as in the official SDK: clocks may differ."""

REFRESH_MARGIN_S: Final = 300.0
"""A token is renewed this long before it expires, so that it is still valid when it arrives."""

_NO_DATE: Final = 253_402_300_800.0
"""The Unix time of the year 10000, for which there is no `datetime`."""

# Printable ASCII without quotes and the brackets of a placeholder.
_PRINTABLE: Final = re.compile(r"[!#-&(-;=?-z|~]+")


class TokenSource(Protocol):
    """Where the client gets its bearer token. Both methods may be called from any thread."""

    def token(self) -> SecretStr:
        """The token to send now."""

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        """The token to send in place of `after`, which was refused. None if there is no other."""


class StaticToken:
    """One management token (a JWT) that comes from the dashboard or your backend. A token that
    cannot be decoded is accepted: the API decides.

    Args:
        clock: Unix time in seconds.
        source: what errors call the token, for example a variable's name.

    Raises:
        ConfigurationError: it is an app token, has expired, or has a character that is in no token.
    """

    def __init__(
        self,
        token: str | SecretStr,
        *,
        clock: Callable[[], float] = time.time,
        source: str = "The management token",
    ) -> None:
        self._token = _checked(token, source)
        self._clock = clock
        self._source = source
        claims = _claims(self._token.get_secret_value())
        if claims.get("type") == "app":
            raise ConfigurationError(
                f"{source} is an app token, with which people join a room.",
                hint="Use a management token (its claim `type` is `management`).",
            )
        self._expires, expires = math.inf, claims.get("exp")
        if isinstance(expires, int | float) and not isinstance(expires, bool):
            self._expires = max(min(expires, _NO_DATE), 0.0)  # the claim may be NaN
        if expired := self._expired():
            raise ConfigurationError(
                expired,
                hint=f"Make a new one, or set {ACCESS_KEY_VARIABLE} and {SECRET_VARIABLE} instead.",
            )

    def token(self) -> SecretStr:
        """The token. Raises Unauthorized, before anything is sent, if it has expired by now."""
        if expired := self._expired():
            raise Unauthorized(expired)
        return self._token

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        """None: a given token cannot be renewed."""
        return None

    def _expired(self) -> str:
        if not self._expires + 60 < self._clock():  # our clock may be wrong
            return ""
        when = f"at {datetime.fromtimestamp(self._expires, UTC):%Y-%m-%d %H:%M} UTC"
        return f"{self._source} expired {when if self._expires else 'long ago'}."


class SignedTokens:
    """Management tokens signed with the app's access key and secret, renewed before they expire.

    Args:
        clock: Unix time in seconds.
        new_id: returns the `jti` of the next token.
        sources: the names of the access key and the secret in error messages.

    Raises:
        ConfigurationError: the access key or the secret has a character that is never in one.
    """

    def __init__(
        self,
        access_key: str,
        secret: str | SecretStr,
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        sources: tuple[str, str] = ("The access key", "The app secret"),
    ) -> None:
        self._access_key = _checked(access_key, sources[0])
        self._secret = _checked(secret, sources[1])
        self._clock, self._new_id = clock, new_id
        self._lock = threading.Lock()
        self._cached: SecretStr | None = None
        self._made_at = 0.0

    def token(self) -> SecretStr:
        """The cached token. If it expires in less than five minutes, a new one."""
        with self._lock:
            age = self._clock() - self._made_at
            # After the clock was set back, the token would start in the future and be invalid.
            if self._cached is None or not 0 <= age < LIFETIME_S - SKEW_S - REFRESH_MARGIN_S:
                self._cached = self._sign()
            return self._cached

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        """A new token if `after` is the cached one. Else the cached one: another call made it."""
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
            "jti": self._new_id(),
        }
        head = {"alg": "HS256", "typ": "JWT"}
        text = b".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        signature = hmac.digest(self._secret.get_secret_value().encode(), text, "sha256")
        return SecretStr((text + b"." + _base64(signature)).decode())


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def from_env(token_variable: str, environ: Mapping[str, str] = os.environ) -> TokenSource:
    """A token source from environment variables. Empty variables count as not set.

    An access key and its secret win over the static token in `token_variable`. A static token ends
    within days; signed tokens are renewed.

    Raises:
        ConfigurationError: no variable is set, a key has no secret (or a secret no key), or a value
            cannot be used.
    """
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
            hint=f"{ACCESS_KEY_VARIABLE} and {SECRET_VARIABLE} belong together.",
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
            hint="Look for a line break at its end, and for quotes or brackets that were copied too.",
        )
    return secret


def _claims(token: str) -> dict[str, object]:
    """The claims of a JWT, not verified (only the API can); {} if the token cannot be decoded."""
    with contextlib.suppress(ValueError, RecursionError):
        _, part, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        if isinstance(claims, dict):
            return claims
    return {}
