"""Our own code fails: what is answered, and what is on record about it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from hms_active_rooms.serve.app import Entry, create_app
from hms_active_rooms.serve.guard import guard_settings
from hms_active_rooms.serve.problems import last_resort
from serve.people import kit, serving, students


async def broken(_: Any) -> JSONResponse:
    raise RuntimeError("the secret in the text")


async def half(_: Any) -> StreamingResponse:
    async def parts() -> Any:
        yield b"half"
        raise RuntimeError("the secret in the text")

    return StreamingResponse(parts())


async def test_a_bug_is_answered_with_maybe_and_logged_once_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    toolkit = kit(students())
    routes = [Route("/v1/broken", broken, methods=["POST"])]
    app = create_app(toolkit, Entry(routes), guard=guard_settings("127.0.0.1"))
    with caplog.at_level(logging.WARNING):
        async with serving(app) as url, httpx.AsyncClient(base_url=url) as http:
            answer = await http.post("/v1/broken?token=the-secret-in-the-query")
            assert (await http.get("/healthz")).status_code == 200
    await toolkit.aclose()
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["executed"], answer.json()["code"]) == ("maybe", "internal")
    [record] = caplog.records
    assert record.getMessage().startswith(
        'failed POST "/v1/broken": RuntimeError at test_problems.py:'
    )
    assert record.exc_info is None
    assert "the secret" not in caplog.text + answer.text
    assert "the-secret" not in caplog.text + answer.text


async def test_an_answer_that_has_begun_is_cut_off_and_logged_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    toolkit = kit(students())
    routes = [Route("/v1/half", half)]
    app = create_app(toolkit, Entry(routes), guard=guard_settings("127.0.0.1"))
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/v1/half")
    await toolkit.aclose()
    assert "failed GET" in caplog.text
    assert "Traceback" not in caplog.text
    assert "the secret" not in caplog.text


async def test_a_request_that_the_end_of_the_server_cuts_off_is_told_maybe() -> None:
    sent: list[Any] = []

    async def cut(*_: Any) -> None:
        raise asyncio.CancelledError

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is to be read")

    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": []}
    await last_resort(cut, scope, receive, send)
    assert sent[0]["status"] == 503
    assert b'"executed":"maybe"' in sent[1]["body"]
