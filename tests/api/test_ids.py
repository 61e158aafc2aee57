"""Ids from a model or a stranger: exactly the right shape, or refused."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hms_active_rooms.api import parse_peer_id, parse_peer_ref, parse_room_id
from hms_active_rooms.errors import InvalidCall

ROOM = "631a0f990e6ffae22efa610c"
PEER = "dcd88eb0-83e6-486a-bcae-c3be5e0f2c20"

HOSTILE = [
    "",
    " ",
    "..",
    "../",
    f"{ROOM}/../{ROOM}",
    f"{ROOM}/end-room?",
    f"{PEER}/../x",
    f"{ROOM}\n",
    f"{PEER}\n",
    f"{ROOM}\r\n",
    f" {ROOM}",
    f"{ROOM}%2e",
    "%36" + ROOM[1:],
    ROOM[:-1] + "g",
    ROOM[:-1] + "٣",
    ROOM[:-1] + "３",
    PEER[:-1] + "०",
    PEER.replace("-", "‐"),
    PEER.replace("-", ""),
    "{" + PEER + "}",
    f"urn:uuid:{PEER}",
    ROOM + "0",
    PEER + "0",
    ROOM + "\x00",
    ROOM.encode(),
    None,
    42,
    [ROOM],
    True,
]


def test_a_hostile_id_is_refused() -> None:
    for value in HOSTILE:
        for parse in [parse_room_id, parse_peer_id, parse_peer_ref]:
            assert callable(parse)
            with pytest.raises(InvalidCall) as caught:
                parse(value)
            assert caught.value.executed == "no"


def test_upper_case_is_the_same_id() -> None:
    assert parse_room_id(ROOM.upper()) == ROOM
    assert parse_peer_id(PEER.upper()) == PEER
    assert parse_peer_ref(PEER.upper()) == PEER


def test_a_short_id_is_a_reference_but_not_a_full_id() -> None:
    assert parse_peer_ref("DCD88EB0") == "dcd88eb0"
    assert parse_peer_ref("dcd88eb0-83e") == "dcd88eb0-83e"
    with pytest.raises(InvalidCall, match="full peer id"):
        parse_peer_id("dcd88eb0")


@pytest.mark.parametrize("value", ["dcd88eb", "dcd88eb08", "dcd88eb0--", "-dcd88eb", "dcd88eb0_83"])
def test_a_short_id_has_eight_characters_and_its_dashes_in_place(value: str) -> None:
    with pytest.raises(InvalidCall):
        parse_peer_ref(value)


def test_the_refused_value_is_shown_escaped_and_short() -> None:
    with pytest.raises(InvalidCall) as caught:
        parse_room_id("\x1b[31m\u202e" + "x" * 1_000_000)
    text = caught.value.for_model()
    assert text.isprintable()
    assert "\u202e" not in text
    assert len(text) < 300


def test_a_value_that_is_no_text_is_named_by_its_type_only() -> None:
    with pytest.raises(InvalidCall, match="type dict") as caught:
        parse_room_id({"token": "secret"})
    assert "secret" not in str(caught.value)


@given(st.one_of(st.text(), st.from_regex(r"[0-9a-fA-F]{23,25}\n?")))
def test_only_24_hexadecimal_characters_are_a_room_id(value: str) -> None:
    try:
        parsed = parse_room_id(value)
    except InvalidCall:
        assert not re.fullmatch("[0-9a-fA-F]{24}", value)
    else:
        assert len(parsed) == 24
        assert set(parsed) <= set("0123456789abcdef")


@given(st.uuids(), st.integers(min_value=8, max_value=36))
def test_every_beginning_of_a_uuid_is_a_reference(peer: uuid.UUID, length: int) -> None:
    assert parse_peer_ref(str(peer)[:length]) == str(peer)[:length]
    assert parse_peer_id(str(peer)) == str(peer)


@given(st.text(alphabet="0123456789abcdef-/.%?\n", max_size=40))
def test_what_passes_is_the_beginning_of_a_uuid(value: str) -> None:
    try:
        parsed = parse_peer_ref(value)
    except InvalidCall:
        return
    assert str(uuid.UUID(parsed + PEER[len(parsed) :])).startswith(parsed)
