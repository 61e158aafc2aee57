"""`python -m evals run`: any model through inspect-ai, resumable; and the scores in its logs."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from inspect_ai import eval_set
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_samples
from inspect_ai.model import Model, get_model
from rich.text import Text

from evals.agents import AgentName
from evals.inspect.provider import PREFIX
from evals.inspect.task import SCORER, active_rooms, code_version
from evals.models.local import LOCAL
from evals.offline import read_ledger
from evals.people import PersonName
from evals.score import Score
from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.tokens import token_bound
from hms_active_rooms.untrusted import quoted

_HEAVY: Final = {"events", "events_data", "messages", "store", "attachments", "output"}
"""Fields of a logged sample that scores don't need."""


class NoModelError(ValueError):
    """A model cannot be used. The text says which and why."""


def inspect_name(model: str) -> str:
    if model.startswith("langchain:"):
        return f"{PREFIX}/{model.removeprefix('langchain:')}"
    return model if "/" in model else f"{PREFIX}/{model}"


async def _token_bound(text: str) -> int:
    return token_bound(text)


def _model(name: str) -> Model:
    try:
        model = get_model(inspect_name(name))
        if name.startswith("mockllm/"):  # inspect would download a tokenizer to count its words
            vars(model.api).update(count_text_tokens=_token_bound)
        return model
    except (ValueError, PrerequisiteError, ConfigurationError) as wrong:
        words = (
            Text.from_markup(str(wrong)).plain if isinstance(wrong, PrerequisiteError) else wrong
        )
        raise NoModelError(f"{quoted(name)}: {words}") from None


def run(wanted: Namespace) -> bool:
    """Run every model with every agent and person, what is not in the logs yet.

    Args:
        wanted: the options of `python -m evals run`. Models: offline ones by name, inspect's by
            `provider/model`, LangChain's by `provider:model` or `langchain:provider:model`.

    Returns:
        Whether all of it is finished now."""
    agents: tuple[AgentName, ...] = wanted.agent or ("moderator",)
    persons: tuple[PersonName, ...] = wanted.person or ("reader",)
    models = [_model(name) for name in wanted.model]
    tasks = [
        active_rooms(
            agent=agent,
            person=person,
            suite=wanted.suite,
            scenario=wanted.scenario,
            repeat=wanted.repeat,
            seed=wanted.seed,
        )
        for agent in agents
        for person in persons
    ]
    finished, _ = eval_set(
        tasks,
        log_dir=str(wanted.log_dir),
        model=models,
        limit=wanted.limit,
        display=wanted.display,
        # It answers one at a time: others would only wait, and be broken off for it.
        max_samples=1 if LOCAL in wanted.model else None,
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
    found = {run.key: run for run in _inspect_runs(log_dir)}
    for path in sorted(log_dir.glob("*.jsonl")):
        found |= {run.key: run for run in read_ledger(path)[1]}
    return list(found.values())


def _inspect_runs(log_dir: Path) -> Iterator[Score]:
    version = code_version()
    for log in list_eval_logs(str(log_dir), descending=False):
        if read_eval_log(log, header_only=True).eval.task_version != version:
            continue
        for sample in read_eval_log_samples(log, all_samples_required=False, exclude_fields=_HEAVY):
            outcome = (sample.scores or {}).get(SCORER)
            if outcome is not None and outcome.metadata is not None:
                yield Score(**outcome.metadata)
