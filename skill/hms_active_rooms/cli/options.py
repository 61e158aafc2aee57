"""The arguments and options that several commands share, and the words of their help."""

from __future__ import annotations

from typing import Annotated

import typer

Room = Annotated[str, typer.Argument(metavar="ROOM", help="Room id: 24 hex characters.")]
ActionId = Annotated[str, typer.Argument(metavar="ACTION", help="Action id; `actions` lists them.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
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
        help="The journal's URL (sqlite:///FILE), instead of HMS_JOURNAL. If there is none,"
        " send, remove, end, chat, mcp and serve make it; the others end with an error.",
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
        help='A chat model as "provider:model" (extra "models"). Without it no language model'
        " is used: plain sentences become commands.",
    ),
]
Rooms = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ROOM",
        help="A room the tools may act on (repeatable); needed, unless the policy names rooms.",
    ),
]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[
    int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="Also accept this Host header (repeatable). Needs HMS_SERVER_TOKEN(S)."
    ),
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL",
        help="Also accept this browser Origin, e.g. https://rooms.example (repeatable).",
    ),
]
NoElicitation = Annotated[
    bool,
    typer.Option(
        "--no-elicitation",
        help="Never ask through MCP clients; people decide on the page, by REST or in a terminal.",
    ),
]
