"""The base URL of the API, checked before a token is sent there."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from hms_active_rooms.errors import ConfigurationError

# urlsplit drops tabs and line breaks silently, so they are refused before it.
_PLAIN: Final = re.compile(r"[!-~]+")


def checked_base_url(url: str, source: str = "The base URL") -> str:
    """The URL without a slash at its end.

    Https is required, so that the token never travels in clear; plain http is
    allowed to this machine only, for the simulator. A refused URL is not shown: it
    may hold a password.

    Raises:
        ConfigurationError: anything that is not just scheme, host, port and path.
    """
    if not _PLAIN.fullmatch(url) or "\\" in url:
        raise ConfigurationError(f"{source} holds characters that a URL cannot hold, or none.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{source} is not a URL.") from None
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise ConfigurationError(f"{source} is not a URL like https://host/v2.")
    if "@" in parts.netloc:
        raise ConfigurationError(f"{source} must not hold a user name or a password.")
    if "?" in url or "#" in url or "%" in url or {".", ".."} & set(parts.path.split("/")):
        raise ConfigurationError(f"{source} must be scheme, host, port and a plain path only.")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{source} must be https: the token would travel in clear.",
            hint="Plain http is for a simulator on this machine only.",
        )
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether this host is this machine: "localhost" or a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
