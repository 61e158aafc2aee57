"""What the API returns, and what it may leave out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hms_active_rooms.api import ActiveRoom, Peer, parse_timestamp


def test_a_room_reads_as_documented() -> None:
    room = ActiveRoom.model_validate(
        {
            "id": "631a0f990e6ffae22efa610c",
            "name": "Stage",
            "customer_id": "627cdddff2e4e30487862ad1",
            "session": {
                "id": "633c22b420636a0cb361dea0",
                "created_at": "2022-10-04T12:10:28.939011796Z",
                "peers": ["c0bbae7e-fbc0-48c3-89aa-83f85427acbf"],
            },
        }
    )
    assert room.session.peers == ("c0bbae7e-fbc0-48c3-89aa-83f85427acbf",)
    assert room.session.created_at == "2022-10-04T12:10:28.939011796Z"
    assert room.session.created == datetime(2022, 10, 4, 12, 10, 28, 939011, UTC)


def test_unknown_fields_are_kept_and_models_are_frozen() -> None:
    peer = Peer.model_validate({"id": "p", "shoe_size": 42})
    assert peer.model_dump()["shoe_size"] == 42
    with pytest.raises(ValidationError):
        peer.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "document",
    [
        {"id": "r"},
        {"id": "", "session": {"id": "s"}},
        {"id": ["r"], "session": {}},
        {"id": "r", "session": None},
    ],
)
def test_a_room_without_its_ids_is_refused(document: object) -> None:
    with pytest.raises(ValidationError):
        ActiveRoom.model_validate(document)


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2023-01-25T12:06:34.080990401Z", 80990),
        ("2023-01-25T12:06:34.97291247Z", 972912),
        ("2023-01-25T12:06:34.5Z", 500000),
        ("2023-01-25T12:06:34Z", 0),
        ("2023-01-25t12:06:34z", 0),
    ],
)
def test_timestamps_have_up_to_nine_digits(text: str, microsecond: int) -> None:
    assert parse_timestamp(text) == datetime(2023, 1, 25, 12, 6, 34, microsecond, UTC)


def test_the_unset_time_is_a_time() -> None:
    assert parse_timestamp("0001-01-01T00:00:00Z") == datetime(1, 1, 1, tzinfo=UTC)


def test_an_offset_is_kept() -> None:
    parsed = parse_timestamp("2023-01-25T12:06:34+05:30")
    assert parsed is not None
    assert parsed.isoformat() == "2023-01-25T12:06:34+05:30"


@given(
    st.one_of(
        st.text(),
        st.from_regex(
            r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([+-][0-9]{2}:[0-9]{2}|Z)"
        ),
    )
)
def test_no_text_is_an_error_and_every_time_is_aware(text: str) -> None:
    parsed = parse_timestamp(text)
    assert parsed is None or parsed.tzinfo is not None
