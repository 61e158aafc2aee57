"""Canonical JSON and its SHA-256, from which digests and action ids are made."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import datetime

_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=datetime.isoformat)


def canonical(value: object) -> str:
    """JSON with sorted keys, no spaces, ASCII only: equal values give equal text. `value`: JSON
    values and datetimes."""
    return _JSON.encode(value)


def digest(value: Mapping[str, object]) -> str:
    """SHA-256 of the canonical JSON, 64 hex characters."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def short_name(*parts: str) -> str:
    """A typeable name of 12 base32 characters (60 bits) for these parts, such as an action id."""
    raw = hashlib.sha256(canonical(list(parts)).encode()).digest()
    return base64.b32encode(raw)[:12].decode().lower()
