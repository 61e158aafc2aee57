"""Canonical JSON and its SHA-256, from which digests and action ids are made."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime

_AWARE, _NAIVE = (
    json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=moment)
    for moment in (datetime.isoformat, lambda at: at.replace(tzinfo=None).isoformat())
)


def canonical(value: object, *, naive: bool = False) -> str:
    """JSON with sorted keys, no spaces, ASCII only: equal values give equal text.

    Args:
        value: JSON values and datetimes.
        naive: write datetimes without their time zone.
    """
    return (_NAIVE if naive else _AWARE).encode(value)


def digest(value: Mapping[str, object]) -> str:
    """SHA-256 of the canonical JSON, 64 hex characters."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def short_name(*parts: str) -> str:
    """A typeable name of 12 base32 characters (60 bits) for these parts, such as an action id."""
    raw = hashlib.sha256(canonical(list(parts)).encode()).digest()
    return base64.b32encode(raw)[:12].decode().lower()
