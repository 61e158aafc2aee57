"""Reads the body of a successful answer into a model, or raises `Unusable`. Does no I/O.

Another version of the API, or a proxy, may send other JSON than the docs show. A body that is unusual
but clear is read, for example if a name is a number. A body that contradicts the request or itself is
refused: by a wrong list of peers the wrong people could be removed. A body that is not a JSON object
may be cut off, so the client sends a read again.
"""

from __future__ import annotations

import gc
import json
import math
import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NoReturn, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from hms_active_rooms.api.ids import is_peer_id, normal_id, parse_peer_id
from hms_active_rooms.api.models import (
    Acknowledgement,
    ActiveRoom,
    Document,
    Peer,
    PeerDetails,
    Peers,
    Session,
    Track,
    as_list,
)
from hms_active_rooms.api.wire import WEB_PAGE, Unusable, contradiction
from hms_active_rooms.errors import BadResponse, NotActive
from hms_active_rooms.plain import explain
from hms_active_rooms.untrusted import quoted

M = TypeVar("M", bound=Document)
Fields = dict[str, Any]

# With this many peers, a run of the garbage collector takes longer than `gc.freeze` and `unfreeze`.
_MANY: Final = 1000

_MOST_DIGITS: Final = 1000  # Python refuses an integer of some thousands of digits
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")

_AS_ZERO: Final = str.maketrans(dict.fromkeys("123456789abcdef", "0"))
_ZERO_ID: Final = str(UUID(int=0))
_SEPARATORS: Final = re.compile(r"[^a-z0-9]")
_OTHER_ESCAPE: Final = re.compile(rb'\\[^"]')
# The attributes behind `model_fields_set` and `model_extra`, without their Python functions.
_FIELDS: Final = operator.attrgetter("__pydantic_fields_set__")
_EXTRA: Final = operator.attrgetter("__pydantic_extra__")

# Fields that say that a list has more pages. All names are in lower case, without separators. The
# general page of the 100ms docs gives every list `limit` and `last`.
_PAGING: Final = {"pagination", "paging", "page", "pageinfo", "meta", "metadata", "links"} | {
    *("cursor", "cursors", "hits", "resultinfo", "responsemetadata")
}
_MORE: Final = re.compile(
    r"(has)?more(peers|pages|items|results)?(available)?|continuation(token)?|lastevaluatedkey"
    r"|(has|odata|cursor)?next[a-z]*"
    r"|(is|peers)?(truncated|partial|incomplete)(results)?|remaining|omitted|timedout|scrollid"
)
_MARKS: Final = {"limit", "last", "start", "offset", "skip", "after"} | {
    *("cursor", "endcursor", "pagetoken", "marker")
}
_THING: Final = "(peer|record|item|element|result|participant|user|member|connection|row|entrie)"
_TOTALS: Final = re.compile(
    r"(?!number$)(?=.)(odata|full|grand)?(total|num|number|active|connected)?(of)?"
    rf"({_THING}s|{_THING}(?=count|total))?(count|total)?"
)
_PAGES: Final = {"page", "pages", "totalpages", "pagecount", "lastpage"}
_WHOLE: Final = re.compile(r"(is)?(complete|last(page)?)")

# Names that Go, Java, Python, cloud gateways and 100ms webhooks give to the fields of an error.
_ERROR: Final = re.compile(
    r"(is|has)?(error|err|exception|fault|failure|failed|rejected|denied|refused)s?"
    r"(code|message|msg|type|status|details?|description|text|reason|name|peers|ids)?|errno"
)
_STATUS: Final = re.compile(r"(http|response|result)?(status|code|statuscode)")
_ENVELOPE: Final = {"status", "code", "response", "result", "meta", "data"}
_FAILED: Final = re.compile(
    r"[a-z_ ]*(error|fail|reject|denied|refuse|forbid|invalid|abort|unauthor|unavail|not.?found)[a-z_ ]*"
)
_SAID: Final = ("status", "statustext", "state", "result", "outcome", "code")
_DONE: Final = ("success", "ok", "succeeded", "accepted", "acknowledged")
_STATUS_LINE: Final = re.compile(r"(\d{3}) .*")
_OVER: Final = re.compile(r"(is)?(ended|closed|finished|terminated)(at|on)?")
_OVER_WORD: Final = {"ended", "closed", "finished", "terminated", "completed", "inactive"}
# How an unset time begins. Go writes the year 1 (as a text or in seconds) or {"Valid": false}.
_UNSET: Final = re.compile(r"0000-|0001-|1970-|-|{")

_NO_ID: Final = re.compile(r"[0\s-]*")  # an id that is not set; Go writes one of zeros

# Words that mean "accepted" (the documented ones first), and words that mean "refused".
_ACCEPTED: Final = re.compile(
    r"\b(sent|submitted|ending|ok|okay|done|accepted|queued|scheduled|success(ful(ly)?)?|succeeded"
    r"|removed|ended|delivered|true|20[0-3]|completed|processed|acknowledged)\b"
)
_NOT_ACCEPTED: Final = re.compile(
    r"\b(no|not|none|nothing|never|zero|0|too|un\w+|cannot|could|must)\b|n.t\b|error|fail|invalid"
)

_ANSWERS: Final = {  # the documented text of each acknowledgement, and its operation
    "message sent": "sendmessage",
    "peer remove request submitted": "removepeers",
    "session is ending": "endactiveroom",
}
_SPELT: Final = {  # a field's name in lower case and without separators, and its documented name
    field.replace("_", ""): field
    for kind in (ActiveRoom, Session, PeerDetails, Track, Acknowledgement)
    for field in (*kind.model_fields, "peers")
}
_CHECKED: Final = {*_SPELT, "roomid", "peerid"}  # fields that need more than a fast look

PAGE: Final = "the answer is only one page of a list, and 100ms documents no way to get the others"


class _PeerMap(BaseModel, extra="forbid", cache_strings="keys"):  # values seldom repeat
    peers: dict[str, Peer]


@dataclass(frozen=True)  # in a field that 100ms does not document, pydantic writes it as {}
class _Twice:
    """Replaces a JSON object that has a name twice, so that no documented field accepts it."""


def read_room(body: bytes, asked: Mapping[str, str]) -> ActiveRoom:
    """Return the room in a JSON text. Raises NotActive if no session runs, and Unusable if the text is
    about another room than `asked["room_id"]`, or cannot be read."""
    found = _object(body, asked, "room")
    session = found.get("session", ...)
    fields: Fields = session if isinstance(session, dict) else {}
    # In place of no session, Go may write an object with empty fields, and PHP an empty list.
    nameless = bool(fields) and bool(_NO_ID.fullmatch(str(fields.get("id") or "")))
    unset = nameless and not fields.get("peers")
    if not session or unset or _is_over(found) or _is_over(fields):
        raise NotActive("100ms answered that the room has no running session.")
    _refuse_other(fields, asked)
    room = _model(ActiveRoom, found)
    if nameless:
        raise contradiction(
            "the answer has no session id"
        )  # so no other session could be told apart
    if "peers" not in room.session.model_fields_set:
        raise contradiction("the answer does not say who is in the session")
    counts = {name: value for name, value in found.items() if "peer" in name.lower()}
    refuse_page({**counts, **fields}, len(room.session.peers))
    return room


def _is_over(found: Fields) -> bool:
    said = _named(found)
    return (
        False in (_means(said.get("active")), _means(said.get("isactive")))
        or bool(_OVER_WORD & {str(said.get(name)).lower() for name in ("status", "state")})
        or any(
            _means(value) and not _UNSET.match(str(value))
            for name, value in said.items()
            if _OVER.fullmatch(name)
        )
    )


def read_peer(body: bytes, asked: Mapping[str, str]) -> PeerDetails:
    """Return the peer in a JSON text. Raises Unusable if the text is about another room or peer than
    `asked` names, or cannot be read."""
    return _model(PeerDetails, _object(body, asked, "peer"))


def read_done(body: bytes, asked: Mapping[str, str]) -> Acknowledgement:
    """Return the acknowledgement in the body of a 2xx answer. Raises Unusable if the body does not say that
    the request was accepted. An empty body says so. `asked` has the fields of the request."""
    found = {} if body.strip() in (b"", b"null") else _object(body, asked)
    said = _named(found)
    told = [
        v for n in ("message", *_SAID, *_DONE) if (v := said.get(n)) and isinstance(v, str | int)
    ]
    words = [str(value).lower().replace("_", " ") for value in told]
    if _ANSWERS.get(words[0].rstrip(".") if words else "", own := asked["operation"]) != own:
        raise contradiction(f"the answer is for another request: {quoted(str(told[0]), 100)}")
    if found and (not any(map(_ACCEPTED.search, words)) or any(map(_NOT_ACCEPTED.search, words))):
        why = f": {quoted(str(told[0]), 100)}" if told else ""
        raise contradiction(f"the answer does not say that the request was accepted{why}")
    return _model(Acknowledgement, found)


def read_roster(body: bytes, asked: Mapping[str, str]) -> Peers:
    """Return the peers in a JSON text. Raises Unusable if the text is no whole list of peers, or has other
    peers than `asked` for by `role` or `user_id`."""
    try:
        peers = _plain_roster(body)
    except ValueError:  # something is unusual, so each record is checked by itself
        peers = _odd_roster(_object(body, asked), asked)
    for field in ("role", "user_id"):
        if field in asked and any(getattr(peer, field) != asked[field] for peer in peers):
            raise contradiction("the answer lists people who were not asked for")
    return peers


def _plain_roster(body: bytes) -> Peers:
    """Read a body in the documented form, fast. The peers may have more fields, with plain values.
    Raises ValueError for a body in another form."""
    # Tens of thousands of new objects would start the garbage collector again and again. That would
    # double the time for nothing. No other code runs while it is off.
    collects = gc.isenabled()
    gc.disable()
    try:
        found = _PeerMap.model_validate_json(body, strict=True).peers
    finally:
        if collects:
            gc.enable()
    # Put the objects into the oldest generation, so that the next run skips them. If the program has
    # frozen objects itself, leave it: `unfreeze` would thaw those, too.
    if len(found) >= _MANY and not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
    peers = Peers(found.values())
    ids, fields = [peer.id for peer in peers], sum(map(len, map(_FIELDS, peers)))
    more = [item for extra in filter(None, map(_EXTRA, peers)) for item in extra.items()]
    others = [value for _, value in more if not isinstance(value, str)]
    if (
        ids != list(found)
        # pydantic-core keeps one value of a name that occurs twice: then the body has more quotes.
        # So it has if a further field holds an object, or texts in a list.
        or _unescaped_quotes(body) != 2 * (1 + len(peers) + 2 * fields - len(others))
        or any(_spelt_plainly(name) in _CHECKED for name, _ in more)
        # Checking all ids at once is much faster than a pattern for each.
        or ",".join(ids).translate(_AS_ZERO) != ",".join([_ZERO_ID] * len(ids))
    ):
        raise ValueError("odd")
    json.dumps(others, allow_nan=False)  # raises ValueError for NaN and Infinity
    return peers


def _unescaped_quotes(body: bytes) -> int:
    if _OTHER_ESCAPE.search(body):
        body = body.replace(b"\\\\", b"")
        return body.count(b'"') - body.count(b'\\"')
    return body.count(b'"') - body.count(b"\\")  # five times as fast


def _odd_roster(found: Fields, asked: Mapping[str, str]) -> Peers:
    given = as_list(found.pop("peers", ...))
    entries: list[tuple[str, Any]] = []
    if isinstance(given, dict):
        entries = list(given.items())
    elif isinstance(given, list):
        entries = [("", entry) for entry in given]
    elif given is not None:  # null is how Go writes an empty map
        raise contradiction("the answer has no list of peers")
    read = [(key, _peer(key, entry, asked)) for key, entry in entries]
    peers = Peers(peer for _, peer in read if peer)
    if entries and not peers and not any(map(is_peer_id, dict(entries))):
        # It has groups, pages or another list.
        raise contradiction("the answer's list is not a list of peers")
    peers.unreadable = tuple(str(normal_id(key)) for key, peer in read if not peer)
    if len({peer.id for peer in peers}) < len(peers):
        raise contradiction("the answer lists a peer twice")
    refuse_page(found, len(entries))
    return peers


def _peer(key: str, entry: object, asked: Mapping[str, str]) -> Peer | None:
    """Return the peer in one record; None if it is unusable, or about another peer or room."""
    if not isinstance(entry, dict):
        return None
    given = entry.get("id")
    try:
        own = parse_peer_id(key if given in (None, "") else given)
        peer = Peer.model_validate({**entry, "id": own})
    except ValueError:
        return None
    other = (key and own != normal_id(key)) or _of_other(entry, {**asked, "peer_id": own})
    return None if other else peer


def refuse_page(found: Fields, length: float) -> None:
    """Raise Unusable if fields beside a list say that it is only a part of a longer list. `found` has these
    fields, and `length` the number of entries."""
    said = list(_about_pages(found))
    more = [_means(value) for name, value in said if _MORE.fullmatch(name)]
    more += [not v for name, v in said if _WHOLE.fullmatch(name) and isinstance(v, bool)]
    limit = next((_number(value) for name, value in said if name == "limit"), None)
    marks = [v for n, v in said if n in _MARKS and v and not isinstance(v, bool)]
    goes_on = not more and marks and (limit is None or length >= limit)
    for name, value in said:
        most = length if _TOTALS.fullmatch(name) else 1 if name in _PAGES else math.inf
        goes_on = goes_on or (_number(value) or 0) > most
    if goes_on or any(more):
        raise contradiction(PAGE)


def _about_pages(found: Fields) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of the fields, with those of nested objects about pages."""
    for name, value in _named(found).items():
        yield name, value
        if name in _PAGING and isinstance(value, dict):
            yield from _about_pages(value)
        if name in _PAGING and isinstance(value, list):
            yield from [
                (str(e.get("rel")), e.get("href", True)) for e in value if isinstance(e, dict)
            ]


def _refuse_other(found: Fields, asked: Mapping[str, str]) -> None:
    if _of_other(found, asked):
        raise contradiction("the answer is about another room or peer")


def _of_other(found: Fields, asked: Mapping[str, str]) -> bool:
    said = _named(found)
    for what in ("room", "peer"):
        own, nested = asked.get(f"{what}_id"), said.get(what)
        given = [said.get(f"{what}id"), nested.get("id") if isinstance(nested, dict) else None]
        if own and any(one and normal_id(one) != own for one in given):
            return True
    inner = [said[name] for name in _ENVELOPE & said.keys()]
    return any(_of_other(each, asked) for each in inner if isinstance(each, dict))


def _named(found: Fields) -> Fields:
    """Return the fields with names in lower case and without separators."""
    return {_spelt_plainly(key): value for key, value in found.items()}


@lru_cache(maxsize=1024)
def _spelt_plainly(name: str) -> str:
    return _SEPARATORS.sub("", name.lower())


def _model(kind: type[M], found: Fields) -> M:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        told = f"the answer is not what the API documents ({explain(error, 'field')})"
    raise contradiction(told)


def _object(body: bytes, asked: Mapping[str, str], about: str = "") -> Fields:
    """Parse a body. If `about` is "room" or "peer", the object must have the id of the request."""
    try:
        found = json_document(body)
    except (ValueError, RecursionError):
        page = body.lstrip().startswith(b"<")
        raise Unusable(
            BadResponse, WEB_PAGE if page else "the answer is not whole or not JSON"
        ) from None
    if not isinstance(found, dict):
        raise Unusable(BadResponse, "the answer is not a JSON object")
    _refuse_error(found)
    _refuse_other(found, asked)
    if not about:
        return found
    if normal_id(found.get("id")) != (own := asked[f"{about}_id"]):
        raise contradiction(f"the answer is not about the {about} that was asked for")
    return {**found, "id": own}


def _refuse_error(found: Fields) -> None:
    said = _named(found)
    code, status, message = said.get("code"), said.get("status"), said.get("message")
    codes = [_status(value) for name, value in said.items() if _STATUS.fullmatch(name)]
    wrong = [n for n in codes if n and n >= 400]
    number = _status(code) or 0  # gRPC's codes are small numbers, 0 for OK
    for name in _ENVELOPE & said.keys():
        if isinstance(said[name], dict):
            _refuse_error(said[name])
    if (
        (number != 0 and not 200 <= number < 300)
        or wrong
        or status is False
        or said.get("result") is False
        or any(_FAILED.fullmatch(str(said.get(name)).lower()) for name in _SAID)
        or any(_means(value) for name, value in said.items() if _ERROR.fullmatch(name))
        or any(_means(said.get(name)) is False for name in _DONE)
    ):
        words = [f"{wrong[0]:g}"] if wrong else []
        words += [quoted(message, 100)] if isinstance(message, str) and message else []
        why = f": {', '.join(words)}" if words else ""
        raise contradiction(f"the answer's status says success, but its body says error{why}")


def _means(value: object) -> bool | None:
    """Whether a field's value means yes. Words such as "no" and "false" mean no. None for null."""
    if value is None or isinstance(value, bool):
        return value
    return bool(value) and str(value).lower() not in ("false", "no", "0", "null", "none")


def _status(value: object) -> float | None:
    """The number in 404, "404" or "404 Not Found". None for any other value."""
    line = _STATUS_LINE.fullmatch(value) if isinstance(value, str) else None
    return _number(line[1] if line else value)


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None


def json_document(body: bytes) -> Any:
    """Parse JSON from 100ms, and give fields their documented names (`userId` is `user_id`). Raises
    ValueError if `body` is not JSON."""
    text = body.decode("utf-8-sig", "replace")
    # One stranger's name must not make the whole list of peers unreadable, so odd texts and numbers pass.
    how: dict[str, Any] = {"parse_int": _whole, "parse_float": _finite, "strict": False}
    found = json.loads(text, parse_constant=_refuse, object_pairs_hook=_once, **how)
    return _encodable(found) if _SURROGATE.search(text) else found


def _refuse(number: str) -> NoReturn:
    raise ValueError(f"{number} is no number")


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MOST_DIGITS else digits


def _finite(digits: str) -> float | str:
    found = float(digits)
    return found if math.isfinite(found) else digits


def _once(pairs: list[tuple[str, Any]]) -> Any:
    found = {_documented(key): value for key, value in pairs}
    return found if len(found) == len(pairs) else _Twice()


@lru_cache(maxsize=1024)
def _documented(name: str) -> str:
    """Return a field's documented name, such as `user_id` for `userId`; any other name unchanged."""
    return _SPELT.get(_spelt_plainly(name), name)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_encodable(entry) for entry in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(entry) for key, entry in value.items()}
    return value
