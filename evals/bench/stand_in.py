"""Stands in for 100ms: fixed rooms over HTTP, where a removal is visible at once.

A room's id says how many people are in it (`room_of`), so nothing has to be set up. Prints its
base URL. `GET /told/<room>` tells how many requests came so far, what CPU they took, and who was
removed from that room; such requests are not counted. It keeps to the first core, so that what is
measured has the last one for itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections import defaultdict
from contextlib import suppress
from functools import lru_cache
from typing import Final

from evals.bench import peer_of

_HEAD: Final = re.compile(
    rb"(GET|POST) /(told|active-rooms)/([0-9]{24})(/[a-z-]+)?(/[0-9a-f-]+)? HTTP"
)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Rooms:
    """The rooms, and how many requests came for them."""

    def __init__(self) -> None:
        self.requests = 0
        self._removed: defaultdict[str, list[str]] = defaultdict(list)

    def answer(
        self, method: str, kind: str, room: str, part: str, peer: str, body: bytes
    ) -> tuple[int, bytes]:
        gone = self._removed[room]
        if kind == "told":
            told = {"requests": self.requests, "cpu_s": time.process_time(), "removed": gone}
            return 200, _json(told)
        self.requests += 1
        if method == "POST" and part == "remove-peers":
            gone.append(json.loads(body)["peer_id"])
            return 200, _json({"message": "peer remove request submitted"})
        there = tuple(gone)
        if method == "GET" and not part:
            return 200, _room(room, there)
        if method == "GET" and part == "peers" and not peer:
            return 200, _peers(room, there)
        if method == "GET" and part == "peers" and peer not in gone:
            return 200, _json({**_person(int(peer[:8], 16)), "tracks": {}})
        return 404, _json({"code": 404, "message": "peer not found", "details": []})


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _ids(room: str, gone: tuple[str, ...]) -> list[str]:
    return [peer for n in range(int(room[16:])) if (peer := peer_of(n)) not in gone]


@lru_cache(maxsize=8)
def _room(room: str, gone: tuple[str, ...]) -> bytes:
    session = {
        "id": "5" * 24,
        "created_at": "2026-01-01T00:00:00.123456789Z",
        "peers": _ids(room, gone),
    }
    return _json({"id": room, "name": "bench", "customer_id": "c" * 24, "session": session})


@lru_cache(maxsize=8)
def _peers(room: str, gone: tuple[str, ...]) -> bytes:
    people = {peer: _person(int(peer[:8], 16)) for peer in _ids(room, gone)}
    return _json({"peers": people})


def _person(number: int) -> dict[str, str]:
    return {
        "id": peer_of(number),
        "name": f"Student {number}",
        "user_id": f"user-{number:06d}",
        "metadata": json.dumps({"hand": number % 7 == 0, "seat": number}),
        "role": "teacher" if number % 25 == 0 else "student",
        "joined_at": "2026-01-01T00:00:01.123456789Z",
    }


async def main() -> None:
    """Serve on any free port until standard input ends."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rooms = Rooms()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length else b""
                status, answer = 404, b"{}"
                if match := _HEAD.match(head):
                    method, kind, room, part, peer = ((g or b"").decode() for g in match.groups())
                    status, answer = rooms.answer(method, kind, room, part[1:], peer[1:], body)
                writer.write(
                    b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                    % (status, len(answer), answer)
                )

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
