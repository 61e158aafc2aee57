"""A peer by name: only the one name that looks like it."""

from __future__ import annotations

import pytest

from hms_active_rooms.api.models import Peer
from hms_active_rooms.cli.rooms import peer_ref
from hms_active_rooms.errors import InvalidCall, PeerNotFound

ADA = Peer(id="aaaaaaaa-0000-4000-8000-000000000001", name="Ada Stone", role="guest", user_id="u1")
BOB = Peer(id="bbbbbbbb-0000-4000-8000-000000000002", name="Bob", role="guest", user_id="u2")
CYRILLIC = Peer(id="cccccccc-0000-4000-8000-000000000003", name="\u0410da Stone", role="host")


def never_read() -> list[Peer]:
    raise AssertionError("the room was read")


def test_an_id_short_or_full_is_taken_as_it_is() -> None:
    assert peer_ref("aaaaaaaa", never_read) == "aaaaaaaa"
    assert peer_ref(ADA.id.upper(), never_read) == ADA.id


def test_a_name_that_fits_one_peer_is_that_peer_whatever_its_case() -> None:
    assert peer_ref("ada STONE", lambda: [ADA, BOB]) == ADA.id


def test_an_accent_written_as_a_character_of_its_own_is_the_same_name() -> None:
    jose = BOB.model_copy(update={"name": "Jos\u00e9"})
    for written in ("Jose\u0301", "JOSE\u0301"):
        assert peer_ref(written, lambda: [ADA, jose]) == jose.id


def test_a_part_of_a_name_is_nobody_and_those_who_have_it_in_theirs_are_listed() -> None:
    with pytest.raises(InvalidCall, match='the name "ada"') as refused:
        peer_ref("ada", lambda: [ADA, BOB, CYRILLIC])
    assert "id aaaaaaaa" in str(refused.value)
    assert "id cccccccc" in str(refused.value)  # whose first letter only looks like that
    assert "bbbbbbbb" not in str(refused.value)
    with pytest.raises(PeerNotFound, match='Nobody in the room has the name "Eve"'):
        peer_ref("Eve", lambda: [ADA, BOB])


def test_a_name_with_a_look_alike_in_the_room_is_refused_and_both_are_listed() -> None:
    with pytest.raises(InvalidCall) as refused:
        peer_ref("Ada Stone", lambda: [ADA, BOB, CYRILLIC])
    assert "id aaaaaaaa" in str(refused.value)
    assert "id cccccccc" in str(refused.value)
    assert "bbbbbbbb" not in str(refused.value)


def test_two_with_one_name_are_refused() -> None:
    twin = BOB.model_copy(update={"id": "dddddddd-0000-4000-8000-000000000004"})
    with pytest.raises(InvalidCall, match="2 peers have the name"):
        peer_ref("Bob", lambda: [BOB, twin])


def test_only_a_look_alike_in_the_room_is_not_who_was_meant() -> None:
    with pytest.raises(InvalidCall, match="Nobody has exactly the name"):
        peer_ref("Ada Stone", lambda: [CYRILLIC, BOB])


def test_an_invisible_letter_makes_another_name() -> None:
    hidden = BOB.model_copy(update={"name": "B\u200bob"})
    with pytest.raises(InvalidCall, match="Nobody has exactly the name"):
        peer_ref("Bob", lambda: [ADA, hidden])


@pytest.mark.parametrize("blank", ["", " "])
def test_no_name_is_refused(blank: str) -> None:
    with pytest.raises(InvalidCall, match="empty"):
        peer_ref(blank, lambda: [ADA.model_copy(update={"name": ""})])


def test_a_crowd_of_one_name_is_listed_shortly() -> None:
    crowd = [Peer(id=f"{n:08x}-0000-4000-8000-000000000000", name="x" * 5000) for n in range(40)]
    with pytest.raises(InvalidCall) as refused:
        peer_ref("x" * 5000, lambda: crowd)
    assert "and 30 more" in str(refused.value)
    assert len(str(refused.value)) < 3000
