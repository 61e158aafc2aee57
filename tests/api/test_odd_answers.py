"""Answers as Go, a proxy or a later version may send them: a right reading or one clear error."""

from __future__ import annotations

import asyncio
import copy
import gc
import gzip
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.wire import PEER, ROOM, FixedToken
from hms_active_rooms.api import ActiveRoomsClient, Backoff, Peer
from hms_active_rooms.errors import (
    ApiError,
    BadResponse,
    ConnectionFailed,
    InvalidRequest,
    NotActive,
    NotFound,
    ServerError,
    TimedOut,
    Unauthorized,
)

A, B, C = (f"{n:08x}-0000-4000-8000-000000000000" for n in range(3))
Call = Callable[[ActiveRoomsClient], Awaitable[Any]]


def answered(call: Call, body: bytes | object, status: int = 200, **headers: str) -> Any:
    """What the call makes of this answer, which comes again and again."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def send() -> Any:
        transport = httpx.MockTransport(
            lambda _: httpx.Response(status, content=raw, headers=headers)
        )
        async with ActiveRoomsClient(
            FixedToken(),
            base_url="http://127.0.0.1:9/v2",
            transport=transport,
            backoff=Backoff(attempts=1),
            clock=lambda: datetime(2026, 1, 1, tzinfo=UTC).timestamp(),
        ) as client:
            return await call(client)

    return asyncio.run(send())


async def over_a_socket(raw: bytes, transport: Any) -> Any:
    """The roster that a client reads from these bytes, after which the server closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with ActiveRoomsClient(FixedToken(), base_url=url, transport=transport) as client:
            return await client.list_peers(ROOM)


def roster(body: bytes | object, status: int = 200) -> Any:
    return answered(lambda c: c.list_peers(ROOM), body, status)


def room(body: bytes | object) -> Any:
    return answered(lambda c: c.retrieve_active_room(ROOM), body)


def peer(body: bytes | object) -> Any:
    return answered(lambda c: c.retrieve_peer(ROOM, PEER), body)


def end(body: bytes | object, status: int = 200) -> Any:
    return answered(lambda c: c.end_room(ROOM), body, status)


def test_where_a_text_is_meant_any_value_is_read_as_its_text() -> None:
    for field in ["name", "user_id", "metadata", "role", "joined_at"]:
        for value, text in [
            (5, "5"),
            (1.5, "1.5"),
            (True, "true"),
            (None, ""),
            ("", ""),
            (["a", 1], '["a",1]'),
            ({"hand": True}, '{"hand":true}'),
            (10**40, "1" + "0" * 40),
            (10**4000, "1" + "0" * 4000),
        ]:
            found = roster({"peers": {A: {"id": A, field: value}, B: {"id": B, field: "x"}}})
            assert [getattr(p, field) for p in found] == [text, "x"]
            assert found.unreadable == ()


@pytest.mark.parametrize("given", [{}, {"id": None}, {"id": ""}, {"id": A.upper()}])
def test_the_key_is_the_id_of_a_record_without_one(given: dict[str, object]) -> None:
    assert [p.id.lower() for p in roster({"peers": {A: given}})] == [A]


@pytest.mark.parametrize(
    "record",
    [
        *(None, "John", 5, []),
        *({"id": odd} for odd in (5, B, ["x"], {"a": 1}, "peer")),
        *({"id": A, **of} for of in ({"peer_id": B}, {"room_id": "0" * 24}, {"peer": {"id": B}})),
        *({"id": A, of: {"room_id": "0" * 24}} for of in ("data", "meta", "response")),
    ],
)
def test_a_record_that_says_nothing_usable_is_left_out_and_counted(record: object) -> None:
    found = roster({"peers": {A: record, C: {"id": C, "role": "host"}}})
    assert [p.id for p in found] == [C]
    assert found.unreadable == (A,)


@pytest.mark.parametrize("peers", ["{}", "null", "[]"])
def test_an_empty_roster_may_be_written_in_three_ways(peers: str) -> None:
    assert roster(b'{"peers":%s}' % peers.encode()) == ()


def test_an_id_that_no_request_can_name_is_not_one_of_a_peer() -> None:
    odd = ["abc", f"{{{A}}}", f"peer_{A}", A.replace("-", ""), A + "\n", ""]
    found = roster({"peers": {**{key: {"role": "x"} for key in odd}, B: {}}})
    assert ([p.id for p in found], set(found.unreadable)) == ([B], set(odd))


def test_a_roster_may_be_a_map_of_indexes() -> None:
    found = roster({"peers": {"0": {"id": A}, "1": {"id": B}}})
    assert ([p.id for p in found], found.unreadable) == ([A, B], ())


def test_a_roster_may_be_a_list_and_keeps_the_servers_order() -> None:
    found = roster({"peers": [{"id": B}, {"id": A}, 5]})
    assert [p.id for p in found] == [B, A]
    assert found.unreadable == ("",)


MORE_PAGES: list[tuple[str, object]] = [
    *(
        ("skip", 10),
        ("start", 1),
        ("last", False),
        ("last_page", 2),
        ("is_complete", False),
        ("omitted", 3),
    ),
    *(("totalElements", 15), ("num_results", "15"), ("marker", "x"), ("@odata.nextLink", "/x")),
    *(
        ("nextPageUrl", "/x"),
        ("next_key", "x"),
        ("page", 2),
        ("continuationToken", "x"),
        ("LastEvaluatedKey", {"id": 1}),
    ),
    *(("has_more_peers", True), ("moreResultsAvailable", True), ("peersTruncated", 1)),
    *(("resultCount", 15), ("userTotal", 15), ("@odata.count", 15), ("hits", {"total": 15})),
    *((name, 15) for name in ("full_count", "total_rows", "connected_peers", "totalEntries")),
    *(("result_info", {"total_count": 15}), ("response_metadata", {"next_cursor": "x"})),
    *(("NextMarker", "x"), ("_scroll_id", "x"), ("timed_out", True), ("partialResults", True)),
    *(("is_partial", True), ("peersIncomplete", "yes"), ("cursorNext", "x")),
]
ODD_ROSTERS: dict[str, object] = {
    "no peers": {},
    "a text": {"peers": "x"},
    "a list at the top": [],
    "nothing": b"",
    "null": None,
    "twice in a list": {"peers": [{"id": A}, {"id": A}]},
    "twice by its case": {"peers": {PEER: {"id": PEER}, PEER.upper(): {"id": PEER.upper()}}},
    "peers twice": b'{"peers":{},"peers":{"%s":{"id":"%s"}}}' % (A.encode(), A.encode()),
    "a peer twice": b'{"peers":{"%s":{"id":"%s"},"%s":{}}}' % ((A.encode(),) * 3),
    "peers in another case beside it": {"peers": {A: {"id": A}}, "Peers": {B: {"id": B}}},
    "and the other way round": {"PEERS": {A: {"id": A}}, "peers": {}},
    "limit and last": {"peers": {A: {}, B: {}}, "limit": 2, "last": B},
    "limit as a text": {"peers": {A: {"id": A}}, "limit": "1", "last": A},
    **{
        f"{key} {where}": {"peers": {A: {}}, **({where: {key: value}} if where else {key: value})}
        for key, value in {
            "next": {"href": "https://api.100ms.live/v2/..."},
            "hasNextPage": True,
            "has_next": "true",
            "next_page": 2,
            "total": 15,
            "totalCount": 15,
            "peers_count": "15",
            "Total-Pages": 2,
            "endCursor": "x",
            "last": A,
            "isTruncated": True,
            "remaining": 5,
        }.items()
        for where in ("", "pagination", "meta", "page_info", "_links")
    },
    "a cursor two levels down": {"peers": {A: {}}, "paging": {"cursors": {"after": "x"}}},
    "another room's": {"peers": {A: {}}, "room_id": "0" * 24},
    "gRPC's code": {"code": 5, "message": "not found", "peers": {}},
    "a code in words": {"code": "NOT_FOUND", "peers": {}},
    "ok": {"peers": {}, "ok": "false"},
    "fault": {"peers": {}, "fault": {"faultstring": "oops"}},
    "Error": {"peers": {}, "Error": "oops"},
    "status in another word": {"peers": {}, "status": "FAILED"},
    "NaN in a field of tomorrow": b'{"peers":{"%s":{"id":"%s","x":NaN}}}' % ((A.encode(),) * 2),
    "Infinity beside it": b'{"peers":{"%s":{"id":"%s"}},"x":[Infinity]}' % ((A.encode(),) * 2),
    **{f"{key} {value}": {"peers": {A: {}}, key: value} for key, value in MORE_PAGES},
    "links": {"peers": {A: {}}, "links": [{"rel": "next", "href": "/x"}]},
    "a link without an address": {"peers": {A: {}}, "links": [{"rel": "next"}]},
    **{
        f"{key} is false": {"peers": {A: {}}, key: False}
        for key in ("complete", "last_page", "is_last")
    },
    **{
        f"another room's, in {key}": {"peers": {A: {"id": A}}, key: {"room_id": "0" * 24}}
        for key in ("data", "meta", "response")
    },
    "error": {"peers": {}, "error": "oops"},
    "a status line": {"peers": {}, "status": "503 Service Unavailable"},
    "meta": {"peers": {}, "meta": {"code": 400, "error_type": "oops"}},
    "another room's, in another case": {"peers": {A: {}}, "roomId": "0" * 24},
    "another room's, as an object": {"peers": {A: {}}, "room": {"id": "0" * 24}},
    "errors": {"peers": {}, "errors": [{"message": "oops"}]},
    "success": {"peers": {}, "success": False},
    "status 503": {"peers": {}, "status": 503},
    "status in a word": {"peers": {}, "status": "error"},
    "code 500": {"code": 500, "message": "oops", "peers": {}},
    "code in words": {"code": "500", "peers": {}},
    "NaN": b'{"peers":{"%s":{"name":NaN}}}' % A.encode(),
    "a tail": b'{"peers":{}}{"peers":{}}',
    "cut off": b'{"peers":{"',
    "deep": b'{"peers":{"a":{"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}}}",
    "lists without end": b"[" * 200_000,
    "a long number": b"9" * 10_000,
    "NUL": b"\x00",
    "UTF-16": '{"peers":{}}'.encode("utf-16"),
}


def test_a_roster_that_contradicts_itself_or_goes_on_is_refused() -> None:
    for case in ODD_ROSTERS:
        with pytest.raises(BadResponse) as caught:
            roster(ODD_ROSTERS[case])
        assert caught.value.executed == "no"


def test_ids_in_upper_case_are_the_same_ids_in_every_answer() -> None:
    big = PEER.upper()
    found = roster({"peers": {big: {"id": big, "role": "x"}, A: None}})
    assert [p.id for p in found] == [PEER]
    assert peer({"id": big}).id == PEER
    active = room({"id": ROOM.upper(), "session": {"id": "s", "peers": [big, {"id": big}, A]}})
    assert (active.id, active.session.peers) == (ROOM, (PEER, A))
    assert roster({"peers": {big: None}}).unreadable == (PEER,)


def test_a_list_shorter_than_its_limit_is_whole() -> None:
    wholes: list[dict[str, Any]] = [
        {"limit": 10, "last": A, "total": 1, "has_more": False},
        {"pageInfo": {"hasNextPage": False, "endCursor": "x"}, "totalCount": 1},
        {"next": None, "limit": 1, "page": 1, "pages": 1},
        {"last": True, "first": True, "numberOfElements": 1, "number": 3, "links": []},
        {"code": 200, "status": "ok", "success": True, "error": None, "errors": []},
        {"user": "12345", "member": 7, "result": "done", "state": "active"},
    ]
    for said in wholes:
        assert len(roster({"peers": {A: {}}, **said})) == 1
    heads: dict[str, str] = {"x-total-count": "1", "x-total-pages": "0", "x-has-more": "false"}
    heads |= {"link": '</next>; rel="prev"', "x-pagination": '{"totalCount": 1}'}
    heads |= {"x-request-id": "5", "x-ratelimit-remaining": "5", "x-cache": "MISS"}
    assert len(answered(lambda c: c.list_peers(ROOM), {"peers": {A: {}}}, 200, **heads)) == 1


def test_a_list_whose_next_page_is_in_a_header_is_refused() -> None:
    for header, said in (
        *(("link", '<...?start=9>; rel="next"'), ("x-next-page", "2")),
        *(("content-range", "items 0-0/5"), ("x-total-pages", "5")),
        *(("x-total-count", "5"), ("x-total", "2"), ("x-has-more", "true")),
        *(("link", '</a>; rel="last next"'), ("x-pagination", '{"TotalCount": 5}')),
        *(("x-total-peers", "5"), ("X-Has-Next", "true"), ("x-continuation-token", "x")),
        *(("Total-Count", "5"), ("Has-More", "true")),
    ):
        with pytest.raises(BadResponse, match="only one page of a list"):
            answered(lambda c: c.list_peers(ROOM), {"peers": {A: {}}}, 200, **{header: said})


@pytest.mark.parametrize("field", ["role", "user_id", "name", "metadata", "joined_at", "id", "x"])
@pytest.mark.parametrize(
    "written",
    [
        '"%s":"guest","%s":"host"',
        '"%s":"guest","%s" :"host"',
        '"%s" \n\t:"guest","%s":"host"',
        r'"%s":"guest","%s":"host","y\\":"z"',
        r'"%s":"guest","%s":"host","metadata":"\\"',
        r'"%s":"guest","%s":"host","metadata":"{\"a\":\"\\\\\"}\\"',
        '"%s":"guest","%s":1',
        '"%s":"guest","%s":1,"metadata":null',
        '"%s":"guest","%s":2,"y":2',
        '"%s":2,"%s":3',
    ],
)
def test_a_field_that_is_there_twice_makes_its_record_unreadable(field: str, written: str) -> None:
    twice = f'{{"id":"{A}",{written % (field, field)}}}'
    found = roster(f'{{"peers":{{"{A}":{twice},"{B}":{{"id":"{B}"}}}}}}'.encode())
    assert ([p.id for p in found], found.unreadable) == ([B], (A,))


@pytest.mark.parametrize("role", ['{"name":"host","name":"host"}', '[{"name":"x","name":"y"}]'])
def test_a_role_that_has_a_name_twice_makes_its_record_unreadable(role: str) -> None:
    found = roster(f'{{"peers":{{"{A}":{{"role":{role}}},"{B}":{{"id":"{B}"}}}}}}'.encode())
    assert ([p.id for p in found], found.unreadable) == ([B], (A,))
    with pytest.raises(BadResponse):
        peer(f'{{"id":"{PEER}","role":{role}}}'.encode())


def test_a_field_of_tomorrow_that_has_a_name_twice_can_be_written_as_json() -> None:
    session = f'{{"id":"s","peers":["{A}"]}}'
    found = room(f'{{"id":"{ROOM}","session":{session},"x":{{"y":1,"y":2}}}}'.encode())
    assert "y" not in json.loads(found.model_dump_json())["x"]


@pytest.mark.parametrize("other", ["Role", "ROLE", "role_"])
def test_a_field_in_two_spellings_makes_its_record_unreadable(other: str) -> None:
    for one, two in (("role", other), (other, "role")):
        found = roster({"peers": {A: {"id": A, one: "guest", two: "host"}, B: {"id": B}}})
        assert ([p.id for p in found], found.unreadable) == ([B], (A,))


def test_a_field_is_read_in_the_spelling_of_another_language() -> None:
    told = {"ID": A, "Name": "Ann", "userId": "u", "Metadata": "m", "Role": "host", "joinedAt": "x"}
    for peers in ({"peers": {A: told}}, {"Peers": {A: told}}, {"peers": [told]}):
        (found,) = roster(peers)
        assert found.model_dump() == {
            **{"id": A, "name": "Ann", "user_id": "u"},
            **{"metadata": "m", "role": "host", "joined_at": "x"},
        }


def test_a_filter_that_was_not_applied_is_not_taken_for_one() -> None:
    calls: list[Call] = [
        lambda c: c.list_peers(ROOM, role="host"),
        lambda c: c.list_peers(ROOM, user_id="u"),
    ]
    for call in calls:
        with pytest.raises(BadResponse, match="not asked for"):
            answered(call, {"peers": {A: {"role": "x"}}})
    found = answered(lambda c: c.list_peers(ROOM, role="x"), {"peers": {A: {"role": "x"}}})
    assert [p.id for p in found] == [A]


def test_a_byte_order_mark_half_a_surrogate_pair_and_bytes_that_are_no_text_are_read() -> None:
    name = rb"x\ud800y \ud83d\ude00 \u003c" + b"\xff"
    body = b'\xef\xbb\xbf{"peers":{"%s":{"id":"%s","name":"%s"}}}' % (*(A.encode(),) * 2, name)
    assert [p.name for p in roster(body)] == ["x?y \U0001f600 <\ufffd"]


def test_a_field_of_tomorrow_reaches_the_caller() -> None:
    (found,) = roster({"peers": {A: {"id": A, "role": "x", "size": 4}}, "more_to_know": 1})
    assert found.model_dump()["size"] == 4
    tomorrow = {
        "code": "abc-defg-hij",
        "status": "active",
        "active": True,
        "recording": {"count": 3},
    }
    session: dict[str, Any] = {"id": "s", "peers": [A], "peer_count": 1, "active": True}
    null_time = {"Time": "0001-01-01T00:00:00Z", "Valid": False}
    for unset in (
        None,
        "",
        "0001-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        -62135596800,
        null_time,
    ):
        session |= {"ended_at": unset, "state": "running", "closed": False}
        assert room({"id": ROOM, "session": session}).session.peers == (A,)
    assert room({"id": ROOM, "session": session, **tomorrow}).model_dump()["code"] == "abc-defg-hij"


@pytest.mark.parametrize(
    "session",
    [
        *(None, {}, [], "", False),
        {"id": "", "created_at": "", "peers": None},
        {"id": "s", "active": False, "peers": [A]},
        {"id": "s", "is_active": False, "peers": [A]},
        *({"id": "s", "active": no, "peers": [A]} for no in ("False", "no", 0)),
        {"id": "s", "Active": False, "peers": [A]},
        *({"id": "s", at: "2026-01-01T00:00:00Z", "peers": [A]} for at in ("ended_at", "closedAt")),
        *({"id": "s", said: "ended", "peers": [A]} for said in ("status", "state")),
        {"id": "s", "is_closed": True, "peers": [A]},
    ],
)
def test_a_room_whose_session_is_nothing_is_not_active(session: object) -> None:
    with pytest.raises(NotActive) as caught:
        room({"id": ROOM, "name": "n", "session": session})
    assert caught.value.executed == "no"


@pytest.mark.parametrize(
    ("peers", "ids"),
    [
        ({A: {"id": A}, B: {}}, (A, B)),
        ([{"id": A}, {"id": B}], (A, B)),
        ([A, A, 5], (A, "5")),
        ({"0": A, "1": {"id": B}}, (A, B)),
        (None, ()),
    ],
)
def test_the_ids_in_a_session_may_be_a_map_or_objects(peers: object, ids: tuple[str, ...]) -> None:
    found = room({"id": ROOM.upper(), "session": {"id": "s", "peers": peers}})
    assert found.session.peers == ids


def test_a_room_that_is_another_or_does_not_say_who_is_in_it_is_refused() -> None:
    for document in [
        {},
        {"id": ROOM},
        {"id": "0" * 24, "session": {"id": "s", "peers": []}},
        {"id": None, "session": {"id": "s", "peers": []}},
        {"id": "0" * 24, "session": None},
        {"id": ROOM, "session": {"peers": [A]}},
        {"id": ROOM, "session": {"id": "s"}},
        {"id": ROOM, "session": {"id": "s", "peers": [None]}},
        {"id": ROOM, "session": {"id": "s", "peers": 3}},
        {"id": ROOM, "session": {"id": "s", "peers": [True]}},
        {"id": ROOM, "session": {"id": "s", "peers": {A: {"id": B}}}},
        {"id": ROOM, "session": {"id": "s", "peers": [A], "peer_count": 2}},
        {"id": ROOM, "session": {"id": "s", "peers": [A], "has_more": True}},
        {"id": ROOM, "session": {"id": "s", "peers": [A], "room_id": "0" * 24}},
        {"id": ROOM, "session": "active"},
        {"id": ROOM, "session": {"id": "s", "peers": {"host": [A]}}},
        {"id": ROOM, "session": {"id": "s", "peers": {"host": {A: {}}}}},
        {"id": ROOM, "session": {"id": "s", "peers": {"count": 2}}},
        {"id": ROOM, "session": {"id": "s", "peers": [A]}, "peerCount": 2},
        {"id": ROOM, "session": {"id": "s", "peers": [A], "Peers": [A, B]}},
        {"id": ROOM, "session": {"id": "s", "peers": [A]}, "Session": None},
        {"id": ROOM, "session": {"id": "s" * 201, "peers": [A]}},
    ]:
        with pytest.raises(BadResponse):
            room(document)


def test_a_track_may_be_null_where_nothing_is_meant_and_tracks_may_be_a_list() -> None:
    track = {"id": "t", "mute": None, "source": None}
    for tracks in ({"t": track}, [track]):
        found = peer({"id": PEER, "tracks": tracks}).tracks["t"]
        assert (found.mute, found.source) == (False, "")


def test_a_track_that_cannot_be_used_does_not_hide_its_peer() -> None:
    for odd in [None, 5, {"mute": "muted"}, {"id": ""}]:
        tracks = {"x": odd, "t": {"type": "audio"}}
        assert [t.id for t in peer({"id": PEER, "tracks": tracks}).tracks.values()] == ["t"]
    nothings: list[object] = [None, "", [], False]
    for nothing in nothings:
        assert peer({"id": PEER, "tracks": nothing}).tracks == {}


@pytest.mark.parametrize("document", [{}, {"id": A}, {"id": None}, {"id": PEER, "tracks": 5}])
def test_a_peer_that_is_another_is_refused(document: object) -> None:
    with pytest.raises(BadResponse):
        peer(document)


@pytest.mark.parametrize(
    ("status", "body"),
    [(204, b""), (205, b""), (200, b""), (200, b" \n"), (200, b"null"), (200, b"{}"), (202, b"{}")],
)
def test_a_write_is_done_with_or_without_words(status: int, body: bytes) -> None:
    assert end(body, status).message == ""


def test_words_acknowledge_a_write_whatever_a_later_version_adds() -> None:
    told = end({"message": "session is ending", "peers": [A]})
    assert (told.message, told.model_extra) == ("session is ending", {"peers": [A]})


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (206, {"message": "ok"}),
        (200, {"code": 500, "message": "oops"}),
        (200, {"error": "oops"}),
        (200, {"code": 5, "message": "session not found"}),
        (200, {"status": "Failed"}),
        (200, {"message": "session is ending", "room_id": "0" * 24}),
        (200, {"success": False}),
        (200, {"error_code": 404, "error_message": "session not found"}),  # as in a webhook
        *((200, {"message": "", name: "E1"}) for name in ("errorMessage", "errno", "exception")),
        *((200, {name: True}) for name in ("isError", "failed", "has_errors")),
        *((200, {name: 503}) for name in ("httpStatus", "http_code", "response_code")),
        *((200, {name: {"code": 503}}) for name in ("status", "data", "response")),
        *((200, {name: "404 NOT FOUND"}) for name in ("status", "code")),
        *((200, said) for said in ({"status": False}, {"result": "error"}, {"accepted": False})),
        *((200, {"state": said}) for said in ("failed", "Rejected", "not found", "UNAUTHORIZED")),
        *((200, {name: True}) for name in ("rejected", "is_denied", "refused")),
        *((200, {"title": "Oops", "detail": "x"}), (200, {"statusText": "Internal Server Error"})),
        (200, {"message": "x", "code": "unauthorized"}),
        (200, {"message": "ok", "result": False}),
        (200, {"message": "ok", "roomId": "0" * 24}),
        (200, {"message": "ok", "room": {"id": "0" * 24}}),
        # The answers to reads, as when answers are mixed up on a connection.
        (200, {"peers": {A: {"id": A}}}),
        (200, {"peers": None}),
        (200, {"id": ROOM, "session": {"id": "x", "peers": []}}),
        (200, {"id": PEER, "name": "Ann", "tracks": {}}),
        (200, b"<html>please log in</html>"),
        (200, "ok"),
    ],
)
def test_an_error_under_a_success_may_have_been_executed(status: int, body: object) -> None:
    with pytest.raises(BadResponse) as caught:
        end(body, status)
    assert caught.value.executed == "maybe"


@pytest.mark.parametrize(
    "body",
    [
        *(
            {"message": said}
            for said in ("peer not found", "Forbidden", "Missing Authentication Token", "x")
        ),
        *({"message": said} for said in ("The message was not sent", "0 messages sent", ["sent"])),
        *(
            {"message": said}
            for said in ("Too many messages sent", "unsuccessful", "couldn't be sent")
        ),
        *({"status": said} for said in ("NOT_ACTIVE", "throttled", "pending_approval", "skipped")),
        *(
            {name: "peer not found"}
            for name in ("reason", "msg", "description", "problem", "warning")
        ),
        *({"executed": False}, {"ret": -1}, {"code": "E404"}, {"data": {"peers": {}}}),
        *(
            {"code": "peer.not_found", "message": "x"},
            {"message": "message sent", "failed_peers": [A]},
        ),
    ],
)
def test_a_body_that_does_not_say_that_it_was_accepted_may_have_been_executed(body: object) -> None:
    with pytest.raises(BadResponse) as caught:
        end(body)
    assert caught.value.executed == "maybe"


@pytest.mark.parametrize("name", ["status", "code"])
@pytest.mark.parametrize("line", ["404 Not Found", "502 Bad Gateway"])
def test_a_status_line_of_an_error_beside_an_acceptance_is_an_error(name: str, line: str) -> None:
    with pytest.raises(BadResponse, match=line[:3]) as caught:
        end({"message": "session is ending", name: line})
    assert caught.value.executed == "maybe"


def test_a_count_of_something_else_is_no_total_and_no_errors_are_no_error() -> None:
    for count in ("max_peers", "total_duration", "track_count"):
        session = {"id": "s", "peers": [A]}
        assert room({"id": ROOM, "session": session, count: 100}).session.peers == (A,)
        assert room({"id": ROOM, "session": {**session, count: 100}}).session.peers == (A,)
    nothing = {"errors_count": 0, "reject_reason": "", "rejected_at": None}
    assert end({"message": "session is ending", **nothing}).message == "session is ending"


def test_a_request_may_be_accepted_in_other_words() -> None:
    for said in (
        "Session is ending.",
        "OK",
        "queued",
        "Success",
        "2 peers removed",
        "session ended",
    ):
        assert end({"message": said}).message == said
    for more in ({"ok": True}, {"status": "accepted"}, {"success": "true", "message": "x"}):
        assert end(more).model_extra
    assert end({"code": 200, "message": "in Ordnung"}).message == "in Ordnung"


def test_a_list_of_something_else_than_peers_is_no_empty_roster() -> None:
    ann = {A: {"id": A}}
    inside: list[object] = [ann, [{"id": A}], {"items": []}]
    others: list[object] = [
        *({name: ann} for name in ("peers", "data", "host")),
        *([i] for i in inside),
    ]
    others += [[A, B], {"host": [{"id": A}]}, [[A, {"id": A}]], {"edges": [{"node": {"id": A}}]}]
    for other in others:
        with pytest.raises(BadResponse, match="list is not a list of peers"):
            roster({"peers": other})


def test_a_number_or_a_name_that_python_does_not_take_makes_no_other_record_unreadable() -> None:
    for written in (b'"user_id":1e400', b'"user_id":' + b"9" * 5000, b'"name":"a\tb\x01"'):
        body = b'{"peers":{"%s":{"id":"%s",%s},"%s":{}}}' % (
            (A.encode(),) * 2 + (written, B.encode())
        )
        found = roster(body)
        assert ([p.id for p in found], found.unreadable) == ([A, B], ())
        assert written.partition(b":")[2].strip(b'"').decode() in (found[0].user_id, found[0].name)


def test_the_id_of_a_session_may_be_a_number() -> None:
    assert room({"id": ROOM, "session": {"id": 5, "peers": [A]}}).session.id == "5"


def test_an_answer_from_a_cache_is_not_the_room_now() -> None:
    for call in (lambda c: c.list_peers(ROOM), lambda c: c.retrieve_active_room(ROOM)):
        with pytest.raises(BadResponse, match="a proxy gave an old answer"):
            answered(call, {"peers": {}, "id": ROOM, "session": {"id": "s", "peers": []}}, age="9")
        for header, said in (
            *(("x-cache", "TCP_HIT from proxy"), ("cf-cache-status", "Hit")),
            *(("cf-cache-status", "UPDATING"), ("x-proxy-cache", "STALE")),
        ):
            with pytest.raises(BadResponse, match="a proxy gave an old answer"):
                answered(call, {"peers": {}}, 200, **{header: said})
    for header, said in (("age", "0"), ("cache-control", "max-age=0, stale-if-error=60")):
        assert answered(lambda c: c.list_peers(ROOM), {"peers": {}}, 200, **{header: said}) == ()


@pytest.mark.parametrize("unset", ["0" * 24, "  ", 0, "00000000-0000-0000-0000-000000000000"])
def test_an_id_of_zeros_is_no_session(unset: object) -> None:
    with pytest.raises(BadResponse, match="no session id"):
        room({"id": ROOM, "session": {"id": unset, "peers": [A]}})
    with pytest.raises(NotActive):
        room({"id": ROOM, "session": {"id": unset, "peers": []}})


@pytest.mark.parametrize(
    "head", [("grpc-status", "14"), ("content-type", "application/problem+json")]
)
def test_a_head_of_an_error_under_a_success_may_have_been_executed(head: tuple[str, str]) -> None:
    with pytest.raises(BadResponse) as caught:
        answered(lambda c: c.end_room(ROOM), b"", 200, **dict([head]))
    assert caught.value.executed == "maybe"


@pytest.mark.parametrize("said", [{"peer_id": A}, {"peerId": A}, {"peer": {"id": A}}])
def test_an_acknowledgement_of_what_another_peer_was_sent_is_none(said: Any) -> None:
    for call in (
        lambda c: c.remove_peers(ROOM, peer_id=PEER),
        lambda c: c.send_message(ROOM, "hi", peer_id=PEER),
    ):
        with pytest.raises(BadResponse) as caught:
            answered(call, {"message": "ok", **said})
        assert caught.value.executed == "maybe"


def test_an_acknowledgement_of_another_request_is_none() -> None:
    calls: dict[str, Call] = {
        "message sent": lambda c: c.send_message(ROOM, "hi"),
        "peer remove request submitted": lambda c: c.remove_peers(ROOM, role="student"),
        "session is ending": lambda c: c.end_room(ROOM),
    }
    for said in calls:
        for own, call in calls.items():
            if said == own:
                assert answered(call, {"message": said}).message == said
                continue
            with pytest.raises(BadResponse, match="the answer is for another request") as caught:
                answered(call, {"message": said})
            assert caught.value.executed == "maybe"


def test_an_answer_that_names_another_room_a_level_down_is_no_answer() -> None:
    other = "0" * 24
    for more in (
        {"room_id": other},
        {"data": {"room_id": other}},
        {"result": {"room": {"id": other}}},
    ):
        with pytest.raises(BadResponse, match="about another room or peer") as caught:
            end({"message": "ok", **more})
        assert caught.value.executed == "maybe"


@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
async def test_a_connection_that_gave_another_requests_answer_is_not_used_again(
    transport: Any,
) -> None:
    connections, served = 0, list[asyncio.Event]()

    def about(room: str) -> bytes:
        session = {"id": "5" * 24, "peers": [f"{connections:08x}-0000-4000-8000-000000000000"]}
        body = json.dumps({"id": room, "name": "r", "customer_id": "c", "session": session})
        return f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        served.append(asyncio.Event())
        over = served[-1]
        # On the first connection each request gets the answer of the one before it.
        late = [about("0" * 24)] if connections == 1 else []
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            late.append(about(ROOM))
            writer.write(late.pop(0))
        writer.close()
        await writer.wait_closed()
        over.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with ActiveRoomsClient(FixedToken(), base_url=url, transport=transport) as client:
            with pytest.raises(BadResponse, match="not about the room"):
                await client.retrieve_active_room(ROOM)
            for _ in range(2):
                found = await client.retrieve_active_room(ROOM)
                assert found.session.peers[0].startswith("00000002")
        for over in served:
            await over.wait()
    assert connections == 2


def test_a_word_that_only_resembles_an_error_is_none() -> None:
    for said in (
        {
            "message": "session is ending",
            "default": "x",
            "error_code": 0,
            "errors": [],
            "error_count": 2,
        },
        {"status": "200 OK", "code": "201", "meta": {"code": 200, "errors": None}},
        {"message": "session is ending", "room": {"id": ROOM}, "peer": None},
    ):
        assert end(said).model_extra


def test_gone_is_gone_and_what_a_gateway_gave_up_may_have_been_executed() -> None:
    with pytest.raises(NotActive) as gone:
        end({"message": "session not active"}, 410)
    assert gone.value.executed == "no"
    with pytest.raises(TimedOut) as given_up:
        end({"message": "context canceled"}, 499)
    assert given_up.value.executed == "maybe"
    for status in (402, 405, 407, 409, 451):
        with pytest.raises(InvalidRequest) as refused:
            end(b"", status)
        assert "arguments and call again" not in refused.value.hint


def test_the_words_of_a_refusal_may_stand_a_level_down() -> None:
    for body in ({"error": {"message": "session not active"}}, {"error": "session not active"}):
        with pytest.raises(NotActive):
            end(body, 404)


def test_no_content_is_no_room() -> None:
    with pytest.raises(BadResponse):
        roster(b"", 204)


def test_a_wrong_address_is_named(unused_port: int) -> None:
    async def ask() -> None:
        url = f"http://127.0.0.1:{unused_port}/v2"
        async with ActiveRoomsClient(
            FixedToken(), base_url=url, backoff=Backoff(attempts=1)
        ) as client:
            await client.end_room(ROOM)

    with pytest.raises(ConnectionFailed, match=rf"http://127\.0\.0\.1:{unused_port}\b") as failed:
        asyncio.run(ask())
    assert "base URL" in failed.value.hint
    for status, body, kind in (
        (200, b"\n<!doctype html>", BadResponse),
        (302, b"", BadResponse),
        (401, b"<html>", Unauthorized),
        (404, b"no such page", NotFound),
        (511, b"<html>", ServerError),
    ):
        with pytest.raises(kind, match=r"http://127\.0\.0\.1:9\b") as caught:
            roster(body, status)
        assert status != 200 or "base URL" in caught.value.hint


ODD_HEADS = {
    "early hints": b"HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n",
    "no reason": b"HTTP/1.1 200 \r\n",
    "another charset": b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-16\r\n",
    "names in capitals": b"HTTP/1.1 200 OK\r\nCONTENT-ENCODING: IDENTITY\r\n",
}


@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
@pytest.mark.parametrize("head", ODD_HEADS)
async def test_an_odd_head_does_not_change_what_the_body_says(head: str, transport: Any) -> None:
    body = json.dumps({"peers": {A: {"id": A}}}).encode()
    assert [p.id for p in await over_a_socket(ODD_HEADS[head] + b"\r\n" + body, transport)] == [A]


@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
@pytest.mark.parametrize(("name", "said"), [("Link", "<b>; rel=next"), ("X-Cache", "HIT")])
async def test_of_two_headers_of_one_name_the_second_counts_too(
    name: str, said: str, transport: Any
) -> None:
    body = json.dumps({"peers": {A: {"id": A}}})
    head = f"{name}: MISS\r\n{name.upper()}: {said}\r\ncontent-length: {len(body)}"
    with pytest.raises(BadResponse, match=r"one page|old answer"):
        await over_a_socket(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}".encode(), transport)


def test_a_401_says_by_how_much_this_clock_is_wrong() -> None:
    then = format_datetime(datetime(2026, 1, 1, 0, 5, tzinfo=UTC), usegmt=True)
    with pytest.raises(Unauthorized) as caught:
        answered(lambda c: c.list_peers(ROOM), {}, 401, date=then)
    assert "clock is 300 seconds behind the server's" in caught.value.hint
    assert "tell the person" not in caught.value.hint, "the person reads it too"
    with pytest.raises(Unauthorized) as caught:
        answered(lambda c: c.list_peers(ROOM), {}, 401)
    assert "clock" in caught.value.hint


@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
async def test_a_gzip_of_several_members_is_one_answer(transport: Any) -> None:
    body = json.dumps({"peers": {A: {"id": A}}}).encode()
    whole = gzip.compress(body[:9]) + gzip.compress(body[9:])
    for coding, packed in (
        ("gzip", whole),
        ("gzip", whole + b"\0" * 9),
        ("gzip", gzip.compress(b"") + whole),
        ("identity, GZIP", whole),
    ):
        size = f"content-encoding: {coding}\r\ncontent-length: {len(packed)}"
        head = f"HTTP/1.1 200 OK\r\n{size}\r\n\r\n"
        assert [p.id for p in await over_a_socket(head.encode() + packed, transport)] == [A]


# --- any mutation ------------------------------------------------------------------------------

TRACK = {"id": "t", "stream_id": "s", "mute": True, "type": "audio", "source": "regular"}
PERSON = {"name": "J", "user_id": "u", "metadata": "", "role": "guest", "joined_at": "2023"}
ANSWERS: list[tuple[Call, dict[str, Any]]] = [
    (
        lambda c: c.retrieve_active_room(ROOM),
        {"id": ROOM, "name": "n", "session": {"id": "s", "created_at": "2022", "peers": [A, B]}},
    ),
    (lambda c: c.list_peers(ROOM), {"peers": {A: {"id": A, **PERSON}, B: {"id": B, **PERSON}}}),
    (lambda c: c.retrieve_peer(ROOM, PEER), {"id": PEER, **PERSON, "tracks": {"t": TRACK}}),
    (lambda c: c.update_peer(ROOM, PEER, name="x"), {"id": PEER, **PERSON, "tracks": {}}),
    (lambda c: c.send_message(ROOM, "hi"), {"message": "message sent"}),
    (lambda c: c.remove_peers(ROOM, peer_id=PEER), {"message": "peer remove request submitted"}),
    (lambda c: c.end_room(ROOM), {"message": "session is ending"}),
]
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


REWRITTEN: dict[str, Callable[[Any], Any]] = {
    "upper": lambda value: value.upper() if isinstance(value, str) else value,
    "as text": str,
    "as JSON in a text": json.dumps,
    "in a list": lambda value: [value],
    "in data": lambda value: {"data": value},
}


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    keys = (
        list(node) if isinstance(node, dict) else range(len(node) if isinstance(node, list) else 0)
    )
    return [place for key in keys for place in [(node, key), *places(node[key])]]


@given(st.sampled_from(range(len(ANSWERS))), st.data())
def test_any_change_of_an_answer_ends_in_a_reading_or_one_clear_error(
    which: int, data: st.DataObject
) -> None:
    call, document = ANSWERS[which]
    document = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from([*places(document), (document, "more")]))
        kind = data.draw(st.sampled_from(["drop", "set", "add", *REWRITTEN]))
        if kind == "set" or key == "more":
            container[key] = data.draw(odd)
        elif kind in REWRITTEN:
            container[key] = REWRITTEN[kind](container[key])
        elif kind == "drop" and key in container:
            del container[key]
        elif isinstance(container, dict):
            container[data.draw(st.text(max_size=4))] = data.draw(odd)
    body = json.dumps(document).encode()
    body = data.draw(
        st.sampled_from([body, body, body, body[:-3], body + b"x", b"\xef\xbb\xbf" + body])
    )
    found = outcome(call, body)
    if isinstance(found, ApiError):
        read = which < 3 or isinstance(found, NotActive)
        assert found.executed == ("no" if read else "maybe")
    elif which == 1:
        known = [p.id for p in found] + list(found.unreadable)
        assert len(known) == len(document["peers"] or ())
        assert all(isinstance(p, Peer) and p.name.encode() is not None for p in found)
    elif which == 0:
        assert found.id == ROOM


def outcome(call: Call, body: bytes) -> Any:
    """What came, or the one clear error."""
    try:
        return answered(call, body)
    except ApiError as error:
        return error


@pytest.mark.parametrize("frozen", [False, True])
def test_a_large_roster_leaves_the_garbage_collector_as_it_was(frozen: bool) -> None:
    ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(1500)]
    body = {"peers": {i: {"id": i, "name": "N", "user_id": "u", "role": "viewer"} for i in ids}}
    gc.unfreeze()
    if frozen:
        gc.freeze()
    try:
        assert len(answered(lambda client: client.list_peers(ROOM), body)) == 1500
        assert gc.isenabled()
        assert bool(gc.get_freeze_count()) is frozen, "what a program froze stays frozen"
    finally:
        gc.freeze()  # as in conftest.py
