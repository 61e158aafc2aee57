"""The settings of a command, and what they open: policy, journal and gate."""

from __future__ import annotations

import gc
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hms_active_rooms import blocking
from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.blocking import T, Work
from hms_active_rooms.cli import options, screen
from hms_active_rooms.environment import refuse_unknown
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.untrusted import quoted, storable

if TYPE_CHECKING:
    from hms_active_rooms.gate.gate import Gate
    from hms_active_rooms.gate.journal import Journal
    from hms_active_rooms.gate.journal.records import Action
    from hms_active_rooms.gate.policy import Policy


@dataclass(frozen=True)
class Settings:
    """Options of the commands that change rooms."""

    json: options.Json = False
    journal: options.JournalUrl = None
    policy: options.PolicyFile = None

    def environ(self) -> dict[str, str]:
        """The environment, with the options in place of their variables. Raises ConfigurationError
        for an unknown variable that begins with `HMS_`."""
        refuse_unknown(os.environ)
        options.refuse_empty({"--journal": self.journal, "--policy": self.policy})
        given = {"HMS_JOURNAL": self.journal, "HMS_POLICY_FILE": self.policy}
        return {**os.environ, **{name: value for name, value in given.items() if value}}

    def command(self, *words: str) -> str:
        """Return the command line `hms-active-rooms WORDS`, with the --journal and --policy of this
        command. A URL that may have a password is left out."""
        url, policy = self.journal or "", self.policy if words[0] != "reject" else None
        shown = url if url.startswith("sqlite") else "URL"
        also = [*(("--journal", shown) if url else ()), *(("--policy", policy) if policy else ())]
        return shlex.join(("hms-active-rooms", *words, *also))

    @property
    def forgotten(self) -> bool:
        """Whether the journal is in memory, and so is lost when this command ends."""
        url = self.journal or os.environ.get("HMS_JOURNAL") or "default"
        return url.removeprefix("sqlite:///") == ":memory:"


def room_policy(environ: Mapping[str, str], room: str) -> Policy:
    """The policy that the environment sets. If it names no rooms, it allows `room`."""
    from hms_active_rooms.gate.policy import Policy

    room_id = parse_room_id(room)
    policy = Policy.from_env(environ)
    return policy if policy.rooms else Policy.from_env(environ, rooms=(room_id,))


def journal_of(settings: Settings, *, create: bool = True) -> Journal:
    """Open the journal, and tell the person if it is new. With `create=False`, raise ConfigurationError if
    there is none."""
    from hms_active_rooms.gate.journal import Journal

    journal = Journal(settings.environ().get("HMS_JOURNAL") or None, create=create)
    if create and journal.is_read_only:
        raise ConfigurationError(
            f"The journal {journal.place} is read-only, so changes cannot be recorded.",
            hint="Make it writable, or name another by HMS_JOURNAL or --journal (without mode=ro).",
        )
    if journal.begun:
        screen.err(f"Started a new journal at {journal.place}.")
    return journal


def open_journal(settings: Settings) -> closing[Journal]:
    """The existing journal, closed at the end of the `with` block."""
    return closing(journal_of(settings, create=False))


def existing(journal: Journal, action_id: str) -> Action:
    """The action with this id (or link to the approvals page). Raises InvalidCall if there is none."""
    wanted = storable(action_id.strip().lower()).rpartition("#action=")[2]
    if (action := journal.get(wanted)) is not None:
        return action
    raise InvalidCall(
        f"There is no action {quoted(action_id)} in the journal {journal.place}.",
        hint="List the actions: hms-active-rooms actions (with the same --journal or HMS_JOURNAL)",
    )


@contextmanager
def open_gate(settings: Settings, room: str) -> Iterator[Gate]:
    """A context with a gate for `room`. Its end closes the journal and the connections to 100ms."""
    from hms_active_rooms.api.client import ActiveRoomsClient
    from hms_active_rooms.gate.gate import Gate

    environ = settings.environ()
    policy = room_policy(environ, room)
    client = ActiveRoomsClient.from_env(environ)
    with closing(journal_of(settings)) as journal:
        try:
            yield Gate(client, policy, journal)
        finally:
            blocking.run(client.aclose)


def read_room(settings: Settings, room: str, look: Callable[[Gate], Work[T]]) -> T:
    """Run `look(gate)`, which reads `room`, and return its result. Nothing is recorded."""
    with (
        open_gate(replace(settings, journal=":memory:"), room) as gate,
        screen.progress("Reading the room", sys.stderr),
    ):
        gc.freeze()  # a full room makes many objects; the collector now skips all older ones
        return blocking.run(look(gate))


def person_here() -> str:
    """The name of the account that runs this process. (An environment variable could give any other name.)"""
    if sys.platform == "win32":
        return os.getlogin()
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container
        return f"uid {os.getuid()}"
