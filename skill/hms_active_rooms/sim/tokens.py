"""Management tokens: checked as the real API does, and signed for whoever runs a simulation."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any, Final

import jwt
from jwt.algorithms import HMACAlgorithm

from hms_active_rooms.sim.settings import Settings


class _AnyKeyLength(HMACAlgorithm):
    """PyJWT warns about keys under 32 bytes; a simulated account guards nothing."""

    def check_key_length(self, key: Any) -> None:
        return None


_JWS: Final = jwt.PyJWS(algorithms=[])
_JWS.register_algorithm("HS256", _AnyKeyLength(HMACAlgorithm.SHA256))

LIFETIME_S: Final = 7 * 24 * 3600
"""A token made in the 100ms dashboard is valid for seven days unless one asks for less or more."""


def sign(
    settings: Settings,
    now: datetime,
    *,
    kind: str = "management",
    lifetime_s: float = LIFETIME_S,
    secret: str | None = None,
    access_key: str | None = None,
) -> str:
    """A token for the simulated account; by its arguments also one that must be refused.

    Args:
        settings: whose credentials to use.
        now: when it starts.
        kind: "management", or "app" for the kind people join with.
        lifetime_s: seconds until it expires; negative for one that has expired.
        secret: another key than the account's.
        access_key: another access key than the account's.
    """
    start = int(now.timestamp())
    claims = {
        "access_key": access_key or settings.access_key,
        "type": kind,
        "version": 2,
        "iat": start,
        "nbf": start,
        "exp": start + int(lifetime_s),
        "jti": str(uuid.uuid4()),
    }
    return _JWS.encode(json.dumps(claims).encode(), secret or settings.secret, algorithm="HS256")


def is_valid(authorization: str | None, settings: Settings, now: datetime) -> bool:
    """Whether an Authorization header carries a management token of the account.

    Args:
        authorization: the header, None when there is none.
        settings: the account's credentials and the leeway for clocks that differ.
        now: the wall clock.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return False
    try:
        claims = json.loads(_JWS.decode(token.strip(), settings.secret, algorithms=["HS256"]))
    except (jwt.InvalidTokenError, ValueError):
        return False
    if not isinstance(claims, dict) or not {"exp", "iat"} <= set(claims):
        return False
    if (claims.get("type"), claims.get("version"), claims.get("access_key")) != (
        "management",
        2,
        settings.access_key,
    ):
        return False
    at, leeway = now.timestamp(), settings.token_leeway_s
    starts = [claims["iat"], claims.get("nbf", claims["iat"])]
    if not all(isinstance(moment, int | float) for moment in [*starts, claims["exp"]]):
        return False
    return all(start <= at + leeway for start in starts) and at < float(claims["exp"]) + leeway
