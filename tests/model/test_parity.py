"""The comparison of two scorers."""

import math

import pytest

from calsvc.http.errors import ParityMissed
from calsvc.http.schema import Workout
from calsvc.model.parity import FLOOR, TOLERANCE, ParitySample, compare, demand

ROW = Workout(id=1, Sex="m", Age=41.0, Height=174.0, Weight=75.0, Duration=15.0, Heart_Rate=95.0, Body_Temp=40.0)


def test_the_worst_row_is_found() -> None:
    """The report has the largest relative difference and its row."""
    outcome = compare([100.0, 50.5, 20.0], [100.0, 50.0, 20.1])
    assert (outcome.rows, outcome.worst) == (3, 1)
    assert outcome.max_relative_difference == pytest.approx(0.01)


def test_below_one_kcal_the_difference_counts_absolutely() -> None:
    """Float32 sums have no digits left there."""
    assert compare([0.0], [0.00009]).max_relative_difference == pytest.approx(0.00009 / FLOOR)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_never_agrees(number: float) -> None:
    """Not even with itself."""
    assert not compare([number], [number]).held


def test_the_tolerance_itself_is_accepted() -> None:
    """A difference of 1e-4 passes, the next larger one does not."""
    assert compare([10_001.0], [10_000.0]).max_relative_difference == TOLERANCE
    assert compare([10_001.0], [10_000.0]).held
    assert not compare([10_001.001], [10_000.0]).held


def test_a_miss_names_row_numbers_and_way_out() -> None:
    """The one line is all that the person sees."""
    sample = ParitySample([ROW, ROW], [50.0, 60.0])
    with pytest.raises(ParityMissed) as caught:
        demand(sample, [50.0, 66.0], "the test's scorer")
    told = str(caught.value)
    for part in ("the test's scorer says 66 kcal", "predict says 60 kcal", "Sex=male Age=41", "0.1", "--engine"):
        assert part in told
    assert "\n" not in told
