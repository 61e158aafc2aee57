"""The numbers of the report against what can be worked out another way."""

from __future__ import annotations

from itertools import combinations
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.figures import none_seen_bound, pass_hat, wilson


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_hat_is_the_share_of_all_choices_of_k_runs_that_all_succeed(
    runs: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(runs)))
    choices = list(combinations(runs, k))
    assert isclose(
        pass_hat(sum(runs), len(runs), k), sum(map(all, choices)) / len(choices), abs_tol=1e-12
    )


def test_pass_hat_of_one_run_is_the_success_rate_and_of_all_runs_is_all_or_nothing() -> None:
    assert pass_hat(7, 10, 1) == 0.7
    assert pass_hat(9, 10, 10) == 0.0
    assert pass_hat(10, 10, 10) == 1.0


@pytest.mark.parametrize(("successes", "runs", "k"), [(1, 2, 0), (1, 2, 3), (3, 2, 1), (-1, 2, 1)])
def test_pass_hat_of_runs_that_were_not_made_is_refused(successes: int, runs: int, k: int) -> None:
    with pytest.raises(ValueError, match="no pass"):
        pass_hat(successes, runs, k)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # From Newcombe (1998), Stat. Med. 17, 857-872, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(
    successes: int, trials: int, low: float, high: float
) -> None:
    found = wilson(successes, trials)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_wilson_is_the_same_from_both_sides() -> None:
    some, others = wilson(3, 40), wilson(37, 40)
    assert isclose(some.low, 1 - others.high)
    assert isclose(some.high, 1 - others.low)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_of_no_trials_is_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson(successes, trials)


@pytest.mark.parametrize("trials", [1, 10, 60, 600])
def test_at_the_bound_none_in_n_happens_in_one_of_twenty_tries(trials: int) -> None:
    bound = none_seen_bound(trials)
    assert isclose((1 - bound) ** trials, 0.05)
    assert bound <= 3 / trials


def test_no_trials_have_no_bound() -> None:
    with pytest.raises(ValueError, match="no bound"):
        none_seen_bound(0)
