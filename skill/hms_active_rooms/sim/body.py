"""Reading a request body the way the real gateway seems to: Go's decoder and its texts.

Recorded on sibling endpoints: "request body must not be empty" and "request body contains
badly-formed JSON (at position 67)". Both belong to a well-known Go helper, so the rest of
its behaviour is inferred: wrong types named with a position, keys matched without regard
to case, null left unset, unknown fields ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, TypeAlias

from hms_active_rooms.sim.scan import BadByteError, EndsEarlyError, Value, scan

FieldType = Literal["string", "bool"]
Fields: TypeAlias = dict[str, "str | bool"]


class BodyError(ValueError):
    """The body cannot be used; the text is what the API says."""


def read_body(data: bytes, fields: Mapping[str, FieldType]) -> Fields:
    """The known fields of a JSON object that are set; everything else is ignored.

    Args:
        data: the body as it came.
        fields: the names the operation knows, and their types.

    Raises:
        BodyError: empty, not JSON, a wrong type, or more than one value.
    """
    try:
        document = scan(data)
    except BadByteError as bad:
        raise BodyError(
            f"request body contains badly-formed JSON (at position {bad.offset})"
        ) from None
    except EndsEarlyError:
        raise BodyError("request body contains badly-formed JSON") from None
    if document is None:
        raise BodyError("request body must not be empty")
    if document.value.kind not in ("object", "null"):
        raise _wrong_type("", document.value)
    found: Fields = {}
    for key, value in document.members:
        name = _text(data, key).casefold()
        if name not in fields or value.kind == "null":
            continue
        if value.kind != fields[name]:
            raise _wrong_type(name, value)
        found[name] = (
            _text(data, value)
            if value.kind == "string"
            else data[value.start : value.end] == b"true"
        )
    if data[document.value.end :].strip(b" \t\r\n"):
        raise BodyError("request body must only contain a single JSON object")
    return found


def _wrong_type(name: str, value: Value) -> BodyError:
    # Go's decoder reports the end of a literal, but the opening bracket of a container.
    position = value.start + 1 if value.kind in ("object", "array") else value.end
    return BodyError(
        f'request body contains an invalid value for the "{name}" field (at position {position})'
    )


def _text(data: bytes, value: Value) -> str:
    text = str(json.loads(data[value.start : value.end].decode("utf-8", "replace")))
    # Half a surrogate pair is no character: Go puts U+FFFD there.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
