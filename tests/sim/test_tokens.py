"""Which tokens are accepted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from hms_active_rooms.sim import Settings, Simulation
from hms_active_rooms.sim.settings import is_valid, sign

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = Settings()

REFUSED = {"code": 401, "message": "Token validation error", "details": ["not found"]}


def claims(**changes: Any) -> dict[str, Any]:
    """What the docs' sample signs at noon, changed; None takes a claim away."""
    noon = int(NOW.timestamp())
    all_of_them = {
        "access_key": SETTINGS.access_key,
        "type": "management",
        "version": 2,
        "iat": noon,
        "nbf": noon,
        "exp": noon + 86400,
        "jti": "0d3c5b9e-6f0f-4d5e-9c1e-0f6b7a1c2d3e",
    } | changes
    return {name: value for name, value in all_of_them.items() if value is not None}


def accepted(*, at: datetime = NOW, secret: str = SETTINGS.secret, **changes: Any) -> bool:
    token = jwt.encode(claims(**changes), secret, algorithm="HS256")
    return is_valid(f"Bearer {token}", SETTINGS, at)


@pytest.mark.behaviour("auth.management-token")
def test_a_management_token_as_in_the_docs_is_accepted(api: httpx.Client) -> None:
    assert accepted()
    assert api.get("").status_code == 200


@pytest.mark.behaviour("auth.management-token")
def test_a_token_with_other_claims_is_refused() -> None:
    for claim, value in [
        ("access_key", "another"),
        ("access_key", None),
        ("version", 1),
        ("version", None),
        ("type", None),
        ("exp", None),
        ("iat", None),
        ("iat", "noon"),
        ("exp", "never"),
        ("exp", float("inf")),
        ("exp", float("nan")),
        ("exp", 10**400),
        ("exp", 1e308),
        ("exp", 253402300800),
        ("iat", float("-inf")),
        ("nbf", float("-inf")),
        ("nbf", [1]),
    ]:
        changes: dict[str, Any] = {claim: value}
        assert not accepted(**changes)


@pytest.mark.behaviour("auth.invalid-token-401", "errors.shape")
def test_a_missing_or_unparsable_token_is_a_401(
    sim: Simulation, operation: tuple[str, str, Any]
) -> None:
    for header in [None, "", "Bearer", "Bearer nonsense", "Basic dXNlcjpwdw==", "Bearer a.b.c"]:
        method, path, body = operation
        answer = httpx.request(
            method,
            f"{sim.base_url}/active-rooms/{sim.room_id}{path}",
            json=body,
            headers={} if header is None else {"Authorization": header},
        )
        assert (answer.status_code, answer.json()) == (401, REFUSED)
        assert answer.headers["content-type"] == "application/json"
        assert not sim.requests[-1].executed


@pytest.mark.behaviour("auth.invalid-token-401")
def test_a_token_signed_with_another_secret_or_no_algorithm_is_refused() -> None:
    assert not accepted(secret="another-secret-another-secret-123")
    unsigned = jwt.encode(claims(), "", algorithm="none")
    assert not is_valid(f"Bearer {unsigned}", SETTINGS, NOW)
    other = jwt.encode(claims(), SETTINGS.secret * 2, algorithm="HS512")
    assert not is_valid(f"Bearer {other}", SETTINGS, NOW)


@pytest.mark.behaviour("auth.invalid-token-401")
def test_a_token_is_refused_once_it_has_expired() -> None:
    expiry = NOW + timedelta(days=1)
    assert accepted(at=expiry)
    assert not accepted(at=expiry + timedelta(seconds=5))


@pytest.mark.behaviour("auth.future-token-401")
@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_from_the_future_is_refused_beyond_a_small_leeway(claim: str) -> None:
    noon = int(NOW.timestamp())
    soon: dict[str, Any] = {claim: noon + 5}
    later: dict[str, Any] = {claim: noon + 6}
    assert accepted(**soon)
    assert not accepted(**later)


def test_the_secret_is_as_long_as_hs256_wants_it() -> None:
    assert len(SETTINGS.secret.encode()) >= 32


@pytest.mark.behaviour("auth.app-token-401")
def test_an_app_token_is_refused(sim: Simulation) -> None:
    token = sign(sim.world.settings, sim.world.clock(), kind="app")
    answer = httpx.get(
        f"{sim.base_url}/active-rooms/{sim.room_id}", headers={"Authorization": f"Bearer {token}"}
    )
    assert (answer.status_code, answer.json()) == (401, REFUSED)


def test_advancing_the_world_does_not_expire_tokens(sim: Simulation, api: httpx.Client) -> None:
    sim.world.advance(30 * 86400)
    assert api.get("").status_code == 200


def test_a_signed_token_may_be_made_wrong_on_purpose() -> None:
    late = NOW + timedelta(seconds=60)
    for wrong in (
        sign(SETTINGS, NOW, lifetime_s=30),
        sign(replace(SETTINGS, secret="another-secret-another-secret-123"), NOW),
        sign(replace(SETTINGS, access_key="another"), NOW),
    ):
        assert not is_valid(f"Bearer {wrong}", SETTINGS, late)
