"""What is said about bodies that cannot be used, and where in them."""

from __future__ import annotations

import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hms_active_rooms.sim.body import BodyError, read_body
from hms_active_rooms.sim.scan import BadByteError, EndsEarlyError, scan

EMPTY = "request body must not be empty"
CUT = "request body contains badly-formed JSON"


def said(data: bytes) -> str:
    with pytest.raises(BodyError) as refused:
        read_body(data, {"message": "string", "lock": "bool"})
    return str(refused.value)


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
    [
        (b"x", 1),
        (b"{x", 2),
        (b"{'a': 1}", 2),
        (b'{"a" 1}', 6),
        (b'{"a": nulx}', 10),
        (b'{"a": tRue}', 8),
        (b'{"a": 01}', 8),
        (b'{"a": -}', 8),
        (b'{"a": 1.}', 9),
        (b'{"a": 1e}', 9),
        (b'{"a": .5}', 7),
        (b'{"a": "\x01"}', 8),
        (b'{"a": "\\x"}', 9),
        (b'{"a": "\\u12g4"}', 12),
        (b'{"a": 1,}', 9),
        (b'{"a": [1,]}', 10),
        (b'{"a": [1 2]}', 10),
        (b'{"a": {"b" : 1] }', 15),
        (b'{"a": {]}', 8),
        ('{"é": x}'.encode(), 8),
        (b"\xef\xbb\xbf{}", 1),
        (b'{"message": "a"\n "b"}', 18),
    ],
)
def test_the_position_counts_bytes_up_to_the_first_that_cannot_be(
    body: bytes, position: int
) -> None:
    assert said(body) == f"{CUT} (at position {position})"


@pytest.mark.behaviour("body.badly-formed-400")
@pytest.mark.parametrize(
    "body",
    [b"{", b'{"', b'{"a', b'{"a"', b'{"a":', b'{"a":1', b'{"a":[', b'{"a":"\\', b"tru", b"-"],
)
def test_a_body_that_ends_early_has_no_position(body: bytes) -> None:
    assert said(body) == CUT


@pytest.mark.behaviour("body.badly-formed-400")
def test_a_broken_body_is_a_400_over_http(api: httpx.Client) -> None:
    answer = api.post("/end-room", content=b'{"lock": yes}')
    expected = {"code": 400, "message": f"{CUT} (at position 10)"}
    assert (answer.status_code, answer.json()) == (400, expected)


@pytest.mark.behaviour("body.wrong-type-400")
@pytest.mark.parametrize(
    ("body", "field", "position"),
    [
        (b'{"lock":"yes"}', "lock", 13),
        (b'{"lock": 1}', "lock", 10),
        (b'{"lock": [true]}', "lock", 10),
        (b'{"message": 12.5e3 }', "message", 18),
        (b'{"message": false}', "message", 17),
        (b'{"message": {"a": {"b": []}}}', "message", 13),
        (b'{"a": {"lock": 1}, "LOCK" : "x"}', "lock", 31),
        (b"[1]", "", 1),
        (b' "text"', "", 7),
        (b"42", "", 2),
        (b"true", "", 4),
    ],
)
def test_a_wrong_type_is_named_with_its_position(body: bytes, field: str, position: int) -> None:
    assert said(body) == (
        f'request body contains an invalid value for the "{field}" field (at position {position})'
    )


@pytest.mark.behaviour("body.one-object")
@pytest.mark.parametrize("body", [b"{}{}", b"{} x", b"null null", b'{"lock":true}]'])
def test_only_one_value_may_be_there(body: bytes) -> None:
    assert said(body) == "request body must only contain a single JSON object"


@pytest.mark.behaviour("body.key-case")
@pytest.mark.parametrize(
    "body", [b'{"Message":"a"}', b'{"MESSAGE":"a"}', b'{"message":"b","Message":"a"}']
)
def test_keys_match_in_any_case_and_the_last_counts(body: bytes) -> None:
    assert read_body(body, {"message": "string"}) == {"message": "a"}


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    assert read_body(b'{"message":"a\\ud83d"}', {"message": "string"}) == {"message": "a\ufffd"}
    assert read_body(b'{"message":"\\ud83d\\ude00"}', {"message": "string"}) == {"message": "😀"}
    assert read_body(b'{"message":"\xff"}', {"message": "string"}) == {"message": "\ufffd"}


def test_nesting_without_end_is_no_problem() -> None:
    deep = b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b',"lock":true}'
    assert read_body(deep, {"lock": "bool"}) == {"lock": True}


UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@UNHURRIED
@given(JSON_VALUES, st.booleans())
def test_every_json_text_is_scanned_to_its_end(value: object, ascii_only: bool) -> None:
    try:
        data = json.dumps(value, ensure_ascii=ascii_only, indent=1).encode()
    except UnicodeEncodeError:
        return
    document = scan(data + b" ")
    assert document is not None
    assert (document.value.start, document.value.end) == (0, len(data))
    if isinstance(value, dict):
        read = {
            json.loads(data[key.start : key.end]): json.loads(data[item.start : item.end])
            for key, item in document.members
        }
        assert read == json.loads(data)


@UNHURRIED
@given(st.text(alphabet='{}[]",:\\u0123456789eE+-.truefalsn \n', max_size=24))
def test_the_scanner_takes_what_python_takes(text: str) -> None:
    data = text.encode()
    try:
        json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    except ValueError:
        valid = False
    else:
        valid = True
    try:
        document = scan(data)
    except (BadByteError, EndsEarlyError):
        scanned = False
    else:
        scanned = document is not None and not data[document.value.end :].strip()
    assert scanned == valid
