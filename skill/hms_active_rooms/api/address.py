"""Checks the base URL before a token is sent to it, and finds the proxy for a URL."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from hms_active_rooms.errors import ConfigurationError

# Visible ASCII without `"`, `#`, `%`, `?`, `@` and backslash. Such a URL has no user name, query,
# fragment or escape. The whole text is matched, since urlsplit silently drops tabs and line breaks.
_PLAIN: Final = re.compile(r"https?://[!$&->A-\[\]-~]+")


def checked_base_url(url: str, source: str = "The base URL") -> str:
    """Return the API's base URL without slashes at its end. Raises ConfigurationError for a wrong URL. The
    error calls it `source`, because a URL may hold a password."""
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
            hint="Begin with https:// (or http:// for a simulator on this machine). After it give host, port"
            " and path. Leave out user name, password and query.",
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{source} must be https. Over plain http, others could read the token.",
            hint="Plain http is accepted only for a simulator on this machine.",
        )
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Return whether `host` is "localhost" or a loopback address such as 127.0.0.1 or ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_local(url: str) -> bool:
    """Return whether the host of `url` is "localhost" or a loopback address."""
    return is_loopback(urlsplit(url).hostname or "")


def environment_proxy(url: str) -> str | None:
    """Return the URL of the proxy that the environment sets for `url`, or None. Raises ConfigurationError
    if the proxy's URL is wrong."""
    parts, found = urlsplit(url), getproxies()
    proxy = found.get(parts.scheme) or found.get("all")
    port = "" if parts.port else {"https": ":443", "http": ":80"}.get(parts.scheme, "")
    if not proxy or is_local(url) or proxy_bypass(parts.netloc + port):  # NO_PROXY may name a port
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    with contextlib.suppress(ValueError):
        named = urlsplit(proxy)
        plain = proxy.isascii() and proxy.isprintable() and " " not in proxy
        if plain and named.scheme in ("http", "https") and named.hostname and named.port != 0:
            return proxy
    raise unusable_proxy()


def unusable_proxy() -> ConfigurationError:
    """Return the error for a wrong proxy URL. It does not show the URL, which may hold a password."""
    return ConfigurationError(
        "The proxy that the environment sets cannot be used.",
        hint="Check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY. Each must begin with http:// or https://.",
    )
