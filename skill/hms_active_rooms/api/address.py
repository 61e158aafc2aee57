"""Where requests go: checks the base URL before a token is sent there, and finds the proxy."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from hms_active_rooms.errors import ConfigurationError

# Visible ASCII without `"`, `#`, `%`, `?`, `@` and backslash: so no user name, query, fragment or
# escape. This is checked before urlsplit, which silently drops tabs and line breaks.
_PLAIN: Final = re.compile(r"https?://[!$&->A-\[\]-~]+")


def checked_base_url(url: str, source: str = "The base URL") -> str:
    """The URL without a slash at its end, if it has only a scheme, a host, a port and a path.

    Https is required, so that nobody can read the token on its way. Plain http is allowed only if
    the host is this machine, for the simulator. Errors do not show the URL: it may hold a password.

    Raises:
        ConfigurationError: the URL has another part, such as a query, or is not https.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if (
        not _PLAIN.fullmatch(url)
        or not host
        or port == 0
        or {".", ".."} & set(parts.path.split("/"))
    ):
        raise ConfigurationError(
            f"{source} is not a URL like https://host/v2.",
            hint="Give only scheme, host, port and a plain path: no user name, no password, no query.",
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{source} must be https: the token would travel in clear.",
            hint="Plain http is for a simulator on this machine only.",
        )
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_local(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")


def environment_proxy(url: str) -> str | None:
    """The proxy that the environment names for this URL. None for a URL on this machine. Raises
    ConfigurationError if the proxy has no valid URL."""
    parts, found = urlsplit(url), getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    if not proxy or is_local(url) or proxy_bypass(parts.netloc):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    with contextlib.suppress(ValueError):
        named = urlsplit(proxy)
        if named.scheme in ("http", "https") and named.hostname and named.port != 0:
            return proxy
    raise unusable_proxy()


def unusable_proxy() -> ConfigurationError:
    """The error does not show the URL of the proxy, which may hold a password."""
    return ConfigurationError(
        "The proxy that the environment names cannot be used.",
        hint="Check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY: each has to be http:// or https://.",
    )
