"""Reading a request body the way the real gateway seems to: its rules and its texts.

Recorded on sibling endpoints: "request body must not be empty" and "request body contains
badly-formed JSON (at position 67)". Both belong to a well-known Go helper, so the rest of
its behaviour is inferred: wrong types named, keys matched without regard to case, null left
unset, unknown fields ignored. The position is the one Python's decoder names, one-based.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

FieldType = Literal["string", "bool"]
Fields: TypeAlias = dict[str, "str | bool"]

_BADLY_FORMED: Final = "request body contains badly-formed JSON"
_TYPES: Final[Mapping[FieldType, type[str] | type[bool]]] = {"string": str, "bool": bool}


class BodyError(ValueError):
    """The body cannot be used; the text is what the API says."""


def _no_constant(name: str) -> object:
    raise BodyError(_BADLY_FORMED)  # NaN and Infinity: Python reads them, Go does not


# Objects come as tuples of pairs, so that a key that stands twice is seen; whole numbers as
# floats, since Python refuses to read very long ones.
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=float, parse_constant=_no_constant
)


def read_body(data: bytes, fields: Mapping[str, FieldType]) -> Fields:
    """The known fields of a JSON object that are set; everything else is ignored.

    Args:
        data: the body as it came.
        fields: the names the operation knows, and their types.

    Raises:
        BodyError: empty, not JSON, a wrong type, or more than one value.
    """
    text = data.decode("utf-8", "replace").strip(" \t\r\n")
    if not text:
        raise BodyError("request body must not be empty")
    try:
        document, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as bad:
        raise BodyError(f"{_BADLY_FORMED} (at position {bad.pos + 1})") from None
    except RecursionError:
        raise BodyError(_BADLY_FORMED) from None
    if not isinstance(document, tuple | None):
        raise _wrong_type("")
    found: Fields = {}
    for key, value in document or ():
        name = key.casefold()
        if name not in fields or value is None:
            continue
        if not isinstance(value, _TYPES[fields[name]]):
            raise _wrong_type(name)
        # Half a surrogate pair is no character: Go puts U+FFFD there.
        found[name] = (
            value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            if isinstance(value, str)
            else value
        )
    if text[end:]:
        raise BodyError("request body must only contain a single JSON object")
    return found


def _wrong_type(name: str) -> BodyError:
    return BodyError(f'request body contains an invalid value for the "{name}" field')
