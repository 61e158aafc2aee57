"""All commands, in the order in which the help lists them."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from hms_active_rooms import __version__
from hms_active_rooms.cli import actions, chat, options, rooms, serving, skill

_EPILOG: Final = """\b
Exit codes:
  0  the command did what was asked, or Ctrl-C or a signal ended a server
  1  the command failed; what was executed, if anything, is in the error
  2  wrong argument, setting or name, or `approve` without a terminal
  3  the change was not sent: it waits for a person to approve it
  4  not done: rejected, refused by the policy, too late, or everybody left
  5  the change may have been executed, and nobody knows whether it was
  129, 130, 143  Ctrl-C or a signal ended a command that is no server
  141  the program that read the output went away

\b
Settings (environment):
  HMS_ACCESS_KEY and HMS_SECRET   the app's key pair
  HMS_MANAGEMENT_TOKEN            a management token, in place of a key pair
  HMS_BASE_URL                    address of the API, or of a simulator
  HMS_JOURNAL                     URL of the journal, which holds all actions
                                  (default: a file in your state directory)
  HMS_JOURNAL_KEY                 a secret, 32+ characters; signs the journal
  HMS_POLICY_FILE                 a TOML file that says what is allowed
  HMS_POLICY_*                    one policy setting, e.g. HMS_POLICY_ROOMS
  HMS_MODEL                       the chat model of `chat` and `demo`
  HMS_SERVER_TOKEN                the token that clients of a server must send
                                  (others: skill/references/serve.md)
  HMS_DEBUG=1                     show the traceback of an unexpected error
  NO_COLOR                        no colours, no spinner
"""


def _group(**settings: Any) -> typer.Typer:
    context = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(rich_markup_mode=None, context_settings=context, **settings)


app = _group(
    name="hms-active-rooms",
    help="Look into and moderate live 100ms rooms. A change is sent only after a person says yes,"
    " unless a policy lets it go without a question.",
    epilog=_EPILOG,
    pretty_exceptions_enable=False,
)
_actions = _group(invoke_without_command=True)
_chats = _group(invoke_without_command=True)
_skill = _group(help="Install the Agent Skill, for agents that have a shell.")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hms-active-rooms {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


app.add_typer(_actions, name="actions")
app.add_typer(_chats, name="chats")
app.add_typer(_skill, name="skill")
for command in (
    *(rooms.room, rooms.peers),
    *(rooms.send, rooms.remove, rooms.end),
    *(actions.approve, actions.reject),
    *(chat.chat, chat.demo, serving.sim),
    *(serving.mcp, serving.serve),
):
    app.command(cls=options.Command)(options.spread(command))
_actions.callback()(actions.actions)
_actions.command("show", cls=options.Command)(actions.show)
_actions.command("export", cls=options.Command)(actions.export)
_actions.command("prune", cls=options.Command)(actions.prune)
_chats.callback()(chat.chats)
_chats.command("prune", cls=options.Command)(chat.prune)
_skill.command(cls=options.Command)(skill.install)
