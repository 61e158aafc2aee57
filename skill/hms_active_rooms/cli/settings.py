"""A gate, a journal or a policy from the environment and a command's options."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hms_active_rooms import blocking
from hms_active_rooms.api.ids import parse_room_id
from hms_active_rooms.cli import options, screen
from hms_active_rooms.environment import refuse_unknown
from hms_active_rooms.errors import ConfigurationError, InvalidCall
from hms_active_rooms.installing import how_to_install
from hms_active_rooms.untrusted import quoted, storable

if TYPE_CHECKING:
    from hms_active_rooms.gate.gate import Gate
    from hms_active_rooms.gate.journal import Journal
    from hms_active_rooms.gate.journal.records import Action
    from hms_active_rooms.gate.policy import Policy


@dataclass(frozen=True)
class Settings:
    """What a command was told, besides its arguments: options of the commands that change rooms.

    Attributes:
        json: results as JSON.
        journal: URL of the journal; None: `HMS_JOURNAL`, else the file in the state directory.
        policy: a TOML file; None: `HMS_POLICY_FILE`.
    """

    json: options.Json = False
    journal: options.Journal = None
    policy: options.PolicyFile = None

    def environ(self) -> dict[str, str]:
        """The environment, with the options in it.

        Raises:
            ConfigurationError: a variable that begins with `HMS_` and that nothing reads.
        """
        refuse_unknown(os.environ)
        given = {"HMS_JOURNAL": self.journal, "HMS_POLICY_FILE": self.policy}
        return {**os.environ, **{name: value for name, value in given.items() if value}}

    def command(self, *words: str) -> str:
        """A command to type elsewhere, which finds the same journal and policy."""
        url, policy = self.journal or "", self.policy if words[0] != "reject" else None
        shown = url if url.startswith("sqlite") else "URL"  # a server's may hold a password
        also = [*(("--journal", shown) if url else ()), *(("--policy", policy) if policy else ())]
        return shlex.join(("hms-active-rooms", *words, *also))

    @property
    def forgotten(self) -> bool:
        """Whether the journal ends with this command."""
        url = self.journal or os.environ.get("HMS_JOURNAL") or "default"
        return url.removeprefix("sqlite://").strip("/") in ("", ":memory:")


def room_policy(environ: Mapping[str, str], room: str) -> Policy:
    """The policy for a command about one room.

    Rooms named in the environment or the policy file stay the only ones; if none is
    named, the room the person typed is the one.

    Raises:
        InvalidCall: not a room id.
        ConfigurationError: a wrong setting.
    """
    from hms_active_rooms.gate.policy import Policy

    room_id = parse_room_id(room)
    policy = Policy.from_env(environ)
    return policy if policy.rooms else Policy.from_env(environ, rooms=(room_id,))


def journal_of(settings: Settings, *, create: bool = True) -> Journal:
    """The journal of a command; a person is told when it is a new one, as a mistyped path makes it.

    Args:
        settings: which journal.
        create: make it if there is none. Only what can change a room does; a command that looks
            at a journal must not show an empty one in place of the one that was meant.
    """
    from hms_active_rooms.gate.journal import Journal

    journal = Journal(settings.environ().get("HMS_JOURNAL") or None, create=create)
    if journal.begun:
        screen.err(f"A new journal is begun at {journal.place}.")
    return journal


@contextmanager
def open_journal(settings: Settings, *, create: bool = False) -> Iterator[Journal]:
    """The journal alone: enough to look at actions and to reject one, without credentials."""
    journal = journal_of(settings, create=create)
    try:
        yield journal
    finally:
        journal.close()


def existing(journal: Journal, action_id: str) -> Action:
    """The row of an action.

    Raises:
        InvalidCall: there is none in this journal.
    """
    action = journal.get(storable(action_id.strip().lower()))
    if action is None:
        raise InvalidCall(
            f"There is no action {quoted(action_id)} in the journal {journal.place}.",
            hint="List them with: hms-active-rooms actions",
        )
    return action


@contextmanager
def open_gate(settings: Settings, room: str, *, only_reads: bool = False) -> Iterator[Gate]:
    """A gate for one room; one that only reads needs no journal.

    Raises:
        InvalidCall, ConfigurationError, JournalError: before anything is asked or sent.
    """
    from hms_active_rooms.api.client import ActiveRoomsClient
    from hms_active_rooms.gate.gate import Gate

    environ = settings.environ()
    policy = room_policy(environ, room)
    client = ActiveRoomsClient.from_env(environ)
    kept = Settings(journal=":memory:") if only_reads else settings
    with open_journal(kept, create=True) as journal:
        try:
            yield Gate(client, policy, journal)
        finally:
            blocking.run(client.aclose)


def person_here() -> str:
    """The account this process runs under, by the system and not by a variable anyone can set."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        # No such database (Windows), or a container's user without an entry in it.
        return os.environ.get("USERNAME") or f"uid {os.getuid() if hasattr(os, 'getuid') else '?'}"


@contextmanager
def extra(name: str, what: str, *modules: str) -> Iterator[None]:
    """Say which extra is missing when one of its modules cannot be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in modules:
            raise
        raise ConfigurationError(
            f"The {what} needs an extra: {how_to_install(name)}.", hint=""
        ) from None
