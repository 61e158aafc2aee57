"""Mutants of the gate: small changes of its code, and whether a test fails for each.

    python tests/mutations.py                                    # one of each kind in each function
    python tests/mutations.py --function 'Policy.*' --sample 9   # nine of each kind, in some functions
    python tests/mutations.py --function gate/policy.py --list   # which there are

The mutants are found in the source's syntax tree, in every function below `gate/`. The kinds:

- condition: what an `if`, a `while` or a filter asks is turned round, `and` becomes `or`;
- comparison: `<` becomes `<=`, `==` becomes `!=`, `in` becomes `not in`;
- gone: a statement is not executed.

The tests are collected once and run once under coverage, which tells which of them execute which
line. Then each mutant is a fork of this process: it exchanges the code of one function and runs,
up to the first failure, the tests that execute the changed line. A mutant that no test notices
must be explained in `tests/mutants.yaml`, or the exit code is 1.
"""

from __future__ import annotations

import argparse
import ast
import gc
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Literal, get_args

import coverage
import pytest
import yaml

import hms_active_rooms

PACKAGE = Path(hms_active_rooms.__file__).parent
TESTS = Path(__file__).parent
EXPLAINED = TESTS / "mutants.yaml"
RUN_BY = (
    "gate",
    "tools",
    "test_untrusted.py",
    "moderator/test_moderator.py",
    "serve/test_decisions.py",
)
"""The tests that mutants are shown to."""

LONGEST_TEST_S = 30
FORK = multiprocessing.get_context("fork")

Kind = Literal["condition", "comparison", "gone"]

SHIFTED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip

PLAIN = (
    ast.Assign, ast.AugAssign, ast.Delete, ast.Raise, ast.Return, ast.Continue, ast.Break,
)  # fmt: skip

# --- finding them -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """One change of one function.

    Attributes:
        file: of the package, such as "gate/policy.py".
        function: its qualified name.
        first_line: where the function begins, with its decorators.
        number: which of the function's places is changed.
        kind: how it is changed.
        lines: the lines that hold the place.
        text: the place before the change, in one line.
    """

    file: str
    function: str
    first_line: int
    number: int
    kind: Kind
    lines: range
    text: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.function}"

    @property
    def change(self) -> str:
        return f"{self.kind}: {self.text}"

    def __str__(self) -> str:
        return f"{self.file}:{self.lines.start} {self.function}: {self.change}"


class Places(ast.NodeTransformer):
    """Walks a function's body through every place that can be changed, and changes one of them."""

    def __init__(self, change: int | None = None) -> None:
        self.found: list[tuple[Kind, ast.AST]] = []
        self._change = change

    def body_of(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Decorators, defaults and annotations are not the function's own work."""
        function.body = [self.visit(statement) for statement in function.body]

    def _here(self, kind: Kind, node: ast.AST) -> bool:
        self.found.append((kind, node))
        return len(self.found) - 1 == self._change

    def _asked(self, test: ast.expr) -> ast.expr:
        """What a condition asks. A `not` or an `and` in it is a place of its own."""
        told_elsewhere = isinstance(test, ast.BoolOp | ast.Compare) or is_not(test)
        if not told_elsewhere and self._here("condition", test):
            return ast.UnaryOp(op=ast.Not(), operand=test)
        return test

    def visit_If(self, node: ast.If) -> ast.AST:
        node.test = self._asked(node.test)
        return self.generic_visit(node)

    def visit_While(self, node: ast.While) -> ast.AST:
        node.test = self._asked(node.test)
        return self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node.test = self._asked(node.test)
        return self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        node.ifs = [self._asked(test) for test in node.ifs]
        return self.generic_visit(node)

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        if node.guard:
            node.guard = self._asked(node.guard)
        return self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        if self._here("condition", node):
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        turned = is_not(node) and self._here("condition", node)
        self.generic_visit(node)
        return node.operand if turned else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if self._here("comparison", node):
            node.ops[0] = SHIFTED[type(node.ops[0])]()
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return node  # for the type checker

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.body_of(node)
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        self.body_of(node)
        return node

    def _statement(self, node: ast.stmt) -> ast.AST:
        if isinstance(node, ast.Raise) and ast.unparse(node) == "raise NotImplementedError":
            return node  # every subclass has its own
        gone = self._here("gone", node)
        self.generic_visit(node)
        # Not taken out: names stay local, and a generator stays one.
        return ast.If(test=ast.Constant(value=0), body=[node], orelse=[]) if gone else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return node if isinstance(node.value, ast.Constant) else self._statement(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return self._statement(node) if node.value else node

    def visit(self, node: ast.AST) -> Any:
        return self._statement(node) if isinstance(node, PLAIN) else super().visit(node)


def is_not(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Functions and methods with their qualified names; what is inside a function is part of it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, Function):
            yield f"{prefix}{child.name}", child
        elif isinstance(child, ast.If | ast.Try):
            yield from functions(child, prefix)


def begins(function: Function) -> int:
    return min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])


@cache
def source(file: Path) -> str:
    """As it was when this run began: somebody may edit it meanwhile."""
    return file.read_text(encoding="utf-8")


def mutants(file: Path) -> Iterator[Mutant]:
    """Every mutant of a file."""
    name = file.relative_to(PACKAGE).as_posix()
    for qualified, function in functions(ast.parse(source(file))):
        places = Places()
        first = begins(function)
        places.body_of(function)
        for number, (kind, node) in enumerate(places.found):
            assert isinstance(node, ast.expr | ast.stmt)
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            text = " ".join(ast.unparse(node).split())
            text = text if len(text) <= 70 else text[:69] + "…"
            yield Mutant(name, qualified, first, number, kind, lines, text)


def chosen(everything: Iterable[Mutant], sample: int, seed: int) -> list[Mutant]:
    """So many of each kind in each function; the same ones each time."""
    groups: defaultdict[tuple[str, int, Kind], list[Mutant]] = defaultdict(list)
    for mutant in everything:
        groups[mutant.name, mutant.first_line, mutant.kind].append(mutant)
    few = []
    for (name, line, kind), group in groups.items():
        draw = random.Random(f"{name} {kind} {seed}")
        few += sorted(draw.sample(group, min(sample, len(group))), key=lambda m: m.number)
        assert line
    return few


def code_of(mutant: Mutant) -> CodeType:
    """The code of the function, changed."""
    path = PACKAGE / mutant.file
    tree = ast.parse(source(path))
    for name, function in functions(tree):
        if (name, begins(function)) == (mutant.function, mutant.first_line):
            Places(mutant.number).body_of(function)
    compiled = compile(ast.fix_missing_locations(tree), str(path), "exec")
    [code] = [code for code in codes(compiled) if is_of(code, mutant)]
    return code


def codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def is_of(code: CodeType, mutant: Mutant) -> bool:
    return (code.co_qualname, code.co_firstlineno) == (mutant.function, mutant.first_line)


def put_in(mutant: Mutant) -> None:
    """Exchange the function's code, wherever the function is held: in a class, under a decorator;
    and that of the functions inside it, which it may have made when its module was imported."""
    path = str(PACKAGE / mutant.file)
    inside = list(codes(code_of(mutant)))
    seen = Counter((code.co_qualname, code.co_firstlineno) for code in inside)
    # Two lambdas in one line have one name; they stay as they are.
    changed = {
        key: code for code in inside if seen[key := (code.co_qualname, code.co_firstlineno)] == 1
    }
    held = [
        (function, code)
        for function in gc.get_objects()
        if isinstance(function, FunctionType) and (old := function.__code__).co_filename == path
        if (code := changed.get((old.co_qualname, old.co_firstlineno)))
        if code.co_freevars == old.co_freevars
    ]
    assert held, f"nothing holds {mutant.name}"
    for function, code in held:
        function.__code__ = code


# --- running them -----------------------------------------------------------------------------


class Job:
    """A fork that runs some tests and says one thing."""

    def __init__(self, runner: Runner, items: list[pytest.Item], mutant: Mutant | None) -> None:
        self.mutant = mutant
        self.answer, end = FORK.Pipe(duplex=False)
        self._temporary = tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True)
        given = (runner, items, mutant, end, self._temporary.name)
        self._process = FORK.Process(target=self._run, args=given)
        self._process.start()
        end.close()
        self.sentinel = self._process.sentinel
        usual = sum(runner.seconds.get(item.nodeid, 1.0) for item in items)
        self.ends_at = time.monotonic() + 2 * LONGEST_TEST_S + 4 * usual

    @staticmethod
    def _run(
        runner: Runner,
        items: list[pytest.Item],
        mutant: Mutant | None,
        end: Connection,
        temporary: str,
    ) -> None:
        os.setsid()
        os.environ["PYTEST_DEBUG_TEMPROOT"] = temporary
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        try:
            if mutant:
                put_in(mutant)
            gc.freeze()  # what is there already is never garbage here
            end.send(runner.first_failure(items) if mutant else runner.learned(items))
        except BaseException:
            end.send(Broken(traceback.format_exc()))
            raise

    def result(self) -> object:
        """What it said; None if it says nothing any more. Ends what it started."""
        try:
            said = self.answer.recv() if self.answer.poll() else None
            if isinstance(said, Broken):
                raise RuntimeError(f"{self.mutant}\n{said.why}")
            return said
        except EOFError:
            return None
        finally:
            if self._process.pid:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.join()
            self.answer.close()
            self._temporary.cleanup()


@dataclass
class Broken:
    """The fork itself failed; that is not a test that fails."""

    why: str


@dataclass
class Learned:
    """What a run of the unchanged code told: failures, seconds, tests by file and line."""

    failed: list[str]
    seconds: dict[str, float]
    executed: dict[tuple[str, int], list[str]]


class Runner:
    """A pytest plugin that runs collected tests in forks, in place of pytest's own loop."""

    def __init__(self, todo: list[Mutant], workers: int, limit_s: float) -> None:
        self.seconds: dict[str, float] = {}
        self.survivors: list[tuple[Mutant, str]] = []
        self.outcomes: Counter[str] = Counter()
        self._todo = todo
        self._workers = workers
        self._limit_s = limit_s
        self._failed: list[str] = []

    def pytest_configure(self) -> None:
        """No example that a mutant fails on is kept for the unchanged code."""
        from hypothesis import HealthCheck, settings

        every = list(HealthCheck)
        settings.register_profile(
            "mutants",
            settings.get_profile("day"),
            database=None,
            derandomize=True,
            suppress_health_check=every,
        )
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.append(report.nodeid)

    def first_failure(self, items: list[pytest.Item]) -> str:
        """In a fork: the test that fails first, or ""."""
        for item, after in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self._failed:
                return self._failed[0]
        return ""

    def learned(self, items: list[pytest.Item]) -> Learned:
        """In a fork: run them all as they are, under coverage."""
        seconds = {}
        measured = coverage.Coverage(
            data_file=None, config_file=False, source=[str(PACKAGE / "gate")]
        )
        imported = ["module-not-measured", "no-data-collected", "module-not-imported"]
        measured.set_option("run:disable_warnings", imported)
        measured.start()
        for item, after in zip(items, [*items[1:], None], strict=True):
            measured.switch_context(item.nodeid)
            begun = time.perf_counter()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            seconds[item.nodeid] = time.perf_counter() - begun
        measured.stop()
        data = measured.get_data()
        executed = {
            (file, line): [context for context in contexts if context]
            for file in data.measured_files()
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        return Learned(self._failed, seconds, executed)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        gc.unfreeze()  # `put_in` looks for functions among what the collector watches
        executed = self._learn(session.items)
        by_name = {item.nodeid: item for item in session.items}
        ends_at, running = time.monotonic() + self._limit_s, list[Job]()
        for number, mutant in enumerate(self._todo, 1):
            if time.monotonic() > ends_at:
                self.outcomes["not run"] = len(self._todo) - number + 1
                break
            covering = {t for line in mutant.lines for t in executed.get((mutant.file, line), ())}
            if not covering:
                self._settle(mutant, "no test executes it")
                continue
            tests = sorted(covering, key=lambda test: self.seconds[test])
            while len(running) >= self._workers:
                self._reap(running)
            running.append(Job(self, [by_name[test] for test in tests], mutant))
        while running:
            self._reap(running)
        return True

    def _learn(self, items: list[pytest.Item]) -> dict[tuple[str, int], list[str]]:
        """Which tests execute a line, by file of the package and line; and how long each takes."""
        begun = time.monotonic()
        files = sorted({item.path for item in items})
        shares = [
            [item for item in items if files.index(item.path) % self._workers == n]
            for n in range(self._workers)
        ]
        jobs = [Job(self, share, None) for share in shares if share]
        for job in jobs:
            job.ends_at = time.monotonic() + self._limit_s
        executed: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        failed = set[str]()
        for job in jobs:
            wait([job.sentinel, job.answer])
            told = job.result()
            assert isinstance(told, Learned), "the tests end without a word"
            self.seconds |= told.seconds
            failed |= set(told.failed)
            for (file, line), tests in told.executed.items():
                executed[Path(file).relative_to(PACKAGE).as_posix(), line] += tests
        if failed:
            say(f"left out, because they fail without a mutant too: {', '.join(sorted(failed))}")
        if len(failed) > max(5, len(items) / 100):
            raise pytest.UsageError("too many tests fail as they are")
        for tests in executed.values():
            tests[:] = [test for test in tests if test not in failed]
        say(f"{len(items)} tests, {time.monotonic() - begun:.0f} s under coverage")
        return executed

    def _reap(self, running: list[Job]) -> None:
        """Wait until one of them is over."""
        soonest = min(job.ends_at for job in running) - time.monotonic()
        wait([job.answer for job in running], max(soonest, 0))
        for job in list(running):
            late = time.monotonic() > job.ends_at
            if job.answer.poll() or late:
                running.remove(job)
                assert job.mutant
                said = job.result()
                self._settle(job.mutant, "" if said == "" else str(said or "it does not end"))

    def _settle(self, mutant: Mutant, killed_by: str) -> None:
        if killed_by and killed_by != "no test executes it":
            self.outcomes["killed"] += 1
            return
        self.outcomes["survived"] += 1
        self.survivors.append((mutant, killed_by or "no test fails"))
        say(f"survived: {mutant} ({killed_by or 'no test fails'})")


def say(words: str) -> None:
    print(words, flush=True)


# --- the command ------------------------------------------------------------------------------


def explanations() -> dict[tuple[str, str], str]:
    """Why a mutant may live, by function and change."""
    rows = yaml.safe_load(EXPLAINED.read_text(encoding="utf-8")) or []
    return {(row["function"], row["mutant"]): row["why"] for row in rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--function", default="*", help='a pattern, such as "Policy.*" or a file')
    parser.add_argument("--kind", choices=get_args(Kind), help="one kind; all without it")
    parser.add_argument("--sample", type=int, default=1, help="of each kind in each function")
    parser.add_argument("--seed", type=int, default=0, help="another draw")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit-s", type=float, default=3600, help="start no mutant after that")
    parser.add_argument("--tests", nargs="*", default=[str(TESTS / name) for name in RUN_BY])
    parser.add_argument("--list", action="store_true", help="only say which there are")
    given = parser.parse_args()

    everything = [
        mutant
        for file in sorted((PACKAGE / "gate").rglob("*.py"))
        for mutant in mutants(file)
        if fnmatch(mutant.name, f"*{given.function}*")
        if given.kind in (None, mutant.kind)
    ]
    todo = chosen(everything, given.sample, given.seed)
    told = f"{len(todo)} of {len(everything)} mutants in {len({m.name for m in todo})} functions"
    say(told)
    if given.list:
        for mutant in todo:
            say(str(mutant))
        return 0

    runner = Runner(todo, given.workers, given.limit_s)
    options = ["-q", "-s", "-m", "not nightly", f"--timeout={LONGEST_TEST_S}"]
    options += ["-p", "no:cacheprovider", "-p", "no:xdist", f"--rootdir={TESTS.parent}"]
    begun = time.monotonic()
    code = pytest.main([*options, *given.tests], plugins=[runner])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return 2

    known = explanations()
    new = [(m, why) for m, why in runner.survivors if (m.name, m.change) not in known]
    counts = ", ".join(f"{count} {outcome}" for outcome, count in runner.outcomes.items())
    say(f"{told}: {counts}; {len(runner.survivors) - len(new)} of the survivors are explained")
    say(f"{time.monotonic() - begun:.0f} s")
    if given.function == "*" and not given.kind:
        for name, change in sorted(known.keys() - {(m.name, m.change) for m in everything}):
            say(f"explained, but not there any more: {name}: {change}")
    for mutant, why in new:
        say(f"not explained: {mutant} ({why})")
    return 1 if new or runner.outcomes["not run"] else 0


if __name__ == "__main__":
    sys.exit(main())
