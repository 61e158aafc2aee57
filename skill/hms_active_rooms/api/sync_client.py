"""The same seven operations for synchronous code: each call runs on the background loop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hms_active_rooms.api.client import DEADLINE_S, ActiveRoomsClient
from hms_active_rooms.api.models import Acknowledgement, ActiveRoom, Peer, PeerDetails
from hms_active_rooms.blocking import run

if TYPE_CHECKING:
    from hms_active_rooms.api.transport import TransportChoice


class SyncActiveRoomsClient:
    """Synchronous face of an `ActiveRoomsClient`; arguments, answers and errors are the same.

    Args:
        client: the client that does the work; closed together with this one.
    """

    def __init__(self, client: ActiveRoomsClient) -> None:
        self._client = client

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """See `ActiveRoomsClient.aclose`."""
        run(self._client.aclose)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._client.base_url!r})"

    def retrieve_active_room(self, room_id: str, *, deadline_s: float | None = None) -> ActiveRoom:
        """See `ActiveRoomsClient.retrieve_active_room`."""
        return run(self._client.retrieve_active_room(room_id, deadline_s=deadline_s))

    def list_peers(
        self,
        room_id: str,
        *,
        user_id: str | None = None,
        role: str | None = None,
        deadline_s: float | None = None,
    ) -> tuple[Peer, ...]:
        """See `ActiveRoomsClient.list_peers`."""
        return run(
            self._client.list_peers(room_id, user_id=user_id, role=role, deadline_s=deadline_s)
        )

    def retrieve_peer(
        self, room_id: str, peer_id: str, *, deadline_s: float | None = None
    ) -> PeerDetails:
        """See `ActiveRoomsClient.retrieve_peer`."""
        return run(self._client.retrieve_peer(room_id, peer_id, deadline_s=deadline_s))

    def update_peer(
        self,
        room_id: str,
        peer_id: str,
        *,
        name: str | None = None,
        role: str | None = None,
        metadata: str | None = None,
        deadline_s: float | None = None,
    ) -> PeerDetails:
        """See `ActiveRoomsClient.update_peer`."""
        return run(
            self._client.update_peer(
                room_id, peer_id, name=name, role=role, metadata=metadata, deadline_s=deadline_s
            )
        )

    def send_message(
        self,
        room_id: str,
        message: str,
        *,
        peer_id: str | None = None,
        role: str | None = None,
        type: str | None = None,
        deadline_s: float | None = None,
    ) -> Acknowledgement:
        """See `ActiveRoomsClient.send_message`."""
        return run(
            self._client.send_message(
                room_id, message, peer_id=peer_id, role=role, type=type, deadline_s=deadline_s
            )
        )

    def remove_peers(
        self,
        room_id: str,
        *,
        peer_id: str | None = None,
        role: str | None = None,
        reason: str | None = None,
        deadline_s: float | None = None,
    ) -> Acknowledgement:
        """See `ActiveRoomsClient.remove_peers`."""
        return run(
            self._client.remove_peers(
                room_id, peer_id=peer_id, role=role, reason=reason, deadline_s=deadline_s
            )
        )

    def end_room(
        self,
        room_id: str,
        *,
        reason: str | None = None,
        lock: bool = False,
        deadline_s: float | None = None,
    ) -> Acknowledgement:
        """See `ActiveRoomsClient.end_room`."""
        return run(self._client.end_room(room_id, reason=reason, lock=lock, deadline_s=deadline_s))
