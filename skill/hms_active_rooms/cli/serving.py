"""`mcp` and `serve`: the tools for other programs, and the approvals page for people."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hms_active_rooms.cli import exits, screen
from hms_active_rooms.cli.settings import Settings
from hms_active_rooms.cli.skill import files
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.untrusted import quoted

if TYPE_CHECKING:
    from hms_active_rooms.serve.guard import GuardSettings
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

TOKEN_VARIABLE: Final = "HMS_SERVER_TOKEN"  # noqa: S105  # a variable's name

URL_VARIABLE: Final = "HMS_SERVER_URL"
"""Where people and programs reach the server, when that is not the address it binds."""

_URL: Final = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
)
_PORTS: Final = {"http": "80", "https": "443"}

_EXTRA: Final = ("mcp", "mcp_types", "starlette", "uvicorn")


@dataclass(frozen=True)
class Where:
    """Where a server listens, and what it is reached by besides."""

    host: str
    port: int
    allow_hosts: Sequence[str] = ()
    allow_origins: Sequence[str] = ()


def mcp(
    settings: Settings,
    where: Where,
    *,
    rooms: Sequence[str],
    stdio: bool,
    elicit: bool,
    as_json: bool,
) -> int:
    """Serve MCP until Ctrl-C, or until the input ends; the exit code.

    `elicit`: people may be asked through their MCP client.

    Raises:
        ConfigurationError: a setting, an address or the extra; before anything is served.
    """
    with mcp_extra():
        from hms_active_rooms.serve.app import create_app
        from hms_active_rooms.serve.mcp import build_server, entry, serve_stdio
        from hms_active_rooms.serve.server import listen, serve

    log_to_stderr()
    guard = guard_from(settings, where)
    toolkit = open_toolkit(settings, rooms)
    server = build_server(toolkit, guides=guides(), elicit=elicit)
    if stdio:

        async def talk() -> None:
            async with closing(toolkit):
                await serve_stdio(server, toolkit.gate)

        with suppress(KeyboardInterrupt):
            asyncio.run(talk())
        return exits.DONE

    listener = listen(where.host, where.port)
    app = create_app(toolkit, guard=guard, mcp=entry(server), lifespans=[lambda: closing(toolkit)])

    def announce(url: str) -> None:
        allowed = list(toolkit.gate.policy.rooms)
        if as_json:
            screen.document({"mcp": f"{url}/mcp", "rooms": allowed, "token": bool(guard.token)})
        else:
            screen.err(f"MCP at {url}/mcp for {', '.join(allowed)}{_token_note(guard)}.")
            screen.err("Ctrl-C ends it.")
        _warn_of_strangers(guard, elicit)

    serve(app, listener, announce)
    return exits.DONE


def serve_all(
    settings: Settings,
    where: Where,
    *,
    rooms: Sequence[str],
    people: Sequence[str],
    elicit: bool,
    as_json: bool,
) -> int:
    """Serve MCP, REST and the approvals page until Ctrl-C; the exit code.

    `elicit`: people may be asked through their MCP client too.

    Raises:
        ConfigurationError: a setting, an address or the extra; before anything is served.
    """
    with mcp_extra():
        from hms_active_rooms.serve.app import create_app
        from hms_active_rooms.serve.mcp import build_server, entry
        from hms_active_rooms.serve.page import PATH, page_routes
        from hms_active_rooms.serve.rest import rest_routes
        from hms_active_rooms.serve.rest_approvers import rest_settings, tokens_from
        from hms_active_rooms.serve.server import address, listen, serve
        from hms_active_rooms.serve.signals import ASKED, OnSignal

    log_to_stderr()
    guard = guard_from(settings, where, own_login=(PATH,))
    approvers = tokens_from(settings.environ())
    toolkit = open_toolkit(settings, rooms)
    page = page_routes(toolkit)
    listener = listen(where.host, where.port)
    base = reached_at(address(listener), where, settings.environ())
    page_url = base + PATH

    def print_links() -> None:
        links = page.new_links(base, people)
        with suppress(OSError):  # whoever read what we print may be gone; the server goes on
            if as_json:
                screen.document({"logins": links})
            else:
                _say_links(links)

    asked = OnSignal(print_links)
    app = create_app(
        toolkit,
        guard=guard,
        mcp=entry(build_server(toolkit, page=page_url, guides=guides(), elicit=elicit)),
        rest=rest_routes(toolkit, rest_settings(approvers, page=page_url)),
        page=page.routes,
        lifespans=[lambda: closing(toolkit), page.lifespan, asked.running],
    )

    def announce(bound: str) -> None:
        _warn_of_strangers(guard, elicit)
        allowed = list(toolkit.gate.policy.rooms)
        links = page.new_links(base, people)
        if as_json:
            ways = {"page": page_url, "mcp": f"{base}/mcp", "rest": f"{base}/v1"}
            told = {
                "bound": bound,
                "rooms": allowed,
                "token": bool(guard.token),
                "approvers": len(approvers),
                "pid": os.getpid(),
            }
            screen.document({**ways, **told, "logins": links})
            return
        screen.err(f"Rooms: {', '.join(allowed)}.")
        if base != bound:
            screen.err(f"Listens at {bound}.")
        screen.err(f"MCP at {base}/mcp, REST at {base}/v1{_token_note(guard)}.")
        screen.err(f"Approvers by REST: {len(approvers) or 'none'}.")
        _say_links(links)
        if ASKED is not None:
            screen.err(f"New links: kill -USR1 {os.getpid()}")
        screen.err("Ctrl-C ends it.")

    serve(app, listener, announce, page.close)
    return exits.DONE


def _say_links(links: Mapping[str, str]) -> None:
    for name, link in links.items():
        whose = f"for {quoted(name)}" if name else "for one person"
        screen.err(f"Approvals page, {whose}, once: {link}")


def _warn_of_strangers(guard: GuardSettings, elicit: bool) -> None:
    if not guard.token:
        answers = ", and its client may answer for the person" if elicit else ""
        screen.err(
            f"Warning: without {TOKEN_VARIABLE} any program on this machine may call{answers}."
        )


def _token_note(guard: GuardSettings) -> str:
    return f", bearer token from {TOKEN_VARIABLE}" if guard.token else ", no token needed here"


@contextmanager
def mcp_extra() -> Iterator[None]:
    """Say which extra is missing when the server cannot be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _EXTRA:
            raise
        raise ConfigurationError(
            "The server needs its extra: pip install 'hms-active-rooms[mcp]'.", hint=""
        ) from None


def guard_from(settings: Settings, where: Where, own_login: tuple[str, ...] = ()) -> GuardSettings:
    """The guard's settings, with the tokens from the environment: an option would show them."""
    from hms_active_rooms.serve.guard import guard_settings
    from hms_active_rooms.serve.rest_approvers import tokens_from

    environ = settings.environ()
    url = public_url(environ)
    match = _URL.fullmatch(url)
    names = [match[2]] if match else []
    return guard_settings(
        where.host,
        token=environ.get(TOKEN_VARIABLE, ""),
        approver_tokens=tuple(tokens_from(environ).values()),
        hosts=(*where.allow_hosts, *names),
        origins=(*where.allow_origins, *([url] if url else [])),
        own_login=own_login,
    )


def public_url(environ: Mapping[str, str]) -> str:
    """The address that was set for people and programs, as an origin; "" for none.

    Raises:
        ConfigurationError: it is none.
    """
    given = environ.get(URL_VARIABLE, "").rstrip("/").lower()
    if not given:
        return ""
    match = _URL.fullmatch(given)
    if match is None:
        raise ConfigurationError(
            f"{URL_VARIABLE} is {quoted(given, 100)}, which is no address.",
            hint="As https://rooms.example, without a path.",
        )
    scheme, host, port = match.groups()
    # Browsers leave the usual port out of Origin.
    return f"{scheme}://{host}" + (f":{port}" if port and port != _PORTS[scheme] else "")


def reached_at(bound: str, where: Where, environ: Mapping[str, str]) -> str:
    """The base URL that people and programs are told. Pure.

    Args:
        bound: the address it listens on.
        where: if that is every address, the first further name stands for it.
        environ: may name another one.
    """
    if url := public_url(environ):
        return url
    if where.host in ("", "0.0.0.0", "::") and where.allow_hosts:  # noqa: S104  # not bound here
        return f"http://{where.allow_hosts[0]}:{bound.rpartition(':')[2]}"
    return bound


def open_toolkit(settings: Settings, rooms: Sequence[str]) -> ActiveRoomsToolkit:
    """The toolkit of a server. Rooms of the environment or the policy file stay the only ones.

    Raises:
        ConfigurationError: no room at all, a room the policy does not name, a wrong setting.
    """
    from hms_active_rooms.gate.policy import ANY_ROOM, Policy
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

    environ = settings.environ()
    policy = Policy.from_env(environ)
    named = () if ANY_ROOM in policy.rooms else policy.rooms
    if named and (foreign := [room for room in rooms if room not in named]):
        raise ConfigurationError(
            f"The policy does not name room {quoted(foreign[0])}.",
            hint="Leave --room away, or add it to the policy.",
        )
    if rooms:
        policy = Policy.from_env(environ, rooms=tuple(rooms))
    if not policy.rooms:
        raise ConfigurationError(
            "No room is named, so no tool could do anything.",
            hint="Name them: --room ROOM, HMS_POLICY_ROOMS, or rooms in the policy file.",
        )
    return ActiveRoomsToolkit.from_env(environ=environ, policy=policy, requester="server")


def guides() -> dict[str, str]:
    """The skill's files for programs to read, by path; none when they did not come along."""
    try:
        found = files()
    except ConfigurationError:
        return {}
    return {
        path: content.decode()
        for path, content in found.items()
        if path == "SKILL.md" or path.startswith("references/")
    }


@asynccontextmanager
async def closing(toolkit: ActiveRoomsToolkit) -> AsyncIterator[None]:
    """Close the toolkit in the loop it was used in."""
    try:
        yield
    finally:
        await toolkit.aclose()


def log_to_stderr() -> None:
    """Refused requests and trouble, one line each. Standard output may be the protocol."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
