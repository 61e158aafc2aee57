"""Canonical JSON and its SHA-256: what an approval and an action id are bound to."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any


def canonical(value: object, default: Callable[[Any], str] | None = None) -> str:
    """JSON with sorted keys, no spaces, ASCII only: equal values give equal text.

    Args:
        value: what JSON can hold, and what `default` makes a text of.
        default: see `json.dumps`.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=default)


def digest(value: Mapping[str, object], default: Callable[[Any], str] | None = None) -> str:
    """SHA-256 of the canonical JSON, 64 hex characters."""
    return hashlib.sha256(canonical(value, default).encode()).hexdigest()


def short_name(*parts: str) -> str:
    """A typeable name of 12 base32 characters (60 bits) for these parts, e.g. an action id."""
    raw = hashlib.sha256(canonical(list(parts)).encode()).digest()
    return base64.b32encode(raw)[:12].decode().lower()
