"""The five calls as plain tools: same names, words and schemas, straight to the API, no gate."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, ToolException

from hms_active_rooms.api.client import ActiveRoomsClient
from hms_active_rooms.api.models import Acknowledgement
from hms_active_rooms.errors import ActiveRoomsError
from hms_active_rooms.tools.arguments import ARGUMENTS, DEFAULT_ROWS
from hms_active_rooms.untrusted import quoted, resolve_short_id


def plain(tool: BaseTool, client: ActiveRoomsClient) -> StructuredTool:
    """The tool that does what it is told at once, and answers with the API's own JSON.

    As with our tools, the whole answer of the API is in the artifact.
    """

    async def call(**arguments: Any) -> tuple[str, dict[str, Any]]:
        try:
            answer, whole = await _answer(client, tool.name, arguments)
            return json.dumps(answer, ensure_ascii=False), whole
        except ActiveRoomsError as error:
            raise ToolException(error.for_model()) from None

    return StructuredTool(
        name=tool.name,
        description=tool.description,
        args_schema=ARGUMENTS[tool.name],
        coroutine=call,
        handle_tool_error=True,
        handle_validation_error=True,
        response_format="content_and_artifact",
    )


def described(tool: str, arguments: Mapping[str, Any], peers: Iterable[Mapping[str, Any]]) -> str:
    """What LangChain's middleware documents as a description: the call, and whose the id is."""
    lines = [f"Tool: {tool}", f"Args: {dict(arguments)}"]
    peer = str(arguments.get("peer_id") or "-")
    for row in peers:
        if row["id"].startswith(peer):
            texts = (quoted(row[key]) for key in ("name", "role", "user_id"))
            lines.append("  {}, role {}, user id {}, id {}".format(*texts, row["id"][:8]))
            break
    return "\n".join(lines)


def seen(messages: Sequence[BaseMessage]) -> Iterator[Mapping[str, Any]]:
    for message in reversed(messages):
        data = message.artifact if isinstance(message, ToolMessage) else None
        yield from data.get("peers", ()) if isinstance(data, dict) else ()


async def _answer(
    client: ActiveRoomsClient, tool: str, arguments: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    given = {name: value for name, value in arguments.items() if value is not None}
    room_id = given.pop("room_id")
    if tool == "hms-retrieve-active-room":
        room = (await client.retrieve_active_room(room_id)).model_dump()
        return room, room
    if tool == "hms-list-peers":
        peers = [peer.model_dump() for peer in await client.list_peers(room_id)]
        return _page(peers, given), {"room_id": room_id, "total": len(peers), "peers": peers}
    if peer_id := given.get("peer_id"):
        ids = [peer.id for peer in await client.list_peers(room_id)]
        found = resolve_short_id(peer_id, ids)
        given["peer_id"] = found[0] if len(found) == 1 else peer_id
    writes: dict[str, Callable[..., Awaitable[Acknowledgement]]] = {
        "hms-send-message": client.send_message,
        "hms-remove-peers": client.remove_peers,
        "hms-end-active-room": client.end_room,
    }
    done = (await writes[tool](room_id, **given)).model_dump()
    return done, done


def _page(peers: list[dict[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
    name = str(given.get("name", "")).casefold()
    same = {key: given[key] for key in ("role", "user_id") if key in given}
    fitting = [
        peer
        for peer in peers
        if name in peer["name"].casefold() and all(peer[key] == v for key, v in same.items())
    ]
    first = int(given.get("offset", 0))
    after = first + int(given.get("limit", DEFAULT_ROWS))
    page: dict[str, Any] = {"total": len(fitting), "peers": fitting[first:after]}
    return {**page, "next_offset": after} if after < len(fitting) else page
