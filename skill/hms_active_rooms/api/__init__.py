"""The typed 100ms Active Rooms client: what the contract consumes."""

from hms_active_rooms.api.auth import SignedTokens, StaticToken, TokenSource
from hms_active_rooms.api.client import ActiveRoomsClient, SyncActiveRoomsClient
from hms_active_rooms.api.ids import parse_peer_id, parse_peer_ref, parse_room_id
from hms_active_rooms.api.models import (
    Acknowledgement,
    ActiveRoom,
    Peer,
    PeerDetails,
    Peers,
    Session,
    Track,
    parse_timestamp,
)
from hms_active_rooms.api.wire import Backoff, Timeouts

__all__ = [
    "Acknowledgement",
    "ActiveRoom",
    "ActiveRoomsClient",
    "Backoff",
    "Peer",
    "PeerDetails",
    "Peers",
    "Session",
    "SignedTokens",
    "StaticToken",
    "SyncActiveRoomsClient",
    "Timeouts",
    "TokenSource",
    "Track",
    "parse_peer_id",
    "parse_peer_ref",
    "parse_room_id",
    "parse_timestamp",
]
