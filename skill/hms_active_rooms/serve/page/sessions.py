"""One-time login links and the sessions they open. In memory: a restart ends them all.

A request belongs to a session with both its halves: the cookie, which no script can read, and the
key, which no other origin can read (cookies do not know ports). Only hashes are kept.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hms_active_rooms.errors import InvalidCall
from hms_active_rooms.serve.guard import hashed
from hms_active_rooms.untrusted import escaped

MAX_NAME_CHARS: Final = 60


@dataclass(frozen=True)
class Session:
    """One person who is logged in, by the name that the journal has; until when by `Logins`' clock."""

    name: str
    ends_at: float
    _id: bytes = field(repr=False)
    _key: bytes = field(repr=False)


@dataclass(frozen=True)
class Opened:
    """A new session and its two halves, told to the browser and to nobody else."""

    session: Session
    cookie: str = field(repr=False)
    key: str = field(repr=False)


class Logins:
    """Makes links, opens sessions with them, finds the session of a request. Both last so many
    seconds, by a clock that only grows."""

    def __init__(
        self, link_s: float, session_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._link_s = link_s
        self._session_s = session_s
        self._clock = clock
        self._links: dict[bytes, tuple[str, float]] = {}
        self._sessions: dict[bytes, Session] = {}

    def link(self, name: str = "") -> str:
        """The secret of a new link, for somebody by that name, or for whoever opens it."""
        self._forget()
        token = secrets.token_urlsafe(32)
        person = person_name(name) if name else ""
        self._links[hashed(token)] = (person, self._clock() + self._link_s)
        return token

    def forget_links(self) -> None:
        """No link made so far opens anything."""
        self._links.clear()

    def open(self, token: str, name: str) -> Opened:
        """Use a link up. The name is the link's, if it has one.

        Raises:
            InvalidCall: used, too old or never made; or not a name, and the link stays usable.
        """
        self._forget()
        link = self._links.get(hashed(token))
        if link is None:
            raise InvalidCall(
                "This login link was used already, or it is too old. Ask for a new one.", hint=""
            )
        person = link[0] or person_name(name)
        del self._links[hashed(token)]
        cookie, key = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        session = Session(person, self._clock() + self._session_s, hashed(cookie), hashed(key))
        self._sessions[session._id] = session
        return Opened(session, cookie, key)

    def find(self, cookie: str, key: str) -> Session | None:
        """The session that both halves belong to, while it lasts."""
        session = self._sessions.get(hashed(cookie))
        if session is None or not hmac.compare_digest(session._key, hashed(key)):
            return None
        return session if self.lasts(session) else None

    def lasts(self, session: Session) -> bool:
        """Whether it was not closed and is not too old."""
        return session._id in self._sessions and self._clock() < session.ends_at

    def close(self, session: Session) -> None:
        """End it."""
        self._sessions.pop(session._id, None)

    def _forget(self) -> None:
        now = self._clock()
        self._links = {k: v for k, v in self._links.items() if now < v[1]}
        self._sessions = {k: v for k, v in self._sessions.items() if now < v.ends_at}


def person_name(text: str) -> str:
    """A person's name as it is recorded: short, and all of it to be seen; else InvalidCall."""
    name = text.strip()
    if not name or len(name) > MAX_NAME_CHARS or escaped(name) != name:
        raise InvalidCall(
            f"A name has 1 to {MAX_NAME_CHARS} letters that can be seen, without quotes.", hint=""
        )
    return name
