"""Who may speak to the server at all: checked on every route, before anything reads a request.

What the settings do not name is refused from the headers alone. A body that is too large or too
slow, and a program's request that is one too many, is refused after the headers. For a refusal
nothing is read from 100ms, and its record has no secrets. Without a token one thing is not kept out:
a proxy that neither passes on its own name nor says that it is one.
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
"""No quote or separator: a list of tokens that was written otherwise would be one of them."""

APPROVER_VARIABLE: Final = "HMS_APPROVER_TOKEN"
"""The token of the approver called `approver`; `HMS_APPROVER_TOKEN_ADA` is that of `ada`."""

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
"""How much of a refused request is thrown away, unlooked at, and for how long at most."""

_HINTS: Final = {
    "host": "Whoever runs the server names it: --allow-host NAME.",
    "origin": "Whoever runs the server names it: --allow-origin URL.",
    "token": "Send Authorization: Bearer TOKEN, with a token that the server was given.",
    "proxy": "Whoever runs the server sets HMS_SERVER_TOKEN or HMS_SERVER_TOKENS.",
}
_TOO_LARGE: Final = "The request is too large."
_MORE_HEADERS: Final = {
    401: {"www-authenticate": "Bearer"},
    503: {"retry-after": "5"},  # our choice: what takes long waits for a person, or for 100ms
}

_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
"""A request target that names the host too, as a proxy is sent it."""


@dataclass(frozen=True)
class Principal:
    """Whose token a request carried: a program's that calls, or one that lets somebody approve."""

    name: str = ""  # the token's, for the record; "": it has none, or none is needed
    approves: bool = False  # it decides, and calls nothing that changes a room
    alone: bool = True  # no other token lets programs call: what is on record is this one's to read
    known: bool = False  # it is one that the server was given


@dataclass(frozen=True)
class GuardSettings:
    """What the guard lets through. Pages from elsewhere cannot call: no answer has a CORS header."""

    hosts: tuple[str, ...] = _LOOPBACK
    """Names in Host, without port."""
    origins: tuple[str, ...] = ()
    """Where browsers open this server's own pages, when a proxy passes on another Host."""
    callers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Name for the record to the bearer token that lets a program call; "" for the one without a
    name. None at all: nobody needs one."""
    approvers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The same of tokens that let a program approve, by REST only."""
    own_login: tuple[str, ...] = ()
    """Path prefixes that check who comes by themselves (the approvals page); a person whose browser
    opens "/" is sent to the first."""
    most_of_programs: int = MOST_OF_PROGRAMS
    """Requests of programs that are answered at a time."""
    max_body_bytes: int = 256 * 1024
    """Our choice: the largest call, a message of 4 KB, escaped, with a client's state around it."""
    body_s: float = 10.0
    """Our choice: how long the body of a request may take to arrive."""

    def __post_init__(self) -> None:
        tokens = [*self.callers.values(), *self.approvers.values()]
        if not all(map(_TOKEN.fullmatch, tokens)):
            raise ConfigurationError(
                f"A token needs at least {MIN_TOKEN_CHARS} ASCII characters, no spaces and quotes, "
                "and none of , ; | &.",
                hint=f"Set another in HMS_SERVER_TOKEN, HMS_SERVER_TOKENS or {APPROVER_VARIABLE}.",
            )
        if len(set(tokens)) < len(tokens):
            raise ConfigurationError(
                "Two callers or approvers have the same token.",
                hint="The record tells them apart by it, and nobody both asks and approves: give "
                "each their own.",
            )

    @cached_property
    def principals(self) -> dict[bytes, Principal]:
        """Whose token each is, by its hash: how long a look takes tells nothing of a token."""
        alone = len(self.callers) < 2
        programs = {t: Principal(n, alone=alone, known=True) for n, t in self.callers.items()}
        people = {t: Principal(n, approves=True, known=True) for n, t in self.approvers.items()}
        return {hashed(token): who for token, who in (programs | people).items()}


def caller_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """The callers of `HMS_SERVER_TOKEN` (one, without a name) and `HMS_SERVER_TOKENS`
    ("name=token", by comma or space), by name."""
    listed = environ.get("HMS_SERVER_TOKENS", "")
    pairs = [pair.partition("=")[::2] for pair in listed.replace(",", " ").split()]
    wrong = [name for name, token in pairs if not token or not _NAME.fullmatch(name)]
    if wrong or (listed.strip() and not pairs):
        # A pair may be a bare token, which no message may tell.
        raise ConfigurationError(
            "HMS_SERVER_TOKENS is not a list of name=token.",
            hint="Write agent-a=TOKEN,agent-b=TOKEN; a name has up to 40 of a-z, 0-9, dots, "
            "dashes and underscores.",
        )
    alone = environ.get("HMS_SERVER_TOKEN", "")
    entries = [("HMS_SERVER_TOKEN", "", alone)] if alone else []
    return _by_name(entries + [("HMS_SERVER_TOKENS", *pair) for pair in pairs])


def approver_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """The token of each approver by REST, by the name that goes on record."""
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
    """The tokens by name, of entries of variable, name and token."""
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
    """Settings for a server that binds `host`, and is reached by `hosts` and at `origins` besides; see
    `GuardSettings` for the rest. ConfigurationError: reached beyond loopback without a token, bound
    to every address without a name, or something is no host or no origin."""
    names = [_host_name(name) for name in hosts]
    for origin in origins:
        if not origin_host(origin):
            hint = "Write it like https://name[:port]."
            raise ConfigurationError(f"{quoted(origin)} is no origin.", hint=hint)
    reached = [*names, *map(origin_host, origins)]
    foreign = [name for name in reached if not is_loopback(name.strip("[]"))]
    # Behind a proxy everybody looks like this machine.
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
            f"{quoted(text)} is no host name.", hint="Without scheme and port."
        )
    return match[1]


def origin_host(text: str) -> str:
    """The host of an origin; "" if the text is none."""
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
    """Whether a request may go on. `headers`: lower-case name to all its values. Pure."""
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
        # What it asked for is for programs.
        return _refused(307, "page", "The page for people is elsewhere.", settings.own_login[0])
    if not origins and not _site_fits(settings, path, headers):
        return _refused(403, "site", "Requests from other sites are not taken.")
    if not settings.callers and any(_PROXIED.fullmatch(name) for name in headers):
        # Whoever is behind the proxy looks as local as the proxy.
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
    # A link elsewhere may open the page: it holds nothing, and its script asks by itself.
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
    """The hash of a secret: only this is kept and compared. A lone surrogate, which JSON can hold,
    is hashed too, so that it is simply a wrong secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class Guard:
    """ASGI wrapper around everything the server answers. Refused requests, those of `app` too, go
    on record in `refusals`."""

    def __init__(self, app: ASGIApp, settings: GuardSettings, refusals: Refusals) -> None:
        self._app = app
        self._settings = settings
        self._refusals = refusals
        self._of_programs: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Nothing here speaks anything but HTTP."""
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
        # People come by the page, or by a program of their own with an approver's token.
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
        """Whether a caller of this token has to wait. Where there are several, none may keep
        more than half busy."""
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
    """Split an absolute request target: its path stays, and its host replaces Host (RFC 9112, 3.2.2)."""
    if match := _ABSOLUTE.fullmatch(scope.get("raw_path") or b""):
        host, path = match.groups()
        scope["raw_path"] = path or b"/"
        scope["path"] = unquote(scope["raw_path"].decode("ascii", "replace"))
        others = [pair for pair in scope["headers"] if pair[0].lower() != b"host"]
        scope["headers"] = [(b"host", host), *others]


def handing_on(first: Message, receive: Receive) -> Receive:
    """A `receive` that begins with a message which was read already."""
    pending = [first]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


async def _drained(receive: Receive) -> None:
    # A connection that is closed with bytes still unread is reset, and the answer with it.
    left = _DRAIN_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
