"""Every command's words: arguments, options and help. The bodies are imported when they run."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from hms_active_rooms import __version__
from hms_active_rooms.cli.exits import EPILOG
from hms_active_rooms.cli.settings import Settings

_CONTEXT: Final = {"help_option_names": ["-h", "--help"]}
_SETTINGS: Final = """\b
Settings (environment):
  HMS_MANAGEMENT_TOKEN            a management token, or instead of it
  HMS_ACCESS_KEY and HMS_SECRET   the app's key pair
  HMS_BASE_URL                    another address than 100ms, e.g. the simulator's
  HMS_JOURNAL                     URL of the journal (default: a file of this account)
  HMS_POLICY_FILE, HMS_POLICY_*   what is allowed: a TOML file, single settings
  HMS_DEBUG=1                     show the traceback of an unexpected error
  NO_COLOR                        no colours, no spinner
"""


class OutputClosedError(Exception):
    """Whoever read our output is gone."""


class Group(TyperGroup):
    """Lets `main` tell a closed output from other errors; Typer would end with 1 for it."""

    def invoke(self, ctx: Any) -> Any:
        """See Click."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise OutputClosedError from error


app = typer.Typer(
    name="hms-active-rooms",
    cls=Group,
    help="Look into and moderate live 100ms rooms. Whatever changes a room is shown to a person"
    " first, and runs once.",
    epilog=f"{EPILOG}\n{_SETTINGS}",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=_CONTEXT,
)
actions_app = typer.Typer(
    invoke_without_command=True,
    epilog=EPILOG,
    rich_markup_mode=None,
    context_settings=_CONTEXT,
)
app.add_typer(actions_app, name="actions")
skill_app = typer.Typer(
    help="The Agent Skill: SKILL.md for agents that work by command line.",
    rich_markup_mode=None,
    context_settings=_CONTEXT,
)
app.add_typer(skill_app, name="skill")

Room = Annotated[str, typer.Argument(metavar="ROOM", help="Room id: 24 hex characters.")]
Action = Annotated[str, typer.Argument(metavar="ACTION", help="Action id, see: actions.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
All = Annotated[
    bool,
    typer.Option("--all", help="Everything, one JSON object a line, to a file or a pipe."),
]
JsonLines = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Journal = Annotated[
    str | None, typer.Option(metavar="URL", help="Journal, instead of HMS_JOURNAL.")
]
Rooms = Annotated[
    list[str] | None, typer.Option(metavar="ROOM", help="A room it may touch; repeatable.")
]
Host = Annotated[str, typer.Option(help="Address to bind.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")]
AllowHost = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="Another name of it; needs a token.")
]
AllowOrigin = Annotated[
    list[str] | None, typer.Option(metavar="URL", help="Another address of its own pages.")
]
NoElicitation = Annotated[
    bool, typer.Option("--no-elicitation", help="Ask nobody through an MCP client.")
]
PolicyFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="Policy (TOML), instead of HMS_POLICY_FILE.")
]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Shown to the others.")]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help='A chat model as "provider:model" (extra "models"); without it a small one'
        " that works offline.",
    ),
]
Scene = Annotated[
    str, typer.Option(metavar="NAME", help="classroom, webinar, arena, hostile or idle.")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hms-active-rooms {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it and exit.")
    ] = False,
) -> None:
    """The group's own options."""


@app.command(epilog=EPILOG)
def room(room: Room, all: All = False, json: Json = False, policy: PolicyFile = None) -> None:
    """Show the running session of a room."""
    from hms_active_rooms.cli.reading import show_room, write_room

    settings = Settings(policy=policy)
    if all:
        write_room(room, settings)
    else:
        show_room(room, settings, as_json=json)


@app.command(epilog=EPILOG)
def peers(
    room: Room,
    role: Annotated[str | None, typer.Option(help="Only this role.")] = None,
    user_id: Annotated[str | None, typer.Option(help="Only this user id.")] = None,
    name: Annotated[str | None, typer.Option(help="Only names with this in them.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Rows to show: 100; with --json at most 50, as many as fit."),
    ] = None,
    offset: Annotated[int, typer.Option(help="Rows to skip.")] = 0,
    all: All = False,
    json: Json = False,
    policy: PolicyFile = None,
) -> None:
    """List who is in a room."""
    from hms_active_rooms.cli.reading import show_peers, write_peers

    settings = Settings(policy=policy)
    if all:
        paged = limit is not None or offset != 0
        write_peers(room, settings, role=role, user_id=user_id, name=name, paged=paged)
        return
    show_peers(
        room,
        settings,
        role=role,
        user_id=user_id,
        name=name,
        limit=limit,
        offset=offset,
        as_json=json,
    )


@app.command(epilog=EPILOG)
def send(
    room: Room,
    message: Annotated[str, typer.Argument(metavar="MESSAGE")],
    to: Annotated[
        str | None, typer.Option(metavar="PEER", help="One peer: its id, or its name.")
    ] = None,
    role: Annotated[str | None, typer.Option(help="Everyone with this role.")] = None,
    type: Annotated[str, typer.Option(help="Message type.")] = "chat",
    json: Json = False,
    journal: Journal = None,
    policy: PolicyFile = None,
) -> None:
    """Send a message: to everyone, or to a peer or a role. Asks first."""
    from hms_active_rooms.cli.changing import send as body

    settings = Settings(journal, policy)
    raise typer.Exit(body(room, message, settings, to=to, role=role, type=type, as_json=json))


@app.command(epilog=EPILOG)
def remove(
    room: Room,
    peer: Annotated[str | None, typer.Argument(metavar="PEER", help="Its id, or its name.")] = None,
    role: Annotated[str | None, typer.Option(help="Everyone with this role now.")] = None,
    reason: Reason = None,
    json: Json = False,
    journal: Journal = None,
    policy: PolicyFile = None,
) -> None:
    """Remove a peer, or everyone with a role. Asks first. They can join again."""
    from hms_active_rooms.cli.changing import remove as body

    settings = Settings(journal, policy)
    raise typer.Exit(body(room, settings, peer=peer, role=role, reason=reason, as_json=json))


@app.command(epilog=EPILOG)
def end(
    room: Room,
    reason: Reason = None,
    lock: Annotated[
        bool, typer.Option("--lock", help="Also disable the room: nobody can join.")
    ] = False,
    json: Json = False,
    journal: Journal = None,
    policy: PolicyFile = None,
) -> None:
    """End the running session for everyone. Asks first."""
    from hms_active_rooms.cli.changing import end as body

    settings = Settings(journal, policy)
    raise typer.Exit(body(room, settings, reason=reason, lock=lock, as_json=json))


@actions_app.callback()
def actions(
    ctx: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only this state, e.g. proposed.")] = None,
    room: Annotated[str | None, typer.Option(metavar="ROOM", help="Only this room.")] = None,
    limit: Annotated[int, typer.Option(help="Rows to show.")] = 20,
    refused: Annotated[bool, typer.Option("--refused", help="What servers refused.")] = False,
    json: Json = False,
    journal: Journal = None,
) -> None:
    """List actions: what was asked, decided and done. `actions show ID` for one."""
    from hms_active_rooms.cli.actions import show_actions, show_refused

    if refused:
        show_refused(Settings(journal), limit=limit, as_json=json)
    elif ctx.invoked_subcommand is None:
        show_actions(Settings(journal), state=state, room=room, limit=limit, as_json=json)


@actions_app.command("show", epilog=EPILOG)
def actions_show(
    action: Action,
    wait: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Look until it has ended, at most so long; the exit code then says how.",
        ),
    ] = None,
    all: All = False,
    json: Json = False,
    journal: Journal = None,
) -> None:
    """Show one action and everything that happened to it."""
    from hms_active_rooms.cli.actions import show_action

    code = show_action(action, Settings(journal), wait_s=wait, everything=all, as_json=json)
    raise typer.Exit(code)


@app.command(epilog=EPILOG)
def approve(
    action: Action, json: Json = False, journal: Journal = None, policy: PolicyFile = None
) -> None:
    """Decide on an action that waits, and run it. Needs a person at a terminal."""
    from hms_active_rooms.cli.actions import approve as body

    raise typer.Exit(body(action, Settings(journal, policy), as_json=json))


@app.command(epilog=EPILOG)
def reject(
    action: Action,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Told to whoever asked.")] = "",
    json: Json = False,
    journal: Journal = None,
) -> None:
    """Say no to an action that waits. Works without a terminal."""
    from hms_active_rooms.cli.actions import reject as body

    raise typer.Exit(body(action, Settings(journal), reason=reason, as_json=json))


@app.command(epilog=EPILOG)
def chat(
    room: Room,
    model: Model = None,
    thread: Annotated[
        str | None, typer.Option(metavar="NAME", help="Go on with this conversation.")
    ] = None,
    approve_from_stdin: Annotated[
        bool,
        typer.Option(
            "--approve-from-stdin", help="Take answers from a pipe too: whoever writes it decides."
        ),
    ] = False,
    json: JsonLines = False,
    journal: Journal = None,
    policy: PolicyFile = None,
) -> None:
    """Talk to the moderator about a room. It asks before it changes anything."""
    from hms_active_rooms.cli.chat import chat as body

    code = body(
        room,
        Settings(journal, policy),
        model=model,
        thread=thread,
        piped_answers=approve_from_stdin,
        as_json=json,
    )
    raise typer.Exit(code)


@app.command(epilog=EPILOG)
def demo(scene: Scene = "classroom", model: Model = None, json: JsonLines = False) -> None:
    """Talk to the moderator in a simulated room. Needs no account."""
    from hms_active_rooms.cli.demo import demo as body

    raise typer.Exit(body(scene, model=model, as_json=json))


@app.command(epilog=EPILOG)
def sim(
    scene: Scene = "classroom",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8100,
    json: Json = False,
) -> None:
    """Run a simulated 100ms on this machine, until Ctrl-C."""
    from hms_active_rooms.cli.simulator import simulate

    raise typer.Exit(simulate(scene, port, as_json=json))


@app.command(epilog=EPILOG)
def mcp(
    room: Rooms = None,
    host: Host = "127.0.0.1",
    port: Port = 9090,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Standard input and output instead of HTTP.")
    ] = False,
    allow_host: AllowHost = None,
    allow_origin: AllowOrigin = None,
    no_elicitation: NoElicitation = False,
    json: Json = False,
    journal: Journal = None,
    policy: PolicyFile = None,
) -> None:
    """Serve the tools to MCP clients, until Ctrl-C. Asks before it changes anything.

    HMS_SERVER_TOKEN is the bearer token clients must bring; needed beyond this machine.
    """
    from hms_active_rooms.cli.serving import Where
    from hms_active_rooms.cli.serving import mcp as body

    where = Where(host, port, allow_host or (), allow_origin or ())
    settings = Settings(journal, policy)
    elicit = not no_elicitation
    code = body(settings, where, rooms=room or (), stdio=stdio, elicit=elicit, as_json=json)
    raise typer.Exit(code)


@app.command(epilog=EPILOG)
def serve(
    room: Rooms = None,
    host: Host = "127.0.0.1",
    port: Port = 9090,
    person: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Print a login for them; several times. None: one login, no name."
        ),
    ] = None,
    allow_host: AllowHost = None,
    allow_origin: AllowOrigin = None,
    no_elicitation: NoElicitation = False,
    json: Json = False,
    journal: Journal = None,
    policy: PolicyFile = None,
) -> None:
    """Serve MCP, REST and a page where people approve, until Ctrl-C.

    HMS_SERVER_TOKEN: the bearer token of programs that call. HMS_APPROVER_TOKEN,
    HMS_APPROVER_TOKEN_<NAME>: those of programs that approve by REST; never the same.
    """
    from hms_active_rooms.cli.serving import Where, serve_all

    where = Where(host, port, allow_host or (), allow_origin or ())
    settings = Settings(journal, policy)
    told = {"rooms": room or (), "people": person or ()}
    raise typer.Exit(serve_all(settings, where, **told, elicit=not no_elicitation, as_json=json))


@skill_app.command("install", epilog=EPILOG)
def skill_install(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="Where skills are looked for: ~/.claude/skills.")
    ],
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace an install that was changed, or another copy of this skill."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Install the skill as DIR/hms-active-rooms.

    The package and a command that runs from there go with it.
    """
    from hms_active_rooms.cli.skill import install

    raise typer.Exit(install(folder, force=force, as_json=json))
