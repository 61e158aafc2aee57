"""Where a token may be sent."""

from __future__ import annotations

import pytest

from hms_active_rooms.api.address import checked_base_url, environment_proxy, is_loopback
from hms_active_rooms.errors import ConfigurationError


@pytest.mark.parametrize(
    "url",
    [
        "https://api.100ms.live/v2",
        "https://proxy.example:8443",
        "http://127.0.0.1:8080/v2",
        "http://localhost:1/v2",
        "http://[::1]:8080/v2",
    ],
)
def test_https_anywhere_and_http_on_this_machine_are_accepted(url: str) -> None:
    assert checked_base_url(url) == url
    assert checked_base_url(f"{url}/") == url


def test_anything_else_is_refused_without_showing_it() -> None:
    for url in [
        "",
        "api.100ms.live/v2",
        "http://api.100ms.live/v2",
        "http://127.0.0.1.example.com/v2",
        "http://localhost.example.com/v2",
        "http://0.0.0.0/v2",
        "http://2130706433/v2",
        "http://127.1/v2",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://",
        "https:///v2",
        "https://user:hunter2@api.100ms.live/v2",
        "https://hunter2@api.100ms.live/v2",
        "http://127.0.0.1:80@evil.example/v2",
        "http://127.0.0.1\\@evil.example/v2",
        "https://api.100ms.live/v2?x=hunter2",
        "https://api.100ms.live/v2?",
        "https://api.100ms.live/v2#",
        "https://api.100ms.live/v2/../v3",
        "https://api.100ms.live/v2/%2e%2e",
        "https://api.100ms.live:99999/v2",
        "https://api.100ms.live:0/v2",
        "https://api.100ms.live:x/v2",
        "https://[::1/v2",
        "https://api.100ms.live/v2\n",
        "https://api.100ms\t.live/v2",
        " https://api.100ms.live/v2",
        "https://api.100ms.live/v 2",
        "https://exämple.com/v2",
    ]:
        with pytest.raises(ConfigurationError) as caught:
            checked_base_url(url, "HMS_BASE_URL")
        assert "HMS_BASE_URL" in str(caught.value)
        if "://" not in url:
            assert "Begin with https://" in caught.value.hint
        assert "hunter2" not in caught.value.for_model()


def test_loopback_is_an_address_or_localhost() -> None:
    assert is_loopback("127.9.9.9")
    assert is_loopback("LOCALHOST")
    assert not is_loopback("192.168.0.1")


@pytest.mark.parametrize(
    ("unproxied", "uses_it"),
    [
        *((name, False) for name in ("api.example", "api.example:443", ".example", "*")),
        *((name, True) for name in ("api.example:8443", "other.example", "")),
    ],
)
def test_no_proxy_may_name_a_port(
    unproxied: str, uses_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", unproxied)
    found = environment_proxy("https://api.example/v2")
    assert found == ("http://proxy.example:3128" if uses_it else None)
