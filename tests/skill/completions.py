"""A chat-completions server that stands in for a model: it finds the spam bot and removes it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StandInModel:
    """Where it is, and what it was sent.

    Attributes:
        url: for OPENAI_BASE_URL.
        keys: the authorization headers of all requests.
        offered: the functions' names, as last sent.
    """

    url: str
    keys: set[str] = field(default_factory=set)
    offered: list[str] = field(default_factory=list)


def _call(number: int, tool: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": tool, "arguments": json.dumps(arguments)}
    call = {"id": f"call_{number}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _reply(room_id: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    told = [message["content"] for message in messages if message["role"] == "tool"]
    if not told:
        return _call(1, "hms-list-peers", room_id=room_id, name="spam")
    if len(told) == 1:
        [row] = [json.loads(line) for line in told[0].splitlines() if line.startswith('["')]
        return _call(2, "hms-remove-peers", room_id=room_id, peer_id=row[0])
    return {"role": "assistant", "content": told[-1]}


@contextmanager
def chat_completions(room_id: str) -> Iterator[StandInModel]:
    """It answers on a free port while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            model.keys.add(self.headers["authorization"])
            model.offered = [tool["function"]["name"] for tool in body["tools"]]
            reply = {"choices": [{"index": 0, "message": _reply(room_id, body["messages"])}]}
            content = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    model = StandInModel(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
