"""A scripted HTTP server on a raw socket, a fixed token and recorded waits."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

ROOM = "631a0f990e6ffae22efa610c"
PEER = "dcd88eb0-83e6-486a-bcae-c3be5e0f2c20"
TOKEN = "TOP-SECRET-management-token-0123456789"


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


def reply(
    status: int = 200,
    document: object = None,
    *,
    raw: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """A well-formed HTTP answer."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        body = raw if raw is not None else json.dumps(document).encode()
        lines = [f"HTTP/1.1 {status} Text", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return answer


def raw_bytes(data: bytes) -> Answer:
    """Exactly these bytes, then the end of the connection."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return answer


async def reset(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """The connection is reset after the request arrived whole."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """No answer, until the client gives up."""
    await asyncio.Event().wait()


@dataclass
class Wire:
    """The server: what it will answer, in order (the last one again and again), and what it saw."""

    answers: list[Answer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    base_url: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while not writer.is_closing():
                seen = await _read_request(reader)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                self.seen.append(seen)
                self.arrived.set()
                await answer(seen, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    def stop(self) -> list[asyncio.Task[None]]:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        return tasks


async def _read_request(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, target, headers, body)


class FixedToken:
    """A token source that refreshes only if it has another token."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = [SecretStr(token) for token in tokens or (TOKEN,)]

    def token(self) -> SecretStr:
        return self.tokens[0]

    def refresh(self, *, after: SecretStr) -> SecretStr | None:
        if len(self.tokens) == 1:
            return None
        self.tokens.pop(0)
        return self.tokens[0]


@dataclass
class Sleeps:
    """Records waits instead of waiting."""

    waited: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.waited.append(seconds)
