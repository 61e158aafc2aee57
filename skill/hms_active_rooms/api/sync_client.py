"""The same seven operations for synchronous code: each call runs on the background loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from hms_active_rooms.api.client import DEADLINE_S, ActiveRoomsClient
from hms_active_rooms.blocking import run

if TYPE_CHECKING:
    from hms_active_rooms.api.transport import TransportChoice

P = ParamSpec("P")
R = TypeVar("R")


def _blocking(
    method: Callable[Concatenate[ActiveRoomsClient, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[SyncActiveRoomsClient, P], R]:
    @wraps(method)
    def call(self: SyncActiveRoomsClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return run(method(self.client, *args, **kwargs))

    return call


class SyncActiveRoomsClient:
    """Synchronous face of an `ActiveRoomsClient`; arguments, answers and errors are the same.

    Args:
        client: the client that does the work; closed together with this one.
    """

    def __init__(self, client: ActiveRoomsClient) -> None:
        self.client = client

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] = os.environ,
        *,
        deadline_s: float = DEADLINE_S,
        transport: TransportChoice | None = None,
    ) -> Self:
        """See `ActiveRoomsClient.from_env`."""
        made = ActiveRoomsClient.from_env(environ, deadline_s=deadline_s, transport=transport)
        return cls(made)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See `ActiveRoomsClient.aclose`."""
        run(self.client.aclose)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.client.base_url!r})"

    retrieve_active_room = _blocking(ActiveRoomsClient.retrieve_active_room)
    list_peers = _blocking(ActiveRoomsClient.list_peers)
    retrieve_peer = _blocking(ActiveRoomsClient.retrieve_peer)
    update_peer = _blocking(ActiveRoomsClient.update_peer)
    send_message = _blocking(ActiveRoomsClient.send_message)
    remove_peers = _blocking(ActiveRoomsClient.remove_peers)
    end_room = _blocking(ActiveRoomsClient.end_room)
