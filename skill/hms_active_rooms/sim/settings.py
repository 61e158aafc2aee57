"""What a simulated account is set up with: credentials, delays, and the switches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ACCESS_KEY: Final = "sim-access-key"
"""The access key of every scene."""

SECRET: Final = "sim-secret"  # noqa: S105 - guards nothing but a simulation
"""The app secret of every scene. At least 32 bytes, or JWT libraries warn about the key."""

ACCOUNT_ID: Final = "627cdddff2e4e30487862ad1"
APP_ID: Final = "627cdddff2e4e30487862ad2"


@dataclass(frozen=True, slots=True)
class Settings:
    """How the simulated account behaves where the real one is unknown or slow.

    Attributes:
        removal_delay_s: from "peer remove request submitted" until the peer is gone.
        ending_delay_s: from "session is ending" until the session is closed.
        ghost_s: how long a peer stays listed after its connection broke (documented: 60 s).
        foreign_room_status: the answer for a room id that is not in the account. 403 is
            recorded on sibling endpoints, 404 is what the docs' status list suggests.
        max_message_bytes: longest message in UTF-8 bytes. 4 KB is documented for client
            SDK events; that it holds for the server API is assumed.
        token_leeway_s: clock difference forgiven when a token is checked.
    """

    removal_delay_s: float = 0.3
    ending_delay_s: float = 0.3
    ghost_s: float = 60.0
    foreign_room_status: Literal[403, 404] = 403
    max_message_bytes: int = 4096
    token_leeway_s: float = 5.0
    access_key: str = ACCESS_KEY
    secret: str = SECRET
    account_id: str = ACCOUNT_ID
    app_id: str = APP_ID
