"""The settings of a simulated account, and the management tokens that it accepts."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import jwt
from pydantic import BaseModel, Field, ValidationError


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a simulated account.

    Args:
        removal_delay_s: seconds until an accepted removal happens.
        ending_delay_s: seconds until an accepted end of the session happens.
        ghost_s: seconds for which a peer stays listed after its connection broke.
        foreign_room_status: the HTTP status for an unknown room.
        token_leeway_s: how much clocks may differ, in seconds.
    """

    removal_delay_s: float = 0.3  # from the answer to a removal until the peer is gone
    ending_delay_s: float = 0.3  # from the answer to an end until the session is closed
    ghost_s: float = 60.0  # how long a peer stays listed after its connection broke
    foreign_room_status: Literal[403, 404] = 403  # for a room of another account
    max_message_bytes: int = 4096  # in UTF-8
    token_leeway_s: float = 5.0  # allowed difference to the clock of a token's maker
    access_key: str = "sim-access-key"
    # Signs tokens. Some JWT libraries insist on a secret of 32 bytes for HS256.
    secret: str = "sim-secret-that-guards-a-simulation"  # noqa: S105
    account_id: str = "627cdddff2e4e30487862ad1"
    app_id: str = "627cdddff2e4e30487862ad2"


_JWS: Final = jwt.PyJWS(algorithms=["HS256"])


class _Claims(BaseModel, strict=True, allow_inf_nan=False):
    # Python's JSON allows Infinity: a token that never expires.
    access_key: str
    type: Literal["management"]
    version: Literal[2]
    iat: float
    exp: float = Field(lt=253402300800)  # Python has no times after the year 9999
    nbf: float = 0.0


def sign(
    settings: Settings, now: datetime, *, kind: str = "management", lifetime_s: float = 7 * 86400
) -> str:
    """Return a token of the account.

    Args:
        settings: of the account.
        now: when the token begins.
        kind: "management"; the API refuses others.
        lifetime_s: seconds until the token expires. With -60, the token has expired already.
    """
    start = int(now.timestamp())
    claims = {
        "access_key": settings.access_key,
        "type": kind,
        "version": 2,
        "iat": start,
        "nbf": start,
        "exp": start + int(lifetime_s),
        "jti": str(uuid.uuid4()),
    }
    return jwt.encode(claims, settings.secret, algorithm="HS256")


def is_valid(authorization: str | None, settings: Settings, now: datetime) -> bool:
    """Whether `authorization`, the header's value, has a token that the account accepts at the time `now`."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        return False
    try:
        signed = _JWS.decode(token.strip(), settings.secret, algorithms=["HS256"])
        claims = _Claims.model_validate_json(signed)
    except (jwt.InvalidTokenError, ValidationError):
        return False
    at, leeway = now.timestamp(), settings.token_leeway_s
    begins, ends = max(claims.iat, claims.nbf) - leeway, claims.exp + leeway
    return claims.access_key == settings.access_key and begins <= at < ends
