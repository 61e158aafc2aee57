"""No token in an error, its chain, its frames, a pickle, a repr or a log, whatever goes wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import pydoc
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType

import pytest
from pydantic import SecretStr

from api.wire import ROOM, TOKEN, Answer, FixedToken, Wire, hang, raw_bytes, reply, reset
from hms_active_rooms import api
from hms_active_rooms.api import (
    ActiveRoomsClient,
    SignedTokens,
    StaticToken,
    Timeouts,
    auth,
    client,
)
from hms_active_rooms.errors import ActiveRoomsError, InvalidRequest
from hms_active_rooms.gate import policy
from hms_active_rooms.tools import toolkit

Make = Callable[..., ActiveRoomsClient]

FAILURES: dict[str, Answer] = {
    "reset": reset,
    "cut off": raw_bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"),
    "not HTTP": raw_bytes(b"hello\r\n\r\n"),
    "401 that repeats the token": reply(
        401, {"message": f"token {TOKEN} refused", "details": [f"Bearer {TOKEN}"]}
    ),
    "400 that shows another token": reply(400, {"message": "eyJhbGciOi.eyJzdWIiOiI.c2lnbmF0dXJl"}),
    "500": reply(500, raw=TOKEN.encode()),
    "200 that repeats the token": reply(200, {"peers": TOKEN}),
    "200 that repeats the token where the text is cut": reply(
        200, {"error": 1, "message": f"{'x' * 70}{TOKEN}"}
    ),
    "redirect": reply(302, {}, headers={"location": "https://example.com/"}),
    "hang": hang,
}
SECRETS = (TOKEN[:16], "c2lnbmF0dXJl")


@pytest.mark.parametrize("case", FAILURES)
async def test_no_failure_shows_the_token(
    make_client: Make, wire: Wire, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    wire.answers = [FAILURES[case]]
    client = make_client(timeouts=Timeouts(read_s=0.1), deadline_s=5)
    with pytest.raises(ActiveRoomsError) as caught:
        await client.list_peers(ROOM)
    _assert_clean(caught.value, client, caplog.text)


async def test_a_request_id_that_repeats_the_token_does_not_show_it(
    make_client: Make, wire: Wire
) -> None:
    wire.answers = [reply(400, {}, headers={"x-request-id": f"id of {TOKEN}"})]
    client = make_client()
    with pytest.raises(InvalidRequest) as caught:
        await client.list_peers(ROOM)
    assert caught.value.request_id == "id of [token]"
    _assert_clean(caught.value, client, "")


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    "written",
    [
        r"abc\u002bdef/ghi&jkl==",
        r"abc+def\/ghi\u0026jkl=\u003D",
        r"\u0061bc+def/ghi&jkl==",
        r"\\abc+def/ghi&jkl==",
    ],
)
async def test_a_token_is_not_shown_however_json_escapes_it(
    make_client: Make, wire: Wire, written: str, status: int
) -> None:
    said = f"{'x' * 80}{written}" if status == 200 else f"bad token {written}"
    wire.answers = [reply(status, raw=f'{{"error":1,"message":"{said}"}}'.encode())]
    client = make_client(auth=StaticToken("abc+def/ghi&jkl=="))
    with pytest.raises(ActiveRoomsError, match="xxx" if status == 200 else "bad token") as caught:
        await client.list_peers(ROOM)
    assert "bc+def" not in caught.value.for_model()


async def test_an_answer_with_the_token_keeps_its_escapes(make_client: Make, wire: Wire) -> None:
    told = r"\u0022 \u005c \\u002b \u002b \/"
    wire.answers = [reply(raw=f'{{"message":"sent","as":"{told}","by":"abc+def/"}}'.encode())]
    answer = await make_client(auth=StaticToken("abc+def/")).send_message(ROOM, "hello")
    assert answer.model_extra == {"as": r'" \ \u002b + /', "by": "[token]"}


async def test_a_token_that_is_a_word_does_not_change_answers(
    make_client: Make, wire: Wire
) -> None:
    wire.answers = [reply(200, {"message": "session is ending"})]
    answer = await make_client(auth=StaticToken("is")).end_room(ROOM)
    assert answer.message == "session is ending"


async def test_the_deadline_does_not_show_the_token(
    make_client: Make, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wire.answers = [hang]
    client = make_client(deadline_s=0.1)
    with pytest.raises(ActiveRoomsError) as caught:
        await client.end_room(ROOM)
    _assert_clean(caught.value, client, caplog.text)


async def test_a_refused_connection_does_not_show_the_token(
    make_client: Make, unused_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = make_client(base_url=f"http://127.0.0.1:{unused_port}")
    with pytest.raises(ActiveRoomsError) as caught:
        await client.end_room(ROOM)
    _assert_clean(caught.value, client, caplog.text)


async def test_a_cancelled_call_does_not_show_the_token(
    client: ActiveRoomsClient, wire: Wire
) -> None:
    wire.answers = [hang]
    task = asyncio.create_task(client.end_room(ROOM))
    await wire.arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert TOKEN not in _everything(caught.value)


async def test_a_successful_call_does_not_log_the_token(
    make_client: Make, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = SignedTokens("the-access-key", "a-secret-of-at-least-32-characters")
    client = make_client(auth=tokens)
    await client.end_room(ROOM)
    sent = wire.seen[0].headers["authorization"].removeprefix("Bearer ")
    shown = caplog.text + repr(client) + repr(tokens) + repr(vars(client)) + repr(vars(tokens))
    for secret in (sent, "a-secret-of-at-least-32-characters", "the-access-key"):
        assert secret not in shown


def _assert_clean(error: ActiveRoomsError, client: ActiveRoomsClient, log: str) -> None:
    shown = _everything(error) + error.for_model() + log + repr(client) + repr(vars(client))
    shown += repr(pickle.loads(pickle.dumps(error)).__dict__) + str(pickle.dumps(error))
    for secret in SECRETS:
        assert secret not in shown
    assert error.__cause__ is None
    assert error.__context__ is None


def _everything(error: BaseException) -> str:
    """What the most talkative error reporter prints: the chain, the frames and their variables."""
    shown: list[str] = []
    todo: list[BaseException | None] = [error]
    while todo:
        link = todo.pop()
        if link is None:
            continue
        shown += [repr(link), repr(link.__dict__), *traceback.format_exception(link)]
        shown += [_variables(frame) for frame in _frames(link.__traceback__)]
        todo += [link.__cause__, link.__context__]
    return "\n".join(shown)


def _frames(trace: TracebackType | None) -> list[FrameType]:
    frames = []
    while trace is not None:
        # The tests' own frames hold the token on purpose.
        if "/tests/" not in trace.tb_frame.f_code.co_filename.replace("\\", "/"):
            frames.append(trace.tb_frame)
        trace = trace.tb_next
    return frames


def _variables(frame: FrameType) -> str:
    values = list(frame.f_locals.values())
    # One level deeper than a repr: what a variable's attributes hold.
    inside = [vars(v) for v in values if hasattr(v, "__dict__") and not isinstance(v, SecretStr)]
    return "\n".join(map(repr, [*values, *inside]))


@pytest.mark.parametrize("thing", [api, auth, client, toolkit, policy])
def test_help_shows_no_value_of_the_environment(thing: object) -> None:
    helped = pydoc.render_doc(thing)
    assert os.environ["PATH"] not in helped
    assert "environ(" not in helped  # the repr of `os.environ`


def test_a_fixed_token_is_what_these_tests_look_for() -> None:
    assert FixedToken().token().get_secret_value() == TOKEN
