"""The numbers of the report against what can be worked out another way."""

from __future__ import annotations

from itertools import combinations
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.intervals import Interval, mean_over_scenarios, none_seen_bound, pass_hat, wilson


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


def test_the_mean_over_scenarios_lies_inside_its_interval_and_comes_out_the_same_again() -> None:
    values = [1.0] * 40 + [0.5] * 10 + [0.0] * 10
    found = mean_over_scenarios(values)
    assert found == mean_over_scenarios(values)
    assert found.value == 0.75
    assert found.low < 0.75 < found.high
    # The standard error is 0.049: twice that, give or take.
    assert 0.15 < found.high - found.low < 0.23


def test_more_scenarios_narrow_the_interval_and_more_repeats_of_them_do_not() -> None:
    few, many = mean_over_scenarios([0.0, 1.0] * 10), mean_over_scenarios([0.0, 1.0] * 200)
    assert many.high - many.low < (few.high - few.low) / 3


def test_scenarios_that_all_agree_are_not_called_certain() -> None:
    assert mean_over_scenarios([1.0] * 30) == Interval(1.0, wilson(30, 30).low, 1.0)
    assert mean_over_scenarios([0.0] * 30).high == wilson(0, 30).high
    half = mean_over_scenarios([0.5])
    assert half.low < 0.5 < half.high


@pytest.mark.parametrize("values", [[], [1.5], [-0.1, 1.0]])
def test_a_mean_of_nothing_or_of_what_is_no_rate_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        mean_over_scenarios(values)
