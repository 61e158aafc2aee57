"""From the body of a successful answer to what it says. Pure.

The JSON comes from Go through proxies, or from a later version. It ends in a right reading or
in one clear error: what is odd but plain is read (a number as a name, null for nothing, a list
for a map), what contradicts the request or itself is refused, since a wrong roster removes the
wrong people. What is no JSON object is "malformed", and may be whole the next time.
"""

from __future__ import annotations

import gc
import json
import re
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from hms_active_rooms.api.ids import normal_id
from hms_active_rooms.api.models import (
    Acknowledgement,
    ActiveRoom,
    Document,
    Peer,
    PeerDetails,
    Peers,
)
from hms_active_rooms.api.wire import Unusable
from hms_active_rooms.errors import NotActive
from hms_active_rooms.untrusted import quoted, shortened

M = TypeVar("M", bound=Document)
Fields = dict[str, Any]

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_LONGEST_NUMBER: Final = 4000
"""Digits; Python refuses to turn more than 4,300 into a number."""

_HEAD: Final = 4000
"""Bytes of a roster before its first record, at most."""

# By the docs' general page a list has `limit` and `last`; the others are what such pages are
# called elsewhere.
_MORE: Final = ("has_more", "hasMore", "more", "has_next", "next", "next_page", "next_cursor")
_MARKS: Final = ("last", "start", "cursor", "page_token", "next_page_token", "nextPageToken")
_TOTALS: Final = ("total", "total_count", "count", "peer_count")
_STATUSES: Final = ("code", "status", "statusCode")


class _PeerMap(Document):
    """A roster as the API sends it."""

    peers: dict[str, Peer]


class _Twice:
    """Stands for an object with a name in it twice: nobody knows which of the two is meant."""


def read_room(body: bytes, room_id: str) -> ActiveRoom:
    """The room that was asked for, or Unusable; NotActive if it says that it has no session."""
    found = _about(body, room_id, "room")
    session = found.get("session", ...)
    # An unset struct of Go has its fields, all empty.
    if session is None or (
        isinstance(session, dict) and not session.get("id") and not session.get("peers")
    ):
        raise NotActive("100ms answered that the room has no running session.")
    room = _model(ActiveRoom, found)
    if "peers" not in room.session.model_fields_set:
        raise _contradicts("its session does not say who is in it")
    return room


def read_peer(body: bytes, peer_id: str) -> PeerDetails:
    """The peer that was asked for, or Unusable."""
    return _model(PeerDetails, _about(body, peer_id, "peer"))


def read_done(body: bytes) -> Acknowledgement:
    """An acknowledgement, or Unusable; it needs no words, so nothing and null are enough."""
    nothing = body.strip() in (b"", b"null")
    return Acknowledgement() if nothing else _model(Acknowledgement, _object(body))


def read_roster(body: bytes) -> Peers:
    """Everybody in the room; Unusable if it is one page of a longer list, or no such answer."""
    try:
        return _plain_roster(body)
    except ValueError:  # something about it is odd, so each record is looked at by itself
        return _odd_roster(_object(body))


def _plain_roster(body: bytes) -> Peers:
    """The roster, read by pydantic-core alone, if it has just the documented form."""
    # Tens of thousands of new objects make Python look for garbage again and again, which
    # doubles the time, and there is none. No other code runs meanwhile.
    collects = gc.isenabled()
    gc.disable()
    try:
        found = _PeerMap.model_validate_json(body)
    finally:
        if collects:
            gc.enable()
    peers = Peers(found.peers.values())
    ids = [peer.id for peer in peers]
    joined = "".join(ids)
    # Of a name that is there twice pydantic-core keeps the last. No text in JSON holds a bare
    # quote, so what is counted are the names. A second "peers" behind the first one's people is
    # found by their ids, one before them here.
    if (
        ids != list(found.peers)
        or joined.lower() != joined
        or body.count(b'"id":') != len(peers)
        or body.count(b'"role":') != len(peers)
        or body.count(b'"user_id":') > len(peers)
        or body.count(b'"peers"', 0, _HEAD) != 1
    ):
        raise ValueError("odd")
    _refuse_error(found.model_extra or {})
    _refuse_page(found.model_extra or {}, len(peers))
    return peers


def _odd_roster(found: Fields) -> Peers:
    given = found.pop("peers", ...)
    entries: list[tuple[str, Any]] = []
    if isinstance(given, dict):
        entries = list(given.items())
    elif isinstance(given, list):
        entries = [("", entry) for entry in given]
    elif given is not None:  # null is how Go writes an empty map
        raise _contradicts("it has no list of peers")
    read = [(key, _peer(key, entry)) for key, entry in entries]
    peers = Peers(peer for _, peer in read if peer)
    peers.unreadable = tuple(str(normal_id(key)) for key, peer in read if not peer)
    if len({peer.id for peer in peers}) < len(peers):
        raise _contradicts("it lists a peer twice")
    _refuse_page(found, len(entries))
    return peers


def _peer(key: str, entry: object) -> Peer | None:
    """One record; None when it says nothing usable, or another id than it is listed under."""
    if not isinstance(entry, dict):
        return None
    given = entry.get("id")
    own = normal_id(key if given in (None, "") else given)
    try:
        peer = Peer.model_validate({**entry, "id": own})
    except ValidationError:
        return None
    return peer if not key or own == normal_id(key) else None


def _refuse_page(found: Fields, length: int) -> None:
    """A list that says that it goes on is not the room."""
    limit = _number(found.get("limit"))
    full = limit is None or length >= limit
    more = any(found.get(mark) for mark in _MORE)
    more = more or (
        full and any(found.get(mark) not in (None, "", 0) for mark in ("limit", *_MARKS))
    )
    if more or any((_number(found.get(mark)) or 0) > length for mark in _TOTALS):
        raise _contradicts(
            "it is one page of a longer list, and 100ms documents no way to the rest"
        )


def _about(body: bytes, asked: str, what: str) -> Fields:
    """The object, if it is about what was asked for."""
    found = _object(body)
    if normal_id(found.get("id")) != asked:
        raise _contradicts(f"it is not about the {what} that was asked for")
    return {**found, "id": asked}


def _model(kind: type[M], found: Fields) -> M:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise _contradicts(f"it is not what it documents ({_place(error)})") from None


def _place(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # The last parts may be the types, of the two that a text can have.
    parts = [part for part in first["loc"] if part != "str" and "function-plain" not in str(part)]
    place = ".".join(shortened(str(part), 40) for part in parts) or "the whole"
    return f"{place}: {first['type']}"


def _object(body: bytes) -> Fields:
    """A JSON object that is not an error in disguise."""
    try:
        found = json_document(body)
    except (ValueError, RecursionError):
        raise Unusable("malformed", "its answer is not whole or not JSON") from None
    if not isinstance(found, dict):
        raise Unusable("malformed", "its answer is not a JSON object")
    _refuse_error(found)
    return found


def _refuse_error(found: Fields) -> None:
    codes = [int(n) for key in _STATUSES if (n := _number(found.get(key))) and 400 <= n < 1000]
    failed = found.get("success") is False or found.get("status") in ("error", "fail")
    if not (codes or failed or found.get("error") or found.get("errors")):
        return
    said = found.get("message")
    words = [str(code) for code in codes[:1]]
    words += [quoted(said, 100)] if isinstance(said, str) and said else []
    why = f": {', '.join(words)}" if words else ""
    raise _contradicts(f"its status is a success, but its body is an error{why}")


def _contradicts(reason: str) -> Unusable:
    """JSON that is not what was asked for; the next would be the same."""
    return Unusable("contradicts", reason)


def _number(value: object) -> float | None:
    """A number, also where it is a text."""
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None


def json_document(body: bytes) -> Any:
    """JSON, or ValueError. NaN and Infinity are not JSON; a lone surrogate becomes "?".

    A stranger's name must not make a whole roster unreadable, and text that cannot be
    encoded would fail later, in a log or a database.
    """
    text = body.decode("utf-8-sig", "replace")
    found = json.loads(
        text, parse_constant=_refuse, parse_int=_whole_number, object_pairs_hook=_once
    )
    return _encodable(found) if _SURROGATE.search(text) else found


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _whole_number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else digits[:_LONGEST_NUMBER]


def _once(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Twice()


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_encodable(entry) for entry in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(entry) for key, entry in value.items()}
    return value
