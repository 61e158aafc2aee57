"""The toolkit: it holds the client and the gate, and makes the tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from inspect import iscoroutinefunction, signature
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict, PrivateAttr

from hms_active_rooms import blocking
from hms_active_rooms.errors import ConfigurationError

# These import the database, the HTTP client and LangGraph, so they are imported only when needed.
if TYPE_CHECKING:
    from hms_active_rooms.api.client import ActiveRoomsClient
    from hms_active_rooms.gate.approval import Confirm
    from hms_active_rooms.gate.gate import Gate
    from hms_active_rooms.gate.journal import Journal
    from hms_active_rooms.gate.policy import Policy


class ActiveRoomsToolkit(BaseToolkit):
    """Makes the LangChain tools for Active Rooms.

    A person approves each call that changes a room, unless the policy lets the call run without a question.

    Args:
        client: The API client.
        policy: What an agent may do. Its `rooms` must not be empty.
        confirm: A function that asks a person where no graph can pause. Without one, calls that need an
            approval are refused there.
        journal: A `Journal`, a URL, a `Path`, or None for the file in the user's state directory.
        requester: The name by which the journal records who makes the calls.

    Raises:
        ConfigurationError: `policy` is not a `Policy`, or names no room; `confirm` is not a function of
            one argument; the journal cannot be opened.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")
    _gate: Gate = PrivateAttr()
    _client: ActiveRoomsClient = PrivateAttr()
    _confirm: Confirm | None = PrivateAttr()
    _requester: str = PrivateAttr()

    def __init__(
        self,
        client: ActiveRoomsClient,
        policy: Policy,
        *,
        confirm: Confirm | None = None,
        journal: Journal | str | Path | None = None,
        requester: str = "agent",
    ) -> None:
        from hms_active_rooms.gate.gate import Gate

        super().__init__()
        _refuse_wrong(client, policy, confirm, requester)
        self._client, self._confirm, self._requester = client, confirm, requester
        self._gate = Gate(client, policy, _opened(journal))

    @classmethod
    def from_env(
        cls,
        *,
        rooms: Collection[str] = (),
        policy: Policy | None = None,
        confirm: Confirm | None = None,
        journal: Journal | str | Path | None = None,
        requester: str = "agent",
        environ: Mapping[str, str] | None = None,
    ) -> ActiveRoomsToolkit:
        """Make a toolkit from environment variables.

        Args:
            rooms: Ids of rooms. If given, they replace the policy's rooms.
            policy: What an agent may do. Without it, the variables `HMS_POLICY_*` make the policy.
            confirm, requester, journal: As for the class. Without `journal`, `HMS_JOURNAL` has the URL.
            environ: The variables; by default `os.environ`. `HMS_MANAGEMENT_TOKEN`, or `HMS_ACCESS_KEY` and
                `HMS_SECRET`, hold the credentials. `HMS_BASE_URL` is the address of the API.
                `HMS_JOURNAL_KEY` signs the journal.

        Raises:
            ConfigurationError: A variable is missing or wrong. The error names it.
        """
        from hms_active_rooms.api.client import ActiveRoomsClient
        from hms_active_rooms.gate.policy import Policy

        env = os.environ if environ is None else environ
        policy = Policy.from_env(env) if policy is None else _checked(policy)
        if rooms:
            policy = Policy(**{**dict(policy), "rooms": rooms})
        client, url = ActiveRoomsClient.from_env(env), env.get("HMS_JOURNAL") or None
        _refuse_wrong(client, policy, confirm, requester)  # before the journal is made
        opened = _opened(journal or url, env.get("HMS_JOURNAL_KEY", ""))
        return cls(client, policy, confirm=confirm, journal=opened, requester=requester)

    @property
    def gate(self) -> Gate:
        return self._gate

    @property
    def requester(self) -> str:
        return self._requester

    def get_tools(self) -> list[BaseTool]:
        """Make the tools. They ask a person by an interrupt if a graph can pause, else by `confirm`."""
        from hms_active_rooms.tools.active_rooms import build_tools

        return list(build_tools(self._gate, confirm=self._confirm, requester=self._requester))

    async def awithdraw(self, thread: object, *, by: str = "person", reason: str = "") -> list[str]:
        """Reject the actions of a graph's thread that are not sent yet, approved ones too. Return their ids.

        Call this when the conversation drops a question ("forget it"). Otherwise, a person can approve the
        action until it expires.

        Args:
            thread: The graph's thread id.
            by: Who rejects, for the journal.
            reason: Told to the model.
        """
        return [row.id for row in await self._gate.withdraw(str(thread), by=by, reason=reason)]

    def withdraw(self, thread: object, *, by: str = "person", reason: str = "") -> list[str]:
        """Reject the actions of a graph's thread that are not sent yet. Return their ids. See `awithdraw`."""
        return blocking.run(self.awithdraw(thread, by=by, reason=reason))

    async def aclose(self) -> None:
        """Close the client's connections and the journal."""
        await self._client.aclose()
        self._gate.journal.close()


def _refuse_wrong(
    client: ActiveRoomsClient, policy: Policy, confirm: Confirm | None, requester: str
) -> None:
    if not iscoroutinefunction(getattr(client, "list_peers", None)):
        raise ConfigurationError(
            f"client has to be an ActiveRoomsClient. It is of the type {type(client).__name__}."
        )
    if not _checked(policy).rooms:
        raise ConfigurationError(
            "No room is allowed, so the tools cannot do anything.",
            hint='Give rooms=["<room id>"], or set HMS_POLICY_ROOMS. To allow all rooms, give rooms=["*"].',
        )
    if not isinstance(requester, str):
        raise ConfigurationError(f"requester has to be a text. It is {requester!r}.")
    if confirm is not None and not _takes_a_request(confirm):
        raise ConfigurationError(
            f"confirm has to be a function of one argument, the request. It is {confirm!r}.",
            hint="Let it ask a person, and return request.approve() or request.reject().",
        )


def _checked(policy: object) -> Policy:
    from hms_active_rooms.gate.policy import Policy

    if isinstance(policy, Policy):
        return policy.model_copy()  # which validates it again
    raise ConfigurationError(
        f"policy has to be a Policy. It is {policy!r}.",
        hint="Give Policy(...), or Policy.from_file(...) to read a file.",
    )


def _opened(journal: Journal | str | Path | None, key: str | None = None) -> Journal:
    from hms_active_rooms.gate.journal import Journal

    if isinstance(journal, Journal):
        return journal
    return Journal(journal, key=key)


def _takes_a_request(confirm: Callable[..., object]) -> bool:
    try:
        signature(confirm).bind("request")
    except TypeError:
        return False
    except ValueError:  # a function without a readable signature
        return True
    return True
