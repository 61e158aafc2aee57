"""Programs and approvers that speak REST, in process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from hms_active_rooms import ActiveRoomsToolkit
from hms_active_rooms.serve.app import create_app
from hms_active_rooms.serve.guard import Guard, GuardSettings, guard_settings
from hms_active_rooms.serve.rest import rest_entry

CALLER = "caller-token-0123456789"
ADA = "ada-token-0123456789abc"
BOB = "bob-token-0123456789abc"

APPROVERS = {"ada": ADA, "bob": BOB}
GUARDED = guard_settings("127.0.0.1", callers={"": CALLER}, approvers=APPROVERS)
OPEN = guard_settings("127.0.0.1")
"""On loopback, without a token."""


def rest_app(
    toolkit: ActiveRoomsToolkit,
    *,
    guard: GuardSettings = GUARDED,
    page: str = "",
) -> Guard:
    return create_app(toolkit, rest_entry(toolkit, page), guard=guard)


class Client(httpx.AsyncClient):
    """One program, by its token."""

    async def tool(self, name: str, arguments: Any, **headers: str) -> httpx.Response:
        told = {key.replace("_", "-"): value for key, value in headers.items()}
        return await self.post(f"/v1/tools/{name}", json=arguments, headers=told)

    async def approve(self, action: Mapping[str, Any], **more: Any) -> httpx.Response:
        """Approve what the action's resource shows now."""
        where = f"/v1/actions/{action['action_id']}"
        shown = (await self.get(where)).json()
        return await self.post(
            f"{where}/approve", json={"digest": shown["action"]["digest"], **more}
        )

    async def reject(self, action: Mapping[str, Any], reason: str = "") -> httpx.Response:
        return await self.post(f"/v1/actions/{action['action_id']}/reject", json={"reason": reason})


@asynccontextmanager
async def speaking(app: Any, *tokens: str) -> AsyncIterator[list[Client]]:
    """A client per token."""
    transport = httpx.ASGITransport(app=app)
    yield [
        Client(
            transport=transport,
            base_url="http://127.0.0.1:9090",
            headers={"authorization": f"Bearer {token}"} if token else {},
        )
        for token in tokens
    ]


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem, which is what was expected and says that nothing was executed."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = response.json()
    assert (told["status"], told["code"], told["executed"]) == (status, code, "no")
    assert told["type"].endswith(f":{code}")
    assert told["title"]
    return told
