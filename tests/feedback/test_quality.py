"""The scoreboard: what it counts, when it forgets, and what it says when it knows nothing."""

import math

import pytest

from calsvc.feedback.quality import (
    MAX_SERIES,
    Coverage,
    Pair,
    PairedSums,
    Quality,
    Ring,
    Scoreboard,
    Series,
    squared_log_error,
)

CHAMPION = Series("v1", "champion")
WINDOW = 300
DELAY = 300.0


@pytest.fixture
def board() -> Scoreboard:
    """A scoreboard as the service has it by default."""
    return Scoreboard(WINDOW, DELAY)


def quality_at(board: Scoreboard, now: float) -> Quality | None:
    """The window's quality of the one series there is."""
    (snapshot,) = board.snapshots(now)
    return snapshot.window


def test_squared_log_error_is_the_summand_of_rmsle():
    """One summand is the squared difference of the logarithms of kcal + 1."""
    assert squared_log_error(math.e**2 - 1, math.e - 1) == pytest.approx(1.0)


def test_a_negative_prediction_is_charged_as_zero():
    """A model that predicts below 0 kcal gets a finite error."""
    assert squared_log_error(-5.0, 0.0) == 0.0


def test_no_data_is_no_number(board: Scoreboard):
    """Without any event there is neither a series nor a coverage."""
    assert list(board.snapshots(0.0)) == []
    assert board.coverage(0.0) == Coverage(None, None)


def test_a_prediction_without_truth_has_no_quality(board: Scoreboard):
    """Only predictions: they are counted and averaged, but quality stays absent."""
    board.predicted(CHAMPION, 80.0, 10.0)
    board.predicted(CHAMPION, 100.0, 11.0)
    (snapshot,) = board.snapshots(12.0)
    assert (snapshot.predictions, snapshot.rolling_mean_kcal, snapshot.window) == (2, 90.0, None)


@pytest.mark.parametrize(
    ("now", "samples"),
    [(1000.0, 1), (1299.999, 1), (1300.0, None), (9000.0, None)],
)
def test_the_window_slides_over_the_arrival_of_feedback(board: Scoreboard, now: float, samples: int | None):
    """A label counts for 300 whole seconds from its arrival on, and then for nothing."""
    board.predicted(CHAMPION, 80.0, 700.0)
    board.judged(CHAMPION, 80.0, 700.0, 100.0, 1000.0)
    quality = quality_at(board, now)
    assert (quality.matched if quality else None) == samples


def test_totals_stay_when_the_window_has_passed(board: Scoreboard):
    """The sums since the start are counters: they never go back."""
    board.judged(CHAMPION, 80.0, 700.0, 100.0, 1000.0)
    (snapshot,) = board.snapshots(9000.0)
    assert snapshot.total == Quality(1, squared_log_error(80.0, 100.0), 20.0)


def test_rmsle_and_mae_divide_the_sums():
    """RMSLE is the root of the mean squared log error, MAE the mean absolute error."""
    quality = Quality(4, 1.0, 10.0)
    assert (quality.rmsle, quality.mae_kcal) == (0.5, 2.5)


def test_window_coverage_compares_what_happened_in_the_same_five_minutes(board: Scoreboard):
    """Window basis: labels that came over predictions made, both in the window."""
    for second in range(4):
        board.predicted(CHAMPION, 80.0, float(second))
    board.judged(CHAMPION, 80.0, 0.0, 80.0, 10.0)
    assert board.coverage(10.0).window == 0.25


def test_matured_coverage_asks_only_for_labels_that_are_due(board: Scoreboard):
    """Matured basis: young predictions do not count against the labels, lost labels do."""
    board.predicted(CHAMPION, 80.0, 100.0)
    board.predicted(CHAMPION, 80.0, 101.0)
    assert board.coverage(400.9).matured is None
    board.judged(CHAMPION, 80.0, 100.0, 80.0, 400.0)
    assert board.coverage(401.0).matured == 1.0
    assert board.coverage(402.0).matured == 0.5


def test_a_label_far_past_its_time_still_counts_in_quality_but_not_in_old_seconds(board: Scoreboard):
    """A label 50 minutes late is judged; the second of its prediction has left the coverage rings."""
    board.predicted(CHAMPION, 80.0, 100.0)
    board.predicted(CHAMPION, 80.0, 3100.0)
    board.judged(CHAMPION, 80.0, 100.0, 80.0, 3100.0)
    assert quality_at(board, 3100.0) == Quality(1, 0.0, 0.0)
    assert board.coverage(3400.0 + 1).matured == 0.0


def test_a_shadow_prediction_is_judged_but_not_covered(board: Scoreboard):
    """A challenger's prediction waits for the same label as the champion's: coverage counts the record once."""
    for series in (CHAMPION, Series("v2", "challenger")):
        board.predicted(series, 80.0, 10.0)
        board.judged(series, 80.0, 10.0, 90.0, 20.0)
    assert board.coverage(20.0).window == 1.0
    assert [snapshot.total.matched for snapshot in board.snapshots(20.0)] == [1, 1]


def test_many_model_versions_do_not_grow_without_bound(board: Scoreboard):
    """Only the latest series are kept."""
    for number in range(3 * MAX_SERIES):
        board.predicted(Series(f"v{number}", "champion"), 80.0, 1.0)
    versions = [snapshot.series.model_version for snapshot in board.snapshots(1.0)]
    assert versions == [f"v{number}" for number in range(2 * MAX_SERIES, 3 * MAX_SERIES)]


def test_a_ring_ignores_what_it_has_left_behind():
    """A value for a second that was overwritten is dropped, not added to the wrong second."""
    ring = Ring(10, columns=1)
    ring.at(15)[0] += 1.0
    ring.at(5)[0] += 100.0
    assert ring.totals(0, 20) == (1.0,)


def test_paired_sums_are_those_of_the_records_that_both_answered(board: Scoreboard):
    """Each version's squared log errors, and the squares of their differences; another pair has sums of its own."""
    pair, other = Pair("v1", "v2"), Pair("v1", "v3")
    for champion, challenger in ((4.0, 1.0), (0.5, 0.25)):
        board.compared(pair, champion, challenger)
    board.compared(other, 1.0, 3.0)
    assert board.pairs() == {pair: PairedSums(2, 4.5, 1.25, 9.0625), other: PairedSums(1, 1.0, 3.0, 4.0)}
