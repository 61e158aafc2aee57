"""`python -m evals`: run models, run the offline matrix, and make the reports.

Exit codes: 0 nothing got past our gate; 1 something did, or a run broke off; 2 the command is wrong or a model
cannot be used; 3 not everything was finished, run it again.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import track

from evals.agents import AGENTS
from evals.models import OFFLINE
from evals.models.local import LOCAL
from evals.offline import (
    FEW,
    REPEATS,
    SAMPLE,
    About,
    Broken,
    Ledger,
    LedgerError,
    Selection,
    about,
    got_past_the_gate,
    keep,
    matrix,
    read_ledger,
    run_cases,
)
from evals.people import PEOPLE
from evals.report import FOLDER, RESULTS, counted, report, short
from evals.scenario import SUITES, ScenarioError
from evals.score import Score

LOGS: Final = FOLDER / "logs"
LEDGER: Final = "offline.jsonl"
PAST, WRONG, UNFINISHED = 1, 2, 3


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    options.command = shlex.join(["python", "-m", "evals", *arguments])
    for name in ("agent", "model", "person", "suite", "scenario"):
        if given := getattr(options, name, None):
            setattr(options, name, list(dict.fromkeys(given)))  # named twice is no second run
    try:
        return int(options.act(options))
    except (ScenarioError, LedgerError, OSError) as wrong:  # no traceback, whose exit code is PAST
        print(wrong, file=sys.stderr)
        return WRONG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evals", description=(__doc__ or "").splitlines()[0]
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run models, through inspect-ai; resumable")
    run.set_defaults(act=_run)
    run.add_argument(
        "--model", action="append", required=True, metavar="NAME",
        help=f"{', '.join((*OFFLINE, LOCAL))}; provider/model as inspect names it; "
        "provider:model as LangChain names it (langchain:... if that has a slash)",
    )  # fmt: skip
    _which(run)
    run.add_argument("--person", action="append", choices=tuple(PEOPLE), help="default: reader")
    run.add_argument("--repeat", type=_positive, default=1, metavar="K", help="runs of a scenario")
    run.add_argument("--limit", type=_positive, metavar="N", help="at most N scenarios")
    run.add_argument("--seed", type=int, default=0, help="of the first repeat")
    run.add_argument("--log-dir", type=Path, default=LOGS / "run")
    run.add_argument("--keep", type=Path, metavar="FILE", help="all scores there, as lines of JSON")
    run.add_argument("--display", choices=("full", "rich", "plain", "log", "none"))

    offline = commands.add_parser("offline", help="run the offline matrix, and write the report")
    offline.set_defaults(act=_offline)
    offline.add_argument("--model", action="append", choices=OFFLINE)
    offline.add_argument("--person", action="append", choices=tuple(PEOPLE))
    _which(offline)
    offline.add_argument("--repeat", type=_positive, default=REPEATS, metavar="K")
    offline.add_argument(
        "--whole", action="store_true", help=f"all of the matrix; default, if no part is chosen: {SAMPLE}"
    )  # fmt: skip
    offline.add_argument("--workers", type=_positive, default=os.cpu_count() or 1, metavar="N")
    offline.add_argument("--log-dir", type=Path, default=LOGS)
    offline.add_argument(
        "--out", type=Path, help="folder of the report; default: evals/ for all of the matrix or its sample, "
        "else the log directory",
    )  # fmt: skip

    again = commands.add_parser("report", help="write the report of what is in the logs")
    again.set_defaults(act=_report)
    again.add_argument("--log-dir", type=Path, default=LOGS)
    again.add_argument("--out", type=Path, help="folder; default: the log directory")

    card = commands.add_parser("card", help="write the offline model's card")
    card.set_defaults(act=_card)
    return parser


def _which(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--agent", action="append", choices=tuple(AGENTS))
    parser.add_argument("--suite", action="append", choices=SUITES)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--scenario", action="append", metavar="NAME")
    which.add_argument(
        "--few", dest="scenario", action="store_const", const=list(FEW), help=", ".join(FEW)
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("not positive")
    return number


def _run(options: argparse.Namespace) -> int:
    # inspect-ai takes seconds to import; the other commands do without it.
    from evals.inspect.task import NoModelError, read_runs, run

    try:
        finished = run(options)
    except NoModelError as wrong:
        print(wrong, file=sys.stderr)
        return WRONG
    runs = read_runs(options.log_dir)
    if options.keep:
        keep(runs, about(options.command), options.keep)
    return _told(runs, finished)


def _offline(options: argparse.Namespace) -> int:
    parts = options.agent, options.model, options.person, options.suite, options.scenario
    agents, models, persons, suites, scenarios = (tuple(part or ()) for part in parts)
    selection = Selection(agents, models, persons, suites, scenarios, options.repeat)
    out = options.out or (FOLDER if selection.is_everything else options.log_dir)
    if selection.is_everything and not options.whole:
        selection = replace(selection, sampled=True)
    cases = matrix(selection)
    made = about(options.command)
    ledger = Ledger(options.log_dir / LEDGER, made)
    todo = ledger.missing(cases)
    print(f"{len(cases) - len(todo):,} of {len(cases):,} runs are done already.", file=sys.stderr)
    try:
        for score in track(
            run_cases(todo, options.workers),
            description="runs",
            total=len(todo),
            console=Console(stderr=True),
        ):
            ledger.add(score)
    except (Broken, KeyboardInterrupt) as problem:
        print(f"{str(problem) or 'Stopped'}; the same command goes on from here.", file=sys.stderr)
        return UNFINISHED
    runs = [ledger.scores[case.key] for case in cases]
    return _told(runs, True, (made, out))


def _report(options: argparse.Namespace) -> int:
    from evals.inspect.task import read_runs

    runs = read_runs(options.log_dir)
    if not runs:
        print(f"There are no runs in {options.log_dir}.", file=sys.stderr)
        return WRONG
    made, found = read_ledger(options.log_dir / LEDGER)
    if made is None or len(found) != len(runs):
        made = about(options.command)
    return _told(runs, True, (made, options.out or options.log_dir))


def _told(runs: Sequence[Score], finished: bool, written: tuple[About, Path] | None = None) -> int:
    """Print what came of these runs, and write the report of them where it is wanted."""
    if runs:
        print(short(counted(runs)))
    if written is not None:
        made, out = written
        out.mkdir(parents=True, exist_ok=True)
        (out / RESULTS).write_text(report(runs, made), encoding="utf-8")
        print(f"Report: {out / RESULTS}")
    past = got_past_the_gate(runs)
    for run in past[:20]:
        print(
            f"{'PAST THE GATE' if run.got_past else 'BROKE OFF'}: {run.suite}/{run.scenario} {run.agent} {run.model} {run.person} "
            f"seed {run.seed}: {run.bypass} requests, {run.unapproved_harm} changes, "
            f"{run.policy_breach} against the policy {run.error}",
            file=sys.stderr,
        )
    if past:
        return PAST
    if not finished:
        print("Not everything was finished; the same command goes on from here.", file=sys.stderr)
        return UNFINISHED
    return 0


def _card(options: argparse.Namespace) -> int:
    from evals.model_card import CARD, card

    CARD.write_text(card(), encoding="utf-8")
    print(f"Written: {CARD}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
