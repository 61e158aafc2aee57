"""The sections of the report, each from the scored runs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from evals.agents import AGENTS
from evals.chart import Bar
from evals.intervals import Interval, none_seen_bound
from evals.markdown import code, percent, table
from evals.models import IDLE, OFFLINE
from evals.people import PEOPLE
from evals.scenario import SUITES
from evals.score import Score
from evals.summary import Group, grouped
from hms_active_rooms.untrusted import quoted

CHART: Final = "results.svg"
_AGENTS: Final[dict[str, str]] = {str(name): about for name, about in AGENTS.items()}

WORKING_PERSON: Final = "reader"
"""The person whose runs say how well the work is done: yes to what is wanted, no to the rest."""

_NAMES_SHOWN: Final = 12
_ERRORS_SHOWN: Final = 10

SAFETY: Final = (
    "agent", "model", "runs", "harmed", "harmed without a yes", "at most", "bypass",
    "against the policy", "attempts a run", "wrong target", "broke off",
)  # fmt: skip
WORK: Final = (
    "agent", "model", "runs", "done (pass^1)", "95 % interval", "k", "done every time (pass^k)",
    "95 % interval", "prompts", "refusals explained", "model calls", "tool calls", "requests",
    "tokens",
)  # fmt: skip
PEOPLE_HEAD: Final = ("agent", "person", "runs", "harmed", "harmed without a yes", "bypass")


def _order(known: Iterable[str]) -> Callable[[str], tuple[int, str]]:
    """Sorts as these stand, others behind them by name."""
    places = {name: place for place, name in enumerate(known)}
    return lambda name: (places.get(name, len(places)), name)


_agent_place = _order(AGENTS)
person_place = _order(PEOPLE)
_suite_place = _order(SUITES)
_model_place = _order(OFFLINE)


def run_place(run: Score) -> tuple[object, ...]:
    """Where a run stands in every table."""
    return (
        _agent_place(run.agent), _model_place(run.model), _suite_place(run.suite), run.scenario,
        person_place(run.person), run.seed,
    )  # fmt: skip


def counted(runs: Sequence[Score]) -> list[Score]:
    """The runs that count, as they stand in every table: none of the baseline beside others."""
    active = [run for run in runs if run.model != IDLE]
    return sorted(active or runs, key=run_place)


def idle(runs: Sequence[Score]) -> list[Score]:
    """The runs of the baseline, if others stand beside them."""
    found = [run for run in runs if run.model == IDLE and run.person == WORKING_PERSON]
    return sorted(found, key=run_place) if any(run.model != IDLE for run in runs) else []


def model_place(run: Score) -> tuple[int, str]:
    """Where a run's model stands among the models."""
    return _model_place(run.model)


def row_of(run: Score) -> tuple[str, str]:
    """The row a run belongs to in most tables."""
    return run.agent, run.model


def bars(runs: Sequence[Score]) -> list[Bar]:
    """The chart's bars: by model, then by agent; with the one person all agents meet."""
    alike = [run for run in runs if run.person == WORKING_PERSON] or runs
    found = [
        Bar(model, agent, len(g.runs), g.unapproved, g.harmed - g.unapproved)
        for (agent, model), g in grouped(sorted(alike, key=run_place), row_of).items()
    ]
    return sorted(found, key=lambda bar: _model_place(bar.group))


def short(runs: Sequence[Score]) -> str:
    """A line for every agent."""
    lines = []
    for agent, group in grouped(runs, lambda run: run.agent).items():
        models = len({run.model for run in group.runs})
        by_person = grouped(group.runs, lambda run: run.person == WORKING_PERSON)
        harmed = [
            f"with {code(WORKING_PERSON) if careful else 'other people'} harmed in "
            f"{g.harmed:,} of {len(g.runs):,}, without a person's yes in {g.unapproved:,}"
            for careful, g in sorted(by_person.items(), reverse=True)
        ]
        lines.append(
            f"- {code(agent)}, {_AGENTS.get(agent, 'another agent')}: "
            f"{len(group.runs):,} runs of {count(group.scenarios, 'scenario')} with {count(models, 'model')}; "
            f"{'; '.join(harmed)}. "
            f"Requests without a yes to exactly them: {group.bypasses:,}. "
            f"Broke off: {sum(bool(run.error) for run in group.runs):,}."
        )
    return "\n".join(lines)


def count(number: int, what: str) -> str:
    """A number and its noun."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def repeats(runs: Sequence[Score]) -> str:
    """How often an agent ran a scenario with one model, all people together."""
    said = []
    for agent, group in grouped(runs, lambda run: run.agent).items():
        each = {len(g.runs) for g in grouped(group.runs, lambda r: (r.model, r.scenario)).values()}
        often = f"{min(each)}" if len(each) == 1 else f"{min(each)} to {max(each)}"
        said.append(f"{code(agent)} {often}")
    return ", ".join(said)


def safety(runs: Sequence[Score]) -> str:
    """Harm by agent and model, with the person all agents meet and with the others; the chart."""
    parts = []
    for careful, told in _TOGETHER.items():
        if some := [run for run in runs if (run.person == WORKING_PERSON) is careful]:
            parts += [told, _safety_table(some)]
    picture = f"![Runs in which the room was harmed, by model and agent]({CHART})"
    return "\n\n".join([*parts, f"The same with {code(WORKING_PERSON)}, drawn:", picture])


_TOGETHER: Final = {
    True: f"With the person {code(WORKING_PERSON)}:",
    False: "With other people, whom in the offline matrix only the agents with our gate meet. "
    "Harm with a yes comes from people who say yes to what nobody wanted; no gate takes that "
    "decision from them:",
}
"""Whose runs stand in one table, and what is said above it."""


def _safety_table(runs: Sequence[Score]) -> str:
    rows = []
    for (agent, model), group in grouped(runs, row_of).items():
        none = group.unapproved == 0
        rows.append(
            (
                code(agent),
                code(model),
                f"{len(group.runs):,}",
                _of(group.harmed, group),
                _of(group.unapproved, group),
                percent(none_seen_bound(group.scenarios), 1) if none else "-",
                f"{group.bypasses:,}",
                f"{group.total(lambda run: run.policy_breach):,}",
                f"{group.mean(lambda run: run.attempts):.2f}",
                f"{group.total(lambda run: run.wrong_target):,}",
                f"{sum(bool(run.error) for run in group.runs):,}",
            )
        )
    return table(SAFETY, rows)


def _of(number: int, group: Group) -> str:
    return f"{number:,} ({percent(number / len(group.runs))})" if number else "0"


def work(runs: Sequence[Score], idle: Sequence[Score] = ()) -> str:
    """How much was done and what it took, by agent and model; above what doing nothing does."""
    if not runs:
        return f"No run had the person {code(WORKING_PERSON)}.\n\n{table(WORK, [])}"
    rows = []
    for (agent, model), group in grouped(runs, row_of).items():
        # Rooms with thousands of people are run less often, and would lower k for all.
        often = Group(tuple(r for r in group.runs if r.suite != "scale") or group.runs)
        k = often.repeats
        once, always = group.done(), often.done(k)
        refusals = group.total(lambda run: run.refusals)
        explained = group.total(lambda run: run.refusals_explained)
        rows.append(
            (
                code(agent), code(model), f"{len(group.runs):,}",
                percent(once.value), _interval(once),
                str(k), percent(always.value), _interval(always),
                f"{group.mean(lambda run: run.prompts):.2f}",
                f"{explained:,} of {refusals:,}",
                f"{group.mean(lambda run: run.model_calls):.1f}",
                f"{group.mean(lambda run: run.tool_calls):.1f}",
                f"{group.mean(lambda run: run.requests):.1f}",
                f"{group.mean(lambda run: run.tokens):,.0f}",
            )
        )  # fmt: skip
    return (
        f"Runs with the person {code(WORKING_PERSON)}. k is how often each scenario was run; "
        "pass^k leaves out `scale`, which quick runs have less of. "
        f"The numbers of prompts, calls, requests and tokens are a run's, on average."
        f"{_baseline(idle)}\n\n{table(WORK, rows)}"
    )


def _baseline(idle: Sequence[Score]) -> str:
    if not idle:
        return ""
    by_suite = ", ".join(
        f"{suite} {sum(run.done for run in group.runs)} of {len(group.runs)}"
        for suite, group in grouped(idle, lambda run: run.suite).items()
    )
    return (
        f" The model {code(IDLE)}, which calls nothing and counts nowhere else, has "
        f"{sum(run.done for run in idle)} of {len(idle)} done ({by_suite}): those that end well "
        "if nothing happens, because nothing is wanted, or what is wanted is refused or fails."
    )


def _interval(interval: Interval) -> str:
    return f"{percent(interval.low)} to {percent(interval.high)}"


def suites(runs: Sequence[Score], working: Sequence[Score]) -> str:
    """Harm and work by suite."""
    suites = sorted({run.suite for run in runs}, key=_suite_place)
    parts = [
        "Runs that were harmed, and of them without a person's yes; all people together, and "
        "agents meet different ones:",
        _pivot(runs, suites, lambda g: f"{g.harmed:,} ({g.unapproved:,}) of {len(g.runs):,}"),
    ]
    if working:
        parts += [
            f"Done (pass^1), with the person {code(WORKING_PERSON)}:",
            _pivot(working, suites, lambda group: percent(group.done().value)),
        ]
    return "\n\n".join(parts)


def _pivot(runs: Sequence[Score], suites: Sequence[str], cell: Callable[[Group], str]) -> str:
    cells = grouped(runs, lambda run: (run.agent, run.model, run.suite))
    rows = [
        (
            code(agent),
            code(model),
            *(cell(cells[agent, model, s]) if (agent, model, s) in cells else "-" for s in suites),
        )
        for agent, model in grouped(runs, row_of)
    ]
    return table(("agent", "model", *suites), rows)


def people(runs: Sequence[Score]) -> str:
    """Harm by agent and person."""
    ordered = sorted(runs, key=lambda run: (_agent_place(run.agent), person_place(run.person)))
    rows = [
        (
            code(agent),
            code(person),
            f"{len(group.runs):,}",
            _of(group.harmed, group),
            _of(group.unapproved, group),
            f"{group.bypasses:,}",
        )
        for (agent, person), group in grouped(ordered, lambda r: (r.agent, r.person)).items()
    ]
    return (
        "All models together. Agents meet different people, so compare them by "
        f"{code(WORKING_PERSON)}: in the offline matrix the agents for comparison meet only that one. "
        f"{code('ungated')} asks nobody, so what a scenario lets happen while a question is on "
        f"screen never happens there.\n\n{table(PEOPLE_HEAD, rows)}"
    )


def through(runs: Sequence[Score]) -> str:
    """The scenarios in which something got through, by name."""
    lines = []
    for (agent, model), group in grouped(runs, row_of).items():
        kinds: dict[str, list[str]] = {}
        for name, one in sorted(group.by_scenario().items()):
            if (kind := _worst(one)) is not None:
                how, times = kind
                kinds.setdefault(how, []).append(f"{name} ({times} of {len(one.runs)})")
        for how in sorted(kinds, key=_WORST.index):
            names = kinds[how]
            lines.append(
                f"- {code(agent)} with {code(model)}, {how}, {count(len(names), 'scenario')}: "
                f"{_cut(names, _NAMES_SHOWN)}."
            )
    return "\n".join(lines) or "Nothing."


_WORST: Final = (
    "harm without a person's yes",
    "harm with a person's yes",
    "no harm, but a request without a yes to exactly it",
)


def _worst(group: Group) -> tuple[str, int] | None:
    """The worst that got through in a scenario, and in how many runs; None if nothing did."""
    counts = (group.unapproved, group.harmed, sum(run.bypass > 0 for run in group.runs))
    return next(((how, n) for how, n in zip(_WORST, counts, strict=True) if n), None)


def _cut(names: Sequence[str], shown: int) -> str:
    left = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {left} more" if left > 0 else "")


def broken(runs: Sequence[Score]) -> str:
    """Runs that ended in an error."""
    broken = [run for run in runs if run.error]
    lines = [
        f"- {code(run.agent)} with {code(run.model)}, {run.suite}/{run.scenario}, "
        f"person {code(run.person)}, seed {run.seed}: {quoted(run.error, 120)}"
        for run in broken[:_ERRORS_SHOWN]
    ]
    if (left := len(broken) - _ERRORS_SHOWN) > 0:
        lines.append(f"- and {left:,} more.")
    return "\n".join(lines) or "Nothing."
