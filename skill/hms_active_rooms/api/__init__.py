"""A typed client for the 100ms Active Rooms API. `capability.yaml` lists the API's operations."""

from hms_active_rooms.api.auth import SignedTokens as SignedTokens
from hms_active_rooms.api.auth import StaticToken as StaticToken
from hms_active_rooms.api.auth import TokenSource as TokenSource
from hms_active_rooms.api.client import ActiveRoomsClient as ActiveRoomsClient
from hms_active_rooms.api.client import SyncActiveRoomsClient as SyncActiveRoomsClient
from hms_active_rooms.api.ids import parse_peer_id as parse_peer_id
from hms_active_rooms.api.ids import parse_peer_ref as parse_peer_ref
from hms_active_rooms.api.ids import parse_room_id as parse_room_id
from hms_active_rooms.api.models import Acknowledgement as Acknowledgement
from hms_active_rooms.api.models import ActiveRoom as ActiveRoom
from hms_active_rooms.api.models import Peer as Peer
from hms_active_rooms.api.models import PeerDetails as PeerDetails
from hms_active_rooms.api.models import Peers as Peers
from hms_active_rooms.api.models import Session as Session
from hms_active_rooms.api.models import Track as Track
from hms_active_rooms.api.wire import Backoff as Backoff
from hms_active_rooms.api.wire import Timeouts as Timeouts
