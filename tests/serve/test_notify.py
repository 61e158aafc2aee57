"""A notice of each question that waits: in the receiver's form, once, without strangers' names."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import Action
from hms_active_rooms.gate.journal.tables import asks
from hms_active_rooms.serve.callers import Caller
from hms_active_rooms.serve.calls import MAX_OPEN, call_tool
from hms_active_rooms.serve.decisions import meanwhile
from hms_active_rooms.serve.notify import (
    NotifySettings,
    notice,
    notify_settings,
    tell_of_questions,
)
from serve.people import kit, remove, students
from stand_in import ROOM, Clock, StandInRoom, peer

REMOVE = "hms-remove-peers"
PAGE = "https://rooms.example/approvals"


@dataclass
class Receiver:
    """A webhook that answers with these statuses in turn, the last one for all after it."""

    statuses: list[int] = field(default_factory=lambda: [200])
    location: str = ""
    says: list[bytes] = field(default_factory=lambda: [b""])
    missing: int = 0  # bytes of its answers that never come
    asked: list[str] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""
    meanwhile: Callable[[], object] = lambda: None
    more: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, count: int) -> None:
        with self.more:
            assert self.more.wait_for(lambda: len(self.got) >= count, 30), self.got

    async def told(self, count: int = 1) -> list[Any]:
        await asyncio.to_thread(self.wait, count)
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.meanwhile()
            status = found.statuses[min(len(found.got), len(found.statuses) - 1)]
            says = found.says[min(len(found.got), len(found.says) - 1)]
            self.send_response(status)
            self.send_header("content-length", str(len(says) + found.missing))
            self.send_header("content-type", "text/html")
            self.send_header("location", found.location)
            self.end_headers()
            self.wfile.write(says)
            with found.more:
                found.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                found.more.notify_all()

        def do_GET(self) -> None:
            found.asked.append(self.path)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        yield found
        server.shutdown()
        thread.join()


def notifier(
    toolkit: ActiveRoomsToolkit, url: str, clock: Clock | None = None, **more: Any
) -> AbstractAsyncContextManager[None]:
    """Looks without a pause; where there is a clock of its own, that one goes on."""

    async def at_once(seconds: float) -> None:
        if clock:
            await clock.sleep(seconds)
        await asyncio.sleep(0)

    settings = NotifySettings(url, **more)
    return meanwhile(tell_of_questions(toolkit.gate, settings, PAGE, sleep=at_once))


async def waits(toolkit: ActiveRoomsToolkit, number: int = 1) -> Action:
    caller = Caller("test", "mcp:agent")
    answer = await call_tool(toolkit, REMOVE, remove(number), caller=caller)
    assert answer.action
    return answer.action


# --- what is told ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "form"),
    [
        ("https://hooks.slack.com/services/T/B/x", "slack"),
        ("https://hooks.slack-gov.com/services/T/B/x", "slack"),
        ("https://acme.webhook.office.com/webhookb2/x", "teams"),
        ("https://prod-1.westeurope.logic.azure.com:443/workflows/x", "teams"),
        ("https://discord.com/api/webhooks/1/x", "discord"),
        ("https://notdiscord.com/x", "json"),
        ("http://127.0.0.1:8000/", "json"),
    ],
)
def test_the_form_is_the_hosts(url: str, form: str) -> None:
    settings = notify_settings({"HMS_NOTIFY_URL": url})
    assert settings
    assert settings.form == form
    chosen = notify_settings({"HMS_NOTIFY_URL": url, "HMS_NOTIFY_FORM": "slack"})
    assert chosen
    assert chosen.form == "slack"
    assert url not in repr(settings)


@pytest.mark.parametrize(
    "wrong",
    [
        {"HMS_NOTIFY_URL": "hooks.slack.com/x"},
        {"HMS_NOTIFY_URL": "file:///etc/passwd"},
        {"HMS_NOTIFY_URL": "https://x example/"},
        {"HMS_NOTIFY_URL": "https://x.example/\nhook"},
        {"HMS_NOTIFY_URL": "https://[x.example/"},
        {"HMS_NOTIFY_URL": "https://x.example:port/"},
        {"HMS_NOTIFY_URL": "https://x.example", "HMS_NOTIFY_FORM": "irc"},
        {"HMS_NOTIFY_URL": "https://x.example", "HMS_NOTIFY_NAMES": "yes"},
        {"HMS_NOTIFY_FORM": "slack"},  # without the URL it would do nothing
        {"HMS_NOTIFY_SECRET": "s3cret", "HMS_NOTIFY_URL": " "},
        {"HMS_NOTIFY_NAMES": "0"},
        {"HMS_NOTIFY_URL": "https://x.example", "HMS_NOTIFY_SECRET": " "},
    ],
)
def test_a_wrong_setting_is_an_error(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        notify_settings(wrong)
    assert notify_settings({}) is None


@pytest.mark.parametrize("form", ["slack", "teams", "discord", "json"])
async def test_a_notice_names_nobody_unless_asked_and_links_to_the_action(form: Any) -> None:
    name = "Zoe <!channel> [x](http://evil.example) @everyone **b**"
    toolkit = kit(StandInRoom([peer(1, name=name, role="<!here>", user_id="@u")]))
    action = await waits(toolkit)
    told = json.dumps(notice(action, NotifySettings("https://x", form), PAGE))
    for word in ("Zoe", "!here", "@u", "everyone"):
        assert word not in told
    assert "1 person" in told
    assert ROOM in told
    assert f"{PAGE}#action={action.id}" in told
    named = json.dumps(notice(action, NotifySettings("https://x", form, names=True), PAGE))
    assert "Zoe" in named
    assert "<!channel>" not in named or form != "slack"
    assert "[x](" not in named or form not in ("teams", "discord")
    assert "**b" not in named or form not in ("teams", "discord")
    assert "http://evil" not in named or form == "json"
    # Discord tells everyone of an @everyone, unless the message itself forbids that.
    assert '"allowed_mentions": {"parse": []}' in named or form != "discord"


async def test_without_a_page_there_is_no_link() -> None:
    action = await waits(kit(students()))
    assert "#action" not in json.dumps(notice(action, NotifySettings("https://x", "teams")))


# --- sending --------------------------------------------------------------------------------------


async def test_each_question_is_told_once_and_signed(receiver: Receiver) -> None:
    toolkit = kit(students())
    first = await waits(toolkit, 1)
    async with notifier(toolkit, receiver.url, secret="s3cret"):
        await receiver.told(1)
        second = await waits(toolkit, 2)
        told = await receiver.told(2)
    assert [each["action_id"] for each in told] == [first.id, second.id]
    headers, body = receiver.got[0]
    made = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert headers["x-hms-signature-256"] == f"sha256={made}"


async def test_what_was_not_taken_is_sent_again_until_it_is(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [500, 429, 404, 302, 200]
    receiver.location = "/elsewhere"  # a redirect is not followed
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    caplog.set_level(logging.WARNING)
    first = await waits(toolkit, 1)
    async with notifier(toolkit, receiver.url, clock):
        told = await receiver.told(5)
        assert {each["action_id"] for each in told} == {first.id}
        second = await waits(toolkit, 2)  # no call waits for a receiver
        told = await receiver.told(6)
    assert [each["action_id"] for each in told][5:] == [second.id]
    assert receiver.asked == []
    assert "HTTP 404; it is sent again" in caplog.text
    assert receiver.url not in caplog.text


LOGIN = b"<!DOCTYPE html>\n<html><title>Sign in</title>" + b" " * 5000 + b"</html>"
TEAMS = (
    b"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429."
)


@pytest.mark.parametrize("refusal", [LOGIN, b"\n <!-- sso --><HTML>", TEAMS])
async def test_a_success_that_is_a_login_page_or_an_error_of_teams_is_sent_again(
    refusal: bytes, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.says = [refusal, b"ok"]
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    first = await waits(toolkit, 1)
    async with notifier(toolkit, receiver.url, clock):
        await receiver.told(2)
        second = await waits(toolkit, 2)
        told = await receiver.told(3)
    assert [each["action_id"] for each in told] == [first.id, first.id, second.id]
    assert "HTTP 200" in caplog.text


async def test_a_success_whose_body_breaks_off_is_one(receiver: Receiver) -> None:
    receiver.missing = 10
    toolkit = kit(students())
    first = await waits(toolkit, 1)
    async with notifier(toolkit, receiver.url, Clock()):
        await receiver.told(1)
        second = await waits(toolkit, 2)
        told = await receiver.told(2)
    assert [each["action_id"] for each in told] == [first.id, second.id]


async def test_the_questions_of_a_noisy_program_hide_none_of_another(receiver: Receiver) -> None:
    toolkit = kit(students(), actions_per_minute=2 * MAX_OPEN)
    for number in range(MAX_OPEN):
        noisy = {"room_id": ROOM, "message": f"number {number}"}
        await call_tool(toolkit, "hms-send-message", noisy, caller=Caller("mcp:noisy", "noisy"))
    last = await waits(toolkit, 1)
    async with notifier(toolkit, receiver.url):
        told = await receiver.told(MAX_OPEN + 1)
    assert told[-1]["action_id"] == last.id


async def test_a_broken_record_keeps_nobody_from_being_told_of_the_next(receiver: Receiver) -> None:
    toolkit = kit(students())
    broken, whole = await waits(toolkit, 1), await waits(toolkit, 2)
    with toolkit.gate.journal.write() as tx:
        tx.db.exec_driver_sql(f"UPDATE hms_actions SET note = 'x' WHERE id = '{broken.id}'")

    async def only_once(_: float) -> None:
        await asyncio.Event().wait()

    settings = NotifySettings(receiver.url)
    async with meanwhile(tell_of_questions(toolkit.gate, settings, sleep=only_once)):
        told = await receiver.told(1)
    assert [each["action_id"] for each in told] == [whole.id]


@pytest.mark.parametrize("items", [["soon"], [], {}, ["2026-01-01T00:00:00"]])
async def test_a_changed_record_of_a_try_keeps_nobody_from_being_told(
    items: object, receiver: Receiver
) -> None:
    receiver.statuses = [500, 200]
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    first = await waits(toolkit, 1)

    def change() -> None:
        with toolkit.gate.journal.write() as tx:
            tx.db.execute(asks.update().values(items=items))

    receiver.meanwhile = change
    async with notifier(toolkit, receiver.url, clock):
        await receiver.told(1)
        second = await waits(toolkit, 2)
        told = await receiver.told(3)
    assert {each["action_id"] for each in told} == {first.id, second.id}


async def test_after_the_clock_was_set_back_a_notice_is_sent_again_as_ever(
    receiver: Receiver,
) -> None:
    receiver.statuses = [500, 500, 200]
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    action = await waits(toolkit)
    pauses: list[float] = []

    async def set_back_once(seconds: float) -> None:
        clock.now += timedelta(seconds=seconds if pauses else -60)
        pauses.append(seconds)
        await asyncio.sleep(0)

    settings = NotifySettings(receiver.url)
    async with meanwhile(tell_of_questions(toolkit.gate, settings, sleep=set_back_once)):
        told = await receiver.told(3)
    assert {each["action_id"] for each in told} == {action.id}
    assert 10 < len(pauses) < 100  # looks, of two seconds each


async def test_what_a_crash_kept_from_being_sent_is_sent_after_the_restart(
    receiver: Receiver,
) -> None:
    clock, reached = Clock(), asyncio.Event()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    action = await waits(toolkit)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with notifier(toolkit, url):
            await reached.wait()
    async with notifier(toolkit, receiver.url, clock):
        told = await receiver.told(1)
    assert told[0]["action_id"] == action.id


async def test_of_what_was_decided_meanwhile_nobody_is_told(receiver: Receiver) -> None:
    receiver.statuses = [500, 200]
    clock = Clock()
    toolkit = kit(students(), Journal(":memory:", clock=clock))
    first = await waits(toolkit, 1)

    async def decided_between(seconds: float) -> None:
        clock.now += timedelta(seconds=60)
        if (await toolkit.gate.get(first.id)).state == "proposed":
            no = toolkit.gate.request(first).reject("no")
            await toolkit.gate.decide(first.id, no, by="ada", way="page")

    settings = NotifySettings(receiver.url)
    telling = tell_of_questions(toolkit.gate, settings, sleep=decided_between)
    async with meanwhile(telling):
        await receiver.told(1)
        second = await waits(toolkit, 2)
        told = await receiver.told(2)
    assert [each["action_id"] for each in told] == [first.id, second.id]


async def test_of_what_is_decided_while_others_are_told_nobody_is_told(receiver: Receiver) -> None:
    toolkit = kit(students())
    first, second, third = [await waits(toolkit, number) for number in (1, 2, 3)]
    no = toolkit.gate.request(second).reject("no")
    receiver.meanwhile = lambda: asyncio.run(
        toolkit.gate.decide(second.id, no, by="ada", way="page")
    )
    async with notifier(toolkit, receiver.url):
        told = await receiver.told(2)
    assert [each["action_id"] for each in told] == [first.id, third.id]


async def test_a_receiver_whose_answer_never_ends_does_not_hold_up_the_end() -> None:
    reached, left = asyncio.Event(), asyncio.Event()

    async def forever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reached.set()
        try:
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
                if writer.transport.is_closing() or reader.at_eof():
                    break
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        left.set()
        writer.close()

    toolkit = kit(students())
    await waits(toolkit)
    async with await asyncio.start_server(forever, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with notifier(toolkit, url):
            await reached.wait()
        async with asyncio.timeout(20):
            await left.wait()


async def test_of_two_servers_of_one_journal_one_tells(receiver: Receiver, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'journal.sqlite'}"
    one, other = kit(students(), url), kit(students(), url)
    async with notifier(one, receiver.url), notifier(other, receiver.url):
        rows = [await waits(one, number) for number in (1, 2, 3)]
        told = await receiver.told(3)
    assert sorted(each["action_id"] for each in told) == sorted(row.id for row in rows)
