"""The arguments and options that several commands share, and the words of their help."""

from __future__ import annotations

from typing import Annotated

import typer

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
PolicyFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="Policy (TOML), instead of HMS_POLICY_FILE.")
]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Shown to the others.")]
Scene = Annotated[
    str, typer.Option(metavar="NAME", help="classroom, webinar, arena, hostile or idle.")
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help='A chat model as "provider:model" (extra "models"); without it a small one'
        " that works offline.",
    ),
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
