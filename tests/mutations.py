"""Remove this line, that test fails: damages the gate, one line at a time, to see a test notice.

    python tests/mutations.py [--only NAME]

Works on two copies in a temporary folder, never on the project. Each mutation is applied
alone and the one test that holds the line is run: killed (the test fails, as it must),
SURVIVED (it did not notice) or broken (it did not run, or the damage crashed, so it says
nothing). Exit code 1 unless all are killed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = "skill/hms_active_rooms"

LISTING = Path(__file__).with_suffix(".txt")
"""What is damaged, and the test that must notice; how to read it stands at its top."""

GUARD = """
from pathlib import Path
import hms_active_rooms
assert Path(hms_active_rooms.__file__).is_relative_to(Path(__file__).parent / "skill")
"""
"""The copy's conftest: the package is installed editable, but the copy must be what is tested."""

WORKERS = 2

HANGS_S = 20
"""A test that a mutation makes hang has failed after so long; none of them takes it."""

PLUGINS = ("asyncio", "timeout", "hypothesispytest")
ENVIRONMENT = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "160"}
"""Only the plugins the tests need: loading all that happen to be installed doubles the time."""

PROVES_NOTHING = re.compile(
    r"^ERROR|- (\w*ImportError|ModuleNotFoundError|NameError|SyntaxError"
    r"|TypeError|AttributeError|UnboundLocalError)\b"
)
"""No test ran, or the damaged code fell over its own damage: nobody noticed what it does."""


@dataclass(frozen=True)
class Mutation:
    """One damage to one file, and the test that must notice."""

    sentence: str
    name: str
    file: str
    test: str
    lines: tuple[str, ...]

    def damaged(self, source: str) -> str:
        """The source with the damage done; its lines must stand there exactly once."""
        old = [re.sub(r"\[-(.*?)-\]|\{\+.*?\+\}", r"\1", line) for line in self.lines]
        new = [re.sub(r"\[-.*?-\]|\{\+(.*?)\+\}", r"\1", line) for line in self.lines]
        if new == old:
            condition = re.sub(r"\b(el)?if .*:$", r"\1if False:", old[0])
            gone = [] if old[-1].endswith(",") else ["pass"]
            new = [condition] if condition != old[0] else gone
        pattern = re.compile("^( *)" + r"\n\1".join(map(re.escape, old)) + "$", re.MULTILINE)
        found = list(pattern.finditer(source))
        if len(found) != 1:
            raise LookupError(f"{self.name}: stands {len(found)} times in {self.file}, not once.")
        lines = "\n".join(found[0][1] + line for line in new if line.strip())
        return source[: found[0].start()] + lines + source[found[0].end() :]


def listed() -> list[Mutation]:
    """The listing, read."""
    found: list[Mutation] = []
    file, tests, text = "", "", LISTING.read_text(encoding="utf-8")
    for block in re.findall(r"^(?:# .+|[1-5] .+(?:\n    .+)+)$", text, re.MULTILINE):
        head, *lines = block.splitlines()
        if head.startswith("# "):
            file, tests = head[2:].split(", ")
            continue
        sentence, name, test = head.replace(":", "", 1).split(maxsplit=2)
        test = f"tests/{test}" if "::" in test else f"tests/{tests}::{test}"
        found.append(Mutation(sentence, name, file, test, tuple(line[4:] for line in lines)))
    return found


def copied(tree: Path) -> Path:
    """A copy of the package and its tests in this folder, with an environment that has them.

    So that what a test starts runs the copy too, whatever environment variables it gets.
    """
    for part in ("skill", "tests", "evals"):
        shutil.copytree(PROJECT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(PROJECT / "pyproject.toml", tree)
    (tree / "conftest.py").write_text(GUARD)
    home = tree / "venv"
    venv.create(home, symlinks=True)
    packages = sysconfig.get_path("purelib", "posix_prefix", {"base": str(home)})
    paths = str(tree / "skill"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")
    (Path(packages) / "copy.pth").write_text("\n".join(paths))
    return tree


def tested(tree: Path, tests: Sequence[str], **env: str) -> tuple[int, str]:
    """Run these tests in a copy; pytest's exit code and output."""
    plugins = [word for name in PLUGINS for word in ("-p", name)]
    options = [*plugins, "-p", "no:cacheprovider", "-q", "-x", "--tb=no", f"--timeout={HANGS_S}"]
    done = subprocess.run(
        [tree / "venv" / "bin" / "python", "-m", "pytest", *options, *tests],
        cwd=tree,
        env={**os.environ, **ENVIRONMENT, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_S * (2 + len(tests)),
    )
    return done.returncode, done.stdout + done.stderr


def misplaced(mutation: Mutation, tree: Path) -> str:
    """What is wrong with where its lines stand; "" when they stand there once."""
    try:
        mutation.damaged((tree / PACKAGE / mutation.file).read_text(encoding="utf-8"))
    except LookupError as error:
        return str(error)
    return ""


def judged(mutation: Mutation, tree: Path) -> tuple[str, str]:
    """Damage the copy, run the test, undo; the verdict and what it rests on."""
    path = tree / PACKAGE / mutation.file
    source, stat = path.read_text(encoding="utf-8"), path.stat()
    path.write_text(mutation.damaged(source), encoding="utf-8")
    os.utime(path, (0, 0))  # so that no compiled file of the sound source is taken for it
    try:
        code, output = tested(tree, [mutation.test], PYTHONDONTWRITEBYTECODE="1")
    except subprocess.TimeoutExpired:
        return "killed", f"{mutation.test} - it never ends"
    finally:
        path.write_text(source, encoding="utf-8")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if code == 0:
        return "SURVIVED", mutation.test
    ends = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if code != 1 or not ends or PROVES_NOTHING.search(ends[0]):
        return "broken", output[-2000:]
    return "killed", ends[0].removeprefix("FAILED ")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="NAME", help="this mutation only")
    only = parser.parse_args().only
    chosen = [m for m in listed() if only in (None, m.name)]
    if not chosen:
        sys.exit(f"There is no mutation {only!r}.")
    started, count, free = time.monotonic(), Counter[str](), Queue[Path]()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        trees = [copied(Path(folder).resolve() / str(n)) for n in range(WORKERS)]
        if missing := list(filter(None, (misplaced(m, trees[0]) for m in chosen))):
            sys.exit("\n".join(missing))
        tests = sorted({m.test for m in chosen})
        shares = [share for n in range(WORKERS) if (share := tests[n::WORKERS])]
        for code, output in pool.map(tested, trees, shares):
            if code:
                sys.exit(f"The tests do not pass without a mutation:\n{output}")
        print(f"All {len(tests)} tests pass without a mutation.", flush=True)
        for tree in trees:
            free.put(tree)

        def judge(mutation: Mutation) -> tuple[str, str]:
            tree = free.get()
            try:
                return judged(mutation, tree)
            finally:
                free.put(tree)

        for mutation, (verdict, why) in zip(chosen, pool.map(judge, chosen), strict=True):
            count[verdict] += 1
            print(f"{verdict:8} {mutation.sentence} {mutation.name:32} {why}", flush=True)
    words = ", ".join(f"{number} {verdict}" for verdict, number in count.items())
    print(f"{len(chosen)} mutations in {time.monotonic() - started:.0f} s: {words}.")
    return 0 if count["killed"] == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
