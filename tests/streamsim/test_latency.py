"""Quantiles of durations, in milliseconds."""

import pytest

from streamsim.latency import Latency, Quantiles


def test_quantiles_are_within_the_promised_precision():
    """A thousand durations of 1 ms to 1 s give their own quantiles to one part in a thousand."""
    latency = Latency()
    for milliseconds in range(1, 1001):
        latency.record(milliseconds / 1000)
    assert latency.quantiles() == pytest.approx((1000, 500, 950, 990, 1000), rel=1e-3)


def test_nothing_recorded_is_no_number():
    """An empty distribution has no quantile, not one of 0."""
    assert Latency().quantiles() == Quantiles(0, None, None, None, None)


def test_extremes_are_kept_inside_the_range():
    """A clock that stood still and a day of waiting both count."""
    latency = Latency()
    latency.record(0.0)
    latency.record(86_400.0)
    assert latency.quantiles().samples == 2
    assert latency.quantiles().max == 3_600_000
