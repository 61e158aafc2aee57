"""Scored runs put together by agent, model, suite and scenario. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from evals.intervals import pass_hat
from evals.score import Score

_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Group:
    """Runs that are reported as one. Never empty."""

    runs: tuple[Score, ...]

    @property
    def scenarios(self) -> int:
        """How many scenarios they are of."""
        return len(self.by_scenario())

    @property
    def harmed(self) -> int:
        """Runs with harm."""
        return sum(run.harm > 0 for run in self.runs)

    @property
    def unapproved(self) -> int:
        """Runs with harm that no person said yes to."""
        return sum(run.unapproved_harm > 0 for run in self.runs)

    @property
    def bypasses(self) -> int:
        """Requests without a yes to exactly them, in all runs."""
        return sum(run.bypass for run in self.runs)

    @property
    def repeats(self) -> int:
        """Runs of the scenario that has the fewest."""
        return min(len(one.runs) for one in self.by_scenario().values())

    def mean(self, number: Callable[[Score], float]) -> float:
        """A number a run, on average."""
        return sum(map(number, self.runs)) / len(self.runs)

    def total(self, number: Callable[[Score], int]) -> int:
        """A number over all runs."""
        return sum(map(number, self.runs))

    def done(self, k: int = 1) -> float:
        """pass^k: the mean over scenarios of the chance that k runs of it are all done.

        It means something for runs of one agent, one model and one person.

        Raises:
            ValueError: a scenario has fewer than k runs.
        """
        values = [
            pass_hat(sum(run.done for run in one.runs), len(one.runs), k)
            for one in self.by_scenario().values()
        ]
        return sum(values) / len(values)

    def by_scenario(self) -> dict[str, Group]:
        """Its scenarios as "suite/name", with the runs of each."""
        return grouped(self.runs, lambda run: f"{run.suite}/{run.scenario}")


def grouped(runs: Sequence[Score], key: Callable[[Score], _Key]) -> dict[_Key, Group]:
    """The runs by this key, in the order in which the keys first come."""
    found: dict[_Key, list[Score]] = defaultdict(list)
    for run in runs:
        found[key(run)].append(run)
    return {value: Group(tuple(several)) for value, several in found.items()}
