"""The commands that run a server until Ctrl-C: `mcp`, `serve` and `sim`."""

from __future__ import annotations

import asyncio
import logging
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from typer import Context, Option

from hms_active_rooms.cli import options, screen
from hms_active_rooms.cli.main import on_signals
from hms_active_rooms.cli.settings import Settings, journal_of
from hms_active_rooms.cli.skill import files
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.installing import extra
from hms_active_rooms.untrusted import escaped, quoted

if TYPE_CHECKING:
    from hms_active_rooms.serve.guard import GuardSettings
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

URL_VARIABLE: Final = "HMS_SERVER_URL"  # the address for others, if not the one it listens on

_EXTRA: Final = ("fastapi", "mcp", "mcp_types", "starlette", "uvicorn")


@dataclass(frozen=True)
class Where:
    """Options of the commands that serve tools."""

    room: Annotated[
        list[str] | None,
        Option(metavar="ROOM", help="Allow this room (repeatable). Default: the policy's rooms."),
    ] = None
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 9090
    allow_host: Annotated[
        list[str] | None, Option(metavar="NAME", help="Also accept this Host header (repeatable).")
    ] = None
    no_elicitation: Annotated[
        bool,
        Option(
            "--no-elicitation",
            help="Never ask through an MCP client. A person decides by `approve`, or on the page of `serve`.",
        ),
    ] = False


def mcp(
    ctx: Context,
    where: Where,
    settings: Settings,
    stdio: Annotated[
        bool, Option("--stdio", help="Serve one client, on standard input and output.")
    ] = False,
) -> None:
    """Serve the tools to MCP clients, until Ctrl-C. Asks a person before a change, unless the policy
    says otherwise.

    If you set HMS_SERVER_TOKEN, or HMS_SERVER_TOKENS ("name=token,name=token"), clients must send a
    bearer token. If neither is set, every program on this machine may call the tools, and a server
    that other machines can reach does not start."""
    with extra("mcp", "server", *_EXTRA):
        from hms_active_rooms.serve.mcp import build_server, serve_stdio
        from hms_active_rooms.serve.notify import notifying
    if not stdio:
        _listening(settings, where, people=None)
        return
    options.refuse_idle(ctx, "--stdio", "host", "port", "allow_host", "json")
    guard_from(settings, where)
    toolkit = open_toolkit(settings, where.room or ())
    notices = notifying(toolkit.gate, settings.environ())
    server = build_server(toolkit, guides=guides(), elicit=not where.no_elicitation)

    if sys.stdin.isatty():
        screen.err("An MCP client has to write to standard input. Ctrl-C ends this server.")

    async def until_a_signal() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        # Ctrl-C in a client's terminal comes here too. A second signal is ignored.
        on_signals(lambda *_: task.cancelling() or loop.call_soon_threadsafe(task.cancel))
        await serve_stdio(server, toolkit.gate, [lambda: aclosing(toolkit), *notices])

    try:
        asyncio.run(until_a_signal())
    except (asyncio.CancelledError, KeyboardInterrupt):
        screen.err("The server was stopped.")


def serve(
    where: Where,
    settings: Settings,
    person: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="Print a login link for NAME (repeatable). Default: one link; the person types a name.",
        ),
    ] = None,
) -> None:
    """Serve MCP, REST and a page where people approve, until Ctrl-C.

    Prints a login link for the page. It works once. A restart prints a new link, and logs everybody out.

    If you set HMS_SERVER_TOKEN, or HMS_SERVER_TOKENS ("name=token,name=token"), programs must send a
    bearer token to call tools. If neither is set, every program on this machine may call them, and a
    server that other machines can reach does not start.

    To approve by REST, a program sends another token: HMS_APPROVER_TOKEN or HMS_APPROVER_TOKEN_<NAME>."""
    with extra("serve", "server", *_EXTRA):
        import hms_active_rooms.serve.mcp
        import hms_active_rooms.serve.rest  # noqa: F401 - brings FastAPI, which `mcp` does without
    _listening(settings, where, people=person or ())


def _listening(settings: Settings, where: Where, *, people: Sequence[str] | None) -> None:
    """Serve MCP over HTTP until Ctrl-C. Unless `people` is None, also serve REST and the approvals
    page. Print a login link for each name in `people`, or one link if there is none."""
    from hms_active_rooms.serve import app
    from hms_active_rooms.serve.mcp import build_server, entry
    from hms_active_rooms.serve.notify import notifying
    from hms_active_rooms.serve.page.routes import PATH, Page, person_name

    names = [person_name(name) for name in people or ()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InvalidCall(f"--person names {quoted(twice[0])} twice.", hint="Give each name once.")
    environ = settings.environ()
    guard = guard_from(settings, where, own_login=(PATH,) if people is not None else ())
    toolkit = open_toolkit(settings, where.room or ())
    elicit, allowed = not where.no_elicitation, list(toolkit.gate.policy.rooms)
    listener = app.listen(where.host, where.port)
    bound = app.address(listener)
    base = reached_at(bound, where, environ)
    page = Page(toolkit) if people is not None else None
    page_url = base + PATH if page else ""
    entries = [
        app.Entry(lifespan=lambda: aclosing(toolkit)),
        *(app.Entry(lifespan=each) for each in notifying(toolkit.gate, environ, page_url)),
        entry(build_server(toolkit, page=page_url, guides=guides(), elicit=elicit)),
    ]
    if page:
        from hms_active_rooms.serve.rest import rest_entry

        entries += [rest_entry(toolkit, page_url), page.entry]
    server = app.Server(app.create_app(toolkit, *entries, guard=guard))
    on_signals(server.handle_exit)  # uvicorn does not handle SIGHUP, which a closed terminal sends
    with listener:  # a request that comes at once waits in the listener's queue
        logins = {name: page.login_link(base, name) for name in names or [""]} if page else {}
        if settings.json:
            told: dict[str, object] = {"mcp": f"{base}/mcp", "bound": bound, "rooms": allowed}
            told["token"] = bool(guard.callers)
            if page:
                told |= {"page": page_url, "rest": f"{base}/v1", "approvers": len(guard.approvers)}
                told |= {"logins": logins}
            screen.document(told)
        else:
            token = "each client needs a bearer token" if guard.callers else "no token needed here"
            listens = f" Listens at {bound}." if base != bound else ""
            screen.err(f"Rooms: {', '.join(allowed)}.{listens}")
            screen.err(f"MCP at {base}/mcp, {token}.")
            if page:
                approvers = len(guard.approvers) or "none"
                screen.err(f"REST at {base}/v1, {token}. Approvers by REST: {approvers}.")
            for name, link in logins.items():
                whose = f"for {quoted(name)}" if name else "for one person"
                screen.err(f"Approvals page {whose} (the link works once): {link}")
            screen.err("Ctrl-C ends it.")
        if not guard.callers:
            stops = (
                " An MCP client may also approve in its user's place; --no-elicitation stops that."
            )
            screen.err(
                "Warning: without HMS_SERVER_TOKEN any program on this machine may call the tools."
                f"{stops if elicit else ''}"
            )
        server.run(sockets=[listener])


def guard_from(settings: Settings, where: Where, own_login: tuple[str, ...] = ()) -> GuardSettings:
    """What the server accepts, by the options and the environment. `own_login` is as in `GuardSettings`."""
    from hms_active_rooms.serve import guard

    environ = settings.environ()
    url = public_url(environ)
    return guard.guard_settings(
        where.host,
        callers=guard.caller_tokens(environ),
        approvers=guard.approver_tokens(environ),
        hosts=(*(where.allow_host or ()), *([guard.origin_host(url)] if url else ())),
        origins=(url,) if url else (),
        own_login=own_login,
    )


def public_url(environ: Mapping[str, str]) -> str:
    """`HMS_SERVER_URL`, as in an Origin header; "" if not set. Raises ConfigurationError if malformed."""
    from hms_active_rooms.serve.guard import origin_host

    given = environ.get(URL_VARIABLE, "")
    url = given.rstrip("/").lower()
    if given and not origin_host(url):
        raise ConfigurationError(
            f"{URL_VARIABLE} is {quoted(given, 100)}, which is not an address.",
            hint="Write it like https://rooms.example, without a path.",
        )
    # A browser leaves the default port out of Origin.
    return url.removesuffix(":443" if url.startswith("https:") else ":80")


def reached_at(bound: str, where: Where, environ: Mapping[str, str]) -> str:
    """The server's base URL for people and programs. `bound` is the address it listens on."""
    if url := public_url(environ):
        return url
    if where.host in ("", "0.0.0.0", "::") and where.allow_host:  # noqa: S104  # not bound here
        return f"http://{where.allow_host[0]}:{bound.rpartition(':')[2]}"
    return bound


def open_toolkit(settings: Settings, rooms: Sequence[str]) -> ActiveRoomsToolkit:
    """Make a server's toolkit. Raises ConfigurationError if no room is allowed, or if the policy does not
    allow one of `rooms`."""
    from hms_active_rooms.gate.policy import ANY_ROOM, Policy
    from hms_active_rooms.tools.toolkit import ActiveRoomsToolkit

    shape = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=shape)
    environ = settings.environ()
    if settings.forgotten:
        screen.err(
            "Warning: the journal is in memory. `approve` finds nothing in it, and it is lost at the end."
        )
    policy = Policy.from_env(environ)
    if rooms:
        named, policy = policy.rooms, Policy.from_env(environ, rooms=tuple(rooms))
        foreign = [room for room in policy.rooms if room not in named]
        if named and ANY_ROOM not in named and foreign:
            raise ConfigurationError(
                f"The policy does not name room {quoted(foreign[0])}.",
                hint="Leave out --room, or add the room to the policy.",
            )
    if not policy.rooms:
        raise ConfigurationError(
            "No room is allowed, so the tools cannot do anything.",
            hint="Name rooms by --room ROOM, HMS_POLICY_ROOMS, or `rooms` in the policy file.",
        )
    return ActiveRoomsToolkit.from_env(
        environ=environ, policy=policy, journal=journal_of(settings), requester="server"
    )


def guides() -> dict[str, str]:
    """The texts of SKILL.md and its references, by path. Empty if they are not installed."""
    with suppress(ConfigurationError):
        read = ("SKILL.md", "references/")
        return {path: text.decode() for path, text in files().items() if path.startswith(read)}
    return {}


@contextmanager
def simulator_errors() -> Iterator[None]:
    """A context that turns errors of the simulator, or of missing packages, into errors for the person."""
    with extra("sim", "simulator", "jwt", "uvicorn"):
        from hms_active_rooms.sim.scenes import SceneError
        from hms_active_rooms.sim.server import ServerError

        try:
            yield
        except SceneError as error:
            raise InvalidCall(f"The scene cannot be used: {escaped(str(error)[:500])}.") from None
        except ServerError as error:
            raise ConfigurationError(
                f"The simulator {error}.", hint="Give another --port. --port 0 takes any free port."
            ) from None


def sim(
    scene: options.Scene = "classroom",
    port: Annotated[int, Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8100,
    json: options.Json = False,
) -> None:
    """Run a simulated 100ms on this machine, until Ctrl-C."""
    with simulator_errors():
        from hms_active_rooms.sim.server import environment, running_sim

        with suppress(KeyboardInterrupt), running_sim(scene, port=port) as sim:
            token = sim.management_token()
            if json:
                told = {"base_url": sim.base_url, "control_url": sim.control_url}
                told |= {"room_id": sim.room_id, "scene": scene, "management_token": token}
                screen.document({**told, "environment": environment(sim)})
            else:
                screen.err(f"Simulated 100ms: {sim.base_url}, room {sim.room_id}. Ctrl-C ends it.")
                screen.err(f"To control joins, leaves and faults: {sim.control_url}/")
                screen.err("Paste this into another terminal:")
                for name, value in environment(sim).items():
                    line = f"export {name}={shlex.quote(value)}"
                    screen.out(f"$env:{name} = '{value}'" if sys.platform == "win32" else line)
                screen.err(f"A management token, for clients without the key pair: {token}")
            while True:
                time.sleep(3600)
