"""`mcp` and `serve`: the tools for other programs, and the approvals page for people."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.cli import exits, screen
from hms_active_rooms.cli.settings import Settings, extra, journal_of, refuse_idle
from hms_active_rooms.cli.skill import files
from hms_active_rooms.errors import ConfigurationError, InvalidCall
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

_EXTRA: Final = ("fastapi", "mcp", "mcp_types", "starlette", "uvicorn")


@dataclass(frozen=True)
class Where:
    """The options of a server: its rooms, where it listens, which other hosts and origins reach it,
    and whether it asks through MCP clients."""

    room: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROOM",
            help="A room the tools may act on (repeatable); needed, unless the policy names rooms.",
        ),
    ] = None
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")
    ] = 9090
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Also accept this Host header (repeatable). Needs HMS_SERVER_TOKEN or"
            " HMS_SERVER_TOKENS.",
        ),
    ] = None
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Also accept this browser Origin, e.g. https://rooms.example (repeatable).",
        ),
    ] = None
    no_elicitation: Annotated[
        bool,
        typer.Option(
            "--no-elicitation",
            help="Never ask through MCP clients; people decide in a terminal or, with `serve`, on"
            " its page or by REST.",
        ),
    ] = False


def mcp(
    ctx: typer.Context,
    where: Where,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Serve one client by standard input and output.")
    ] = False,
    *,
    settings: Settings,
) -> int:
    """Serve the tools to MCP clients, until Ctrl-C. Asks before it changes anything.

    Clients send the bearer token that is in HMS_SERVER_TOKEN, or one of HMS_SERVER_TOKENS
    ("name=token,name=token"). One of the two must be set when other machines can reach the
    server.
    """
    with extra("mcp", "server", *_EXTRA):
        from hms_active_rooms.serve.mcp import build_server, serve_stdio
        from hms_active_rooms.serve.notify import notifying
    if not stdio:
        return _listening(settings, where, people=None)

    refuse_idle(ctx, "--stdio", "host", "port", "allow_host", "allow_origin", "json")
    log_to_stderr()
    guard_from(settings, where)
    toolkit = open_toolkit(settings, where.room or ())
    notices = notifying(toolkit.gate, settings.environ())
    server = build_server(toolkit, guides=guides(), elicit=not where.no_elicitation)

    for number in exits.SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            # A thread waits for standard input, and nothing else than a client ends that.
            signal.signal(number, signal.SIG_DFL)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve_stdio(server, toolkit.gate, [lambda: aclosing(toolkit), *notices]))
    return exits.DONE


def serve(
    where: Where,
    person: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Print a one-time login link for NAME (repeatable). Without it: one link, no name.",
        ),
    ] = None,
    *,
    settings: Settings,
) -> int:
    """Serve MCP, REST and a page where people approve, until Ctrl-C.

    HMS_SERVER_TOKEN: the bearer token of programs that call the tools; HMS_SERVER_TOKENS: several
    ("name=token,name=token"). HMS_APPROVER_TOKEN, HMS_APPROVER_TOKEN_<NAME>: tokens of programs
    that approve by REST. No two may be equal.
    """
    with extra("serve", "server", *_EXTRA):
        import hms_active_rooms.serve.rest  # noqa: F401 - brings FastAPI, which `mcp` does without
    return _listening(settings, where, people=person or ())


def _listening(settings: Settings, where: Where, *, people: Sequence[str] | None) -> int:
    """MCP by HTTP until Ctrl-C; with `people` also REST, and the page with their login links."""
    from hms_active_rooms.serve.app import ASKED, Entry, OnSignal, address, create_app, listen
    from hms_active_rooms.serve.app import serve as run
    from hms_active_rooms.serve.mcp import build_server, entry
    from hms_active_rooms.serve.notify import notifying
    from hms_active_rooms.serve.page import PATH, page_routes

    log_to_stderr()
    guard = guard_from(settings, where, own_login=(PATH,) if people is not None else ())
    toolkit = open_toolkit(settings, where.room or ())
    elicit, as_json = not where.no_elicitation, settings.json
    listener = listen(where.host, where.port)
    bound = address(listener)
    base = reached_at(bound, where, settings.environ())
    page = page_routes(toolkit) if people is not None else None
    page_url = base + PATH if page else ""
    server = build_server(toolkit, page=page_url, guides=guides(), elicit=elicit)
    entries = [
        Entry(lifespan=lambda: aclosing(toolkit)),
        *(Entry(lifespan=e) for e in notifying(toolkit.gate, settings.environ(), page_url)),
        entry(server),
    ]
    allowed = list(toolkit.gate.policy.rooms)
    told = {"mcp": f"{base}/mcp", "bound": bound, "rooms": allowed, "token": bool(guard.callers)}

    def links() -> Mapping[str, str]:
        return page.new_links(base, people or ()) if page else {}

    def announce() -> None:
        if as_json:
            screen.document(told | ({"logins": links()} if page else {}))
        else:
            screen.err(f"Rooms: {', '.join(allowed)}.")
            if base != bound:
                screen.err(f"Listens at {bound}.")
            ways = f"MCP at {base}/mcp" + (f", REST at {base}/v1" if page else "")
            token = (
                f"bearer token from {TOKEN_VARIABLE}" if guard.callers else "no token needed here"
            )
            screen.err(f"{ways}, {token}.")
            if page:
                screen.err(f"Approvers by REST: {len(guard.approvers) or 'none'}.")
                _print_links(links(), as_json=False)
                if ASKED is not None:
                    screen.err(f"New links: kill -USR1 {os.getpid()}")
            screen.err("Ctrl-C ends it.")
        if not guard.callers:
            answers = ", and its client may answer for the person" if elicit else ""
            screen.err(
                f"Warning: without {TOKEN_VARIABLE} any program on this machine may call{answers}."
            )

    if page:
        from hms_active_rooms.serve.rest import rest_entry

        told |= {"page": page_url, "rest": f"{base}/v1", "approvers": len(guard.approvers)}
        told |= {"pid": os.getpid()}
        asked = OnSignal(lambda: _print_links(links(), as_json=as_json))
        entries += [rest_entry(toolkit, page_url), page.entry, Entry(lifespan=asked.running)]
    app = create_app(toolkit, *entries, guard=guard)
    run(app, listener, announce, page.close if page else None)
    return exits.DONE


def _print_links(links: Mapping[str, str], *, as_json: bool) -> None:
    with suppress(
        screen.OutputLost
    ):  # whoever read what we print may be gone, and the server goes on
        if as_json:
            screen.document({"logins": links})
        for name, link in () if as_json else links.items():
            whose = f"for {quoted(name)}" if name else "for one person"
            screen.err(f"Approvals page, {whose}, once: {link}")


def guard_from(settings: Settings, where: Where, own_login: tuple[str, ...] = ()) -> GuardSettings:
    """The guard's settings; tokens come from the environment, since an option would show them."""
    from hms_active_rooms.serve.guard import approver_tokens, caller_tokens, guard_settings

    environ = settings.environ()
    url = public_url(environ)
    match = _URL.fullmatch(url)
    names = [match[2]] if match else []
    return guard_settings(
        where.host,
        callers=caller_tokens(environ),
        approvers=approver_tokens(environ),
        hosts=(*(where.allow_host or ()), *names),
        origins=(*(where.allow_origin or ()), *([url] if url else [])),
        own_login=own_login,
    )


def public_url(environ: Mapping[str, str]) -> str:
    """The address that was set for people and programs, as an origin; "" for none."""
    given = environ.get(URL_VARIABLE, "")
    if not given:
        return ""
    match = _URL.fullmatch(given.rstrip("/").lower())
    if match is None:
        raise ConfigurationError(
            f"{URL_VARIABLE} is {quoted(given, 100)}, which is no address.",
            hint="Write https://rooms.example, without a path.",
        )
    scheme, host, port = match.groups()
    # Browsers leave the usual port out of Origin.
    return f"{scheme}://{host}" + (f":{port}" if port and port != _PORTS[scheme] else "")


def reached_at(bound: str, where: Where, environ: Mapping[str, str]) -> str:
    """The base URL that people and programs are told. Where it is `bound` to every address, its
    first further name stands for it. Pure."""
    if url := public_url(environ):
        return url
    if where.host in ("", "0.0.0.0", "::") and where.allow_host:  # noqa: S104  # not bound here
        return f"http://{where.allow_host[0]}:{bound.rpartition(':')[2]}"
    return bound


def open_toolkit(settings: Settings, rooms: Sequence[str]) -> ActiveRoomsToolkit:
    """The toolkit of a server. Rooms of the environment or the policy file stay the only ones."""
    from hms_active_rooms.gate.policy import ANY_ROOM, Policy
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

    environ = settings.environ()
    policy = Policy.from_env(environ)
    for room in rooms:
        try:
            if room != ANY_ROOM:
                parse_room_id(room)
        except InvalidCall as error:
            raise ConfigurationError(f"--room: {error}", hint="") from None
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
    return ActiveRoomsToolkit.from_env(
        environ=environ, policy=policy, journal=journal_of(settings), requester="server"
    )


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


def log_to_stderr() -> None:
    """Refused requests and trouble, one line each. Standard output may be the protocol."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
