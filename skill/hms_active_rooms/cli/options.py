"""Arguments and options that several commands have, and checks of what was typed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Signature, signature
from typing import Annotated, Any, TypeVar

from typer import Argument, Context, Option
from typer.core import TyperCommand, TyperOption

from hms_active_rooms.api.ids import refuse_unstorable
from hms_active_rooms.cli import screen
from hms_active_rooms.errors import InvalidCall

Found = TypeVar("Found")


def refuse_a_terminal(wanted: bool) -> bool:
    """Return `wanted`, the value of `--all`. Raises InvalidCall if true and standard output is a terminal."""
    if wanted and screen.is_terminal(sys.stdout):
        raise InvalidCall(
            "--all prints strangers' text unchanged, which could control your terminal.",
            hint="Redirect the output to a file (> FILE) or a pipe (| jq .).",
        )
    return wanted


Room = Annotated[str, Argument(metavar="ROOM", help="Room id: 24 hex characters.")]
ActionId = Annotated[str, Argument(metavar="ACTION", help="Action id; `actions` lists them.")]
Json = Annotated[bool, Option("--json", help="Print JSON, one document per line.")]
All = Annotated[
    bool,
    Option(
        "--all",
        callback=refuse_a_terminal,
        help="Print everything that 100ms sent, as JSON lines. Only to a file or pipe.",
    ),
]
JournalUrl = Annotated[
    str | None,
    Option(metavar="URL", help="Database of actions, e.g. sqlite:///FILE. Default: HMS_JOURNAL."),
]
PolicyFile = Annotated[
    str | None, Option(metavar="FILE", help="Policy file (TOML). Default: HMS_POLICY_FILE.")
]
Reason = Annotated[str | None, Option(metavar="TEXT", help="The reason, shown in the room.")]
Scene = Annotated[
    str, Option(metavar="NAME", help="classroom, webinar, arena, hostile, idle, or a .yaml file.")
]
Model = Annotated[
    str | None,
    Option(
        metavar="NAME",
        envvar="HMS_MODEL",
        help='A chat model, as "provider:model". Default: the offline model "commands".',
    ),
]


class Command(TyperCommand):
    """A command that refuses an option given twice. Typer would drop the first value unseen."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = self.make_parser(ctx).parse_args(list(args))[2]
        once = [p for p in given if isinstance(p, TyperOption) and not (p.multiple or p.is_flag)]
        for option in once:
            if once.count(option) > 1:
                raise InvalidCall(f"{option.opts[0]} is given twice.", hint="Give it once.")
        return super().parse_args(ctx, args)


def refuse_idle(ctx: Context, beside: str, *names: str) -> None:
    """Raise InvalidCall if the user typed an option that has no effect together with `beside`.

    Args:
        ctx: the command that was called.
        beside: the name of another option, or of a subcommand.
        names: the options to check. Without names, all options of the command are checked.
    """
    for option in ctx.command.params:
        source = ctx.get_parameter_source(option.name or "")
        if source and source.name == "COMMANDLINE" and (not names or option.name in names):
            also = "" if beside.startswith("-") else f", or put it after `{beside}`"
            text = f"{option.opts[0]} does nothing with {beside}."
            raise InvalidCall(text, hint=f"Leave it out{also}.")


def refuse_empty(given: Mapping[str, object]) -> None:
    """Raise InvalidCall for a blank text, as from an unset variable. `given` has the texts, by option."""
    for name, value in given.items():
        if isinstance(value, str) and not value.strip():
            without = f", or leave out {name}" if name.startswith("-") else ""
            raise InvalidCall(f"The {name} is empty.", hint=f"Give a text{without}.")


def refuse_bytes(given: Mapping[str, object]) -> None:
    """Raise InvalidCall if a text is blank or not UTF-8. `given` has the texts, by option."""
    refuse_empty(given)
    for name, value in given.items():
        if isinstance(value, str):
            refuse_unstorable(name, value)


def spread(command: Callable[..., Found]) -> Callable[..., Found]:
    """Return the command for typer. Each field of a dataclass parameter becomes an option of its own."""
    own = signature(command, eval_str=True).parameters.values()
    kinds = [(p.name, p.annotation) for p in own if isinstance(p.annotation, type)]
    groups = {name: kind for name, kind in kinds if is_dataclass(kind)}
    options = [parameter for parameter in own if parameter.name not in groups]
    for kind in groups.values():
        options += signature(kind, eval_str=True).parameters.values()

    @wraps(command)
    def called(**given: Any) -> Found:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        return command(**given)

    called.__dict__["__signature__"] = Signature(options)
    called.__annotations__ = {option.name: option.annotation for option in options}
    return called
