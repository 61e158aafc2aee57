"""Plain Python, no agent and no graph: a tool asks by a callback.

python callback.py ROOM "Spam Bot"
"""

from __future__ import annotations

import asyncio
import sys

from hms_active_rooms import ActiveRoomsToolkit, ApprovalRequest, Approve, Policy, Reject


def confirm(request: ApprovalRequest) -> Approve | Reject:
    """Your way to ask. Whatever is no `Approve`, `Edit` or `Reject` counts as a no."""
    print(request.text)
    if input("Approve? ") == "yes":
        return request.approve(by="ada")
    return request.reject("the person said no", by="ada")


async def main(room_id: str, name: str) -> None:
    toolkit = ActiveRoomsToolkit.from_env(
        rooms=[room_id], policy=Policy(protected_roles={"teacher"}), confirm=confirm
    )
    tools = {tool.name: tool for tool in toolkit.get_tools()}
    peers = await toolkit.gate.peers(room_id)
    [peer] = [peer for peer in peers if peer.name == name]
    # The synchronous `invoke` does the same, from code without an event loop.
    arguments = {"room_id": room_id, "peer_id": peer.id}
    print(await tools["hms-remove-peers"].ainvoke(arguments))
    await toolkit.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
