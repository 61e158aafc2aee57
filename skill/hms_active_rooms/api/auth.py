"""Management tokens: a given one, or ones we sign, handed out so that they cannot leak.

A token opens every room of the account. It lives in a `SecretStr`, so no repr, log
line, error or pickle of ours shows it, and it is looked at before its first use: an
expired token or an app (join) token is refused here, with a better text than a 401.

Claims and signature by the 100ms guide "Security and tokens" (HS256, the app secret
as key, valid for 24 hours).
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from pydantic import SecretStr

from hms_active_rooms.errors import ConfigurationError, Unauthorized

_log = logging.getLogger(__name__)

ACCESS_KEY_VARIABLE: Final = "HMS_ACCESS_KEY"
SECRET_VARIABLE: Final = "HMS_SECRET"  # noqa: S105 - a name, not a secret

LIFETIME_S: Final = 24 * 3600.0
"""Validity of a token we sign, as in the docs' samples."""

SKEW_S: Final = 10.0
"""We date `iat` and `nbf` back as the official SDK does: clock skew is the usual cause of a 401."""

REFRESH_MARGIN_S: Final = 300.0
"""We renew this long before expiry, so that no request carries a token about to expire."""

_PRINTABLE: Final = re.compile(r"[!-~]+")


class TokenSource(Protocol):
    """Where the client gets its bearer token. Both methods may be called from any thread."""

    def token(self) -> SecretStr:
        """The token to send now."""

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        """Another token than the refused `after`, None when there is none."""


class StaticToken:
    """One management token, made elsewhere (dashboard or your backend).

    Args:
        token: the JWT.
        clock: Unix time in seconds.
        source: what to call it in errors, for example a variable's name.

    Raises:
        ConfigurationError: characters that no token has; an app token; expired. A
            token that cannot be decoded is accepted: the API decides.
    """

    def __init__(
        self,
        token: str | SecretStr,
        *,
        clock: Callable[[], float] = time.time,
        source: str = "The management token",
    ) -> None:
        value = token.get_secret_value() if isinstance(token, SecretStr) else token
        self._token = SecretStr(_checked(value, source))
        self._clock = clock
        self._source = source
        claims = _claims(value)
        if claims.get("type") == "app":
            raise ConfigurationError(
                f"{source} is an app token, with which people join a room.",
                hint="Use a management token (its claim `type` is `management`).",
            )
        expires = claims.get("exp")
        self._expires = float(expires) if isinstance(expires, (int, float)) else None
        if self._expired():
            raise ConfigurationError(
                f"{source} expired {self._when()}.",
                hint=f"Make a new one, or set {ACCESS_KEY_VARIABLE} and {SECRET_VARIABLE} instead.",
            )

    def token(self) -> SecretStr:
        """The token.

        Raises:
            Unauthorized: it expired since; nothing is sent.
        """
        if self._expired():
            raise Unauthorized(f"{self._source} expired {self._when()}.")
        return self._token

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        """None: a given token cannot be renewed."""
        return None

    def __repr__(self) -> str:
        return "StaticToken(**********)"

    def _expired(self) -> bool:
        # Our clock may be wrong too, so a token gets the benefit of a minute.
        return self._expires is not None and self._expires + 60 < self._clock()

    def _when(self) -> str:
        assert self._expires is not None
        try:
            return f"at {datetime.fromtimestamp(self._expires, UTC):%Y-%m-%d %H:%M} UTC"
        except (ValueError, OverflowError, OSError):
            return "long ago"


class SignedTokens:
    """Management tokens signed with the app's access key and secret, renewed before expiry.

    Args:
        access_key: the app access key.
        secret: the app secret.
        clock: Unix time in seconds.
        new_id: the `jti` of the next token.
        sources: what to call the two in errors.

    Raises:
        ConfigurationError: characters that no key has.
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
        value = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
        self._access_key = SecretStr(_checked(access_key, sources[0]))
        self._secret = SecretStr(_checked(value, sources[1]))
        self._clock = clock
        self._new_id = new_id
        # Here, not at the top: it loads a cryptography library, about 0.1 s, which
        # somebody with a token doesn't need; not later, on an event loop.
        import jwt
        from jwt.algorithms import HMACAlgorithm

        class AnyKeyLength(HMACAlgorithm):
            """100ms chooses the secret: a warning about its length helps nobody here."""

            def check_key_length(self, key: Any) -> None:
                return None

        self._jws = jwt.PyJWS(algorithms=[])
        self._jws.register_algorithm("HS256", AnyKeyLength(HMACAlgorithm.SHA256))
        self._lock = threading.Lock()
        self._cached: SecretStr | None = None
        self._made_at = 0.0

    def token(self) -> SecretStr:
        """The cached token, or a new one when less than five minutes are left."""
        with self._lock:
            age = self._clock() - self._made_at
            # A clock that was set back also makes a token invalid: it starts in the future.
            if self._cached is None or not 0 <= age < LIFETIME_S - SKEW_S - REFRESH_MARGIN_S:
                self._cached = self._sign()
            return self._cached

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        """A new token when `after` is the cached one; else the cached one.

        So a hundred calls that were refused at once make one new token.
        """
        with self._lock:
            if self._cached is None or self._cached == after:
                self._cached = self._sign()
            return self._cached

    def __repr__(self) -> str:
        return "SignedTokens(**********)"

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
        payload = json.dumps(claims).encode()
        return SecretStr(self._jws.encode(payload, self._secret.get_secret_value(), "HS256"))


def from_env(
    token_variable: str,
    environ: Mapping[str, str] = os.environ,
    *,
    clock: Callable[[], float] = time.time,
) -> TokenSource:
    """The token source that the environment describes.

    A key pair wins over a static token: it renews itself, where a token ends within
    days. Empty variables count as not set.

    Args:
        token_variable: the variable of the static token, by the contract.
        environ: the environment.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: nothing is set, half a key pair, or a value that cannot be used.
    """
    key, secret = environ.get(ACCESS_KEY_VARIABLE, ""), environ.get(SECRET_VARIABLE, "")
    names = (ACCESS_KEY_VARIABLE, SECRET_VARIABLE)
    if key and secret:
        if environ.get(token_variable):
            _log.warning("%s is not used: %s and %s are set, and count.", token_variable, *names)
        return SignedTokens(key, secret, clock=clock, sources=names)
    if key or secret:
        missing = SECRET_VARIABLE if key else ACCESS_KEY_VARIABLE
        raise ConfigurationError(
            f"{missing} is not set.",
            hint=f"{ACCESS_KEY_VARIABLE} and {SECRET_VARIABLE} belong together.",
        )
    if token := environ.get(token_variable, ""):
        return StaticToken(token, clock=clock, source=token_variable)
    raise ConfigurationError(
        "There are no 100ms credentials.",
        hint=f"Set {token_variable}, or {ACCESS_KEY_VARIABLE} and {SECRET_VARIABLE}.",
    )


def _checked(value: object, source: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{source} is empty.")
    if not _PRINTABLE.fullmatch(value):
        raise ConfigurationError(
            f"{source} holds a space, a line break or another character that it cannot hold.",
            hint="Look for a line break at its end or quotes copied along.",
        )
    return value


def _claims(token: str) -> dict[str, object]:
    """Claims of a JWT, not verified (only the API can); {} when it cannot be decoded."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
