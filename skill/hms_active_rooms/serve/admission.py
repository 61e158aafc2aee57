"""What the guard lets through: hosts, origins, sites, tokens, sizes. Pure.

Threat: a web page in the person's browser (DNS rebinding, cross-site requests), another
machine, also one behind a proxy that makes it look local. Invariant: what is not named in
the settings is refused, from the headers alone; and nothing beyond this machine is named
without a token. Not held off without one: a proxy that neither passes on its own name nor
says in a header that it is one, since nobody can tell it from a program of this machine.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hms_active_rooms.api.address import is_loopback
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.serve.limits import MOST_OF_PROGRAMS
from hms_active_rooms.untrusted import quoted


@dataclass(frozen=True)
class Program:
    """A program that calls.

    Attributes:
        name: its token's, for the record; "": that token has none, or none is needed.
        alone: no other token lets programs call, so what is on record is this one's to read.
    """

    name: str = ""
    alone: bool = True


@dataclass(frozen=True)
class Approver:
    """Somebody whose token lets their program approve, by the name for the record."""

    name: str


Principal = Program | Approver
"""Whose token a request carried."""

MAX_BODY_BYTES: Final = 256 * 1024
"""Our choice: the largest call, a message of 4 KB, escaped, with a client's state around it."""

BODY_S: Final = 10.0
"""Our choice: how long the body of a request may take to arrive."""

MIN_TOKEN_CHARS: Final = 16
CALLER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
PRINCIPAL_KEY: Final = "hms_active_rooms.principal"

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"https?://([^/?#@\s]+)")
_LAST_PORT: Final = 65535
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_PROXIED: Final = re.compile(r"forwarded|via|x-real-ip|x-forwarded-.*")


@dataclass(frozen=True)
class GuardSettings:
    """What the guard lets through.

    Attributes:
        hosts: names in Host, without port.
        origins: where pages of this server's own are opened, as browsers say it
            ("https://rooms.example:8443"), when a proxy passes on another Host. Pages from
            elsewhere cannot call: no answer has a CORS header.
        callers: name for the record to the bearer token that lets a program call; "" for the one
            without a name. None at all: nobody needs one.
        approvers: name for the record to the token that lets a program of theirs approve, by REST
            only; never a caller's.
        max_body_bytes: of one request.
        body_s: how long one may take to arrive.
        own_login: path prefixes that check who comes by themselves (the approvals page); a
            person whose browser opens "/" is sent to the first.
        open_paths: paths that tell nothing and need no token.
        most_of_programs: requests of programs that are answered at a time.
    """

    hosts: tuple[str, ...] = _LOOPBACK
    origins: tuple[str, ...] = ()
    callers: Mapping[str, str] = field(default_factory=dict, repr=False)
    approvers: Mapping[str, str] = field(default_factory=dict, repr=False)
    max_body_bytes: int = MAX_BODY_BYTES
    body_s: float = BODY_S
    own_login: tuple[str, ...] = ()
    open_paths: tuple[str, ...] = ("/healthz",)
    most_of_programs: int = MOST_OF_PROGRAMS

    def __post_init__(self) -> None:
        for whose, tokens in (("server", self.callers), ("approver", self.approvers)):
            for token in tokens.values():
                if len(token) < MIN_TOKEN_CHARS or not token.isascii() or " " in token:
                    raise ConfigurationError(
                        f"The {whose} token needs at least {MIN_TOKEN_CHARS} ASCII characters, "
                        "no spaces.",
                        hint=f"It is what HMS_{whose.upper()}_TOKEN, or a variable that begins so, "
                        "holds.",
                    )
        if set(self.callers.values()) & set(self.approvers.values()):
            raise ConfigurationError(
                "The approver's token is the caller's.",
                hint="Whoever calls must not be able to approve: use two tokens.",
            )
        for whose, tokens in (("callers", self.callers), ("approvers", self.approvers)):
            if len(set(tokens.values())) < len(tokens):
                raise ConfigurationError(
                    f"Two {whose} have the same token.",
                    hint="The record tells them apart by it: give each their own.",
                )

    @property
    def token(self) -> bool:
        """Whether callers must bring a token."""
        return bool(self.callers)


def caller_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """The callers of `HMS_SERVER_TOKEN` (one, without a name) and `HMS_SERVER_TOKENS`
    ("name=token", by comma or space), by name.

    Raises:
        ConfigurationError: no such pair, a malformed name, or one name twice.
    """
    found = {"": token} if (token := environ.get("HMS_SERVER_TOKEN", "")) else {}
    for pair in environ.get("HMS_SERVER_TOKENS", "").replace(",", " ").split():
        name, _, token = pair.partition("=")
        if not token or not CALLER_NAME.fullmatch(name):
            # The pair may be a bare token, which no message may tell.
            raise ConfigurationError(
                "HMS_SERVER_TOKENS holds something else than name=token.",
                hint="As agent-a=TOKEN,agent-b=TOKEN; a name has up to 40 of a-z, 0-9, dots, "
                "dashes and underscores.",
            )
        if name in found:
            raise ConfigurationError(f"HMS_SERVER_TOKENS names {quoted(name)} twice.")
        found[name] = token
    return found


def guard_settings(
    host: str,
    *,
    token: str = "",
    callers: Mapping[str, str] | None = None,
    approvers: Mapping[str, str] | None = None,
    hosts: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    own_login: tuple[str, ...] = (),
) -> GuardSettings:
    """Settings for a server that binds `host`, and is reached by `hosts` and at `origins` besides.

    `token` is that of one caller without a name; see `GuardSettings` for the rest.

    Raises:
        ConfigurationError: bound or reached beyond loopback without a token, an address
            without a name it is reached by, or something that is no host or no origin.
    """
    callers = {**({"": token} if token else {}), **(callers or {})}
    names = [_host_name(name) for name in hosts]
    reached = [*names, *(_origin_host(origin) for origin in origins)]
    foreign = [name for name in reached if not is_loopback(name.strip("[]"))]
    local = is_loopback(host)
    if local:
        names += _LOOPBACK
    elif not callers:
        raise ConfigurationError(
            f"Binding {quoted(host)} lets other machines in, so the server needs a token.",
            hint="Set HMS_SERVER_TOKEN or HMS_SERVER_TOKENS, or bind 127.0.0.1.",
        )
    if foreign and not callers:
        # Behind a proxy everybody looks like this machine.
        raise ConfigurationError(
            f"Being reached as {quoted(foreign[0])} lets other machines in, so the server needs "
            "a token.",
            hint="Set HMS_SERVER_TOKEN or HMS_SERVER_TOKENS, or leave that name away.",
        )
    if not local and not _is_any(host):
        names.append(_host_name(f"[{host}]" if ":" in host else host))
    if not names:
        raise ConfigurationError(
            f"Binding {quoted(host)} needs the names it is reached by.",
            hint="Name them: --allow-host rooms.example",
        )
    return GuardSettings(
        hosts=tuple(dict.fromkeys(names)),
        origins=tuple(origin.lower() for origin in origins),
        callers=callers,
        approvers=approvers or {},
        own_login=own_login,
    )


def _is_any(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")  # noqa: S104  # recognised here, not bound


def _host_name(text: str) -> str:
    match = _HOST.fullmatch(text.lower())
    if not match or match[2]:
        raise ConfigurationError(
            f"{quoted(text)} is no host name.", hint="Without scheme and port."
        )
    return match[1]


def _origin_host(text: str) -> str:
    match = _ORIGIN.fullmatch(text.lower())
    host = _HOST.fullmatch(match[1]) if match else None
    if host is None:
        raise ConfigurationError(f"{quoted(text)} is no origin.", hint="As https://name[:port].")
    return host[1]


def principal(scope: Mapping[str, Any]) -> Principal:
    """Whose token the guard found on this request."""
    found: Principal = scope.get(PRINCIPAL_KEY, Program())
    return found


@dataclass(frozen=True)
class Refusal:
    """Why a request is not let through: HTTP status, a sentence, a word for the log."""

    status: int
    text: str
    word: str


@dataclass(frozen=True)
class Elsewhere:
    """Where a person's browser is sent instead: what it asked for is for programs."""

    path: str


def judge(
    settings: GuardSettings, path: str, headers: Mapping[str, list[str]], method: str = "POST"
) -> Refusal | Elsewhere | Principal:
    """Whether a request may go on. `headers`: lower-case name to all its values. Pure."""
    hosts = headers.get("host", [])
    match = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
    if match is None or match[1] not in settings.hosts:
        return Refusal(421, "This server is not reached by that Host.", "host")
    if int(match[2] or 0) > _LAST_PORT:
        return Refusal(421, "No server is reached by that port.", "host")
    if not _origin_fits(settings, headers.get("origin", []), hosts[0].lower()):
        return Refusal(403, "Requests from that Origin are not taken.", "origin")
    if settings.own_login and path == "/" and _is_opened(method, headers):
        return Elsewhere(settings.own_login[0])
    if not headers.get("origin") and not _site_fits(settings, path, headers):
        return Refusal(403, "Requests from other sites are not taken.", "site")
    if not settings.callers and any(_PROXIED.fullmatch(name) for name in headers):
        # Whoever is behind the proxy looks as local as the proxy.
        return Refusal(403, "Behind a proxy this server needs a token.", "proxy")
    lengths = headers.get("content-length", [])
    if any(not n.isascii() or not n.isdigit() for n in lengths) or len(set(lengths)) > 1:
        return Refusal(400, "The Content-Length is malformed.", "length")
    if lengths and (len(lengths[0]) > 12 or int(lengths[0]) > settings.max_body_bytes):
        return Refusal(413, "The request is too large.", "size")
    who = _token_of(settings, headers.get("authorization", []))
    if isinstance(who, Approver) and not path.startswith("/v1/"):
        return Refusal(403, "An approver's token is for REST only.", "approver")
    if who is None and settings.callers and not _needs_no_token(settings, path):
        return Refusal(401, "A bearer token is needed.", "token")
    return who or Program()


def is_program(settings: GuardSettings, who: Principal, path: str) -> bool:
    """Whether a request that is let through is a program's. Pure.

    People come by the page, or by a program of their own with an approver's token.
    """
    return not isinstance(who, Approver) and not _needs_no_token(settings, path)


def _origin_fits(settings: GuardSettings, origins: list[str], host: str) -> bool:
    if not origins:
        return True  # not a browser, or a plain navigation
    origin = origins[0].lower()
    match = _ORIGIN.fullmatch(origin)
    if len(origins) > 1 or match is None:
        return False
    return match[1] == host or origin in settings.origins


def _site_fits(settings: GuardSettings, path: str, headers: Mapping[str, list[str]]) -> bool:
    """Whether a request without Origin was not caused by another site, as browsers tell.

    A link elsewhere may open the page: it holds nothing, and its script asks by itself.
    """
    if all(site in ("same-origin", "none") for site in headers.get("sec-fetch-site", [])):
        return True
    opened = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    return path.rstrip("/") in settings.own_login and opened == (["navigate"], ["document"])


def _is_opened(method: str, headers: Mapping[str, list[str]]) -> bool:
    """Whether somebody opened this in a browser, to look at. No program asks so."""
    kinds = ",".join(headers.get("accept", [])).lower()
    shown = all(dest == "document" for dest in headers.get("sec-fetch-dest", []))
    return method in ("GET", "HEAD") and "text/html" in kinds and shown


def _needs_no_token(settings: GuardSettings, path: str) -> bool:
    own = any(path == p or path.startswith(p.rstrip("/") + "/") for p in settings.own_login)
    return own or path in settings.open_paths


def _token_of(settings: GuardSettings, values: list[str]) -> Principal | Refusal | None:
    """Whose token it is; None where none was given, or none is known."""
    known: list[tuple[Principal, str]] = [
        *(
            (Program(name, len(settings.callers) < 2), token)
            for name, token in settings.callers.items()
        ),
        *((Approver(name), token) for name, token in settings.approvers.items()),
    ]
    if not values or not known:
        return None
    scheme, _, given = values[0].partition(" ")
    found: Principal | None = None
    for who, token in known:  # all are compared, so that time tells nothing
        if hmac.compare_digest(hashed(given.strip()), hashed(token)):
            found = who
    if found is None or len(values) > 1 or scheme.lower() != "bearer":
        return Refusal(401, "The bearer token is not the right one.", "token")
    return found


def hashed(secret: str) -> bytes:
    """What is kept of a secret, and compared. Half a character, which JSON can bring, is a wrong
    secret like any other."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
