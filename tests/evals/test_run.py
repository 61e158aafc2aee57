"""`python -m evals`: what is finished is kept whatever happens, and the exit code tells the truth."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from breaking import Breaking
from evals.__main__ import LEDGER, PAST, UNFINISHED, WRONG, main
from evals.agents import AGENTS
from evals.inspect.task import inspect_name, read_runs
from evals.models import IDLE, OFFLINE
from evals.offline import (
    REPEATS,
    SAMPLE,
    SCORE,
    About,
    Broken,
    Ledger,
    Selection,
    got_past_the_gate,
    matrix,
    read_ledger,
    run_cases,
    scored,
)
from evals.people import PEOPLE
from evals.play import Case, play
from evals.report import report
from evals.scenario import SUITES, Scenario, chosen
from evals.score import Score
from hms_active_rooms.untrusted import quoted

MADE = About(date(2026, 11, 24), "python -m evals offline", "3.11.9", (), "a")
PROJECT = Path(__file__).parents[2]
SMALL = ("--scenario", "remove-one", "--scenario", "protected-role", "--agent", "moderator")
SMALL_OFFLINE = ("offline", *SMALL, "--model", "commands", "--repeat", "2", "--workers", "1")

DIES = """
import os, signal, sys
import anyio
from inspect_ai.hooks import Hooks, hooks
import evals.inspect.task as task
from evals.__main__ import main

started, dies_at, arguments = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
turn, logged, count, play = anyio.Lock(), anyio.Event(), 0, task.play

@hooks(name="logged", description="says when a sample is in the log")
class Logged(Hooks):
    async def on_sample_end(self, data):
        logged.set()

async def one_after_another(case, *rest):
    global count
    async with turn:
        count += 1
        if count == dies_at:
            await logged.wait()
            os.kill(os.getpid(), signal.SIGKILL)
        with open(started, "a") as file:
            print(case.scenario.name, case.seed, file=file)
        return await play(case, *rest)

task.play = one_after_another
sys.exit(main(arguments))
"""


@pytest.mark.nightly
def test_killed_in_the_middle_the_same_command_goes_on_and_repeats_nothing_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, logs = tmp_path / "started", tmp_path / "logs"
    command = ("run", "--model", "commands", *SMALL, "--repeat", "2", "--log-dir", str(logs))

    def run(dies_at: int) -> int:
        script = (sys.executable, "-c", DIES, str(started), str(dies_at), *command)
        return subprocess.run(
            [*script, "--display", "none"], cwd=PROJECT, timeout=500, check=False
        ).returncode

    assert run(dies_at=3) == -signal.SIGKILL
    before = started.read_text().splitlines()
    assert len(before) == 2
    assert run(dies_at=0) == 0
    plays = Counter(started.read_text().splitlines())
    # The second one may have been cut off between its end and the log.
    assert plays[before[0]] == 1
    assert plays[before[1]] <= 2
    assert sum(plays.values()) <= 5
    assert {(run.scenario, run.seed) for run in read_runs(logs)} == {
        (name, seed) for name in ("remove-one", "protected-role") for seed in (0, 1)
    }
    assert len(plays) == 4
    monkeypatch.setattr("evals.inspect.task.code_version", lambda: "of other code")
    assert read_runs(logs) == []


def test_the_offline_matrix_writes_a_report_and_goes_on_where_it_was_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SMALL_OFFLINE, "--log-dir", str(tmp_path)]
    assert main(arguments) == 0
    assert "0 of 8 runs are done already" in capsys.readouterr().err
    report = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "`python -m evals offline --scenario remove-one" in report
    ledger = tmp_path / LEDGER
    ledger.write_bytes(ledger.read_bytes()[:-40])
    assert main(arguments) == 0
    assert "7 of 8 runs are done already" in capsys.readouterr().err
    assert len(read_ledger(ledger)[1]) == 8
    report = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    (tmp_path / "RESULTS.md").unlink()
    assert main(["report", "--log-dir", str(tmp_path)]) == 0
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8") == report


def test_with_other_code_everything_runs_again(tmp_path: Path) -> None:
    path = tmp_path / LEDGER
    score = some_score()
    Ledger(path, MADE).add(score)
    again = Ledger(path, replace(MADE, command="a part of it"))
    assert list(again.scores.values()) == [score]
    assert read_ledger(path) == (MADE, [score])
    other = replace(MADE, code="b")
    assert Ledger(path, other).scores == {}
    assert read_ledger(path) == (other, [])


@pytest.mark.nightly
def test_runs_that_take_their_process_with_them_are_broken_off_and_the_others_are_finished() -> (
    None
):
    good = case_of("remove-one")
    bad = [case_of("tell-one", model=Breaking(way)) for way in ("is killed", "hangs")]
    found = list(run_cases([good, *bad], 2, silent_s=12.0))
    assert {score.model: score.error for score in found} == {
        "commands": "",
        "is killed": "its process ended with -9",
        "hangs": "its process said nothing any more",
    }
    assert len(found) == 3
    assert [score.done for score in found if not score.error] == [True]


def test_where_no_process_can_begin_a_run_nothing_is_taken_for_a_result() -> None:
    scenario = one_scenario("remove-one").model_copy(update={"policy": {"x": Unreadable()}})
    with pytest.raises(Broken, match="began nothing: its process ended with 1"):
        list(run_cases([replace(case_of("remove-one"), scenario=scenario)], 1))


class Unreadable:
    """What no other process can read."""

    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("no number",)


async def never(*_: object) -> None:
    await asyncio.Event().wait()


def broken(*_: object, **__: object) -> Any:
    raise OSError("it broke")


def cancelled(*_: object) -> Any:
    raise asyncio.CancelledError


@asynccontextmanager
async def never_starts(*_: object) -> AsyncIterator[None]:
    await never()
    yield


unwritable: Any = {"harm": object()}


@pytest.mark.parametrize(
    ("place", "instead", "told"),
    [
        ("evals.play.staged", broken, "OSError: it broke"),
        ("evals.play.staged", never_starts, "not over after"),
        ("evals.stage.Stage.close", broken, "OSError: it broke"),
        ("evals.play.eval_model", broken, "OSError: it broke"),
        ("evals.play.build", broken, "OSError: it broke"),
        ("evals.play.build", cancelled, "it cancelled itself"),
        ("evals.play.judge", broken, "OSError: it broke"),
        (
            "evals.play.judge",
            lambda *_, **__: replace(some_score(), **unwritable),
            "PydanticSerializationError: ",
        ),
        ("evals.disturbing.CrashingJournal.close", broken, "OSError: it broke"),
    ],
)
async def test_a_run_that_cannot_be_set_up_judged_or_written_down_is_an_error_of_that_run(
    monkeypatch: pytest.MonkeyPatch, place: str, instead: Any, told: str
) -> None:
    case = case_of("remove-one")
    monkeypatch.setattr(place, instead)
    monkeypatch.setattr("evals.offline.TO_JUDGE_S", 0.1)
    score = SCORE.validate_json(await scored(case, 0.5 if instead is never_starts else 60.0))
    assert score.error.startswith(told)
    assert (score.key, score.done) == (case.key, False)
    assert got_past_the_gate([score]) == [score]
    assert quoted(score.error, 120) in report([some_score(), score], MADE)


async def test_a_run_whose_process_died_and_does_not_come_again_is_judged_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [scenario] = (s for s in chosen(("disturbed",)) if s.name == "crash-in-flight-removal")
    monkeypatch.setattr("evals.disturbing.Life.restarted", broken)
    played = await play(Case(scenario, "moderator", "commands", "reader"))
    assert played.score.error == "OSError: it broke"
    assert [row.split()[0] for row in played.rows] == ["sent"]
    assert (played.score.prompts, played.score.bypass) == (1, 0)


def one_scenario(name: str) -> Scenario:
    [scenario] = chosen(names=(name,))
    return scenario


def case_of(name: str, model: str = "commands", seed: int = 0) -> Case:
    return Case(one_scenario(name), "moderator", model, "reader", seed)


@pytest.mark.parametrize(
    ("agent", "numbers", "code"),
    [
        ("moderator", {"bypass": 1}, PAST),
        ("create_agent", {"unapproved_harm": 1, "harm": 1}, PAST),
        ("moderator", {"harm": 1}, 0),
        ("moderator", {"error": "TimeoutError"}, PAST),
        ("ungated", {"bypass": 1, "unapproved_harm": 1, "harm": 1}, 0),
    ],
)
def test_the_exit_code_is_1_when_something_got_past_our_gate(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    agent: str,
    numbers: dict[str, Any],
    code: int,
) -> None:
    score = replace(some_score(), agent=agent, **numbers)
    Ledger(tmp_path / LEDGER, MADE).add(score)
    assert main(["report", "--log-dir", str(tmp_path)]) == code
    told = capsys.readouterr().err
    assert ("BROKE OFF" in told) == ("error" in numbers)
    assert ("PAST THE GATE" in told) == (code == PAST and "error" not in numbers)


@pytest.mark.parametrize("ended_by", [Broken("a worker ended with -9"), KeyboardInterrupt()])
def test_what_was_not_finished_has_an_exit_code_of_its_own_and_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_by: BaseException
) -> None:
    def broken(*_: object) -> list[Score]:
        raise ended_by

    monkeypatch.setattr("evals.__main__.run_cases", broken)
    assert main([*SMALL_OFFLINE, "--log-dir", str(tmp_path)]) == UNFINISHED
    assert not (tmp_path / "RESULTS.md").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--model", "nobody", "--scenario", "remove-one"], '"nobody"'),
        (["run", "--model", "commands", "--scenario", "nothing"], "no scenario 'nothing'"),
        (["offline", "--scenario", "nothing"], "no scenario 'nothing'"),
        (["report"], "no runs"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main([*arguments, "--log-dir", str(tmp_path)]) == WRONG
    assert said in capsys.readouterr().err


def test_a_log_that_cannot_be_used_does_not_end_as_if_something_got_past_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "offline.jsonl").write_text("no JSON\n")
    for place in (tmp_path, tmp_path / "offline.jsonl"):
        assert main([*SMALL_OFFLINE, "--log-dir", str(place)]) == WRONG
        assert "offline.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut off"])
def test_a_log_of_inspect_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "cut.eval").write_bytes(content)
    assert main(["report", "--log-dir", str(tmp_path)]) == WRONG
    assert "cut.eval" in capsys.readouterr().err


def test_what_is_named_twice_is_run_and_counted_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = [f"--{name}={one}" for name, one in (("scenario", "end"), ("agent", "moderator"))] * 2
    models = ["--model", "silent", "--model", "silent", "--workers", "1", "--repeat", "1"]
    assert main(["offline", *twice, *models, "--person=reader", "--log-dir", str(tmp_path)]) == 0
    assert "In 1 runs" in capsys.readouterr().out


# Streams that inspect leaves open are no matter of ours.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_inspects_mock_model_runs_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(name: str) -> None:
        raise OSError(f"no network for {name}")

    monkeypatch.setattr("tiktoken.get_encoding", download)
    run = ("run", "--model", "mockllm/model", "--scenario", "remove-one", "--display", "none")
    assert main([*run, "--log-dir", str(tmp_path)]) == 0
    [score] = read_runs(tmp_path)
    assert (score.model, score.done, score.error) == ("mockllm/model", False, "")


def test_names_of_models_are_sent_to_who_knows_them() -> None:
    for name, told in {
        "gullible": "hms/gullible",
        "openai/gpt-5": "openai/gpt-5",
        "openai:gpt-5": "hms/openai:gpt-5",
        "langchain:groq:openai/gpt-oss": "hms/groq:openai/gpt-oss",
    }.items():
        assert inspect_name(name) == told


def test_the_matrix_has_every_suite_repeats_alike_and_brings_everybody_to_our_moderator() -> None:
    cases = matrix()
    assert len({case.key for case in cases}) == len(cases)
    assert {case.scenario.suite for case in cases} == set(SUITES)
    ours = [c for c in cases if c.agent == "moderator" and c.model != IDLE]
    assert {(c.model, c.person) for c in ours} == {
        (model, person) for model in OFFLINE if model != IDLE for person in PEOPLE
    }
    often = Counter((c.scenario.name, c.model) for c in ours if c.person == "reader")
    assert {n for (name, _), n in often.items() if name == "remove-one"} == {REPEATS}
    assert {c.person for c in cases if c.agent != "moderator"} == {"reader"}
    idle = [case for case in cases if case.model == IDLE]
    assert sorted(c.scenario.name for c in idle) == sorted(s.name for s in chosen())


def test_a_part_of_the_matrix_is_the_same_runs_as_in_the_whole() -> None:
    whole = {case.key for case in matrix()}
    part = matrix(Selection(agents=("moderator",), suites=("policy",), repeats=3))
    assert {case.key for case in part} < whole
    assert not Selection(suites=("policy",)).is_everything
    assert not Selection(repeats=3).is_everything
    assert Selection(repeats=12).is_everything


def test_the_sample_brings_every_scenario_to_every_agent_and_meets_everybody() -> None:
    whole = {case.key for case in matrix()}
    sample = matrix(Selection(sampled=True))
    assert {case.key for case in sample} < whole
    busy = [case for case in sample if case.model != IDLE]
    tasks = {(case.scenario.name, case.model) for case in busy}
    assert len(tasks) == 3 * len(chosen())
    assert {(c.scenario.name, c.model, c.agent) for c in busy if c.person == "reader"} == {
        (*task, agent) for task in tasks for agent in AGENTS
    }
    assert {case.person for case in busy if case.agent == "moderator"} == set(PEOPLE)
    models = Counter(model for _, model in tasks)
    assert set(models) == set(OFFLINE) - {IDLE}
    assert max(models.values()) - min(models.values()) <= 1
    assert {case.seed for case in sample} == {0}


@pytest.mark.parametrize(
    ("arguments", "sampled", "everywhere"),
    [((), True, True), (("--whole",), False, True), (("--repeat", "1", "--agent", "hitl"), False, False)],
)  # fmt: skip
def test_without_a_chosen_part_the_sample_is_run_and_the_whole_only_if_it_is_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    sampled: bool,
    everywhere: bool,
) -> None:
    asked: list[Case] = []

    def runs(cases: list[Case], workers: int) -> list[Score]:
        asked.extend(cases)
        return [case.scored(done=True) for case in cases]

    monkeypatch.setattr("evals.__main__.run_cases", runs)
    monkeypatch.setattr("evals.__main__.FOLDER", tmp_path / "evals")
    assert main(["offline", *arguments, "--log-dir", str(tmp_path)]) == 0
    assert (len(asked) == len(matrix(Selection(sampled=True)))) == sampled
    assert (tmp_path / "evals" / "RESULTS.md").exists() == everywhere
    report = (tmp_path / ("evals" if everywhere else ".") / "RESULTS.md").read_text("utf-8")
    command = " ".join(("python -m evals offline", *arguments, "--log-dir", str(tmp_path)))
    assert f"by `{command}`" in report
    assert (SAMPLE in report) == sampled


def test_only_runs_behind_our_gate_can_get_past_it() -> None:
    runs = [replace(some_score(), agent=a, bypass=1) for a in ("moderator", "hitl", "ungated")]
    assert [run.agent for run in got_past_the_gate(runs)] == ["moderator"]


def some_score() -> Score:
    return Score("remove-one", "moderation", "moderator", "commands", "reader", 0, done=True)
