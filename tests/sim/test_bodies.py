"""What is said about bodies that cannot be used, and where in them."""

from __future__ import annotations

import httpx
import pytest

from hms_active_rooms.sim import RefusedError
from hms_active_rooms.sim.operations import read_body

EMPTY = "request body must not be empty"
KNOWN = {"message": str, "lock": bool}
CUT = "request body contains badly-formed JSON"


def said(data: bytes) -> str:
    with pytest.raises(RefusedError) as refused:
        read_body(data, KNOWN)
    assert refused.value.status == 400
    return refused.value.message


@pytest.mark.behaviour("body.empty-400")
@pytest.mark.parametrize("body", [b"", b" \r\n\t"])
@pytest.mark.parametrize("path", ["/send-message", "/remove-peers", "/end-room", "/peers/{peer}"])
def test_an_empty_body_is_refused(
    api: httpx.Client, ids: dict[str, str], path: str, body: bytes
) -> None:
    answer = api.post(path.replace("{peer}", ids["Sam Lee"]), content=body)
    assert (answer.status_code, answer.json()) == (400, {"code": 400, "message": EMPTY})


@pytest.mark.behaviour("body.badly-formed-400")
@pytest.mark.parametrize(
    ("body", "position"),
    [(b"x", 1), (b"{x", 2), (b'{"a" 1}', 6), (b"{", 2), (b"\xef\xbb\xbf{}", 1)],
)
def test_broken_json_is_refused_with_a_position(body: bytes, position: int) -> None:
    assert said(body) == f"{CUT} (at position {position})"


@pytest.mark.behaviour("body.badly-formed-400")
@pytest.mark.parametrize("body", [b"NaN", b'{"x": -Infinity}', b'{"x":' + b"[" * 100_000])
def test_what_only_python_reads_and_endless_nesting_are_refused(body: bytes) -> None:
    assert said(body) == CUT


@pytest.mark.behaviour("body.badly-formed-400")
def test_a_broken_body_is_a_400_over_http(api: httpx.Client) -> None:
    answer = api.post("/end-room", content=b'{"lock": yes}')
    expected = {"code": 400, "message": f"{CUT} (at position 10)"}
    assert (answer.status_code, answer.json()) == (400, expected)


@pytest.mark.behaviour("body.wrong-type-400")
def test_a_wrong_type_is_named() -> None:
    for body, field in [
        (b'{"lock":"yes"}', "lock"),
        (b'{"lock": 1}', "lock"),
        (b'{"lock": [true]}', "lock"),
        (b'{"message": 12.5e3 }', "message"),
        (b'{"message": false}', "message"),
        (b'{"message": {"a": {"b": []}}}', "message"),
        (b'{"a": {"lock": 1}, "LOCK" : "x"}', "lock"),
        (b"[1]", ""),
        (b' "text"', ""),
        (b"42", ""),
        (b"true", ""),
    ]:
        assert said(body) == f'request body contains an invalid value for the "{field}" field'


@pytest.mark.behaviour("body.one-object")
@pytest.mark.parametrize("body", [b"{}{}", b"{} x", b"null null", b'{"lock":true}]'])
def test_only_one_value_may_be_there(body: bytes) -> None:
    assert said(body) == "request body must only contain a single JSON object"


@pytest.mark.behaviour("body.key-case")
@pytest.mark.parametrize(
    "body", [b'{"Message":"a"}', b'{"MESSAGE":"a"}', b'{"message":"b","Message":"a"}']
)
def test_keys_match_in_any_case_and_the_last_counts(body: bytes) -> None:
    assert read_body(body, KNOWN) == {"message": "a"}


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    assert read_body(b'{"message":"a\\ud83d"}', KNOWN) == {"message": "a\ufffd"}
    assert read_body(b'{"message":"\\ud83d\\ude00"}', KNOWN) == {"message": "😀"}
    assert read_body(b'{"message":"\xff"}', KNOWN) == {"message": "\ufffd"}


def test_long_numbers_and_unknown_fields_are_no_problem() -> None:
    assert read_body(b'{"x":' + b"1" * 5_000 + b',"lock":true}', KNOWN) == {"lock": True}
