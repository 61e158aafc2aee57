"""The state machine of one action.

    proposed -> approved <-> sent -> done | failed | unknown
          |         |                              unknown -> done | failed
          +---------+-> rejected | expired

`sent` becomes `approved` again when the request surely was not executed and another try is
worth a wait (`Journal.give_back`): what is sent then goes through every check again.
`unknown` ends when a later look sees the effect, or a late answer comes after all.
`approved` may still become `expired` (too late, or the room changed: a new revision
asks again) or `rejected` (the policy forbids it by then). Nothing leaves `done`,
`failed`, `rejected` and `expired`.
"""

from __future__ import annotations

from typing import Literal

State = Literal["proposed", "approved", "sent", "done", "failed", "unknown", "rejected", "expired"]

ALLOWED: dict[State, frozenset[State]] = {
    "proposed": frozenset({"approved", "rejected", "expired"}),
    "approved": frozenset({"sent", "rejected", "expired"}),
    "sent": frozenset({"approved", "done", "failed", "unknown"}),
    "unknown": frozenset({"done", "failed"}),
    "done": frozenset(),
    "failed": frozenset(),
    "rejected": frozenset(),
    "expired": frozenset(),
}

FINAL: frozenset[State] = frozenset(state for state, then in ALLOWED.items() if not then)
"""States nothing leaves."""


def allowed(before: State, after: State) -> bool:
    """Whether the machine has this transition."""
    return after in ALLOWED[before]
