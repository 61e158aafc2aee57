"""Figures of the generated reports: rates over repeated runs, how far to trust them, tables.

Sources:
- pass^k: Yao et al., "tau-bench" (2024), arXiv:2406.12045, section 3: C(c, k) / C(n, k) for
  c successes in n runs of a task, averaged over tasks. It is the unbiased estimate of "k fresh
  runs all succeed", as C(n - c, k) / C(n, k) is of "all fail" in Chen et al. (2021),
  arXiv:2107.03374.
- Wilson's score interval: Wilson (1927), J. Am. Stat. Assoc. 22, 209-212; recommended for small
  n by Brown, Cai and DasGupta (2001), Stat. Sci. 16, 101-133.
- No event in n: Clopper and Pearson (1934), Biometrika 26, 404-413; one-sided, for none it is
  1 - (1 - confidence)^(1/n). For 95 % that is nearly 3/n, the "rule of three".
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from math import comb, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Final, NamedTuple

CONFIDENCE: Final = 0.95


class Interval(NamedTuple):
    low: float
    high: float


def pass_hat(successes: int, runs: int, k: int) -> float:
    """The chance that k fresh runs of one scenario all succeed, estimated without bias.

    Raises:
        ValueError: k is not from 1 to `runs`, or `successes` not from 0 to `runs`.
    """
    if not 1 <= k <= runs or not 0 <= successes <= runs:
        raise ValueError(f"no pass^{k} from {successes} successes in {runs} runs")
    return comb(successes, k) / comb(runs, k)


def wilson(successes: float, trials: int) -> Interval:
    """A proportion of independent trials with Wilson's interval.

    A mean of rates counts as so many successes, which need not be a whole number.

    Raises:
        ValueError: there are no trials, or more successes than trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"no proportion of {successes} in {trials}")
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = successes / trials
    scale = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z / scale * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At none and all the ends are 0 and 1 exactly; the sums miss them by a rounding error.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == trials else middle + half
    return Interval(low, high)


def none_seen_bound(trials: int) -> float:
    """The highest rate that still gives no event in so many trials often enough (Clopper-Pearson).

    Raises:
        ValueError: there are no trials.
    """
    if trials < 1:
        raise ValueError("no trials, no bound")
    return float(1 - (1 - CONFIDENCE) ** (1 / trials))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the header decides how many cells a row has."""
    lines = [_line(header), "|" + "---|" * len(header)]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells in a table of {len(header)}")
        lines.append(_line(row))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\|", "|").replace("|", "\\|")


def code(text: str) -> str:
    return "`" + re.sub(r"[`\s]+", " ", text).strip() + "`"


def percent(rate: float, digits: int = 0) -> str:
    """A rate in percent; only exactly none and all are printed as 0 and 100."""
    shown = f"{100 * rate:.{digits}f}"
    least = 10**-digits
    if rate > 0 and float(shown) == 0:
        return f"<{least:g} %"
    if rate < 1 and float(shown) == 100:
        return f">{100 - least:g} %"
    return f"{shown} %"


def commit(*paths: str) -> str:
    """The checked out commit, "and changes" if these paths differ from it; "" without git."""

    def git(*arguments: str) -> str:
        command, here = ["git", *arguments], Path(__file__).parent.parent
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *paths)
        return git("rev-parse", "--short", "HEAD") + (" and changes" if changed else "")
    except OSError:
        return ""
