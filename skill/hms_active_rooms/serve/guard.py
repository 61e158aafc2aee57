"""Checks on every route, before anything reads the request, who may speak to the server at all.

What the settings do not allow is refused by its headers alone. A body that is too large or too
slow, and a request beyond a program's limit, is refused after the headers. A refusal reads nothing
from 100ms, and its record holds no secrets. Without a token, one caller is not kept out: a proxy
that passes on no Host of its own and sends no proxy headers.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hms_active_rooms.api.address import is_loopback
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.serve.limits import BUSY, KEY, MOST_OF_PROGRAMS, Refusals
from hms_active_rooms.serve.problems import Refused, last_resort, note, told
from hms_active_rooms.untrusted import quoted

MIN_TOKEN_CHARS: Final = 16
_TOKEN: Final = re.compile(rf"[!#-%(-+\--:<-{{}}~]{{{MIN_TOKEN_CHARS},}}")
"""No quotes, commas or semicolons: so a token list in a wrong format is not one token."""

APPROVER_VARIABLE: Final = "HMS_APPROVER_TOKEN"
"""Holds the token of the approver named `approver`; `HMS_APPROVER_TOKEN_ADA` that of `ada`."""

_APPROVER: Final = re.compile(APPROVER_VARIABLE + r"(?:_(.*))?", re.DOTALL)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
PRINCIPAL_KEY: Final = "hms_active_rooms.principal"

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"https?://([^/?#@\s]+)")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_ANY: Final = ("", "0.0.0.0", "::")  # noqa: S104  # recognised here, not bound
_PROXIED: Final = re.compile(r"forwarded|via|x-real-ip|x-forwarded-.*")

_DRAIN_BYTES: Final = 1024 * 1024
_DRAIN_S: Final = 2.0
"""How many bytes of a refused request are read and dropped, and for how many seconds at most."""

_HINTS: Final = {
    "host": "Whoever runs the server names it: --allow-host NAME.",
    "origin": "Whoever runs the server names it: --allow-origin URL.",
    "token": "Send Authorization: Bearer TOKEN, with a token that the server was given.",
    "proxy": "Whoever runs the server sets HMS_SERVER_TOKEN or HMS_SERVER_TOKENS.",
}
_TOO_LARGE: Final = "The request is too large."
_MORE_HEADERS: Final = {
    401: {"www-authenticate": "Bearer"},
    503: {"retry-after": "5"},  # our choice: long requests wait for a person or for 100ms
}

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
"""A request target that includes the host, as a client sends it to a proxy."""


@dataclass(frozen=True)
class Principal:
    """Whose token a request carried: that of a calling program or of a person who approves."""

    name: str = ""  # the token's name, for the record; "": it has none, or none is needed
    approves: bool = False  # the token decides, and calls no tool that changes a room
    alone: bool = True  # no other program has a token, so this one may read all records
    known: bool = False  # the token is one of the server's


@dataclass(frozen=True)
class GuardSettings:
    """What the guard lets through. Without CORS headers, pages of other origins cannot call."""

    hosts: tuple[str, ...] = _LOOPBACK
    """Allowed names in the Host header, without port."""
    origins: tuple[str, ...] = ()
    """Origins of this server's own pages, if a proxy passes on another Host."""
    callers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By name for the record ("" for one without a name), the bearer token that lets a program
    call. Empty: no token is needed."""
    approvers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By name, the token that lets a program approve, by REST only."""
    own_login: tuple[str, ...] = ()
    """Prefixes of paths that have their own login (the approvals page). A person whose browser
    opens "/" is redirected to the first."""
    most_of_programs: int = MOST_OF_PROGRAMS
    """How many requests of programs are answered at the same time."""
    max_body_bytes: int = 256 * 1024
    """Our choice: enough for a message of 4 KB, escaped, with a client's state around it."""
    body_s: float = 10.0
    """Our choice: the seconds in which the body of a request has to arrive."""

    def __post_init__(self) -> None:
        tokens = [*self.callers.values(), *self.approvers.values()]
        if not all(map(_TOKEN.fullmatch, tokens)):
            raise ConfigurationError(
                f"A token needs at least {MIN_TOKEN_CHARS} ASCII characters, no spaces and quotes, "
                "and none of , ; | &.",
                hint=f"Set another one in HMS_SERVER_TOKEN, HMS_SERVER_TOKENS or {APPROVER_VARIABLE}.",
            )
        if len(set(tokens)) < len(tokens):
            raise ConfigurationError(
                "Two callers or approvers have the same token.",
                hint="Give each a token of its own: the record tells them apart by their tokens, "
                "and nobody may both ask and approve.",
            )

    @cached_property
    def principals(self) -> dict[bytes, Principal]:
        """Whose token each is, by its hash: so the time of a look-up tells nothing about tokens."""
        alone = len(self.callers) < 2
        programs = {t: Principal(n, alone=alone, known=True) for n, t in self.callers.items()}
        people = {t: Principal(n, approves=True, known=True) for n, t in self.approvers.items()}
        return {hashed(token): who for token, who in (programs | people).items()}


def caller_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """By name, the callers' tokens from `HMS_SERVER_TOKEN` (one, without a name) and
    `HMS_SERVER_TOKENS` ("name=token", separated by commas or spaces)."""
    listed = environ.get("HMS_SERVER_TOKENS", "")
    pairs = [pair.partition("=")[::2] for pair in listed.replace(",", " ").split()]
    wrong = [name for name, token in pairs if not token or not _NAME.fullmatch(name)]
    if wrong or (listed.strip() and not pairs):
        # A wrong entry may be a bare token, so the error does not show it.
        raise ConfigurationError(
            "HMS_SERVER_TOKENS is not a list of name=token.",
            hint="Write agent-a=TOKEN,agent-b=TOKEN; a name has up to 40 of a-z, 0-9, dots, "
            "dashes and underscores.",
        )
    alone = environ.get("HMS_SERVER_TOKEN", "")
    entries = [("HMS_SERVER_TOKEN", "", alone)] if alone else []
    return _by_name(entries + [("HMS_SERVER_TOKENS", *pair) for pair in pairs])


def approver_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """By the name that goes on record, the tokens of the approvers by REST."""
    entries = []
    for variable, token in environ.items():
        match = _APPROVER.fullmatch(variable)
        if match is None or not token:
            continue
        name = "approver" if match[1] is None else match[1].lower()
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{quoted(variable, 70)} holds no approver's name.",
                hint=f"{APPROVER_VARIABLE}_ and up to 40 letters, digits, dots, dashes and"
                " underscores.",
            )
        entries.append((variable, name, token))
    return _by_name(entries)


def _by_name(entries: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """The tokens by name. `entries`: variable, name and token of each."""
    found: dict[str, tuple[str, str]] = {}
    for variable, name, token in entries:
        if name in found:
            places = dict.fromkeys(quoted(each, 70) for each in (found[name][0], variable))
            raise ConfigurationError(
                f"Two tokens have the name {quoted(name)}: {' and '.join(places)}.",
                hint="Names are compared without case. Keep one of them.",
            )
        found[name] = variable, token
    return {name: token for name, (_, token) in found.items()}


def guard_settings(
    host: str,
    *,
    callers: Mapping[str, str] | None = None,
    approvers: Mapping[str, str] | None = None,
    hosts: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    own_login: tuple[str, ...] = (),
) -> GuardSettings:
    """Settings for a server that binds `host` and is also reached as `hosts` and at `origins`; all
    settings: see `GuardSettings`. Raises ConfigurationError if other machines can reach it without
    a token, it is bound to every address without a name, or a host or an origin is malformed."""
    names = [_host_name(name) for name in hosts]
    for origin in origins:
        if not origin_host(origin):
            hint = "Write it like https://name[:port]."
            raise ConfigurationError(f"{quoted(origin)} is no origin.", hint=hint)
    reached = [*names, *map(origin_host, origins)]
    foreign = [name for name in reached if not is_loopback(name.strip("[]"))]
    # Behind a proxy, every request seems to come from this machine.
    lets_in = f"Being reached as {quoted(foreign[0])}" if foreign else ""
    if is_loopback(host):
        names += _LOOPBACK
    else:
        lets_in = f"Binding {quoted(host)}"
        if host not in _ANY:
            names.append(_host_name(f"[{host}]" if ":" in host else host))
    if lets_in and not callers:
        raise ConfigurationError(
            f"{lets_in} lets other machines in, so the server needs a token.",
            hint="Set HMS_SERVER_TOKEN or HMS_SERVER_TOKENS, or bind 127.0.0.1 and leave out "
            "--allow-host, --allow-origin and HMS_SERVER_URL.",
        )
    if not names:
        raise ConfigurationError(
            f"Binding {quoted(host)} needs the names it is reached by.",
            hint="Name them: --allow-host rooms.example",
        )
    return GuardSettings(
        hosts=tuple(dict.fromkeys(names)),
        origins=tuple(origin.lower() for origin in origins),
        callers=callers or {},
        approvers=approvers or {},
        own_login=own_login,
    )


def _host_name(text: str) -> str:
    match = _HOST.fullmatch(text.lower())
    if not match or match[2]:
        raise ConfigurationError(
            f"{quoted(text)} is no host name.", hint="Leave out scheme and port."
        )
    return match[1]


def origin_host(text: str) -> str:
    """The host of an origin; "" if the text is no origin."""
    match = _ORIGIN.fullmatch(text.lower())
    host = _HOST.fullmatch(match[1]) if match else None
    return host[1] if host else ""


def principal(scope: Mapping[str, Any]) -> Principal:
    """Whose token the guard found on this request."""
    found: Principal = scope.get(PRINCIPAL_KEY, Principal())
    return found


def judge(
    settings: GuardSettings, path: str, headers: Mapping[str, list[str]], method: str = "POST"
) -> Refused | Principal:
    """The `Principal` of a request, or why it is refused. `headers`: names in lower case. Pure."""
    hosts = headers.get("host", [])
    match = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
    if match is None or match[1] not in settings.hosts:
        return _refused(421, "host", "This server is not reached by that Host.")
    if int(match[2] or 0) > 65535:
        return _refused(421, "host", "No server is reached by that port.")
    origins = [origin.lower() for origin in headers.get("origin", [])]  # none: not a browser
    own = _ORIGIN.fullmatch(origins[0]) if len(origins) == 1 else None
    if origins and not (own and (own[1] == hosts[0].lower() or origins[0] in settings.origins)):
        return _refused(403, "origin", "Requests from that Origin are not taken.")
    if settings.own_login and path == "/" and _is_opened(method, headers):
        # "/" itself is for programs.
        return _refused(307, "page", "The page for people is elsewhere.", settings.own_login[0])
    if not origins and not _site_fits(settings, path, headers):
        return _refused(403, "site", "Requests from other sites are not taken.")
    if not settings.callers and any(_PROXIED.fullmatch(name) for name in headers):
        # Anybody behind the proxy seems to be on this machine.
        return _refused(403, "proxy", "Behind a proxy this server needs a token.")
    lengths = headers.get("content-length", [])
    if any(not n.isascii() or not n.isdigit() for n in lengths) or len(set(lengths)) > 1:
        return _refused(400, "length", "The Content-Length is malformed.")
    if lengths and (len(lengths[0]) > 12 or int(lengths[0]) > settings.max_body_bytes):
        return _refused(413, "size", _TOO_LARGE)
    who = _token_of(settings, headers.get("authorization", []))
    if isinstance(who, Principal) and who.approves and not path.startswith("/v1/"):
        return _refused(403, "approver", "An approver's token is for REST only.")
    if who is None and settings.callers and not _needs_no_token(settings, path):
        return _refused(401, "token", "A bearer token is needed.")
    return who or Principal()


def _refused(status: int, word: str, text: str, elsewhere: str = "") -> Refused:
    headers = {"location": elsewhere} if elsewhere else {"connection": "close"}
    headers |= _MORE_HEADERS.get(status, {})
    return Refused(status, word, text, _HINTS.get(word, ""), headers=headers)


def _site_fits(settings: GuardSettings, path: str, headers: Mapping[str, list[str]]) -> bool:
    if all(site in ("same-origin", "none") for site in headers.get("sec-fetch-site", [])):
        return True
    # A link on another site may open the page: it has no data until its own script asks.
    opened = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    return path.rstrip("/") in settings.own_login and opened == (["navigate"], ["document"])


def _is_opened(method: str, headers: Mapping[str, list[str]]) -> bool:
    kinds = ",".join(headers.get("accept", [])).lower()
    shown = all(dest == "document" for dest in headers.get("sec-fetch-dest", []))
    return method in ("GET", "HEAD") and "text/html" in kinds and shown


def _needs_no_token(settings: GuardSettings, path: str) -> bool:
    own = any(path == p or path.startswith(p.rstrip("/") + "/") for p in settings.own_login)
    return own or path == "/healthz"


def _token_of(settings: GuardSettings, values: list[str]) -> Principal | Refused | None:
    if not values or not settings.principals:
        return None
    scheme, _, given = values[0].partition(" ")
    found = settings.principals.get(hashed(given.strip()))
    if found is None or len(values) > 1 or scheme.lower() != "bearer":
        return _refused(401, "token", "The bearer token is not the right one.")
    return found


def hashed(secret: str) -> bytes:
    """The hash of a secret; only this is kept and compared. A lone surrogate, which JSON can hold,
    is hashed too and so counts as a wrong secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class Guard:
    """ASGI wrapper around all that the server answers. Requests that are refused, here or by `app`,
    are recorded in `refusals`."""

    def __init__(self, app: ASGIApp, settings: GuardSettings, refusals: Refusals) -> None:
        self._app = app
        self._settings = settings
        self._refusals = refusals
        self._of_programs: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Only HTTP is checked."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _take_origin_form(scope)
        scope[KEY] = self._refusals
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        verdict = judge(self._settings, scope["path"], headers, scope["method"])
        first: Message | Refused
        if isinstance(verdict, Refused):
            await _drained(receive)
            first, who = verdict, Principal()
        else:
            first, who = await self._whole_body(receive), verdict
        # Requests of people are those to the page and those with an approver's token.
        program = not who.approves and not _needs_no_token(self._settings, scope["path"])
        if program and self._is_busy(who.name) and not isinstance(first, Refused):
            text = "Too many requests of programs are open. Nothing was executed; try again later."
            first = _refused(503, BUSY, text)
        if isinstance(first, Refused):
            if first.status_code >= 400:
                note(scope, first.code)
            await told(first)(scope, receive, send)
            return
        scope[PRINCIPAL_KEY] = who
        self._of_programs[who.name] += program
        try:
            await last_resort(self._app, scope, handing_on(first, receive), send)
        finally:
            self._of_programs[who.name] -= program

    def _is_busy(self, name: str) -> bool:
        """Whether a program with this token has to wait. If there are several tokens, each may use
        at most half of the slots."""
        most = self._settings.most_of_programs
        mine = most // 2 if len(self._settings.callers) > 1 else most
        return self._of_programs.total() >= most or self._of_programs[name] >= mine

    async def _whole_body(self, receive: Receive) -> Message | Refused:
        body = bytearray()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.body_s):
                while (message := await receive())["type"] == "http.request":
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self._settings.max_body_bytes:
                        if more:
                            await _drained(receive)
                        return _refused(413, "size", _TOO_LARGE)
                    if not more:
                        return {**message, "body": bytes(body), "more_body": False}
                return message
        return _refused(408, "slow", "The request did not arrive in time.")


def _take_origin_form(scope: Scope) -> None:
    """Split an absolute request target: keep its path, put its host into Host (RFC 9112, 3.2.2)."""
    if match := _ABSOLUTE.fullmatch(scope.get("raw_path") or b""):
        host, path = match.groups()
        scope["raw_path"] = path or b"/"
        scope["path"] = unquote(scope["raw_path"].decode("ascii", "replace"))
        others = [pair for pair in scope["headers"] if pair[0].lower() != b"host"]
        scope["headers"] = [(b"host", host), *others]


def handing_on(first: Message, receive: Receive) -> Receive:
    """A `receive` that first returns a message which was read already."""
    pending = [first]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


async def _drained(receive: Receive) -> None:
    # Closing a connection with unread bytes resets it, and the client loses the answer.
    left = _DRAIN_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
