"""A JSON scanner that knows where it is: the byte at which Go would have given up.

Python's decoder names another place, counts characters, and nests only as deep as its
stack. The simulator needs the real positions, and the top-level members with theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["object", "array", "string", "number", "bool", "null"]

_SPACE: Final = b" \t\r\n"
_DIGITS: Final = b"0123456789"
_HEX: Final = b"0123456789abcdefABCDEF"
_WORDS: Final[dict[int, tuple[bytes, Kind]]] = {
    ord("t"): (b"true", "bool"),
    ord("f"): (b"false", "bool"),
    ord("n"): (b"null", "null"),
}


class BadByteError(ValueError):
    """A byte that cannot be there. `offset` counts the bytes read, that one included."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"bad byte at {offset}")
        self.offset = offset


class EndsEarlyError(ValueError):
    """The text stops in the middle of a value."""


@dataclass(frozen=True, slots=True)
class Value:
    """A scanned value: what it is and the bytes it spans."""

    kind: Kind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """The first value of a text, with its members (key, value) when it is an object."""

    value: Value
    members: tuple[tuple[Value, Value], ...]


def scan(data: bytes) -> Document | None:
    """Scan the first JSON value; None when there is nothing but white space.

    Raises:
        BadByteError: not JSON.
        EndsEarlyError: the value is cut off.
    """
    start = _skip(data, 0)
    if start == len(data):
        return None
    first = data[start]
    if first not in b"{[":
        value = _scalar(data, start)
        return Document(value, ())
    return _container(data, start)


def _container(data: bytes, start: int) -> Document:
    members: list[tuple[Value, Value]] = []
    closers: list[int] = []  # the closing brackets we wait for, innermost last
    key: Value | None = None
    begun = start
    at = start
    while True:
        # Here a value begins.
        byte = _byte(data, at)
        if byte in b"{[":
            if len(closers) == 1:
                begun = at
            closers.append(ord("}") if byte == ord("{") else ord("]"))
            at = _skip(data, at + 1)
            if _byte(data, at) != closers[-1]:
                at, key = _key(data, at, closers, key)
                continue
        else:
            value = _scalar(data, at)
            if len(closers) == 1 and key is not None:
                members.append((key, value))
            at = _skip(data, value.end)
        # Here a value has ended: close what closes, or go on to the next.
        while _byte(data, at) == closers[-1]:
            closer = closers.pop()
            at += 1
            kind: Kind = "object" if closer == ord("}") else "array"
            if not closers:
                return Document(Value(kind, start, at), tuple(members))
            if len(closers) == 1 and key is not None:
                members.append((key, Value(kind, begun, at)))
            at = _skip(data, at)
        if data[at] != ord(","):
            raise BadByteError(at + 1)
        at, key = _key(data, _skip(data, at + 1), closers, key)


def _key(data: bytes, at: int, closers: list[int], key: Value | None) -> tuple[int, Value | None]:
    """In an object, read the key and the colon. Only the outermost keys are kept."""
    if closers[-1] != ord("}"):
        return at, key
    if _byte(data, at) != ord('"'):
        raise BadByteError(at + 1)
    found = _string(data, at)
    at = _skip(data, found.end)
    if _byte(data, at) != ord(":"):
        raise BadByteError(at + 1)
    return _skip(data, at + 1), found if len(closers) == 1 else key


def _scalar(data: bytes, at: int) -> Value:
    byte = _byte(data, at)
    if byte == ord('"'):
        return _string(data, at)
    if byte in _WORDS:
        word, kind = _WORDS[byte]
        for offset, letter in enumerate(word):
            if _byte(data, at + offset) != letter:
                raise BadByteError(at + offset + 1)
        return Value(kind, at, at + len(word))
    return _number(data, at)


def _string(data: bytes, start: int) -> Value:
    at = start + 1
    while (byte := _byte(data, at)) != ord('"'):
        if byte < 0x20:
            raise BadByteError(at + 1)
        if byte == ord("\\"):
            at += 1
            escape = _byte(data, at)
            if escape == ord("u"):
                for _ in range(4):
                    at += 1
                    if _byte(data, at) not in _HEX:
                        raise BadByteError(at + 1)
            elif escape not in b'"\\/bfnrt':
                raise BadByteError(at + 1)
        at += 1
    return Value("string", start, at + 1)


def _number(data: bytes, start: int) -> Value:
    at = start
    if _byte(data, at) == ord("-"):
        at += 1
    at = at + 1 if _byte(data, at) == ord("0") else _digits(data, at)
    if at < len(data) and data[at] == ord("."):
        at = _digits(data, at + 1)
    if at < len(data) and data[at] in b"eE":
        at += 1
        if _byte(data, at) in b"+-":
            at += 1
        at = _digits(data, at)
    return Value("number", start, at)


def _digits(data: bytes, at: int) -> int:
    """One digit or more; where they end."""
    if _byte(data, at) not in _DIGITS:
        raise BadByteError(at + 1)
    while at < len(data) and data[at] in _DIGITS:
        at += 1
    return at


def _skip(data: bytes, at: int) -> int:
    while at < len(data) and data[at] in _SPACE:
        at += 1
    return at


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise EndsEarlyError
    return data[at]
