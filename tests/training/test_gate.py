"""The gate's statistics, on numbers whose answer is known."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calsvc.training.gate import FEWEST, Comparison, PairedSums, compare_rows, compare_sums, squared_log_errors
from tests.examples import few

ERRORS = arrays(float, st.integers(30, 60), elements=st.floats(0.0, 4.0))


def test_squared_log_errors_are_those_of_the_service() -> None:
    """Log1p on both sides, and a negative prediction counts as 0 kcal."""
    errors = squared_log_errors(np.array([math.e - 1, 0.0]), np.array([-7.0, math.e - 1]))
    assert errors == pytest.approx([1.0, 1.0])


def test_an_error_twice_as_large_is_a_difference_of_100_percent() -> None:
    """Errors that are proportional row by row have an interval without width, however they are drawn."""
    champion = np.random.default_rng(1).uniform(0.1, 1.0, 500)
    found = compare_rows(4 * champion, champion)
    assert found.candidate == pytest.approx(2 * found.champion)
    assert (found.difference, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
    assert found.rows == 500


def test_the_bootstrap_interval_is_that_of_the_normal_theory() -> None:
    """For many rows and small differences both ways give the same interval to a few percent of its width."""
    random = np.random.default_rng(2)
    champion = random.chisquare(1, 4000)
    candidate = champion * random.uniform(0.9, 1.12, 4000)
    by_rows = compare_rows(candidate, champion)
    by_sums = compare_sums(
        PairedSums(4000, float(champion.sum()), float(candidate.sum()), float(((candidate - champion) ** 2).sum()))
    )
    assert by_sums[:3] == pytest.approx(by_rows[:3])
    width = by_rows.high - by_rows.low
    assert by_sums.low == pytest.approx(by_rows.low, abs=0.15 * width)
    assert by_sums.high == pytest.approx(by_rows.high, abs=0.15 * width)


def test_the_interval_of_sums_is_the_mean_and_its_standard_error() -> None:
    """100 differences, half of them 0.02 and half 0: mean 0.01, sample variance 0.01^2 * 100/99."""
    found = compare_sums(PairedSums(100, champion=4.0, candidate=5.0, squared_differences=50 * 0.02**2))
    half = NormalDist().inv_cdf(0.975) * 0.01 / math.sqrt(99)
    assert found.difference == pytest.approx(math.sqrt(0.05 / 0.04) - 1)
    assert found.low == pytest.approx(math.sqrt((0.05 - half) / 0.04) - 1)
    assert found.high == pytest.approx(math.sqrt((0.05 + half) / 0.04) - 1)


@few(15)
@given(errors=ERRORS)
def test_a_model_is_never_worse_than_itself(errors: np.ndarray) -> None:
    """The difference is 0, with certainty, and passes the strictest margin."""
    found = compare_rows(errors, errors)
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)
    assert found.passes(0.0)


@few(15)
@given(errors=ERRORS, seed=st.integers(0, 10))
def test_the_same_seed_gives_the_same_interval(errors: np.ndarray, seed: int) -> None:
    """So that a decision can be repeated; and the interval is in order."""
    first = compare_rows(errors, errors[::-1].copy(), seed)
    assert compare_rows(errors, errors[::-1].copy(), seed) == first
    assert first.low <= first.high


def test_a_champion_without_error_cannot_be_matched_by_one_with() -> None:
    """Infinitely worse is not an arithmetic error."""
    found = compare_rows(np.full(50, 0.1), np.zeros(50))
    assert found.difference == math.inf
    assert not found.passes(1e9)


@pytest.mark.parametrize(
    ("high", "rows", "passes"),
    [(0.02, 100, True), (0.0201, 100, False), (-0.5, 100, True), (math.nan, 100, False), (-0.5, FEWEST - 1, False)],
)
def test_the_rule_is_the_upper_end_within_the_margin(high: float, rows: int, passes: bool) -> None:
    """At the margin is within it; too few rows never pass."""
    assert Comparison(0.1, 0.1, 0.0, -0.01, high, rows).passes(0.02) == passes
