"""Sends notices to a chat channel or a program (`HMS_NOTIFY_URL`) when actions wait for a person.

A notice that the receiver does not accept is sent again while the action waits, after longer and
longer pauses. The journal records each try, so only one of several servers sends a notice.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import json
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from hms_active_rooms.api.transport import post_once
from hms_active_rooms.environment import one_of
from hms_active_rooms.errors import ConfigurationError, JournalError
from hms_active_rooms.gate.actions.impact import people_count
from hms_active_rooms.gate.gate import Gate
from hms_active_rooms.gate.journal import Journal
from hms_active_rooms.gate.journal.records import NO_TIME, Action
from hms_active_rooms.gate.sending import write_in_thread
from hms_active_rooms.gate.view import describe
from hms_active_rooms.serve.app import Lifespan
from hms_active_rooms.serve.decisions import meanwhile
from hms_active_rooms.untrusted import cut

Form = Literal["slack", "teams", "discord", "json"]

LOOK_S: Final = 2.0
_TIMEOUT_S: Final = 10.0
_PAUSE_S: Final = 15  # after the first try; doubles after each further try
_LONGEST_PAUSE_S: Final = 600
_MAX_CHARS: Final = 1500  # of a notice's text; Discord accepts 2,000

_HOSTS: Final[Mapping[Form, tuple[str, ...]]] = {
    "slack": (".hooks.slack.com", ".hooks.slack-gov.com"),
    "teams": (".webhook.office.com", ".logic.azure.com", ".powerplatform.com"),
    "discord": (".discord.com", ".discordapp.com"),
}

_MARKDOWN: Final = re.compile(r"[*_~|\[]")
_URL: Final = re.compile(r"[!-~]+")
_MORE: Final = ("HMS_NOTIFY_FORM", "HMS_NOTIFY_SECRET", "HMS_NOTIFY_NAMES")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NotifySettings:
    """Where and how notices of waiting actions are sent.

    Args:
        url: receives the notices.
        form: the form of a notice.
        secret: signs each notice; "" for no signature.
        names: whether a notice has the question and the names of people.
    """

    url: str = field(repr=False)  # of the webhook, which is often a secret
    form: Form = "json"
    secret: str = field(default="", repr=False)
    names: bool = False


def notify_settings(environ: Mapping[str, str]) -> NotifySettings | None:
    """The settings in `HMS_NOTIFY_*`; None without `HMS_NOTIFY_URL`. Raises ConfigurationError if wrong."""
    url, host = environ.get("HMS_NOTIFY_URL", "").strip(), ""
    if not url:
        if idle := [name for name in _MORE if environ.get(name, "").strip()]:
            raise ConfigurationError(
                f"{idle[0]} is set, but HMS_NOTIFY_URL is not, so no notices are sent.",
                hint=f"Set HMS_NOTIFY_URL to the webhook's address, or unset {idle[0]}.",
            )
        return None
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.port != 0 and _URL.fullmatch(url):
            host = parts.hostname or ""
    if not host:
        raise ConfigurationError("HMS_NOTIFY_URL is not an http:// or https:// address.")
    by_host = (form for form, ends in _HOSTS.items() if f".{host}".endswith(ends))
    forms: dict[str, Form] = {form: form for form in (next(by_host, "json"), *get_args(Form))}
    form = forms[one_of(environ, "HMS_NOTIFY_FORM", *forms)]
    names = one_of(environ, "HMS_NOTIFY_NAMES", "0", "1") == "1"
    secret = environ.get("HMS_NOTIFY_SECRET", "")
    if secret and not secret.strip():
        raise ConfigurationError(
            "HMS_NOTIFY_SECRET is blank, so anybody could sign a notice.",
            hint="Set it to the receiver's secret, or unset it.",
        )
    return NotifySettings(url, form, secret, names)


def notice(action: Action, settings: NotifySettings, page: str = "") -> dict[str, Any]:
    """The JSON of a notice that `action` waits for a person. `page` is the page's address, or ""."""
    link = f"{page}#action={action.id}" if page else ""
    count, requester = action.shown.total, cut(action.requester, 80)
    told = f"{action.tool} waits for approval until {action.expires_at:%Y-%m-%d %H:%M:%S} UTC. It "
    told += f"affects {people_count(count)} in room {action.room_id}. "
    told += f"The requester is {requester} (action {action.id})."
    if settings.names:
        told += "\n" + describe(action)
    if settings.form != "json":
        told = told.replace("://", ":\u200b//")  # no address in a name becomes a link
    if settings.form in ("discord", "teams"):
        told = _MARKDOWN.sub(r"\\\g<0>", told)
    text = told if len(told) <= _MAX_CHARS else f"{told[:_MAX_CHARS]}…"
    match settings.form:
        case "slack":
            text = html.escape(text, quote=False)  # else <!channel> in a name calls everybody
            return {"text": f"{text}\n{link}".strip(), "mrkdwn": False}
        case "discord":
            return {"content": f"{text}\n{link}".strip(), "allowed_mentions": {"parse": []}}
        case "teams":
            block = {"type": "TextBlock", "wrap": True, "text": text}
            opens = [{"type": "Action.OpenUrl", "title": "Look at it", "url": link}] if link else []
            card = {"type": "AdaptiveCard", "version": "1.4", "body": [block], "actions": opens}
            kind = "application/vnd.microsoft.card.adaptive"
            return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}
    return {
        "event": "approval_needed",
        "action_id": action.id,
        "tool": action.tool,
        "gate": action.gate,
        "room_id": action.room_id,
        "total": count,
        "requester": requester,
        "deadline": action.expires_at.isoformat(),
        "text": text,
        "url": link,
    }


async def tell_of_questions(
    gate: Gate,
    settings: NotifySettings,
    page: str = "",
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Send a notice of each action that waits for a person, until cancelled. `page` is as in `notice`."""

    def waiting() -> list[Action]:
        # All of them: the questions of one noisy program must not hide those of another.
        rooms = gate.policy.only_rooms
        with gate.journal.read() as view:
            found = view.actions("proposed", rooms=rooms, oldest_first=True, limit=None)
            return [a for a in found if a.waiting and not view.asked_at(f"{_place(a.id)}told")]

    while True:
        try:
            for action in await asyncio.to_thread(waiting):
                await _tell(gate.journal, action, settings, page)
        except JournalError as error:
            _log.warning("notices cannot be sent now: %s", error)
        await sleep(LOOK_S)


async def _tell(journal: Journal, action: Action, settings: NotifySettings, page: str) -> None:
    place = _place(action.id)
    if not await asyncio.to_thread(_begin, journal, action.id, place):
        return
    body = json.dumps(notice(action, settings, page)).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "hms-active-rooms"}
    if settings.secret:
        made = hmac.new(os.fsencode(settings.secret), body, hashlib.sha256).hexdigest()
        headers["X-HMS-Signature-256"] = f"sha256={made}"
    if problem := await post_once(settings.url, headers, body, _TIMEOUT_S):
        again = "it is sent again while the action waits"
        _log.warning("a notice of action %s was not accepted: %s; %s", action.id, problem, again)
    else:
        await write_in_thread(journal, lambda tx: tx.ask(f"{place}told", [""]))


def _place(action_id: str) -> str:
    """How the journal's keys for the notices of this action begin."""
    return f"(notice) {action_id} "


def _begin(journal: Journal, action_id: str, place: str) -> bool:
    """Record that a try begins. False if the receiver has accepted a notice, if the last try is too
    recent, or if the action no longer waits."""
    with journal.read() as view:
        row, told = view.get(action_id), view.asked_at(f"{place}told")
        tries = [] if told else [_time(at) for at, *_ in view.asked_below(place)]
    if told or row is None or not row.waiting:
        return False
    pause = timedelta(seconds=min(_PAUSE_S * 2 ** (len(tries) - 1), _LONGEST_PAUSE_S))
    if any(abs(journal.now() - at) < pause for at in tries):  # a clock can be set back
        return False
    with journal.write() as tx:
        return tx.ask(f"{place}{len(tries)}", [tx.now().isoformat()])


def _time(text: str) -> datetime:
    """A recorded time. If somebody has changed it into something else, it counts as long ago."""
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(text).astimezone(UTC)
    return NO_TIME


def notifying(gate: Gate, environ: Mapping[str, str], page: str = "") -> list[Lifespan]:
    """The `lifespans` that send notices, for `at_work`: one, or none ([]) if `HMS_NOTIFY_URL` is not set."""
    settings = notify_settings(environ)
    return [lambda: meanwhile(tell_of_questions(gate, settings, page))] if settings else []
