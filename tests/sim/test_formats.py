"""How ids and times look."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hms_active_rooms.sim import Simulation
from hms_active_rooms.sim.records import IdSource, nanos_text, seconds_text

OBJECT_ID = re.compile(r"[0-9a-f]{24}")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z")


@pytest.mark.behaviour("formats.ids", "formats.times")
def test_ids_and_times_look_like_the_docs_examples(
    sim: Simulation, api: httpx.Client, ids: dict[str, str]
) -> None:
    sim.world.leave(sim.room_id, ids["Sam Lee"])
    room: dict[str, Any] = api.get("").json()
    for value in (room["id"], room["customer_id"], room["session"]["id"]):
        assert OBJECT_ID.fullmatch(value)
    peer = api.get(f"/peers/{ids['Nora Berg']}").json()
    tracks = peer["tracks"].values()
    for value in (
        peer["id"],
        *(track[key] for track in tracks for key in ("id", "stream_id")),
        *(event["id"] for event in sim.world.webhooks),
    ):
        assert UUID.fullmatch(value)
    for value in (
        room["session"]["created_at"],
        peer["joined_at"],
        *(track["started_at"] for track in tracks),
    ):
        assert TIME.fullmatch(value)


@pytest.mark.behaviour("formats.times")
@pytest.mark.parametrize(
    ("micros", "extra_ns", "text"),
    [
        (972912, 470, "2021-11-30T12:58:49.97291247Z"),
        (80990, 401, "2021-11-30T12:58:49.080990401Z"),
        (500000, 0, "2021-11-30T12:58:49.5Z"),
        (0, 0, "2021-11-30T12:58:49Z"),
        (0, 1, "2021-11-30T12:58:49.000000001Z"),
    ],
)
def test_trailing_zeros_are_trimmed(micros: int, extra_ns: int, text: str) -> None:
    moment = datetime(2021, 11, 30, 12, 58, 49, micros, UTC)
    assert nanos_text(moment, extra_ns) == text
    assert seconds_text(moment) == "2021-11-30T12:58:49Z"


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9000, 1, 1)),
    st.integers(0, 999),
    st.integers(-12, 12),
)
def test_every_moment_is_written_in_utc_without_loss(
    moment: datetime, extra_ns: int, hours: int
) -> None:
    local = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    text = nanos_text(local, extra_ns)
    assert TIME.fullmatch(text)
    whole, _, fraction = text.removesuffix("Z").partition(".")
    nanos = int(fraction.ljust(9, "0"))
    assert divmod(nanos, 1000) == (local.microsecond, extra_ns)
    assert datetime.fromisoformat(whole + "+00:00") == local.replace(microsecond=0)


def test_the_same_seed_gives_the_same_ids() -> None:
    first, second, other = IdSource("a"), IdSource("a"), IdSource("b")
    drawn = [first.uuid(), first.object_id()]
    assert drawn == [second.uuid(), second.object_id()]
    assert other.uuid() != drawn[0]
    assert first.uuid_for("x") == second.uuid_for("x") != other.uuid_for("x")
    first.restart()
    assert first.uuid() == drawn[0]
