"""From the body of a successful answer to what it says. Pure.

The JSON comes from Go through proxies, or from a later version. It ends in a right reading or
in one clear error: what is odd but plain is read (a number as a name, null for nothing, a list
for a map), what contradicts the request or itself is refused, since a wrong roster removes the
wrong people.
"""

from __future__ import annotations

import gc
import json
import re
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from hms_active_rooms.api.models import (
    Acknowledgement,
    ActiveRoom,
    Document,
    Fields,
    Peer,
    PeerDetails,
    PeerMap,
    Peers,
)
from hms_active_rooms.errors import NotActive
from hms_active_rooms.untrusted import quoted, shortened

M = TypeVar("M", bound=Document)

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_LONGEST_NUMBER: Final = 4000
"""Digits; Python refuses to turn more than 4,300 into a number."""

# By the docs' general page a list has `limit` and `last`; the others are what such pages are
# called elsewhere.
_MORE: Final = ("has_more", "hasMore", "more", "has_next", "next", "next_page", "next_cursor")
_MARKS: Final = ("last", "start", "cursor", "page_token", "next_page_token", "nextPageToken")
_TOTALS: Final = ("total", "total_count", "count", "peer_count")


class Malformed(ValueError):
    """The answer is not JSON, or not an object. It may be whole the next time."""


class Contradicts(ValueError):
    """The answer is JSON that is not what was asked for; the next would be the same."""


class _Twice:
    """Stands for an object with a name in it twice: nobody knows which of the two is meant."""


def read_room(body: bytes, room_id: str) -> ActiveRoom:
    """The room that was asked for.

    Raises:
        NotActive: it says that it has no session.
        Malformed, Contradicts: no such answer.
    """
    found = _object(body)
    _refuse_another(found, room_id, "room")
    session = found.get("session", ...)
    if session is None or session == {} or (isinstance(session, dict) and _is_zero(session)):
        raise NotActive("100ms answered that the room has no running session.")
    room = _model(ActiveRoom, found)
    if "peers" not in room.session.model_fields_set:
        raise Contradicts("its session does not say who is in it")
    return room


def read_peer(body: bytes, peer_id: str) -> PeerDetails:
    """The peer that was asked for.

    Raises:
        Malformed, Contradicts: no such answer.
    """
    found = _object(body)
    _refuse_another(found, peer_id, "peer")
    return _model(PeerDetails, found)


def read_done(body: bytes) -> Acknowledgement:
    """An acknowledgement; it needs no words, so nothing and null are enough.

    Raises:
        Malformed, Contradicts: it is none.
    """
    if body.strip() in (b"", b"null"):
        return Acknowledgement()
    found = _object(body)
    if found.get("error") or found.get("errors") or found.get("success") is False:
        raise Contradicts("its body is an error, although its status is a success")
    return _model(Acknowledgement, found)


def read_roster(body: bytes) -> Peers:
    """Everybody in the room.

    Raises:
        Malformed, Contradicts: no such answer, or one page of a longer one.
    """
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
        found = PeerMap.model_validate_json(body)
    finally:
        if collects:
            gc.enable()
    peers = Peers(found.peers.values())
    ids = [peer.id for peer in peers]
    # Of a name that is there twice pydantic-core keeps the last.
    if (
        ids != list(found.peers)
        or not ("".join(ids).islower() or len(set(map(str.lower, ids))) == len(ids))
        or body.count(b'"id"') != len(peers)
        or body.count(b'"role"') != len(peers)
        or body.count(b'"peers"') != 1
    ):
        raise ValueError("odd")
    _refuse_error(found.model_extra or {})
    _refuse_page(found.model_extra or {}, len(peers))
    return peers


def _odd_roster(found: Fields) -> Peers:
    given = found.pop("peers", ...)
    # null is how Go writes an empty map.
    entries: list[tuple[str, Any]]
    if given is None:
        entries = []
    elif isinstance(given, dict):
        entries = list(given.items())
    elif isinstance(given, list):
        entries = [("", entry) for entry in given]
    else:
        raise Contradicts("it has no list of peers")
    read = [(key, _peer(key, entry)) for key, entry in entries]
    peers = Peers(peer for _, peer in read if peer)
    peers.unreadable = tuple(key for key, peer in read if not peer)
    if len({peer.id.lower() for peer in peers}) < len(peers):
        raise Contradicts("it lists a peer twice")
    _refuse_page(found, len(entries))
    return peers


def _peer(key: str, entry: object) -> Peer | None:
    """One record; None when it says nothing usable, or another id than it is listed under."""
    if not isinstance(entry, dict):
        return None
    if entry.get("id") in (None, ""):
        entry = {**entry, "id": key}
    try:
        peer = Peer.model_validate(entry)
    except ValidationError:
        return None
    return peer if not key or peer.id.lower() == key.lower() else None


def _refuse_page(found: Fields, length: int) -> None:
    """A list that says that it goes on is not the room."""
    limit = found.get("limit")
    full = not isinstance(limit, int) or length >= limit
    more = any(found.get(mark) for mark in _MORE)
    more = more or (
        full and any(found.get(mark) not in (None, "", 0) for mark in ("limit", *_MARKS))
    )
    totals = [n for mark in _TOTALS if isinstance(n := found.get(mark), int)]
    if more or any(total > length for total in totals):
        raise Contradicts("it is one page of a longer list, and 100ms documents no way to the rest")


def _refuse_another(found: Fields, asked: str, what: str) -> None:
    given = found.get("id")
    if not isinstance(given, str) or given.lower() != asked:
        raise Contradicts(f"it is not about the {what} that was asked for")


def _is_zero(session: Fields) -> bool:
    """How Go writes a struct that was never set."""
    return not session.get("id") and not session.get("peers")


def _model(kind: type[M], found: Fields) -> M:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise Contradicts(f"it is not what it documents ({_place(error)})") from None


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
        raise Malformed("its answer is not whole or not JSON") from None
    if not isinstance(found, dict):
        raise Malformed("its answer is not a JSON object")
    _refuse_error(found)
    return found


def _refuse_error(found: Fields) -> None:
    code = found.get("code")
    if isinstance(code, str | float) and str(code)[:3].isdecimal():
        code = int(str(code)[:3])
    if isinstance(code, int) and code >= 400:
        said = found.get("message")
        words = f", {quoted(said, 100)}" if isinstance(said, str) and said else ""
        raise Contradicts(f"its status is a success, but its body is an error: {code}{words}")


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
