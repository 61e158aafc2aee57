"""`mcp` and `serve`: the tools for other programs, and the approvals page for people."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
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

_EXTRA: Final = ("mcp", "mcp_types", "starlette", "uvicorn")


@dataclass(frozen=True)
class Where:
    """Where a server listens, and what it is reached by besides."""

    host: str
    port: int
    allow_hosts: Sequence[str] = ()
    allow_origins: Sequence[str] = ()


def mcp(
    settings: Settings, where: Where, *, rooms: Sequence[str], stdio: bool, as_json: bool
) -> int:
    """Serve MCP until Ctrl-C, or until the input ends; the exit code.

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
    server = build_server(toolkit, guides=guides())
    if stdio:

        async def talk() -> None:
            async with closing(toolkit):
                await serve_stdio(server)

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

    serve(app, listener, announce)
    return exits.DONE


def serve_all(
    settings: Settings,
    where: Where,
    *,
    rooms: Sequence[str],
    people: Sequence[str],
    as_json: bool,
) -> int:
    """Serve MCP, REST and the approvals page until Ctrl-C; the exit code.

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

    log_to_stderr()
    guard = guard_from(settings, where, own_login=(PATH,))
    approvers = tokens_from(settings.environ())
    toolkit = open_toolkit(settings, rooms)
    page = page_routes(toolkit)
    listener = listen(where.host, where.port)
    page_url = address(listener) + PATH
    app = create_app(
        toolkit,
        guard=guard,
        mcp=entry(build_server(toolkit, page=page_url, guides=guides())),
        rest=rest_routes(toolkit, rest_settings(approvers, page=page_url)),
        page=page.routes,
        lifespans=[lambda: closing(toolkit), page.lifespan],
    )

    def announce(url: str) -> None:
        allowed = list(toolkit.gate.policy.rooms)
        links = {name: page.login_link(url, name) for name in people or ("",)}
        if as_json:
            ways = {"page": page_url, "mcp": f"{url}/mcp", "rest": f"{url}/v1"}
            told = {"rooms": allowed, "token": bool(guard.token), "approvers": len(approvers)}
            screen.document({**ways, **told, "logins": links})
            return
        screen.err(f"Rooms: {', '.join(allowed)}.")
        screen.err(f"MCP at {url}/mcp, REST at {url}/v1{_token_note(guard)}.")
        screen.err(f"Approvers by REST: {len(approvers) or 'none'}.")
        for name, link in links.items():
            whose = f"for {quoted(name)}" if name else "for one person"
            screen.err(f"Approvals page, {whose}, once: {link}")
        screen.err("Ctrl-C ends it.")

    serve(app, listener, announce, page.close)
    return exits.DONE


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
    return guard_settings(
        where.host,
        token=environ.get(TOKEN_VARIABLE, ""),
        approver_tokens=tuple(tokens_from(environ).values()),
        hosts=tuple(where.allow_hosts),
        origins=tuple(where.allow_origins),
        own_login=own_login,
    )


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
    return {path: content.decode() for path, content in found.items() if path.endswith(".md")}


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
