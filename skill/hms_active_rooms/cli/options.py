"""The arguments and options that several commands share, and the words of their help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from hms_active_rooms.errors import InvalidCall

Result = TypeVar("Result")

Room = Annotated[str, typer.Argument(metavar="ROOM", help="Room id: 24 hex characters.")]
ActionId = Annotated[str, typer.Argument(metavar="ACTION", help="Action id; `actions` lists them.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, one document a line.")]
All = Annotated[
    bool,
    typer.Option(
        "--all", help="Print every record whole, as JSON Lines: redirect it to a file or a pipe."
    ),
]
JsonLines = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Journal = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The journal's URL (sqlite:///FILE), instead of HMS_JOURNAL. If no journal"
        " is there, send, remove, end, chat, mcp and serve create it; other commands end with an"
        " error.",
    ),
]
PolicyFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="Policy (TOML), instead of HMS_POLICY_FILE.")
]
Reason = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Why. The people in the room see it.")
]
Scene = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="classroom, webinar, arena, hostile, idle, or a .yaml file of your own.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        envvar="HMS_MODEL",
        help='A chat model as "provider:model" (extra "models"). Without it no language model'
        " is used: plain sentences become commands.",
    ),
]


def refuse_idle(ctx: typer.Context, beside: str, *names: str) -> None:
    """Before a command does something else than what these parameters are for (none: all it has).

    Raises:
        InvalidCall: one of them was typed, and would do nothing.
    """
    for option in ctx.command.params:
        source = ctx.get_parameter_source(option.name or "")
        typed = source is not None and source.name == "COMMANDLINE"
        if typed and (not names or option.name in names):
            raise InvalidCall(
                f"{option.opts[0]} does nothing with {beside}.",
                hint="Leave it out, or write it behind the command it is for.",
            )


def refuse_empty(given: Mapping[str, object]) -> None:
    """InvalidCall for a text of blanks or nothing: in a tool call "" is absent, and here it is a
    script's variable that holds nothing."""
    for name, value in given.items():
        if isinstance(value, str) and not value.strip():
            choice = ", or leave the option out" if name.startswith("--") else ""
            raise InvalidCall(f"The {name} is empty.", hint=f"Give some text{choice}.")


def spread(command: Callable[..., Result]) -> Callable[..., Result]:
    """The command with each dataclass among its parameters spread into options: one a field.

    So options that several commands share, and what is done with them, stand once.
    """
    groups: dict[str, type[Any]] = {}
    options: list[Parameter] = []
    hints = get_type_hints(command, include_extras=True)
    for parameter in signature(command).parameters.values():
        kind = hints[parameter.name]
        if isinstance(kind, type) and is_dataclass(kind):
            groups[parameter.name] = kind
            options += signature(kind).parameters.values()
            hints |= get_type_hints(kind, include_extras=True)
        else:
            options.append(parameter)

    @wraps(command)
    def called(**given: Any) -> Result:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        return command(**given)

    typed = [option.replace(annotation=hints[option.name]) for option in options]
    called.__dict__["__signature__"] = Signature(typed)
    called.__annotations__ = {option.name: option.annotation for option in typed}
    return called
