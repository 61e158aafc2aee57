"""What the API returns, and what it may leave out."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hms_active_rooms.api import ActiveRoom, Peer


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
