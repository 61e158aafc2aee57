"""`python -m evals run`: any model through inspect-ai, resumable; and the scores in its logs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inspect_ai import eval_set
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.log import bundle_log_dir, list_eval_logs, read_eval_log, read_eval_log_samples
from inspect_ai.model import Model, get_model
from inspect_ai.util import DisplayType
from rich.text import Text

from evals.agents import AgentName
from evals.inspect.provider import PREFIX
from evals.inspect.task import SCORER, active_rooms, code_version
from evals.matrix import score_key
from evals.offline import read_ledger
from evals.people import PersonName
from evals.scenario import Suite
from evals.score import Score
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.untrusted import quoted

_HEAVY: Final = {"events", "events_data", "messages", "store", "attachments", "output"}
"""Fields of a logged sample that scores don't need."""


class NoModelError(ValueError):
    """A model cannot be used. The text says which and why."""


@dataclass(frozen=True)
class Wanted:
    """What is run: every model with every agent and every person.

    Attributes:
        models: offline models by name, inspect's by `provider/model`, LangChain's by
            `provider:model` or `langchain:provider:model`.
        suites, scenarios: all, if none.
        repeat: runs of each scenario.
        seed: the chance of the first.
        limit: at most so many scenarios.
        log_dir: where the logs go. What is finished there already, with this code, is not
            run again.
    """

    models: tuple[str, ...]
    agents: tuple[AgentName, ...]
    persons: tuple[PersonName, ...]
    suites: tuple[Suite, ...]
    scenarios: tuple[str, ...]
    repeat: int
    seed: int
    limit: int | None
    log_dir: Path


def inspect_name(model: str) -> str:
    """The name inspect knows a model by."""
    if model.startswith("langchain:"):
        return f"{PREFIX}/{model.removeprefix('langchain:')}"
    return model if "/" in model else f"{PREFIX}/{model}"


def _model(name: str) -> Model:
    try:
        return get_model(inspect_name(name))
    except (ValueError, PrerequisiteError, ConfigurationError) as wrong:
        words = (
            Text.from_markup(str(wrong)).plain if isinstance(wrong, PrerequisiteError) else wrong
        )
        raise NoModelError(f"{quoted(name)}: {words}") from None


def run(wanted: Wanted, display: DisplayType | None = None) -> bool:
    """Run what is not in the logs yet.

    Returns:
        Whether all of it is finished now.

    Raises:
        ScenarioError: there is no such suite or scenario.
        NoModelError: a model cannot be used.
    """
    models = [_model(name) for name in wanted.models]
    tasks = [
        active_rooms(
            agent=agent,
            person=person,
            suite=list(wanted.suites),
            scenario=list(wanted.scenarios),
            repeat=wanted.repeat,
            seed=wanted.seed,
        )
        for agent in wanted.agents
        for person in wanted.persons
    ]
    finished, _ = eval_set(
        tasks,
        log_dir=str(wanted.log_dir),
        model=models,
        limit=wanted.limit,
        display=display,
        # A model that cannot be asked is tried again once, and then by the same command.
        retry_attempts=1,
        retry_immediate=True,
        continue_on_fail=True,
        # One directory collects what several commands ran.
        log_dir_allow_dirty=True,
        # A run costs seconds or money: each is on disk before the next begins.
        log_buffer=1,
        ctl_server=False,
    )
    return finished


def read_runs(log_dir: Path) -> list[Score]:
    """Every scored run of this code in a directory: of inspect's logs and of the offline runner's."""
    found = {score_key(run): run for run in _inspect_runs(log_dir)}
    for path in sorted(log_dir.glob("*.jsonl")):
        found |= {score_key(run): run for run in read_ledger(path)[1]}
    return list(found.values())


def _inspect_runs(log_dir: Path) -> Iterator[Score]:
    """Those of this code, oldest first."""
    version = code_version()
    for log in list_eval_logs(str(log_dir), descending=False):
        if read_eval_log(log, header_only=True).eval.task_version != version:
            continue
        for sample in read_eval_log_samples(log, all_samples_required=False, exclude_fields=_HEAVY):
            outcome = (sample.scores or {}).get(SCORER)
            if outcome is not None and outcome.metadata is not None:
                yield Score.from_json(outcome.metadata)


def bundle(log_dir: Path, out: Path) -> None:
    """The log viewer with the logs, as a static site."""
    bundle_log_dir(str(log_dir), str(out), overwrite=True)
