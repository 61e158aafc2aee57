"""Decides which HTTP requests reach the application. Every request comes here first.

The guard checks Host, Origin and token, and reads the body. It refuses a body that is too large or
too slow, and a request if programs have too many open. It records refusals, without secrets.

A server without tokens is for programs on this machine. Behind a proxy every program looks like one
of them, so this server refuses requests through a proxy. It knows them by a foreign Host or a header
such as Via, and does not notice a proxy that sends neither.
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
from urllib.parse import quote, unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hms_active_rooms.api.address import is_loopback
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.serve.limits import BUSY, KEY, MOST_OF_PROGRAMS, Refusals
from hms_active_rooms.serve.problems import Refused, last_resort, note, told
from hms_active_rooms.untrusted import quoted

MIN_TOKEN_CHARS: Final = 16
# A token has no quotes, commas or semicolons, since those may come from a malformed list.
_TOKEN: Final = re.compile(rf"[!#-%(-+\--:<-{{}}~]{{{MIN_TOKEN_CHARS},}}")
APPROVER_VARIABLE: Final = "HMS_APPROVER_TOKEN"  # a suffix names the approver: ..._TOKEN_ADA
_APPROVER: Final = re.compile(APPROVER_VARIABLE + r"(?:_(.*))?", re.DOTALL)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
HEALTH: Final = "/healthz"  # the path of the health check: no token or header is checked
PRINCIPAL_KEY: Final = "hms_active_rooms.principal"

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"https?://([^/?#@\s]+)")
# A request target that is a whole URL, as for a proxy.
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_ANY: Final = ("", "0.0.0.0", "::")  # noqa: S104  # recognised here, not bound
_PROXIED: Final = re.compile(r"forwarded|via|x-real-ip|x-forwarded-.*")
_DRAIN_BYTES: Final = 1024 * 1024
_DRAIN_S: Final = 2.0

_HINTS: Final = {
    "host": "If the Host is right, start the server with --allow-host NAME.",
    "origin": "If the Origin is right, start the server with HMS_SERVER_URL=URL.",
    **dict.fromkeys(
        ("no_token", "wrong_token"),
        "Send the header Authorization: Bearer TOKEN, with a token of this server.",
    ),
    "proxy": "Start the server with a token in HMS_SERVER_TOKEN or HMS_SERVER_TOKENS.",
}
_MORE_HEADERS: Final = {
    401: {"www-authenticate": "Bearer"},
    503: {"retry-after": "5"},  # our choice: long requests wait for a person or for 100ms
}


@dataclass(frozen=True)
class Principal:
    """Who sent a request, by its token.

    Args:
        name: the token's name, or "".
        approves: the sender may approve and reject, but not call tools that change a room.
        alone: no other program has a token, so the sender may read all actions.
        known: the token is one of this server's.
    """

    name: str = ""
    approves: bool = False
    alone: bool = True
    known: bool = False


@dataclass(frozen=True)
class GuardSettings:
    """Which requests a server accepts. Raises ConfigurationError for a malformed or repeated token.

    Args:
        hosts: names allowed in the Host header, without port.
        origins: addresses of the approvals page behind a proxy.
        callers: tokens of programs, by name. Without them, programs need no token.
        approvers: tokens of programs that may approve, by name.
        own_login: paths of pages that have a login of their own, such as "/approvals". Requests to them,
            and to paths below them, need no token. A browser that opens "/" is sent to the first path.
        most_of_programs: the most requests of programs that may be open at once.
        max_body_bytes: the largest body of a request.
        body_s: seconds within which a body has to arrive.
    """

    hosts: tuple[str, ...] = _LOOPBACK
    origins: tuple[str, ...] = ()
    callers: Mapping[str, str] = field(default_factory=dict, repr=False)
    approvers: Mapping[str, str] = field(default_factory=dict, repr=False)
    own_login: tuple[str, ...] = ()
    most_of_programs: int = MOST_OF_PROGRAMS
    max_body_bytes: int = 256 * 1024  # our choice: fits a message of 4 KB with all its escapes
    body_s: float = 10.0  # our choice

    def __post_init__(self) -> None:
        tokens = [*self.callers.values(), *self.approvers.values()]
        if not all(map(_TOKEN.fullmatch, tokens)):
            raise ConfigurationError(
                f"A token needs at least {MIN_TOKEN_CHARS} ASCII characters. It cannot have spaces, "
                "quotes or any of , ; | &.",
                hint=f"Check HMS_SERVER_TOKEN, HMS_SERVER_TOKENS and {APPROVER_VARIABLE}.",
            )
        if len(set(tokens)) < len(tokens):
            raise ConfigurationError(
                "Two callers or approvers have the same token.",
                hint="Give each its own token. Nobody may both ask and approve.",
            )

    @cached_property
    def principals(self) -> dict[bytes, Principal]:
        """The `Principal` of each token, by the token's hash, so the time of a look-up reveals no token."""
        alone = len(self.callers) < 2
        programs = {t: Principal(n, alone=alone, known=True) for n, t in self.callers.items()}
        people = {t: Principal(n, approves=True, known=True) for n, t in self.approvers.items()}
        return {hashed(token): who for token, who in (programs | people).items()}


def caller_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the tokens of calling programs, by name, from `HMS_SERVER_TOKEN` (with the name "") and
    `HMS_SERVER_TOKENS` ("name=token,name=token"). Raises ConfigurationError for a malformed list."""
    listed = environ.get("HMS_SERVER_TOKENS", "")
    pairs = [pair.partition("=")[::2] for pair in listed.replace(",", " ").split()]
    named = all(token and _NAME.fullmatch(name) for name, token in pairs)
    if not named or (listed.strip() and not pairs):
        # The error does not show a wrong entry, which may be a token.
        raise ConfigurationError(
            "HMS_SERVER_TOKENS is not a list of name=token.",
            hint="Write agent-a=TOKEN,agent-b=TOKEN. A name has up to 40 of a-z, 0-9, . - and _.",
        )
    if alone := environ.get("HMS_SERVER_TOKEN", ""):
        pairs.append(("", alone))
    return _by_name(pairs)


def approver_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """The approvers' tokens by name: "ada" for HMS_APPROVER_TOKEN_ADA, "approver" for HMS_APPROVER_TOKEN."""
    entries = []
    for variable, token in environ.items():
        match = _APPROVER.fullmatch(variable)
        if match is None or not token:
            continue
        name = "approver" if match[1] is None else match[1].lower()
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"The variable {quoted(variable, 70)} does not end in a valid name.",
                hint=f"Write {APPROVER_VARIABLE}_NAME. A name has up to 40 of A-Z, 0-9, . - and _.",
            )
        entries.append((name, token))
    return _by_name(entries)


def _by_name(entries: Sequence[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, token in entries:
        if name in found:
            raise ConfigurationError(
                f"Two tokens have the name {quoted(name)}.",
                hint="Keep one of the two. Upper and lower case make no difference.",
            )
        found[name] = token
    return found


def guard_settings(
    host: str,
    *,
    callers: Mapping[str, str] | None = None,
    approvers: Mapping[str, str] | None = None,
    hosts: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    own_login: tuple[str, ...] = (),
) -> GuardSettings:
    """Make the settings of a server. The other arguments are as in `GuardSettings`.

    Args:
        host: the address to listen on.
        hosts: more names by which clients reach the server.
        origins: addresses of the approvals page behind a proxy, such as "https://rooms.example".

    Raises:
        ConfigurationError: `host` is malformed, is "0.0.0.0" or "::" without `hosts`, or can be reached
            from other machines although there is no token.
    """
    names = [_host_name(name) for name in hosts]
    reached = [*names, *map(origin_host, origins)]
    foreign = [name for name in reached if not is_loopback(name.strip("[]"))]
    # A foreign name means a proxy, behind which all requests seem to be local.
    lets_in = f"Answering to the name {quoted(foreign[0])}" if foreign else ""
    alone = "leave out --allow-host and HMS_SERVER_URL"
    if is_loopback(host):
        names += _LOOPBACK
    else:
        lets_in, alone = f"Listening on {quoted(host)}", "listen on 127.0.0.1"
        if host not in _ANY:
            names.append(_host_name(f"[{host}]" if ":" in host else host))
    if lets_in and not callers:
        raise ConfigurationError(
            f"{lets_in} lets other machines in, so the server needs a token.",
            hint=f"Set HMS_SERVER_TOKEN or HMS_SERVER_TOKENS. Or keep other machines out: {alone}.",
        )
    if not names:
        raise ConfigurationError(
            f"A server that listens on {quoted(host)} needs the host names that clients use.",
            hint="Give each name by --allow-host, e.g. --allow-host rooms.example.",
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
            f"{quoted(text)} is no host name.", hint="Write the name without scheme and port."
        )
    return match[1]


def origin_host(text: str) -> str:
    """The host in an origin such as "https://rooms.example:8443"; "" if `text` is no origin."""
    match = _ORIGIN.fullmatch(text.lower())
    host = _HOST.fullmatch(match[1]) if match else None
    return host[1] if host else ""


def principal(scope: Mapping[str, Any]) -> Principal:
    """Who sent the request with this ASGI scope. If the guard recorded nobody: `Principal()`."""
    found: Principal = scope.get(PRINCIPAL_KEY, Principal())
    return found


_TOO_LARGE: Final = "The request is too large."


def judge(
    settings: GuardSettings, path: str, headers: Mapping[str, list[str]], method: str = "POST"
) -> Refused | Principal:
    """Who sent a request, or why it is refused. The names of `headers` are in lower case. Pure."""
    if path == HEALTH:
        return Principal()  # a probe sends any Host, and the answer has no secret
    hosts = headers.get("host", [])
    match = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
    if match is None or match[1] not in settings.hosts:
        return _refused(421, "host", "This server does not accept this Host header.")
    if int(match[2] or 0) > 65535:
        return _refused(421, "host", "The port in the Host header is too large.")
    origins = [origin.lower() for origin in headers.get("origin", [])]  # none: not a browser
    own = _ORIGIN.fullmatch(origins[0]) if len(origins) == 1 else None
    if origins and not (own and (own[1] == hosts[0].lower() or origins[0] in settings.origins)):
        return _refused(403, "origin", "This server accepts no requests from this Origin.")
    asks_html = method == "GET" and "text/html" in ",".join(headers.get("accept", []))
    if settings.own_login and path == "/" and asks_html:
        # MCP is at "/", which a browser cannot show.
        return _refused(307, "page", "The approvals page has another path.", settings.own_login[0])
    page, sign, link = path.partition("#")
    if sign and page.rstrip("/") in settings.own_login:
        # Some programs write the "#" of a link as %23. A refusal would put its secret in the log.
        where = f"{page}#{quote(link, safe='=&')}"
        return _refused(307, "page", "The approvals page has another path.", where)
    if not origins and not _site_fits(settings, path, headers):
        return _refused(403, "site", "This server accepts no requests from other sites.")
    if not settings.callers and any(_PROXIED.fullmatch(name) for name in headers):
        return _refused(403, "proxy", "Requests through a proxy need a token.")
    who = _token_of(settings, headers.get("authorization", []))
    if isinstance(who, Principal) and who.approves and not path.startswith("/v1/"):
        return _refused(403, "approver", "An approver's token is for REST only.")
    if who is None and settings.callers and not _needs_no_token(settings, path):
        return _refused(401, "no_token", "The request needs a bearer token.")
    if "transfer-encoding" in headers and "content-length" in headers:
        # A proxy in front may have believed the other one, and see another request here.
        return _refused(400, "framing", "Transfer-Encoding and Content-Length exclude each other.")
    # uvicorn has refused a length that is no number.
    lengths = [length[:12] for length in headers.get("content-length", []) if length.isdecimal()]
    if any(int(length) > settings.max_body_bytes for length in lengths):
        return _refused(413, "size", _TOO_LARGE)
    return who or Principal()


def _refused(status: int, word: str, text: str, elsewhere: str = "") -> Refused:
    headers = {"location": elsewhere} if elsewhere else {"connection": "close"}
    headers |= _MORE_HEADERS.get(status, {})
    return Refused(status, word, text, _HINTS.get(word, ""), headers=headers)


def _site_fits(settings: GuardSettings, path: str, headers: Mapping[str, list[str]]) -> bool:
    if all(site in ("same-origin", "none") for site in headers.get("sec-fetch-site", [])):
        return True
    # Another site may link to the page, which is empty until its own script fetches data.
    opened = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    return path.rstrip("/") in settings.own_login and opened == (["navigate"], ["document"])


def _needs_no_token(settings: GuardSettings, path: str) -> bool:
    own = any(path == p or path.startswith(p.rstrip("/") + "/") for p in settings.own_login)
    return own or path == HEALTH


def _token_of(settings: GuardSettings, values: list[str]) -> Principal | Refused | None:
    if not values or not settings.principals:
        return None
    scheme, _, given = values[0].partition(" ")
    found = settings.principals.get(hashed(given.strip()))
    if found is None or len(values) > 1 or scheme.lower() != "bearer":
        return _refused(401, "wrong_token", "The bearer token is wrong.")
    return found


def hashed(secret: str) -> bytes:
    """The hash of a secret, to store and compare in its place."""
    # JSON may have a lone surrogate, which UTF-8 cannot encode.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


@dataclass(eq=False)
class Guard:
    """ASGI middleware around the application, `app`. Refused requests are recorded in `refusals`."""

    app: ASGIApp
    settings: GuardSettings
    refusals: Refusals
    _of_programs: Counter[str] = field(default_factory=Counter, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        _take_origin_form(scope)
        scope[KEY] = self.refusals
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        try:
            who = judge(self.settings, scope["path"], headers, scope["method"])
            if isinstance(who, Refused):
                await _drained(receive)
                raise who
            first = await self._whole_body(receive)
            # A request to the page or with an approver's token comes from a person.
            program = not who.approves and not _needs_no_token(self.settings, scope["path"])
            if program and self._is_busy(who.name):
                text = (
                    "Too many requests of programs are open. Nothing was executed. Try again later."
                )
                raise _refused(503, BUSY, text)
        except Refused as refused:
            if refused.status_code >= 400:
                note(scope, refused.code)
            await told(refused)(scope, receive, send)
            return
        scope[PRINCIPAL_KEY] = who
        self._of_programs[who.name] += program
        try:
            await last_resort(self.app, scope, handing_on(first, receive), send)
        finally:
            self._of_programs[who.name] -= program

    def _is_busy(self, name: str) -> bool:
        """Whether too many requests are open, in all or of the token `name` (an equal share)."""
        most = self.settings.most_of_programs
        mine = most // max(len(self.settings.callers), 1) or 1
        return self._of_programs.total() >= most or self._of_programs[name] >= mine

    async def _whole_body(self, receive: Receive) -> Message:
        body = bytearray()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.body_s):
                while (message := await receive())["type"] == "http.request":
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self.settings.max_body_bytes:
                        if more:
                            await _drained(receive)
                        raise _refused(413, "size", _TOO_LARGE)
                    if not more:
                        return {**message, "body": bytes(body), "more_body": False}
                return message
        raise _refused(408, "slow", "The request did not arrive in time.")


def _take_origin_form(scope: Scope) -> None:
    """Split a request target that is a whole URL into Host and path (RFC 9112, 3.2.2)."""
    if match := _ABSOLUTE.fullmatch(scope.get("raw_path") or b""):
        host, path = match.groups()
        scope["raw_path"] = path or b"/"
        scope["path"] = unquote(scope["raw_path"].decode("ascii", "replace"))
        others = [pair for pair in scope["headers"] if pair[0].lower() != b"host"]
        scope["headers"] = [(b"host", host), *others]


def handing_on(first: Message, receive: Receive) -> Receive:
    """An ASGI `receive` that first returns `first`, a message that was read already."""
    pending = [first]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


async def _drained(receive: Receive) -> None:
    # Closing with unread bytes resets the connection, and the client loses the answer.
    left = _DRAIN_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
