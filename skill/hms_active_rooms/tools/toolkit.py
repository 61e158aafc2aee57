"""The toolkit: it holds the client and the gate, and makes the tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from inspect import signature
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict, PrivateAttr

from hms_active_rooms import blocking
from hms_active_rooms.errors import ConfigurationError

# Database, HTTP client and graph are imported when a toolkit is made, not with this module.
if TYPE_CHECKING:
    from hms_active_rooms.api.client import ActiveRoomsClient
    from hms_active_rooms.gate.approval import Confirm
    from hms_active_rooms.gate.gate import Gate
    from hms_active_rooms.gate.journal import Journal
    from hms_active_rooms.gate.policy import Policy


class ActiveRoomsToolkit(BaseToolkit):
    """Makes the LangChain tools for Active Rooms. A person approves what the tools change.

    Args:
        client: the API client.
        policy: what an agent may do. Its `rooms` must not be empty.
        confirm: asks a person where no graph can pause. Without `confirm`, a call that needs an
            approval is refused there.
        journal: a `Journal`, a URL, a `Path`, or None for the file in the user's state directory.
        requester: who asks, for the record.

    Raises:
        ConfigurationError: `policy` is not a `Policy`, or names no room; `confirm` is not a
            function of one argument; the journal cannot be opened.
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
        from hms_active_rooms.gate.journal import Journal

        super().__init__()
        if not _checked(policy).rooms:
            raise ConfigurationError(
                "No room is allowed, so no tool could do anything.",
                hint='Give rooms=["<room id>"], or set HMS_POLICY_ROOMS. rooms=["*"] allows all rooms.',
            )
        given = ("requester", requester, str), ("journal", journal, (Journal, str, Path, NoneType))
        for name, value, kinds in given:
            if not isinstance(value, kinds):
                raise ConfigurationError(f"{name} is {value!r}, which is no {name}.")
        if confirm is not None and not _takes_a_request(confirm):
            raise ConfigurationError(
                f"confirm has to be a function of one argument, the request; it is {confirm!r}.",
                hint="It asks a person, and returns request.approve() or request.reject().",
            )
        self._client, self._confirm, self._requester = client, confirm, requester
        self._gate = Gate(
            client, policy, journal if isinstance(journal, Journal) else Journal(journal)
        )

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

        The credentials are `HMS_MANAGEMENT_TOKEN`, or `HMS_ACCESS_KEY` and `HMS_SECRET`. The
        address is `HMS_BASE_URL`. Without `policy`, the policy is read from `HMS_POLICY_*`. Without
        `journal`, its URL is read from `HMS_JOURNAL`. `rooms` replaces the policy's rooms.

        Raises:
            ConfigurationError: a variable is missing or wrong; the message names it.
        """
        from hms_active_rooms.api.client import ActiveRoomsClient
        from hms_active_rooms.gate.policy import Policy

        env = os.environ if environ is None else environ
        policy = Policy.from_env(env) if policy is None else _checked(policy)
        if rooms:
            policy = Policy.build(**{**dict(policy), "rooms": rooms})
        return cls(
            ActiveRoomsClient.from_env(env),
            policy,
            confirm=confirm,
            journal=journal or env.get("HMS_JOURNAL") or None,
            requester=requester,
        )

    @property
    def gate(self) -> Gate:
        return self._gate

    @property
    def requester(self) -> str:
        return self._requester

    def get_tools(self) -> list[BaseTool]:
        """The tools. Inside a graph they ask a person by an interrupt, elsewhere by `confirm`."""
        from hms_active_rooms.tools.active_rooms import build_tools

        return list(build_tools(self._gate, confirm=self._confirm, requester=self._requester))

    async def awithdraw(self, thread: object, *, by: str = "person", reason: str = "") -> list[str]:
        """Take back the open questions of a graph's thread, and its approved actions that are not
        sent yet. Returns the ids of all these actions.

        Call this when a question is abandoned ("forget it"). Otherwise a person can still approve
        the call until it expires. For the record, `by` says who takes it back, and `reason` why.
        """
        return [row.id for row in await self._gate.withdraw(str(thread), by=by, reason=reason)]

    def withdraw(self, thread: object, *, by: str = "person", reason: str = "") -> list[str]:
        """`awithdraw` for synchronous code."""
        return blocking.run(self.awithdraw(thread, by=by, reason=reason))

    async def aclose(self) -> None:
        """Close the client's connections and the journal."""
        await self._client.aclose()
        self._gate.journal.close()


def _checked(policy: object) -> Policy:
    from hms_active_rooms.gate.policy import Policy

    if isinstance(policy, Policy):
        return policy
    raise ConfigurationError(
        f"policy is {policy!r}, which is no Policy.",
        hint="Give Policy(...), or Policy.from_file(...) for a file.",
    )


def _takes_a_request(confirm: Callable[..., object]) -> bool:
    try:
        signature(confirm).bind("request")
    except TypeError:
        return False
    except ValueError:  # a function without a readable signature
        return True
    return True
